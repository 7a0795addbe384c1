package fetch

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image/fetch"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func parse(p *cli.Process) (*config, error) {
	fs := cli.NewFlags("rkt-fetch")
	complete := register(fs)
	if err := p.Parse(fs); err != nil {
		return nil, err
	}
	return complete()
}

func TestParse(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/rkt.conf", []byte("pull-policy never\nport http:80\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args, env, want string
	}{
		{"a b", "", "{update false false [{a } {b }]}"},
		{"--full --quiet a", "", "{update true true [{a }]}"},
		{"--pull-policy=new a", "", "{new false false [{a }]}"},
		{"--store-only a", "", "{never false false [{a }]}"},
		{"--no-store a", "new", "{update false false [{a }]}"},
		{"a", "new", "{new false false [{a }]}"},
		{"--pull-policy=update a", "new", "{update false false [{a }]}"},
		{"--local-config=" + dir + " a", "", "{never false false [{a }]}"},
		{"--local-config=" + dir + " a", "new", "{new false false [{a }]}"},
		{"--local-config=" + dir + " --pull-policy=update a", "new", "{update false false [{a }]}"},
		{"", "", "must provide at least one image (--help shows how)"},
		{"--pull-policy=sometimes a", "", "--pull-policy=sometimes: is not one of never, new, update"},
		{"--store-only --no-store a", "", "both --store-only and --no-store specified; use one of them"},
		{"--signature=x a", "", "{update false false [{a x}]}"},
		{"a --signature=x b c --signature y", "", "{update false false [{a x} {b } {c y}]}"},
		{"--signature=x a b", "", "--signature=x: of which image? Put it after one of them"},
		{"--signature=x a --signature=y", "", "--signature=x: of which image? Put it after one of them"},
		{"a --signature=x --signature=y", "", "--signature=y: one file for each image"},
		{"a --signature=", "", "--signature=: one file for each image"},
		{"a --signature", "", "flag --signature needs a value"},
		{"a --full", "", "{update true false [{a }]}"},
		{"a --signature=x --full b --pull-policy never --quiet", "", "{never true true [{a x} {b }]}"},
		{"a -- b --full", "", "--full: not an image; flags stand before --"},
		{"a --full=maybe", "", `--full="maybe": neither true nor false`},
		{"a --ful", "", "unknown flag --ful; did you mean --full?"},
		{"a --help", "", flag.ErrHelp.Error()},
		{"--nope a", "", "unknown flag --nope (--help lists the flags)"},
		{"--help", "", flag.ErrHelp.Error()},
	} {
		if c.env != "" {
			t.Setenv("RKT_PULL_POLICY", c.env)
		} else {
			os.Unsetenv("RKT_PULL_POLICY")
		}
		got, err := parse(&cli.Process{Name: "rkt-fetch", Args: strings.Fields(c.args), Stderr: &bytes.Buffer{},
			Getenv: os.Getenv})
		text := ""
		if err == nil {
			text = fmt.Sprint(struct {
				policy      fetch.PullPolicy
				full, quiet bool
				images      []operand
			}{got.options.PullPolicy, got.full, got.quiet, got.images})
		}
		if !testkit.Gives(text, err, c.want) {
			t.Errorf("%s (%s): %s, %v, want %s", c.args, c.env, text, err, c.want)
		}
	}
}

func TestInsecureOptions(t *testing.T) {
	got, err := parse(&cli.Process{Args: []string{"--insecure-options=image,tls,http", "a"}, Getenv: os.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	want := fetch.Options{PullPolicy: fetch.Update, InsecureImage: true, InsecureTLS: true, InsecureHTTP: true}
	if !reflect.DeepEqual(got.options, want) {
		t.Errorf("%+v", got.options)
	}
}

func TestParseLimits(t *testing.T) {
	for args, want := range map[string]string{
		"a":                         "linux/" + runtime.GOARCH + " 0 false",
		"--platform=linux/vax a":    "linux/vax 0 false",
		"--platform=vax a":          `--platform="vax": "vax" is not linux/ARCH or linux/ARCH/VARIANT`,
		"--unpack-limit=17 a":       "linux/" + runtime.GOARCH + " 17 true",
		"--unpack-limit=2G a":       "linux/" + runtime.GOARCH + " 2147483648 true",
		"--unpack-limit=1T a":       "linux/" + runtime.GOARCH + " 1099511627776 true",
		"--unpack-limit=0 a":        `--unpack-limit="0": not a number of bytes, as in 100G`,
		"--unpack-limit=-1G a":      `--unpack-limit="-1G": not a number of bytes, as in 100G`,
		"--unpack-limit=9999999T a": `--unpack-limit="9999999T": not a number of bytes, as in 100G`,
		"--unpack-limit=1GB a":      `--unpack-limit="1GB": not a number of bytes, as in 100G`,
		"--unpack-limit=G a":        `--unpack-limit="G": not a number of bytes, as in 100G`,
	} {
		c, err := parse(&cli.Process{Args: strings.Fields(args), Getenv: os.Getenv})
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(c.options.Platform, c.options.MaxBytes, c.options.AnyRatio)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}
