package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err            error
		status         int
		stdout, stderr string
	}{
		{nil, 0, "", ""},
		{errors.New("pod x: gone"), 254, "", "rkt-x: pod x: gone\n"},
		{fmt.Errorf("image %q: two\nlines\x1b[31m", "a"), 254, "", "rkt-x: image \"a\": two lines?[31m\n"},
		{errors.Join(errors.New("one"), nil, errors.New("two")), 254, "", "rkt-x: one\nrkt-x: two\n"},
		{ExitStatus(3), 3, "", ""},
		{fmt.Errorf("wrapped: %w", ExitStatus(7)), 7, "", ""},
		{flag.ErrHelp, 0, "the manual\n", ""},
	} {
		var stdout, stderr bytes.Buffer
		p := &Process{Name: "rkt-x", Stdout: &stdout, Stderr: &stderr}
		if got := p.report(func() string { return "the manual\n" }, c.err); got != c.status ||
			stdout.String() != c.stdout || stderr.String() != c.stderr {
			t.Errorf("%v: status %d, %q, %q; want %d, %q, %q", c.err, got, stdout.String(), stderr.String(), c.status,
				c.stdout, c.stderr)
		}
	}
}

func TestParseAnywhere(t *testing.T) {
	for _, c := range []struct {
		args, operands []string
		dir            string
		force          bool
		err            string
	}{
		{[]string{"a", "--force", "b"}, []string{"a", "b"}, "/var/lib/rkt", true, ""},
		{[]string{"a", "--dir", "/x", "b", "-force"}, []string{"a", "b"}, "/x", true, ""},
		{[]string{"a", "--dir=/x", "-"}, []string{"a", "-"}, "/x", false, ""},
		{[]string{"a", "--", "--force"}, []string{"a", "--force"}, "/var/lib/rkt", false, ""},
		{[]string{"--force=false", "a"}, []string{"a"}, "/var/lib/rkt", false, ""},
		{[]string{"a", "--nope"}, nil, "", false, "unknown flag --nope (--help lists the flags)"},
		{[]string{"a", "--dir"}, nil, "", false, "flag --dir needs a value"},
		{[]string{"a", "--help"}, nil, "", false, flag.ErrHelp.Error()},
	} {
		p := &Process{Name: "rkt-x", Args: c.args}
		fs := NewFlags("rkt-x")
		g := fs.Global
		force := fs.Bool("force", false, "")
		err := p.Parse(fs)
		if !testkit.Says(err, c.err) {
			t.Errorf("%q: %v, want %s", c.args, err, c.err)
		}
		if err != nil {
			continue
		}
		if !slices.Equal(fs.Args(), c.operands) || g.Dir != c.dir || *force != c.force {
			t.Errorf("%q: %q, %s, %t; want %q, %s, %t", c.args, fs.Args(), g.Dir, *force, c.operands, c.dir, c.force)
		}
	}
}

func TestInsecure(t *testing.T) {
	for list, want := range map[string]string{
		"none": "none", "image": "image", "image,tls": "image,tls", "all-run": "capabilities,paths,seccomp",
		"all":        "image,tls,http,pubkey,ondisk,capabilities,paths,seccomp",
		"image,none": "none",
	} {
		var i Insecure
		if err := i.Set(list); err != nil || i.String() != want {
			t.Errorf("%s: %s, %v; want %s", list, i.String(), err, want)
		}
		var again Insecure
		if err := again.Set(i.String()); err != nil || again != i {
			t.Errorf("%s: %+v came back as %+v, %v", list, i, again, err)
		}
	}
	for _, list := range []string{"", "images", "image,", "image tls"} {
		var i Insecure
		if err := i.Set(list); err == nil {
			t.Errorf("%q: no error", list)
		}
	}
}

func TestInterruptible(t *testing.T) {
	ctx, stop := Interruptible(context.Background())
	if err := stop(); err != nil || ctx.Err() != nil {
		t.Errorf("no signal came: %v, %v", err, ctx.Err())
	}
	ctx, stop = Interruptible(context.Background())
	if err := unix.Kill(os.Getpid(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Error("the signal did not cancel the context")
	}
	if err := stop(); err == nil {
		t.Error("stop forgot the signal")
	}
	if stop() == nil {
		t.Error("stop called again forgot the signal")
	}
}
