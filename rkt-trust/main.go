// Rkt-trust makes keys trusted, by which rkt-fetch verifies images.
//
//	rkt-trust --prefix=PREFIX|--root [FLAGS] [KEY…]
//
// It shows the fingerprint of each key, and whose it says it is, and asks before it trusts it. Without KEY, the server of the prefix
// is asked where its keys are (appc spec, discovery.md). A key for a prefix verifies the images of that name and of those below it,
// and no others; a root key verifies every image. Keys are files in /etc/rkt/trustedkeys: rm takes one back, and an empty file of its
// name takes back one of /usr/lib/rkt/trustedkeys.
package main

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

const usage = `Usage: rkt-trust --prefix=PREFIX|--root [FLAGS] [KEY...]

Makes keys trusted, by which rkt-fetch verifies images. Shows each key's
fingerprint and asks.

KEY is a file or a URL: OpenPGP keys (gpg --armor --export), which sign ACIs, or
a public key in PEM (cosign.pub), which signs images in registries. Without KEY,
the keys of the prefix are looked for on its server.

Flags:
  --prefix=PREFIX           trust for images of this name and below it, as in
                            example.com/team or docker.io/library/redis
  --root                    trust for every image
  --skip-fingerprint-review
                            do not ask
  --insecure-allow-http     get pages and keys by plain HTTP too

Keys are kept in trustedkeys/root.d and trustedkeys/prefix.d/PREFIX of the local
configuration, as files named by their fingerprints. Those of the system's and
the user's configuration count as well; an empty file masks a key.

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST
(pubkey is --insecure-allow-http, tls takes any certificate),
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help,
--trust-keys-from-https (do not ask about keys that came by HTTPS).
`

func main() { cli.Main("rkt-trust", usage, run) }

// config is one call of the program.
type config struct {
	local  string // configuration folder that keys go into
	prefix string // "" for a root key
	keys   []string
	source trust.Source
	ask    bool
	https  bool // what came by HTTPS is not asked about
}

func parse(p *cli.Process) (*config, error) {
	fs, g := p.FlagsWithoutDir()
	c := &config{}
	var root, skip, allowHTTP bool
	fs.StringVar(&c.prefix, "prefix", "", "")
	fs.BoolVar(&root, "root", false, "")
	fs.BoolVar(&skip, "skip-fingerprint-review", false, "")
	fs.BoolVar(&allowHTTP, "insecure-allow-http", false, "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return nil, err
	}
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
	c.source.Auth, c.source.Certs = auth.New(p.Getenv, dirs...), certs.Folders(dirs...)
	return c, nil
}

func run(ctx context.Context, p *cli.Process) error {
	c, err := parse(p)
	if err != nil {
		return err
	}
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
			return false, errors.New("not trusted: nobody answered on standard input (--skip-fingerprint-review does not ask)")
		}
		fmt.Fprintln(w, "Please enter 'yes' or 'no'")
	}
}
