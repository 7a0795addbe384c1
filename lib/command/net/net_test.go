package net

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// parse parses a command line as the program does.
func parse(p *cli.Process) (got *config, err error) {
	c := *Command
	c.Verbs = nil
	for _, v := range Command.Verbs {
		c.Verbs = append(c.Verbs, cli.Verb{Name: v.Name, Setup: func(fs *cli.Flags) cli.Run {
			complete := register(v.Name, fs)
			return func(context.Context, *cli.Process) (err error) {
				got, err = complete()
				return err
			}
		}})
	}
	err = c.Start(context.Background(), p)
	return got, err
}

// TestParse has the precedence of flags over the environment, and where flags may stand.
func TestParse(t *testing.T) {
	for _, test := range []struct {
		args, env string
		nets      string
		pod, file string
		dir       string
		wrong     string
	}{
		{args: "add p", pod: "p", dir: "/var/lib/rkt"},
		{args: "--net add --dir=/d p", nets: "default", pod: "p", dir: "/d"},
		{args: "add --net=a:IP=1.2.3.4;K=V,b --net=c p", nets: "a:IP=1.2.3.4;K=V,b,c", pod: "p", dir: "/var/lib/rkt"},
		{args: "add p", env: "RKT_NET=a,b RKT_DIR=/e", nets: "a,b", pod: "p", dir: "/e"},
		{args: "--dir=/d add --net=c p", env: "RKT_NET=a,b RKT_DIR=/e", nets: "c", pod: "p", dir: "/d"},
		{args: "del p", env: "RKT_NET=a,b RKT_FORMAT=json", pod: "p", dir: "/var/lib/rkt"},
		{args: "del --uuid-file=/f", file: "/f", dir: "/var/lib/rkt"},
		{args: "del --net=a p", wrong: "--net ... not for del"},
		{args: "add --repair p", wrong: "--repair ... not for add"},
		{args: "check --force p", wrong: "--force ... not for check"},
		{args: "add --net=a,a p", wrong: `"a" is there twice`},
	} {
		t.Run(test.args+" "+test.env, func(t *testing.T) {
			for kv := range strings.FieldsSeq(test.env) {
				key, value, _ := strings.Cut(kv, "=")
				t.Setenv(key, value)
			}
			c, err := parse(&cli.Process{Name: "rkt-net", Args: strings.Fields(test.args), Getenv: os.Getenv})
			if test.wrong != "" {
				if !testkit.Says(err, test.wrong) {
					t.Fatalf("got %v, want %q", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := c.nets.String(); got != test.nets || strings.Join(c.operands, " ") != test.pod ||
				c.uuidFile != test.file || c.dir != test.dir {
				t.Fatalf("got %q, %+v", got, c)
			}
		})
	}
}
