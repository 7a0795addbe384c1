package prepare

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/prepare"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func parseArgs(t *testing.T, args ...string) (*call, error) {
	t.Helper()
	fs := cli.NewFlags("rkt-prepare")
	complete := register(fs)
	p := &cli.Process{Name: "rkt-prepare", Args: args, Stderr: &bytes.Buffer{}, Getenv: os.Getenv}
	if err := p.Parse(fs); err != nil {
		return nil, err
	}
	return complete(p)
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
		{"a --exec /e --user u --group=g --working-dir=/w --environment=A=b --environment B=c=d " +
			"--supplementary-gids=1,2", []prepare.App{{
			Image: "a", Exec: "/e", User: "u", Group: "g", WorkingDir: "/w", SupplementaryGIDs: []uint32{1, 2},
			Environment: []stage1.Variable{{Name: "A", Value: "b"}, {Name: "B", Value: "c=d"}},
		}}},
		{"a --name=x b --name=y --- c", []prepare.App{{Image: "a", Name: "x"}, {Image: "b", Name: "y", Bare: true},
			{Image: "c"}}},
		{"a --stdin tty --stdout=stream --annotation=x=y --stdout=log b",
			[]prepare.App{{Image: "a", Annotations: types.Annotations{
				{Name: "coreos.com/rkt/stage2/stdin", Value: "tty"}, {Name: "coreos.com/rkt/stage2/stdout",
					Value: "log"}, {Name: "x", Value: "y"},
			}}, {Image: "b", Bare: true}}},
		{"a --caps-retain= --- b --caps-remove=", []prepare.App{{Image: "a", CapsRetain: []string{}},
			{Image: "b", CapsRemove: []string{}}}},
		{"a --caps-remove=KILL --cap-remove=all --supplementary-gids=", []prepare.App{{
			Image: "a", CapsRemove: []string{"KILL", "all"}, SupplementaryGIDs: []uint32{},
		}}},
		{"a --user=1000:1000 ---", []prepare.App{{Image: "a", User: "1000:1000"}}},
		{"a --caps-retain=CAP_KILL,CAP_CHOWN",
			[]prepare.App{{Image: "a", CapsRetain: []string{"CAP_KILL", "CAP_CHOWN"}}}},
	} {
		got, err := parseArgs(t, strings.Fields(c.args)...)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
		} else if !reflect.DeepEqual(got.options.Apps, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", c.args, got.options.Apps, c.want)
		}
	}
}

func TestWrongUses(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "one image ... pod manifest",
		"--- a":                         "---: ... no image before",
		"--nope a":                      "unknown flag --nope",
		"--pids-max=0 a":                `--pids-max="0": not a number from 1 to 4194304, nor max`,
		"--pids-max=-1 a":               "not a number from 1 to 4194304",
		"--pids-max=4194305 a":          "not a number from 1 to 4194304",
		"--sysctl=net.core.somaxconn a": "not NAME=VALUE",
		"--sysctl=kernel.core_pattern=x a": `own ... (net.*, fs.mqueue.*, kernel.msg*, kernel.sem, ` +
			`kernel.shm*)`,
		"--sysctl=net.core.somaxconn= a": "value in one line",
		"--pids-max=1k a":                "not a number from 1 to 4194304",
		"a --stdin=log":                  `"log": ... null, tty, stream`,
		"a --stderr=interactive":         `"interactive": ... log, null, tty, stream`,
		"a --oom-score-adj=x":            `--oom-score-adj="x": not a number`,
		"a --tmpfs=/a:x":                 `--tmpfs="/a:x": option "x" is not one of size=64m`,
		"a --device=/etc":                `--device="/etc": /etc: not a device`,
		"a --stop-signal=X":              `--stop-signal="X": ... no such signal`,
		"a --stop-timeout=-1":            `--stop-timeout="-1": ... at least one second`,
		"--shm-size=0 a":                 `--shm-size="0": not a size ... 64m`,
		"a --env-file=/absent":           `--env-file="/absent": open /absent: no such file or directory`,
		"a -e A=b":                       "unknown flag -e; rkt has for it: --environment=NAME=VALUE",
		"-v /a:/b a":                     "unknown flag -v; rkt has for it: --volume=SOURCE:TARGET[:ro]",
		"--name=x a": "--name ... after the image; ... " +
			"--pod-name",
		"a --ulimit=nofile":    `--ulimit="nofile": not NAME=SOFT[:HARD], such as nofile=4096:8192`,
		"a --ulimit=nofiles=1": `--ulimit="nofiles=1": "nofiles" ... core, cpu, data, `,
		"a --ulimit=core=5:4":  `--ulimit="core=5:4": ... soft limit 5 ... hard limit 4`,
		"a --ulimit=nproc=many": `--ulimit="nproc=many": "many" ... ` +
			`write SOFT[:HARD]`,
		"a --ulimit=nproc=1:": `--ulimit="nproc=1:": "" ... number nor unlimited`,
		"a --ulimit=nofile=unlimited": `--ulimit="nofile=unlimited": ... ` +
			`write a number`,
		"a --ulimit=nofile=9999999999": `9999999999 open files ... host allows`,
		"--ulimit=nofile=5 a":          "--ulimit ... after the image",
		"a --nope":                     "unknown flag --nope",
		"a --name":                     "--name needs a value",
		"a /bin/sh -c x": `unknown flag -c ... --help ... ` +
			`IMAGE -- ARGS`,
		"--user=1 a":                "--user ... after the image",
		"--pod-name=a!b a":          "not a pod's name",
		"--pod-name=../x a":         "not a pod's name",
		"--pod-name=self a":         "not a pod's name",
		"--pod-name=-x a":           "not a pod's name",
		"--pull-policy=sometimes a": "never, new, update",
		"--store-only --no-store a": "both --store-only and --no-store specified",
		"--store-only --pull-policy=update a": "--store-only is --pull-policy=never, and --pull-policy=update is " +
			"given too",
		"a --seccomp=mode=remove,mkdir --seccomp=mode=remove,rmdir": "is there twice",
		"--uuid=../../etc a":                   "not a UUID",
		"a --mount=type=bind,src=/a,dst=/b,ro": "type= is Docker's; write --volume=/a:/b:ro",
		"a --mount=type=volume,src=d,dst=/b":   "type= is Docker's; write --volume=d:/b",
		"a --mount=type=tmpfs,target=/t":       "type= is Docker's; write --tmpfs=/t after the image",
		"--port=80 a":                          "not NAME:[IP:]PORT; ... 80-tcp:8080",
		"--port=http:0 a":                      `"0" is not a port number`,
		"--port=http:65536 a":                  "not a port number",
		"--port=http:nowhere:80 a":             "not an IP address",
		"--set-env=A a":                        "not NAME=VALUE",
		"--set-env==v a":                       "not NAME=VALUE",
		"--set-env-file=/nonexistent a":        "no such file",
		"--insecure-options=images a":          `"images" is not one of`,
		"a --user=":                            `--user="": the value is empty`,
		"a --memory= --cpu=1":                  `--memory="": the value is empty`,
		"--uuid-file-save= a":                  `--uuid-file-save="": the value is empty`,
		"--dir= a":                             `--dir="": the value is empty`,
		"a --supplementary-gids=x":             "not a number",
	} {
		if c, err := parseArgs(t, strings.Fields(args)...); !testkit.Says(err, want) {
			t.Errorf("%q: %+v, %v; want %q", args, c, err, want)
		}
	}
}

// What comes in the place of a unit's variable that is not set.
func TestEmptyImage(t *testing.T) {
	if _, err := parseArgs(t, ""); !testkit.Says(err, "no image given: ... is empty") {
		t.Error(err)
	}
}

// Other programs know the flags of an app.
func TestAppFlags(t *testing.T) {
	var names []string
	appFlags(&prepare.App{}).VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	if want := slices.Sorted(maps.Keys(cli.FlagsOf("app"))); !slices.Equal(names, want) {
		t.Errorf("got %s, want %s", names, want)
	}
}

func TestPidsMax(t *testing.T) {
	for args, want := range map[string]string{"a": "", "--pids-max=20 a": "20", "--pids-max=max a": "max",
		"--pids-max=4194304 a": "4194304"} {
		if c, err := parseArgs(t, strings.Fields(args)...); err != nil || c.options.Tasks != want {
			t.Errorf("%s: %+v, %v; want %s", args, c, err, want)
		}
	}
	t.Setenv("RKT_PIDS_MAX", "30")
	if c, err := parseArgs(t, "a"); err != nil || c.options.Tasks != "30" {
		t.Errorf("by the environment: %+v, %v", c, err)
	}
}

// A flag wins over the environment, which wins over the file; what follows an image is never read
// from either.
func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	conf := "pull-policy never\ndir /from/file\ngrace-period 1h\n"
	if err := os.WriteFile(filepath.Join(dir, "rkt.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RKT_LOCAL_CONFIG", dir)
	t.Setenv("RKT_EXEC", "/from/environment")
	c, err := parseArgs(t, "a", "--", "b")
	if err != nil {
		t.Fatal(err)
	}
	if c.pullPolicy != "never" || c.global.Dir != "/from/file" || !reflect.DeepEqual(c.options.Apps,
		[]prepare.App{{Image: "a", Args: []string{"b"}}}) {
		t.Errorf("from the file: %+v, dir %s", c, c.global.Dir)
	}
	t.Setenv("RKT_PULL_POLICY", "update")
	t.Setenv("RKT_DIR", "/from/environment")
	if c, err = parseArgs(t, "a"); err != nil || c.pullPolicy != "update" || c.global.Dir != "/from/environment" {
		t.Errorf("from the environment: %+v, %v", c, err)
	}
	if c, err = parseArgs(t, "--dir=/from/flag", "--pull-policy=new", "a"); err != nil || c.pullPolicy != "new" ||
		c.global.Dir != "/from/flag" {
		t.Errorf("from flags: %+v, %v", c, err)
	}
}

func TestEnvironmentFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# comment\n; too\n\nA=1\n B=x y \nC=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parseArgs(t, "--set-env=A=2", "--set-env-file="+file, "img")
	if err != nil {
		t.Fatal(err)
	}
	want := []stage1.Variable{{Name: "A", Value: "1"}, {Name: "B", Value: "x y"}, {Name: "C", Value: ""},
		{Name: "A", Value: "2"}}
	if !reflect.DeepEqual(c.options.Environment, want) {
		t.Errorf("%v, want %v", c.options.Environment, want)
	}
	for line, want := range map[string]string{
		"nothing":        "line 2: not NAME=VALUE",
		"export FOO=bar": `line 2: "export FOO" ... variable; write FOO=VALUE`,
		"FOO = bar":      `line 2: "FOO " ... variable; write FOO=VALUE`,
		`"FOO"=bar`:      `line 2: "\"FOO\"" ... variable; write FOO=VALUE`,
		"\ufeffFOO=bar":  `line 2: "\ufeffFOO" ... variable; write FOO=VALUE`,
		`FOO="bar baz"`: "line 2: ... FOO without quotes; ... " +
			"--set-env",
		`FOO='bar'`:        "line 2: ... FOO without quotes",
		`FOO="two`:         "line 2: ... FOO without quotes",
		`FOO=bar \`:        `line 2: ... FOO on one line; ... \ use --set-env`,
		`FOO.BAR-1=a "b"`:  "",
		`FOO={"a": "b"}`:   "",
		"FOO=a=b # c $d\r": "",
	} {
		if err := os.WriteFile(file, []byte("A=1\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := parseArgs(t, "--set-env-file="+file, "img")
		if !testkit.Says(err, want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
		if _, value, _ := strings.Cut(strings.TrimSpace(line), "="); want == "" && err == nil &&
			c.options.Environment[1].Value != value {
			t.Errorf("%s: %q", line, c.options.Environment)
		}
	}
}
