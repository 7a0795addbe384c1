package prepare

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestHealth(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "check"} {
		if err := os.WriteFile(filepath.Join(dir, "bin", name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	defaults := func(exec ...string) *stage1.Health {
		return &stage1.Health{Exec: exec, Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3}
	}
	for _, test := range []struct {
		check string // the annotation; "" is none
		off   bool
		want  *stage1.Health
		warn  string
		wrong string
	}{
		{},
		{check: `{}`},
		{check: `{"Test":["NONE"]}`},
		{check: `{"Test":["CMD","check","-x"]}`, want: defaults("/bin/check", "-x")},
		{check: `{"Test":["CMD","check"]}`, off: true},
		{check: `{"Test":["CMD-SHELL","a || b"]}`, want: defaults("/bin/sh", "-c", "a || b")},
		{check: `{"Test":["CMD","/bin/check"],"Interval":5000000000,"Timeout":1000000000,"StartPeriod":2000000000,` +
			`"Retries":1}`,
			want: &stage1.Health{Exec: []string{"/bin/check"}, Interval: 5 * time.Second, Timeout: time.Second,
				StartPeriod: 2 * time.Second, Retries: 1}},
		{check: `{"Test":["CMD","check"],"Interval":1}`,
			warn: `app "a": health check: its interval of 1ns is raised to 1s, the shortest`,
			want: &stage1.Health{Exec: []string{"/bin/check"}, Interval: time.Second, Timeout: 30 * time.Second,
				Retries: 3}},
		{check: `{"Test":["CMD","check"],"Interval":999999999}`,
			warn: `app "a": health check: its interval of 999.999999ms is raised`,
			want: &stage1.Health{Exec: []string{"/bin/check"}, Interval: time.Second, Timeout: 30 * time.Second,
				Retries: 3}},
		{check: `{"Test":["CMD","check"],"Interval":1000000000,"Timeout":1}`,
			want: &stage1.Health{Exec: []string{"/bin/check"}, Interval: time.Second, Timeout: time.Millisecond,
				Retries: 3}},
		{check: `{"Test":["CMD","check"],"Interval":0,"Timeout":0,"StartPeriod":0,"Retries":0}`,
			want: defaults("/bin/check")},
		{check: `{"Test":["CMD","curl"]}`, warn: `app "a": health check: left out: program "curl": no such file`},
		{check: `{"Test":["CMD"]}`, wrong: `["CMD"] is not one of`},
		{check: `{"Test":["CMD-SHELL","a","b"]}`, wrong: "is not one of"},
		{check: `{"Test":["CMD","check"],"Retries":-1}`, wrong: "a number below 0"},
		{check: `[]`, wrong: "health check: json"},
	} {
		img := schema.BlankImageManifest()
		if test.check != "" {
			img.Annotations.Set(image.AnnotationHealth, test.check)
		}
		warned := ""
		app := stage1.App{Name: "a", WorkingDir: "/", Environment: []stage1.Variable{{Name: "PATH", Value: "/bin"}}}
		got, err := health(root, App{NoHealth: test.off}, img, app, Options{Warn: func(line string) { warned = line }})
		if test.wrong != "" {
			if !testkit.Says(err, test.wrong) {
				t.Errorf("%s: %v; want %q", test.check, err, test.wrong)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, test.want) || !strings.HasPrefix(warned, test.warn) ||
			test.warn == "" && warned != "" {
			t.Errorf("%s: %+v, %q, %v; want %+v, %q", test.check, got, warned, err, test.want, test.warn)
		}
	}
}

// Flags take the place of what the image says, value by value.
func TestSetHealth(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/bin/check", "/bin/sh"} {
		if err := os.WriteFile(dir+name, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, c := range []struct {
		image, flags string // flags: NAME=VALUE with | between them
		want         *stage1.Health
		wrong        string
	}{
		{image: `{"Test":["CMD","check"],"Retries":7}`, flags: "interval=2s|start-period=1m",
			want: &stage1.Health{Exec: []string{"/bin/check"}, Interval: 2 * time.Second,
				Timeout: 30 * time.Second, StartPeriod: time.Minute, Retries: 7}},
		{image: `{"Test":["CMD","check"],"Retries":7}`, flags: "cmd=a && b|retries=1|timeout=3s",
			want: &stage1.Health{Exec: []string{"/bin/sh", "-c", "a && b"}, Interval: 30 * time.Second,
				Timeout: 3 * time.Second, Retries: 1}},
		{image: `{"Test":["CMD","check"]}`, flags: "cmd=none"},
		{flags: `cmd=["check","-x"]`, want: &stage1.Health{Exec: []string{"/bin/check", "-x"},
			Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3}},
		{flags: `cmd=["CMD-SHELL","x"]`, want: &stage1.Health{Exec: []string{"/bin/sh", "-c", "x"},
			Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3}},
		{flags: `cmd=["gone"]`, wrong: "in the image"},
		{flags: "retries=2", wrong: "the image has none"},
		{flags: "retries=0", wrong: "not a number"}, {flags: "interval=5", wrong: "not a time"},
		{flags: "timeout=-1s", wrong: "not a time"},
		{flags: "cmd=[1]", wrong: "not a JSON array"}, {flags: "cmd=", wrong: "is empty"},
	} {
		img := schema.BlankImageManifest()
		if c.image != "" {
			img.Annotations.Set(image.AnnotationHealth, c.image)
		}
		a := App{}
		var err error
		for flag := range strings.SplitSeq(c.flags, "|") {
			name, value, _ := strings.Cut(flag, "=")
			if err == nil {
				err = a.SetHealth(name, value)
			}
		}
		var got *stage1.Health
		if err == nil {
			app := stage1.App{Name: "a", WorkingDir: "/", Environment: []stage1.Variable{{Name: "PATH", Value: "/bin"}}}
			got, err = health(root, a, img, app, Options{Warn: func(line string) { t.Errorf("%s: %s", c.flags, line) }})
		}
		if c.wrong != "" {
			if !testkit.Says(err, c.wrong) {
				t.Errorf("%s: %v; want %q", c.flags, err, c.wrong)
			}
		} else if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.flags, got, err, c.want)
		}
	}
}
