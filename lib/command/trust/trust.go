// Package trust is the program rkt-trust.
package trust

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image/auth"
	"github.com/rkt-toolkit/rkt/lib/image/certs"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/image/trust"
)

// Command is rkt-trust.
var Command = &cli.Command{
	Name:     "rkt-trust",
	Summary:  "trust a key that images are signed with",
	Synopsis: []string{"--prefix=PREFIX|--root [FLAGS] [KEY...]"},
	Text: `
Makes keys trusted, by which rkt-fetch verifies images. Shows each key's
fingerprint and asks.

KEY is a file or a URL: OpenPGP keys (gpg --armor --export), which sign ACIs, or
a public key in PEM (cosign.pub), which signs images in registries. Without KEY,
the server of the prefix is asked for its keys.`,
	Details: `
A key for a prefix verifies the images of that name and of those below it, and no
others; a root key verifies every image. Without KEY, the server of the prefix is
asked where its keys are (appc spec, discovery.md).`,
	Notes: `
Keys are kept in trustedkeys/root.d and trustedkeys/prefix.d/PREFIX of the local
configuration, as files named by their fingerprints; rm removes one. Keys of the
system's and the user's configuration are trusted as well; an empty file masks a
key.

--insecure-options=pubkey is --insecure-allow-http, and tls accepts any
certificate. --trust-keys-from-https does not ask about keys from HTTPS servers.`,
	Examples: []cli.Example{
		{Line: "rkt trust --prefix=docker.io/library/redis cosign.pub",
			Text: "Trust a key for one image and what is below its name."},
		{Line: "rkt trust --prefix=example.com/team", Text: "Ask the server of the prefix for its keys."},
	},
	Files: []cli.File{
		{Path: "/etc/rkt/trustedkeys/root.d, /etc/rkt/trustedkeys/prefix.d", Text: "trusted keys"},
		{Path: "/usr/lib/rkt/trustedkeys", Text: "the vendor's"},
	},
	SeeAlso: []string{"rkt-fetch", "rkt-image", "gpg"},
	Setup:   setup,
}

// config is one call of the program.
type config struct {
	local  string // configuration directory that keys go into
	prefix string // "" for a root key
	keys   []string
	source trust.Source
	ask    bool
	https  bool // what came by HTTPS is not asked about
}

func setup(fs *cli.Flags) cli.Run {
	complete := register(fs)
	return func(ctx context.Context, p *cli.Process) error {
		c, err := complete(p)
		if err != nil {
			return err
		}
		return run(ctx, p, c)
	}
}

// register registers the flags, and returns what makes a call of them.
func register(fs *cli.Flags) func(*cli.Process) (*config, error) {
	fs.NoDir = true
	c := &config{}
	var root, skip, allowHTTP bool
	fs.StringVar(&c.prefix, "prefix", "", "PREFIX: trust for images of this name and below it, such as "+
		"example.com/team or docker.io/library/redis")
	fs.BoolVar(&root, "root", false, "trust for every image")
	fs.BoolVar(&skip, "skip-fingerprint-review", false, "do not ask")
	fs.BoolVar(&allowHTTP, "insecure-allow-http", false, "get pages and keys by plain HTTP too")
	return func(p *cli.Process) (*config, error) { return c.complete(p, fs, root, skip, allowHTTP) }
}

func (c *config) complete(p *cli.Process, fs *cli.Flags, root, skip, allowHTTP bool) (*config, error) {
	g := fs.Global
	c.keys = fs.Args()
	c.prefix = strings.TrimPrefix(c.prefix, "docker://")
	switch {
	case root && c.prefix != "":
		return nil, errors.New("--root and --prefix exclude each other")
	case !root && c.prefix == "":
		return nil, errors.New("--prefix=NAME, or --root to trust a key for every image, is needed")
	case root && len(c.keys) == 0:
		return nil, errors.New("--root needs a file or URL of a key")
	case strings.Contains(c.prefix, "://"):
		return nil, fmt.Errorf("--prefix=%s: a name without a scheme", c.prefix)
	}
	if !root {
		if err := keystore.CheckPrefix(c.prefix); err != nil {
			return nil, fmt.Errorf("--prefix: %w", err)
		}
	}
	c.local, c.ask, c.https = g.LocalConfig, !skip, g.TrustKeysFrom
	c.source = trust.Source{HTTP: allowHTTP || g.Insecure.Pubkey, TLS: g.Insecure.TLS}
	dirs := []string{g.SystemConfig, g.LocalConfig, g.UserConfig}
	c.source.Auth, c.source.Certs = auth.New(p.Getenv, dirs...), certs.Directories(dirs...)
	return c, nil
}

func run(ctx context.Context, p *cli.Process, c *config) (err error) {
	if len(c.keys) == 0 {
		if c.keys, err = c.source.Discover(ctx, c.prefix); err != nil {
			return fmt.Errorf("prefix %s: %w", c.prefix, err)
		}
	}
	answers := bufio.NewReader(p.Stdin)
	for _, location := range c.keys {
		if err := c.trust(ctx, p, answers, location); err != nil {
			return fmt.Errorf("key %s: %w", location, err)
		}
	}
	return nil
}

// trust shows the keys of one place, asks, and keeps them.
func (c *config) trust(ctx context.Context, p *cli.Process, answers *bufio.Reader, location string) error {
	keys, err := c.source.Read(ctx, location)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Stderr, "prefix: %q\nkey: %q\n", c.prefix, location)
	for _, k := range keys {
		if err := k.Usable(); err != nil {
			return err
		}
		show(p.Stderr, k)
	}
	how := "without"
	if c.ask && !(c.https && c.source.HTTPS(location)) {
		how = "after"
		switch yes, err := review(p.Stderr, answers); {
		case err != nil:
			return err
		case !yes:
			fmt.Fprintf(p.Stderr, "Not trusting %q\n", location)
			return nil
		}
	}
	if c.prefix == "" {
		fmt.Fprintf(p.Stderr, "Trusting %q for every image %s fingerprint review.\n", location, how)
	} else {
		fmt.Fprintf(p.Stderr, "Trusting %q for prefix %q %s fingerprint review.\n", location, c.prefix, how)
	}
	for _, k := range keys {
		path, err := trust.Add(c.local, c.prefix, k)
		if err != nil {
			return err
		}
		if c.prefix == "" {
			fmt.Fprintf(p.Stderr, "Added root key at %q\n", path)
		} else {
			fmt.Fprintf(p.Stderr, "Added key for prefix %q at %q\n", c.prefix, path)
		}
	}
	return nil
}

func show(w io.Writer, k trust.Key) {
	if !k.OpenPGP() {
		fmt.Fprintf(w, "%s key, SHA-256 fingerprint is: %s\n", k.Algorithm(), grouped(k.Fingerprint))
		return
	}
	fmt.Fprintf(w, "gpg key fingerprint is: %s\n", grouped(k.Fingerprint))
	for _, s := range k.Subkeys() {
		fmt.Fprintf(w, "    subkey fingerprint: %s\n", grouped(s))
	}
	for _, id := range k.UserIDs() {
		fmt.Fprintf(w, "\t%s\n", id)
	}
}

// grouped writes a fingerprint as gpg does: four digits and a space, two spaces in the middle.
func grouped(fingerprint string) string {
	var b strings.Builder
	for i := range len(fingerprint) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
			if i*2 == len(fingerprint) {
				b.WriteByte(' ')
			}
		}
		b.WriteByte(fingerprint[i])
	}
	return strings.ToUpper(b.String())
}

// review asks until it is answered.
func review(w io.Writer, answers *bufio.Reader) (bool, error) {
	for {
		fmt.Fprintln(w, "Are you sure you want to trust this key (yes/no)?")
		answer, err := answers.ReadString('\n')
		switch strings.TrimSpace(answer) {
		case "yes":
			return true, nil
		case "no":
			return false, nil
		}
		if err != nil {
			return false,
				errors.New("not trusted: nobody answered on standard input (--skip-fingerprint-review does not ask)")
		}
		fmt.Fprintln(w, "Please enter 'yes' or 'no'")
	}
}
