// Package auth finds the credentials that a server or a registry wants: in rkt's files in auth.d,
// and where Docker and Podman keep theirs. Secrets of it are in no error and in no argument of a
// program.
package auth

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rkt-toolkit/rkt/lib/config"
)

// Credentials are of one kind: user and password, a bearer token, an identity token (OAuth 2, which
// a registry's token server takes), or a key of AWS.
type Credentials struct {
	User, Password string
	Token          string
	IdentityToken  string
	AWS            AWS

	From string // file or program that has them, for errors
}

// String keeps secrets out of what is printed by mistake.
func (c Credentials) String() string { return "credentials of " + c.From }

// GoString is String.
func (c Credentials) GoString() string { return c.String() }

// Keychain finds credentials. A nil one has none. It reads each file once, when one is wanted.
type Keychain struct {
	dirs   []string
	getenv func(string) string
	rkt    func() (*files, error)

	mu     sync.Mutex
	docker map[string]*dockerConfig
}

// files are what auth.d has.
type files struct {
	servers    map[string]Credentials // by HOST[:PORT]
	registries map[string]Credentials
}

// New gives the keychain of these configuration directories, of which a later one wins, and an
// environment (os.Getenv).
func New(getenv func(string) string, dirs ...string) *Keychain {
	k := &Keychain{dirs: dirs, getenv: getenv, docker: map[string]*dockerConfig{}}
	k.rkt = sync.OnceValues(func() (*files, error) { return readAll(dirs) })
	return k
}

func readAll(dirs []string) (*files, error) {
	servers, registries, err := config.ReadAuth(dirs...)
	if err != nil {
		return nil, err
	}
	all := &files{map[string]Credentials{}, map[string]Credentials{}}
	for host, a := range servers {
		all.servers[strings.ToLower(host)] = of(a)
	}
	for host, a := range registries {
		all.registries[registryHost(strings.ToLower(host))] = of(a)
	}
	return all, nil
}

func of(a config.Auth) Credentials {
	return Credentials{User: a.User, Password: a.Password, Token: a.Token, From: a.File,
		AWS: AWS{ID: a.AccessKeyID, Secret: a.SecretAccessKey, Region: a.Region}}
}

// hub is what Docker Hub is called where it is asked.
const hub = "registry-1.docker.io"

// registryHost gives Docker Hub one name.
func registryHost(host string) string {
	switch host {
	case "docker.io", "index.docker.io":
		return hub
	}
	return host
}

// Server gives the credentials for a web server, HOST[:PORT].
func (k *Keychain) Server(host string) (Credentials, bool, error) {
	if k == nil {
		return Credentials{}, false, nil
	}
	all, err := k.rkt()
	if err != nil {
		return Credentials{}, false, err
	}
	c, ok := all.servers[host]
	return c, ok, nil
}

// Registry gives the credentials for a repository of a registry: rkt's, else those of Docker's and
// Podman's files.
func (k *Keychain) Registry(ctx context.Context, host, repository string) (Credentials, bool, error) {
	if k == nil {
		return Credentials{}, false, nil
	}
	all, err := k.rkt()
	if err != nil {
		return Credentials{}, false, err
	}
	host = registryHost(host)
	if c, ok := all.registries[host]; ok {
		return c, true, nil
	}
	return k.fromDocker(ctx, host, repository)
}

// Transport gives requests the credentials for their host. Those of a redirect get the ones for the
// host that it leads to, or none; plain HTTP gets none if HTTPS has led there.
func (k *Keychain) Transport(next http.RoundTripper) http.RoundTripper { return &transport{k, next} }

type transport struct {
	keys *Keychain
	next http.RoundTripper
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Referer") // a redirect's address may have a secret in its query
	c, ok, err := t.keys.Server(hostOf(r))
	if err != nil {
		return nil, err
	}
	if ok && !downgraded(r) {
		c.sign(r, time.Now())
	}
	return t.next.RoundTrip(r)
}

// hostOf is the HOST[:PORT] of a request as it stands in auth.d: without a port that goes without
// saying.
func hostOf(r *http.Request) string {
	host, port, err := net.SplitHostPort(r.URL.Host)
	if err == nil && (r.URL.Scheme == "https" && port == "443" || r.URL.Scheme == "http" && port == "80") {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return strings.ToLower(host)
	}
	return strings.ToLower(r.URL.Host)
}

// downgraded tells of a plain request whether it is a redirect of one by TLS.
func downgraded(r *http.Request) bool {
	if r.URL.Scheme != "http" {
		return false
	}
	for q := r; q.Response != nil && q.Response.Request != nil; {
		if q = q.Response.Request; q.URL.Scheme != "http" {
			return true
		}
	}
	return false
}

func (c Credentials) sign(r *http.Request, now time.Time) {
	switch {
	case c.AWS.ID != "":
		c.AWS.Sign(r, now)
	case c.Token != "":
		r.Header.Set("Authorization", "Bearer "+c.Token)
	default:
		r.SetBasicAuth(c.User, c.Password)
	}
}

// Refused words the answer of somebody who wants other credentials than he was given: c, if any
// were found. where says where they could be.
func Refused(who string, c Credentials, where string) string {
	if c.From != "" {
		return who + " refuses the credentials of " + c.From
	}
	return who + " wants credentials, and there are none for it (" + where + ")"
}

// PlainURL is a URL as it may be shown, without what follows a "?": that may be a secret, as in a
// signed address.
func PlainURL(address string) string {
	if plain, _, found := strings.Cut(address, "?"); found {
		return plain + "?…"
	}
	return address
}

// HideQuery makes the URL plain that an error of net/http names, to which a redirect may have led.
func HideQuery(err error) error {
	if at, ok := errors.AsType[*url.Error](err); ok {
		at.URL = PlainURL(at.URL)
	}
	return err
}
