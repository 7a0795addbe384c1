package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestFile(t *testing.T) {
	for text, want := range map[string]string{
		"# comment\n\ndir /a b # comment\nfull\ngrace 1h\n": `line 5: "grace": no program has such a flag`,
		"dir /x\n":                     "dir=/x",
		"dir\t/x\r\n":                  "dir=/x",
		"dir=/x\n":                     "dir=/x",
		"dir = /x\n":                   "dir=/x",
		"insecure-options=image\n":     "insecure=image",
		"insecure-options image\nfull": "insecure=image full=true",
		"full false":                   "",
		"port http:80\nset-env A=B\n":  "", // for another program
		"full=maybe":                   "line 1: full maybe: neither true nor false",
		"\ngrace-period 24":            "line 2: grace-period 24: not a time ... 30m",
		"insecure-options images":      `line 1: insecure-options images: "images" is not one of`,
		"insecure-option image": `line 1: "insecure-option": no program has such a flag; did you mean ` +
			`insecure-options?`,
		"dri /x":      `line 1: "dri": no program has such a flag; did you mean dir?`,
		"--dir /x":    `line 1: "--dir": no program has such a flag`,
		"dir \"/x\"":  "line 1: dir: write the value without quotes",
		"dir":         "line 1: dir: no value; write dir VALUE",
		"dir=":        "line 1: dir: no value",
		"memory 64M":  "line 1: memory: --memory is an app flag; put it after the image, on the command line",
		"dir srv":     "dir srv: not an absolute path",
		"[Service]\n": `line 1: "[Service]": no program has such a flag`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "rkt.conf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &Process{Name: "rkt-list", Stderr: &bytes.Buffer{}}
		fs := NewFlags(p.Name)
		g := fs.Global
		full := fs.Bool("full", false, "")
		fs.Duration("grace-period", time.Hour, "")
		err := p.parse(fs, []string{"--local-config=" + dir})
		got := ""
		if g.Dir != "/var/lib/rkt" {
			got += " dir=" + g.Dir
		}
		if s := g.Insecure.String(); s != "none" {
			got += " insecure=" + s
		}
		if *full {
			got += " full=true"
		}
		if !testkit.Gives(strings.TrimSpace(got), err, want) || err != nil && !testkit.Says(err, dir+"/rkt.conf: ") {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
}

// A variable that is misspelt is warned of once; one that is like no flag's is somebody else's.
func TestEnvironment(t *testing.T) {
	for assignment, want := range map[string]string{
		"RKT_INSECURE_OPTION=image": "rkt-x: $RKT_INSECURE_OPTION ... RKT_INSECURE_OPTIONS",
		"RKT_INSECURE=image":        "rkt-x: $RKT_INSECURE ... RKT_INSECURE_OPTIONS",
		"RKT_MEMORY=64M":            "rkt-x: $RKT_MEMORY ... --memory ... after the image",
		"RKT_POD=x":                 "",
		"RKT_VERSION=1":             "",
		"RKT_EXPERIMENT_APP=true":   "",
		"RKT_STAGE1_ENTERPID=1":     "",
		"RKT_PORT=http:80":          "",
		"RKT_IMAGE_OF_OURS=x":       "",
		"RKT_PULL_POLICY=":          "",
		"INSECURE_OPTION=x":         "",
	} {
		var stderr bytes.Buffer
		p := &Process{Name: "rkt-x", Stderr: &stderr}
		fs := NewFlags(p.Name)
		name, value, _ := strings.Cut(assignment, "=")
		t.Setenv(name, value)
		if p.warnOfVariables(fs.FlagSet, []string{assignment}); !testkit.Has(stderr.String(), want) {
			t.Errorf("%s: %q; want %q", assignment, stderr.String(), want)
		}
		if _, is := os.LookupEnv(name); is != (want == "") {
			t.Errorf("%s: is there for the next program: %t", assignment, is)
		}
	}
	p := &Process{Name: "rkt-x", Stderr: &bytes.Buffer{}}
	fs := NewFlags(p.Name)
	g := fs.Global
	t.Setenv("RKT_DEBUG", "maybe")
	if err := parseVariables(fs.FlagSet, nil); !testkit.Says(err, `$RKT_DEBUG="maybe": neither true nor false`) {
		t.Error(err)
	}
	t.Setenv("RKT_DEBUG", "1")
	t.Setenv("RKT_DIR", "/x")
	if err := parseVariables(fs.FlagSet, nil); err != nil || g.Dir != "/x" || !g.Debug {
		t.Errorf("%v: %+v", err, g)
	}
}

// A flag of an app that another program has as well is warned of by the program that makes apps,
// and by no other.
func TestNoEffect(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rkt.conf"), []byte("full\nuser 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]string{
		"rkt-prepare": "rkt-prepare: $RKT_USER ... --user ... after the image\n ... rkt-prepare: " + dir +
			"/rkt.conf: line 2: user ... --user ... after the image",
		"rkt-enter": "", "rkt-list": "",
	} {
		t.Setenv("RKT_USER", "1000")
		t.Setenv("RKT_SIGNATURE", "x.asc") // for rkt-fetch
		var stderr bytes.Buffer
		p := &Process{Name: program, Stderr: &stderr}
		fs := NewFlags(p.Name)
		if program == "rkt-enter" {
			fs.String("user", "", "")
		}
		if err := p.parse(fs, []string{"--local-config=" + dir}); err != nil || !testkit.Has(stderr.String(), want) {
			t.Errorf("%s: %v, %q; want %q", program, err, stderr.String(), want)
		}
	}
}

// A data directory that is not absolute is one of the working directory.
func TestRelativeDir(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--dir=./a/../b"}, nil} {
		t.Setenv("RKT_DIR", "b")
		p := &Process{Name: "rkt-x", Stderr: &bytes.Buffer{}}
		fs := NewFlags(p.Name)
		g := fs.Global
		if err := p.parse(fs, args); err != nil || g.Dir != here+"/b" || p.Chosen["dir"] != g.Dir {
			t.Errorf("%q: %v: %s, %q", args, err, g.Dir, p.Chosen)
		}
	}
}

func TestPullPolicy(t *testing.T) {
	for _, c := range []struct {
		words              string
		policy             string
		storeOnly, noStore bool
		want               string
	}{
		{"", "new", false, false, "new"},
		{"--store-only", "new", true, false, "never"},
		{"--no-store", "new", false, true, "update"},
		{"--store-only", "update", true, false, "never"}, // by a variable
		{"--pull-policy=update", "update", true, false, "update"},
		{"--pull-policy never --store-only", "never", true, false, "never"},
		{"--store-only --no-store", "new", true, true, "both --store-only and --no-store specified; use one of them"},
		{"--store-only --pull-policy=update", "update", true, false,
			"--store-only is --pull-policy=never, and --pull-policy=update is given too; use one of them"},
		{"-pull-policy new --no-store", "new", false, true,
			"--no-store is --pull-policy=update, and --pull-policy=new is given too; use one of them"},
		{"--pull-policy=always", "always", false, false, "--pull-policy=always: is not one of never, new, update"},
	} {
		got, err := PullPolicy(strings.Fields(c.words), c.policy, c.storeOnly, c.noStore)
		if !testkit.Gives(got, err, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// What a flag's value may be, and what it may not.
func TestValues(t *testing.T) {
	for args, want := range map[string]string{
		"--grace=1h":  "",
		"--grace 0":   "",
		"--grace=-1h": `--grace="-1h": not a time ... 30m`,
		"--grace=24":  `--grace="24": not a time ... 30m`,
		"--full=2":    `--full="2": neither true nor false`,
		"--port=x":    `--port="x": not a number`,
		"--port=-1":   `--port="-1": not a number`,
		"--port":      "flag --port needs a value",
		"-port 1":     "",
		"-p":          "unknown flag -p (--help lists the flags)",
		"--prot=1":    "unknown flag --prot; did you mean --port?",
		"---port=1":   "---port=1: not a flag",
		"--":          `"--": not a flag`,
		"-h":          flag.ErrHelp.Error(),
	} {
		fs := newFlagSet("")
		fs.Duration("grace", time.Hour, "")
		fs.Bool("full", false, "")
		fs.Uint("port", 0, "")
		err := ParseFlags(fs, strings.Fields(args))
		if !testkit.Says(err, want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

func (p *Process) parse(fs *Flags, args []string) error {
	p.Args = args
	return p.Parse(fs)
}
