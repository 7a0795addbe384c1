// Package fetch is the program rkt-fetch.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/auth"
	"github.com/rkt-toolkit/rkt/lib/image/certs"
	"github.com/rkt-toolkit/rkt/lib/image/fetch"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/image/member"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/trust"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Command is rkt-fetch.
var Command = &cli.Command{
	Name:     "rkt-fetch",
	Summary:  "fetch images into the store",
	Synopsis: []string{"[FLAGS] IMAGE..."},
	Text: `
Fetches images into the store and prints their IDs, one a line.

IMAGE is one of:
  docker://[HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]
                            an image in a registry (default: Docker Hub, latest)
  oci:DIR[:TAG]             an OCI image layout
  oci-archive:FILE[:TAG]    the same in a tar file, compressed or not
  docker-archive:FILE[:NAME[:TAG]]
                            what docker save or podman save has written
  PATH, file:///PATH        an ACI (a path has a slash or ends in .aci)
  https://HOST/PATH         an ACI on a web server
  HOST/NAME[:VERSION][,LABEL=VALUE...]
                            an ACI by its name, found by appc discovery
  sha512-ID                 an image in the store; also the start of its ID
  -                         an ACI or an archive of one image on standard input`,
	Details: `
An image is unpacked once, into directories that every pod made from it shares; a
layer that is in the store is not downloaded again, nor an ACI whose server says
that it is the same. Everything is checked against its digest on the way. A
download that breaks off is resumed, and what a busy server refuses is tried
again. What an ACI depends on is fetched with it. A fetch that fails or is killed
leaves no image that looks complete, and the next fetch removes what it has left.
Any number of fetches may run at a time: of several that want one layer, one
downloads it.

Credentials for servers and registries are in files: auth.d/*.json below
/usr/lib/rkt and /etc/rkt (kinds auth and dockerAuth, as in rkt), and what docker
login and podman login write, with their credential helpers. $REGISTRY_AUTH_FILE
names one such file, $DOCKER_CONFIG the directory of a config.json. The CA
certificates for a host are those of the system ($SSL_CERT_FILE, $SSL_CERT_DIR) and
certs.d/HOST[:PORT]/*.crt beside auth.d, in /etc/containers or in /etc/docker.`,
	Notes: `
Members of group rkt fetch by rkt-fetch.socket, with the host's configuration.

An image must be signed by a key that is trusted for its name (rkt-trust): an ACI
by a file beside it (URL.asc, PATH.asc) or --signature=FILE after its name, one in
a registry or a layout by cosign. Unsigned ones are fetched only with
--insecure-options=image. Plain HTTP is used only with this machine, and with
others with --insecure-options=http; --insecure-options=tls accepts any certificate.

Credentials are in files: auth.d/*.json of /etc/rkt, or what docker login and
podman login write. CA certificates for one host are in certs.d/HOST of /etc/rkt.
HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured.

Each flag can be set by an environment variable (RKT_DIR, RKT_PULL_POLICY, ...)
or by a line in /etc/rkt/rkt.conf ("insecure-options image").`,
	Examples: []cli.Example{
		{Line: "rkt fetch docker://redis",
			Text: "Fetch an image from Docker Hub whose cosign signature a trusted key verifies."},
		{Line: "rkt fetch --insecure-options=image docker://docker.io/library/redis:7",
			Text: "Fetch an unsigned image."},
		{Line: "docker save web | rkt fetch --insecure-options=image -", Text: "Fetch an image from Docker's store."},
	},
	Files: []cli.File{
		{Path: "/etc/rkt/auth.d", Text: "credentials of servers and registries"},
		{Path: "/etc/rkt/certs.d", Text: "CA certificates for single hosts"},
		{Path: "/etc/rkt/trustedkeys", Text: "keys that images are verified with"},
		{Path: "/var/lib/rkt/cas", Text: "the image store"},
	},
	SeeAlso: []string{"rkt-trust", "rkt-image", "rkt-prepare"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	complete := register(fs)
	return func(ctx context.Context, p *cli.Process) error {
		c, err := complete()
		if err != nil {
			return err
		}
		return run(ctx, p, c)
	}
}

func run(ctx context.Context, p *cli.Process, c *config) error {
	if member.Needed(c.global.Dir) && !c.serve {
		return c.ask(p)
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	if c.serve {
		return serve(ctx, p)
	}
	images, err := store.Open(c.global.Dir)
	if err != nil {
		return err
	}
	if err := images.Clean(); err != nil { // of killed fetches; what cannot be removed is in nobody's way
		p.Debugf("leftovers in the store: %v", err)
	}
	dirs := []string{c.global.SystemConfig, c.global.LocalConfig, c.global.UserConfig}
	c.options.Auth, c.options.Certs = auth.New(p.Getenv, dirs...), certs.Directories(dirs...)
	uuid := p.Getenv("RKT_POD") // for which rkt-prepare fetches
	if uuid == "" {
		uuid = poddir.Self(p.Getenv, p.PID)
	}
	for _, img := range c.images {
		id, err := c.fetch(ctx, p, images, img)
		if err != nil {
			return c.failed(img.name, err)
		}
		p.Log().Debug("is in the store", "pod", uuid, "image", id, "name", img.name, "pull-policy",
			c.options.PullPolicy)
		if !c.full {
			id = id[:shortID]
		}
		if err := p.PrintLine("%s", id); err != nil {
			return err
		}
	}
	return nil
}

// failed says which image an error is about.
func (c *config) failed(name string, err error) error {
	ref, parseErr := image.ParseReference(name)
	if c.options.PullPolicy == fetch.Never && errors.Is(err, store.ErrNotFound) && parseErr == nil &&
		ref.Kind != image.ID {
		return fmt.Errorf("unable to fetch image from %s %q: %w", ref.Source(), name, err)
	}
	return fmt.Errorf("image %q: %w", name, err)
}

// shortID is how much of an ID rkt printed: half of the hash. Every program takes it for the whole.
const shortID = len("sha512-") + 32

// haveKey reports whether an ACI of that name can be verified. With --trust-keys-from-https its
// server is asked for a key.
func (c *config) haveKey(ctx context.Context, said io.Writer, keys trust.Keystore, name string) error {
	g := c.global
	err := keys.HaveKey(name)
	if _, none := errors.AsType[*trust.NoKey](err); !none || !g.TrustKeysFrom {
		return err
	}
	source := trust.Source{HTTP: g.Insecure.Pubkey, TLS: g.Insecure.TLS, Auth: c.options.Auth, Certs: c.options.Certs}
	files, found := source.AddDiscovered(ctx, g.LocalConfig, name)
	for _, file := range files {
		fmt.Fprintf(said, "Added key for prefix %q at %q\n", name, file)
	}
	if found != nil {
		return fmt.Errorf("%w; %w", err, found)
	}
	return keys.HaveKey(name)
}

func (c *config) fetch(ctx context.Context, p *cli.Process, images *store.Store, img operand) (string, error) {
	source := func(ctx context.Context, o fetch.Options) (string, error) {
		return fetch.Import(ctx, images, p.Stdin, o)
	}
	local := true
	if img.name != "-" {
		ref, err := image.ParseReference(img.name)
		if err != nil {
			return "", err
		}
		local = ref.Local()
		source = func(ctx context.Context, o fetch.Options) (string, error) { return fetch.Fetch(ctx, images, ref, o) }
	}
	o := c.options
	o.Signature = img.signature
	o.Log = func(format string, args ...any) { p.Debugf("image: "+format, args...) }
	keys := trust.New(c.global.SystemConfig, c.global.LocalConfig, c.global.UserConfig)
	o.Keys = keys
	o.Verify = func(_ context.Context, name string, signature []byte, signed io.ReadSeeker) (keystore.Proof, error) {
		by, err := keys.CheckACI(name, signed, signature)
		if err == nil {
			p.Debugf("%s: signed by %s", name, by.Key)
		}
		return by, err
	}
	said := p.Stderr
	if !c.quiet {
		display := newDisplay(p, img.name, local, c.global.Debug)
		o.Progress = display.update
		said = display
		defer display.clear()
	}
	o.HaveKey = func(ctx context.Context, name string) error { return c.haveKey(ctx, said, keys, name) }
	id, err := source(ctx, o)
	if err != nil && ctx.Err() != nil {
		return "", errors.New("interrupted")
	}
	return id, err
}
