package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image/trust"
)

func parse(p *cli.Process) (*config, error) {
	fs := cli.NewFlags("rkt-trust")
	complete := register(fs)
	if err := p.Parse(fs); err != nil {
		return nil, err
	}
	return complete(p)
}

// What a key says of itself is shown on lines of its own, with nothing that a terminal obeys.
func TestHostileUserID(t *testing.T) {
	key, err := openpgp.NewEntity("\x1b]0;pwned\a\x1b[31mred\u009b2J\x7f\u202e\ngpg key fingerprint is: 0000", "",
		"a@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err == nil {
		err = errors.Join(key.Serialize(w), w.Close())
	}
	file := t.TempDir() + "/key"
	if err := errors.Join(err, os.WriteFile(file, text.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	p := &cli.Process{Name: "rkt-trust", Args: []string{"--root", "--local-config=" + t.TempDir(), file},
		Getenv: os.Getenv,
		Stdin:  strings.NewReader("no\n"), Stderr: &said}
	if err := Command.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(said.String(), "\n")
	if !slices.Contains(lines, "\t?]0;pwned??[31mred?2J?? gpg key fingerprint is: 0000 <a@example.com>") {
		t.Errorf("the user ID is not shown: %q", lines)
	}
	for _, line := range lines {
		if strings.ContainsFunc(strings.TrimPrefix(line, "\t"), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q", line)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--prefix=example.com/app k1 k2", "{/etc/rkt example.com/app [k1 k2] {false false <nil> []} true false}"},
		{"--prefix=example.com/app", "{/etc/rkt example.com/app [] {false false <nil> []} true false}"},
		{"--prefix=docker://localhost:5000/app k",
			"{/etc/rkt localhost:5000/app [k] {false false <nil> []} true false}"},
		{"--root k --skip-fingerprint-review", "{/etc/rkt  [k] {false false <nil> []} false false}"},
		{"k --prefix example.com l --insecure-allow-http",
			"{/etc/rkt example.com [k l] {true false <nil> []} true false}"},
		{"--local-config=/x --trust-keys-from-https --root k", "{/x  [k] {false false <nil> []} true true}"},
		{"--insecure-options=pubkey,tls --root k", "{/etc/rkt  [k] {true true <nil> []} true false}"},
		{"k", "--prefix=NAME, or --root to trust a key for every image, is needed"},
		{"--root", "--root needs a file or URL of a key"},
		{"--root --prefix=a k", "--root and --prefix exclude each other"},
		{"--prefix=https://example.com k", "--prefix=https://example.com: a name without a scheme"},
		{"--prefix=../x k", `--prefix: "../x" is not the name of an image or the beginning of one (as in ` +
			`example.com/app)`},
		{"--nope", "unknown flag --nope (--help lists the flags)"},
	} {
		got, err := parse(&cli.Process{Name: "rkt-trust", Args: strings.Fields(c.args), Getenv: os.Getenv})
		text := fmt.Sprint(err)
		if err == nil {
			got.source = trust.Source{HTTP: got.source.HTTP, TLS: got.source.TLS}
			text = fmt.Sprint(*got)
		}
		if text != c.want {
			t.Errorf("%s: %s, want %s", c.args, text, c.want)
		}
	}
}
