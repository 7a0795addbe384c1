package main

import (
	"flag"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/appc/spec/schema"
)

func TestAppcVersion(t *testing.T) {
	if want := schema.AppContainerVersion.String(); appcVersion != want {
		t.Errorf("appcVersion = %s, the library's is %s", appcVersion, want)
	}
}

func TestParseChain(t *testing.T) {
	for _, c := range []struct {
		args string
		want steps
	}{
		{"docker://redis", steps{operands: []string{"docker://redis"}}},
		{"--net=ptp:IP=1.2.3.4 --port=6379-tcp:6379 --hostname=h --net host img --name=a -- --net=x",
			steps{
				net: []string{"--net=ptp:IP=1.2.3.4", "--net=host"}, prepare: []string{"--port=6379-tcp:6379"}, run: []string{"--hostname=h"},
				operands: []string{"img", "--name=a", "--", "--net=x"},
			}},
		{"--interactive --inherit-env --dns 8.8.8.8 --pull-policy never a --- b",
			steps{
				net: []string{"--dns=8.8.8.8"}, prepare: []string{"--inherit-env=true", "--pull-policy=never"},
				run: []string{"--interactive=true"}, operands: []string{"a", "---", "b"},
			}},
		{"--net img", steps{net: []string{"--net=true"}, operands: []string{"img"}}},
		{"--net --net=b --port=a:1 img -- --net host", steps{
			net: []string{"--net=true", "--net=b"}, prepare: []string{"--port=a:1"}, operands: []string{"img", "--", "--net", "host"},
		}},
		{"--uuid-file-save=/run/u --uuid 0 x", steps{prepare: []string{"--uuid-file-save=/run/u"}, uuid: "0", operands: []string{"x"}}},
	} {
		got, err := parseChain(flags(), strings.Fields(c.args))
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		if len(got.operands) == 0 {
			got.operands = nil
		}
		if !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", c.args, *got, c.want)
		}
	}
	for args, want := range map[string]string{
		"--nett=host x": "unknown flag --nett",
		"--port":        "--port needs a value",
	} {
		if _, err := parseChain(flags(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func flags() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}
