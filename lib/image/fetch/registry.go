package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/auth"
	"github.com/rkt-toolkit/rkt/lib/image/certs"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/trust"
)

// fromRegistry fetches from a registry (distribution-spec), with the credentials that there are for
// it. What is in the store already costs one HEAD of the manifest, which the limits of registries
// do not count, and nothing if the reference has the digest.
func fromRegistry(ctx context.Context, s *store.Store, ref image.Reference, o Options) (fetched, error) {
	known, isKnown := rememberedName(s, ref, o)
	if isKnown && ref.Digest != "" {
		return fetched{id: known.ID}, nil
	}
	var options []name.Option
	if o.InsecureHTTP {
		options = append(options, name.Insecure) // tries HTTPS first all the same
	}
	target, err := name.ParseReference(ref.Name(), options...)
	if err != nil {
		return fetched{}, err
	}
	login, _, err := o.Auth.Registry(ctx, ref.Host, ref.Repository)
	if err != nil {
		return fetched{}, err
	}
	r := account{ref.Host, login}
	q := registryQuery{login: login, through: newTransport(o, nil), platform: o.Platform,
		who: authn.FromConfig(authn.AuthConfig{
			Username: login.User, Password: login.Password, IdentityToken: login.IdentityToken,
			RegistryToken: login.Token,
		})}
	q.through.login = func(ctx context.Context) (http.RoundTripper, error) {
		return transport.NewWithContext(ctx, target.Context().Registry, q.who, q.through.next,
			[]string{target.Scope(transport.PullScope)})
	}
	if isKnown {
		digest, challenge, err := q.digestNow(ctx, target, known.Challenge)
		switch {
		case err == nil && digest == known.Digest:
			if challenge != known.Challenge && !o.InsecureTLS {
				known.Challenge = challenge
				err = s.SetRemote(ctx, ref, known)
			}
			return fetched{id: known.ID}, err
		case err != nil && !retryWithGET(err):
			return fetched{}, r.error(err)
		}
	}
	return q.fetch(ctx, s, ref, o, target, r)
}

// fetch fetches the image that a name of the registry stands for now.
func (q registryQuery) fetch(ctx context.Context, s *store.Store, ref image.Reference, o Options, target name.Reference,
	r account) (fetched, error) {
	greeting := &greeting{next: q.through}
	p := &pulled{account: r, ref: ref, target: target.Context(), asks: q.options(greeting)}
	if err := p.describe(ctx, target); err != nil {
		return fetched{}, err
	}
	manifest, err := p.image.Manifest()
	if err != nil {
		return fetched{}, r.error(err)
	}
	var got fetched
	if !o.InsecureImage {
		if got.by, err = p.verify(ctx, o.Keys); err != nil {
			return fetched{}, err
		}
	}
	if got.id, err = addOCI(ctx, s, ref, o, manifest, p.layer); err != nil {
		return fetched{}, err
	}
	return got, rememberName(ctx, s, ref, o, store.Remote{ID: got.id, Digest: p.described.Digest.String(),
		Challenge: greeting.heard})
}

// pulled is an image of a registry whose description has come.
type pulled struct {
	account
	ref       image.Reference
	target    name.Repository
	asks      []remote.Option
	puller    *remote.Puller
	described *remote.Descriptor
	image     v1.Image // for our platform, of an index
}

// describe asks for the description.
func (p *pulled) describe(ctx context.Context, target name.Reference) (err error) {
	if p.puller, err = remote.NewPuller(p.asks...); err != nil {
		return err
	}
	if p.described, err = p.puller.Get(ctx, target); err != nil {
		return p.error(err)
	}
	if p.image, err = p.described.Image(); err != nil {
		return p.error(err)
	}
	return nil
}

// layer opens a blob. It is asked of the registry alone, whatever other addresses a manifest has
// for it.
func (p *pulled) layer(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	layer, err := p.puller.Layer(ctx, p.target.Digest(d.Digest.String()))
	if err == nil {
		var body io.ReadCloser
		if body, err = layer.Compressed(); err == nil {
			return body, nil
		}
	}
	return nil, p.error(err)
}

// verify returns the proof that somebody who is trusted has signed the image, or the index that it
// was found by.
func (p *pulled) verify(ctx context.Context, keys trust.Keystore) (*keystore.Proof, error) {
	digest, err := p.image.Digest()
	if err != nil {
		return nil, err
	}
	c := &cosign{keys: keys, get: p.layer, image: trust.Image{Name: p.ref,
		Digests: []string{p.described.Digest.String()}}}
	if digest != p.described.Digest {
		c.image.Digests = append(c.image.Digests, digest.String())
	}
	if err := verifyRemote(ctx, p.account, p.puller, p.asks, p.target, c); err != nil {
		return nil, err
	}
	return &c.by, nil
}

// retryWithGET reports whether a failed HEAD should be retried as GET: not every registry knows
// HEAD or sends a digest with it, and an answer to it has no text that says what is wrong.
func retryWithGET(err error) bool {
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		return answer.StatusCode < http.StatusInternalServerError && answer.StatusCode != http.StatusTooManyRequests
	}
	_, network := errors.AsType[*url.Error](err)
	return !network
}

// rememberedName gives what a name in a registry was when it was last asked for, if the store has
// it and it was verified if it must be.
func rememberedName(s *store.Store, ref image.Reference, o Options) (store.Remote, bool) {
	if o.Platform.foreign() {
		return store.Remote{}, false
	}
	known, err := s.Remote(ref)
	if err != nil || known.Digest == "" {
		return store.Remote{}, false
	}
	img, err := s.Image(known.ID)
	return known, err == nil && o.resolver(s).Check(img, ref) == nil
}

// rememberName notes which image a name is.
func rememberName(ctx context.Context, s *store.Store, ref image.Reference, o Options, now store.Remote) error {
	if o.Platform.foreign() {
		return nil
	}
	img, err := s.Image(now.ID)
	if err != nil {
		return err
	}
	now.Manifest = img.Manifest
	if o.InsecureTLS {
		now.Challenge = ""
	}
	return s.SetRemote(ctx, ref, now)
}

// registryQuery is how a registry is asked.
type registryQuery struct {
	login    auth.Credentials
	who      authn.Authenticator // the same for go-containerregistry
	through  *retrying
	platform Platform
}

// options are those of go-containerregistry, for asking through a greeting.
func (q registryQuery) options(g *greeting) []remote.Option {
	return []remote.Option{
		remote.WithTransport(bounded{g}),
		remote.WithAuth(q.who),
		remote.WithPlatform(q.platform.v1()),
		remote.WithUserAgent("rkt"),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), // the transport knows better when to try again
	}
}

// account is what a registry is asked with.
type account struct {
	host  string
	login auth.Credentials
}

// error says in words what a registry says in codes. Scripts know the code by docker2aci's words.
func (r account) error(err error) error {
	answer, ok := errors.AsType[*transport.Error](err)
	if op := r.refusal(err); op != nil {
		return fmt.Errorf("registry %s: %w (does it run, and is the port right?)", r.host, op)
	}
	if !ok {
		return auth.HideQuery(err)
	}
	what := "registry " + r.host
	switch answer.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("not in the registry %s: no image of this name and tag: %s (Unexpected HTTP code: %d)",
			r.host, codes(answer), answer.StatusCode)
	case http.StatusUnauthorized, http.StatusForbidden:
		what = auth.Refused("the registry "+r.host+" has no such image or", r.login, "auth.d, docker login")
	}
	return fmt.Errorf("%s: %w (Unexpected HTTP code: %d)", what, err, answer.StatusCode)
}

// refusal is the error of a connection to the registry itself on whose port nobody listens, or nil.
func (r account) refusal(err error) *net.OpError {
	asked, ok := errors.AsType[*url.Error](err)
	if !ok {
		return nil
	}
	u, invalid := url.Parse(asked.URL)
	op, ok := errors.AsType[*net.OpError](err)
	if invalid != nil || u.Host != r.host || !ok || op.Op != "dial" || !errors.Is(op, syscall.ECONNREFUSED) {
		return nil
	}
	return op
}

// codes are the codes and messages in a registry's answer, without their details.
func codes(answer *transport.Error) string {
	var list []string
	for _, e := range answer.Errors {
		list = append(list, strings.Join(strings.Fields(string(e.Code)+": "+e.Message), " "))
	}
	return cmp.Or(strings.Join(list, "; "), http.StatusText(answer.StatusCode))
}

// guarded speaks plain HTTP only with this machine, on redirects too, and follows no more of them
// than net/http does by itself: go-containerregistry's client follows for ever.
type guarded struct {
	tls   http.RoundTripper
	plain http.RoundTripper
}

const maxRedirects = 10

func (g *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	hops := 0
	for q := r; q.Response != nil && q.Response.Request != nil; q = q.Response.Request {
		// each is there because of an answer
		if hops++; hops > maxRedirects {
			return nil, fmt.Errorf("more than %d redirects", maxRedirects)
		}
	}
	if r.URL.Scheme == "http" {
		return g.plain.RoundTrip(r)
	}
	return g.tls.RoundTrip(r)
}

// bounded refuses manifests larger than maxManifest: go-containerregistry takes up to 100 MiB of
// one into memory.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err == nil && strings.Contains(r.URL.Path, "/manifests/") {
		v := &verifier{ctx: r.Context(), r: answer.Body, size: -1, max: maxManifest}
		answer.Body = struct {
			io.Reader
			io.Closer
		}{v, answer.Body}
	}
	return answer, err
}

// newTransport makes a transport that gives servers the credentials of a keychain.
func newTransport(o Options, keys *auth.Keychain) *retrying {
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.InsecureTLS}
	t.ResponseHeaderTimeout = time.Minute
	t.DisableCompression = true // digests are of what is stored
	if o.dial != nil {
		t.DialContext = o.dial
	}
	secure := certs.Transport(t, o.Certs)
	if o.InsecureHTTP {
		return &retrying{next: keys.Transport(&guarded{tls: secure, plain: t}), delay: o.delay, idle: o.idle}
	}
	local := t.Clone()
	local.Proxy = nil
	local.DialContext = (&net.Dialer{
		Timeout: 30 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error { // sees every address that a name has
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return err
			}
			if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
				return errors.New("plain HTTP to another machine: use --insecure-options=http to allow it")
			}
			return nil
		},
	}).DialContext
	return &retrying{next: keys.Transport(&guarded{tls: secure, plain: local}), delay: o.delay, idle: o.idle}
}
