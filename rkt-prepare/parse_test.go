package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/chain"
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/prepare"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

func parseLine(t *testing.T, args ...string) (*config, error) {
	t.Helper()
	return parse(&cli.Process{Name: "rkt-prepare", Args: args, Stderr: &bytes.Buffer{}, Getenv: os.Getenv})
}

func TestApps(t *testing.T) {
	for _, c := range []struct {
		args string
		want []prepare.App
	}{
		{"a", []prepare.App{{Image: "a"}}},
		{"a b", []prepare.App{{Image: "a"}, {Image: "b", Bare: true}}},
		{"a --- b", []prepare.App{{Image: "a"}, {Image: "b"}}},
		{"a -- x --y -- z --- b --name=n -- ", []prepare.App{
			{Image: "a", Args: []string{"x", "--y", "--", "z"}}, {Image: "b", Name: "n", Args: []string{}},
		}},
		{"a --exec /e --user u --group=g --working-dir=/w --environment=A=b --environment B=c=d --supplementary-gids=1,2", []prepare.App{{
			Image: "a", Exec: "/e", User: "u", Group: "g", WorkingDir: "/w", SupplementaryGIDs: []uint32{1, 2},
			Environment: []stage1.Variable{{Name: "A", Value: "b"}, {Name: "B", Value: "c=d"}},
		}}},
		{"a --name=x b --name=y --- c", []prepare.App{{Image: "a", Name: "x"}, {Image: "b", Name: "y", Bare: true}, {Image: "c"}}},
		{"a --stdin tty --stdout=stream --annotation=x=y --stdout=log b", []prepare.App{{Image: "a", Annotations: types.Annotations{
			{Name: "coreos.com/rkt/stage2/stdin", Value: "tty"}, {Name: "coreos.com/rkt/stage2/stdout", Value: "log"}, {Name: "x", Value: "y"},
		}}, {Image: "b", Bare: true}}},
		{"a --caps-retain=CAP_KILL,CAP_CHOWN", []prepare.App{{Image: "a", CapsRetain: []string{"CAP_KILL", "CAP_CHOWN"}}}},
	} {
		got, err := parseLine(t, strings.Fields(c.args)...)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
		} else if !reflect.DeepEqual(got.options.Apps, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", c.args, got.options.Apps, c.want)
		}
	}
}

func TestWrongUses(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "no image given",
		"--- a":                         "bad flag syntax: ---",
		"a ---":                         "--- without an image",
		"--nope a":                      "unknown flag --nope",
		"a --stdin=log":                 `"log": is none of null, tty, stream`,
		"a --stderr=interactive":        `"interactive": is none of log, null, tty, stream`,
		"a --oom-score-adj=x":           `--oom-score-adj="x": not a number`,
		"a --nope":                      `image "a": unknown flag --nope`,
		"a --name":                      "--name needs a value",
		"a /bin/sh -c x":                `image "/bin/sh": unknown flag --c (--help lists the flags; the arguments of an app follow a --: IMAGE -- ARGS)`,
		"--user=1 a":                    "--user: is a flag of an app, and has its place behind the image: IMAGE --user",
		"--pod-name=a!b a":              "not a pod's name",
		"--pod-name=../x a":             "not a pod's name",
		"--pod-name=self a":             "not a pod's name",
		"--pod-name=-x a":               "not a pod's name",
		"--pull-policy=sometimes a":     "none of never, new, update",
		"--store-only --no-store a":     "exclude each other",
		"--uuid=../../etc a":            "not a UUID",
		"--port=80 a":                   "not NAME:[IP:]PORT",
		"--port=http:0 a":               `"0" is not a port number`,
		"--port=http:65536 a":           "not a port number",
		"--port=http:nowhere:80 a":      "not an IP address",
		"--set-env=A a":                 "not NAME=VALUE",
		"--set-env==v a":                "not NAME=VALUE",
		"--set-env-file=/nonexistent a": "no such file",
		"--insecure-options=images a":   `"images" is none of`,
		"a --supplementary-gids=x":      "not a number",
	} {
		if c, err := parseLine(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %q", args, c, err, want)
		}
	}
}

// What comes in the place of a unit's variable that is not set.
func TestEmptyImage(t *testing.T) {
	if _, err := parseLine(t, ""); err == nil || err.Error() != "no image given: the word in its place is empty" {
		t.Error(err)
	}
}

// The chain knows the flags of an app.
func TestAppFlags(t *testing.T) {
	var names []string
	appFlags(&prepare.App{}).VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	slices.Sort(names)
	want := slices.Sorted(slices.Values(chain.AppFlags))
	if !slices.Equal(names, want) {
		t.Errorf("got %s, want %s", names, want)
	}
}

// A flag wins over the environment, which wins over the file; what follows an image is never read from either.
func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	conf := "pull-policy never\ndir /from/file\nexec /from/file\ngrace-period 1h\n"
	if err := os.WriteFile(filepath.Join(dir, "rkt.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RKT_LOCAL_CONFIG", dir)
	t.Setenv("RKT_EXEC", "/from/environment")
	c, err := parseLine(t, "a", "--", "b")
	if err != nil {
		t.Fatal(err)
	}
	if c.pullPolicy != "never" || c.global.Dir != "/from/file" || !reflect.DeepEqual(c.options.Apps, []prepare.App{{Image: "a", Args: []string{"b"}}}) {
		t.Errorf("from the file: %+v, dir %s", c, c.global.Dir)
	}
	t.Setenv("RKT_PULL_POLICY", "update")
	t.Setenv("RKT_DIR", "/from/environment")
	if c, err = parseLine(t, "a"); err != nil || c.pullPolicy != "update" || c.global.Dir != "/from/environment" {
		t.Errorf("from the environment: %+v, %v", c, err)
	}
	if c, err = parseLine(t, "--dir=/from/flag", "--pull-policy=new", "a"); err != nil || c.pullPolicy != "new" || c.global.Dir != "/from/flag" {
		t.Errorf("from flags: %+v, %v", c, err)
	}
}

func TestEnvironmentFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# comment\n; too\n\nA=1\n B=x y \nC=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parseLine(t, "--set-env=A=2", "--set-env-file="+file, "img")
	if err != nil {
		t.Fatal(err)
	}
	want := []stage1.Variable{{Name: "A", Value: "1"}, {Name: "B", Value: "x y"}, {Name: "C", Value: ""}, {Name: "A", Value: "2"}}
	if !reflect.DeepEqual(c.options.Environment, want) {
		t.Errorf("%v, want %v", c.options.Environment, want)
	}
	if err := os.WriteFile(file, []byte("A=1\nnothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := parseLine(t, "--set-env-file="+file, "img"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a bad line: %v", err)
	}
}
