package chain

import (
	"reflect"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want Steps
	}{
		{"docker://redis", Steps{Operands: []string{"docker://redis"}}},
		{"--net=ptp:IP=1.2.3.4 --port=6379-tcp:6379 --hostname=h --net=b img --name=a -- --net=x",
			Steps{
				Net: []string{"--net=ptp:IP=1.2.3.4", "--net=b"}, Prepare: []string{"--port=6379-tcp:6379"},
				Run:      []string{"--hostname=h"},
				Operands: []string{"img", "--name=a", "--", "--net=x"},
			}},
		{"--interactive=false --inherit-env --dns 8.8.8.8 --pull-policy never a --- b",
			Steps{
				Net: []string{"--dns=8.8.8.8"}, Prepare: []string{"--inherit-env=true", "--pull-policy=never"},
				Run: []string{"--interactive=false"}, Operands: []string{"a", "---", "b"},
			}},
		{"--net img", Steps{Net: []string{"--net=true"}, Operands: []string{"img"}}},
		{"--net --net=b --port=a:1 img -- --net host", Steps{
			Net: []string{"--net=true", "--net=b"}, Prepare: []string{"--port=a:1"},
			Operands: []string{"img", "--", "--net", "host"},
		}},
		{"--uuid-file-save=/run/u --uuid 0 x", Steps{Prepare: []string{"--uuid-file-save=/run/u"}, UUID: "0",
			Operands: []string{"x"}}},
	} {
		got, err := parse(c.args)
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
		"--nett=host x":               "unknown flag --nett",
		"--port":                      "--port needs a value",
		"--user=1 x":                  "--user ... after the image",
		"--memory 1 x":                "--memory ... after the image",
		"--interactive a --- b":       "interactive ... one image",
		"a b -- x --- --interactive":  "interactive ... one image",
		"x --mds-register --net=none": "--mds-register ... --net=none",
	} {
		if _, err := parse(args); !testkit.Says(err, want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func parse(args string) (*Steps, error) {
	fs := cli.NewFlags("rkt run")
	s := &Steps{}
	s.RegisterOwn(fs)
	s.Register(fs)
	return s, s.Parse(fs.FlagSet, strings.Fields(args))
}
