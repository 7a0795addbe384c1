package chain

import (
	"flag"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want Steps
	}{
		{"docker://redis", Steps{Operands: []string{"docker://redis"}}},
		{"--net=ptp:IP=1.2.3.4 --port=6379-tcp:6379 --hostname=h --net host img --name=a -- --net=x",
			Steps{
				Net: []string{"--net=ptp:IP=1.2.3.4", "--net=host"}, Prepare: []string{"--port=6379-tcp:6379"}, Run: []string{"--hostname=h"},
				Operands: []string{"img", "--name=a", "--", "--net=x"},
			}},
		{"--interactive --inherit-env --dns 8.8.8.8 --pull-policy never a --- b",
			Steps{
				Net: []string{"--dns=8.8.8.8"}, Prepare: []string{"--inherit-env=true", "--pull-policy=never"},
				Run: []string{"--interactive=true"}, Operands: []string{"a", "---", "b"},
			}},
		{"--net img", Steps{Net: []string{"--net=true"}, Operands: []string{"img"}}},
		{"--net --net=b --port=a:1 img -- --net host", Steps{
			Net: []string{"--net=true", "--net=b"}, Prepare: []string{"--port=a:1"}, Operands: []string{"img", "--", "--net", "host"},
		}},
		{"--uuid-file-save=/run/u --uuid 0 x", Steps{Prepare: []string{"--uuid-file-save=/run/u"}, UUID: "0", Operands: []string{"x"}}},
	} {
		got, err := Parse(flags(), strings.Fields(c.args))
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		if len(got.Operands) == 0 {
			got.Operands = nil
		}
		if !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", c.args, *got, c.want)
		}
	}
	for args, want := range map[string]string{
		"--nett=host x": "unknown flag --nett",
		"--port":        "--port needs a value",
		"--user=1 x":    "--user: is a flag of an app, and has its place behind the image: IMAGE --user",
		"--memory 1 x":  "--memory: is a flag of an app",
	} {
		if _, err := Parse(flags(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestGather(t *testing.T) {
	for _, c := range []struct {
		args string
		want Steps
	}{
		{"docker://redis --net=ptp:IP=1.2.3.4 --port a:1", Steps{
			Net: []string{"--net=ptp:IP=1.2.3.4"}, Prepare: []string{"--port=a:1"}, Operands: []string{"docker://redis"},
		}},
		{"--net=a img --name=x --interactive --exec=/bin/sh --net host -- --net=x --port --- img2 --hostname=h --volume=/a:/b -- --dns=x", Steps{
			Net: []string{"--net=a", "--net=host"}, Run: []string{"--interactive=true", "--hostname=h"},
			Operands: []string{"img", "--name=x", "--exec=/bin/sh", "--", "--net=x", "--port", "---", "img2", "--volume=/a:/b", "--", "--dns=x"},
		}},
		{"img --exec /bin/sh --memory=1M", Steps{Operands: []string{"img", "--exec", "/bin/sh", "--memory=1M"}}},
	} {
		fs := flags()
		got, err := Parse(fs, strings.Fields(c.args))
		if err == nil {
			err = got.Gather(fs)
		}
		if err != nil || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s: %v\n%+v, want\n%+v", c.args, err, *got, c.want)
		}
	}
	for _, args := range []string{"img --port", "img -- x --- img2 --hostname"} {
		fs := flags()
		got, err := Parse(fs, strings.Fields(args))
		if err == nil {
			err = got.Gather(fs)
		}
		if err == nil {
			t.Errorf("%s: want an error, have %+v", args, got)
		}
	}
}

func flags() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}
