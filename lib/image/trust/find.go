package trust

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/appc/spec/discovery"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image/auth"
	"github.com/rkt-toolkit/rkt/lib/image/certs"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
)

// Source fetches keys. The zero value speaks HTTPS only, and trusts the system's authorities.
type Source struct {
	HTTP  bool // plain HTTP as well
	TLS   bool // any certificate
	Auth  *auth.Keychain
	Certs []string // directories, see package certs
}

const (
	maxPage      = 1 << 20          // bytes of a page of discovery
	maxPages     = 20               // parts of a name, each of which has a page
	maxLocations = 10               // of keys, on one page
	wait         = 30 * time.Second // for a page or a key
	maxRedirects = 10
)

// Read gives the keys of a file, or of a http or https URL.
func (s Source) Read(ctx context.Context, location string) ([]Key, error) {
	var text []byte
	var err error
	if u := remote(location); u != nil {
		text, err = s.get(ctx, u)
	} else {
		text, err = keystore.ReadFile(strings.TrimPrefix(location, "file://"))
	}
	if err != nil {
		return nil, err
	}
	return ParseKeys(text)
}

// remote is the URL of a location on another machine.
func remote(location string) *url.URL {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil
	}
	return u
}

// HTTPS reports whether a location is vouched for by a certificate that was checked.
func (s Source) HTTPS(location string) bool {
	u := remote(location)
	return u != nil && u.Scheme == "https" && !s.TLS && !s.HTTP
}

func (s Source) get(ctx context.Context, u *url.URL) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "rkt")
	client := &http.Client{Transport: s.transport(ctx)}
	answer, err := client.Do(r)
	if err != nil {
		return nil, auth.HideQuery(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("server %s: bad HTTP status code: %s", answer.Request.URL.Host, answer.Status)
	}
	return keystore.ReadAll(answer.Body)
}

// Discover finds where the keys for a prefix are: the first page from the prefix upwards that names
// any (appc spec, discovery.md, ac-discovery-pubkeys). Two calls do not run at a time, nor may one
// run beside another use of the package discovery, whose HTTP client is a global.
func (s Source) Discover(ctx context.Context, prefix string) ([]string, error) {
	name, err := types.NewACIdentifier(prefix)
	if err != nil {
		return nil, fmt.Errorf("keys of %s cannot be discovered: %w", prefix, err)
	}
	if strings.Count(prefix, "/") >= maxPages {
		return nil, fmt.Errorf("a name of more than %d parts", maxPages)
	}
	insecure := discovery.InsecureNone
	if s.HTTP {
		insecure |= discovery.InsecureHTTP
	}
	discovering.Lock()
	defer discovering.Unlock()
	before := discovery.Client.Transport
	defer func() { discovery.Client.Transport = before }()
	discovery.Client.Transport = s.transport(ctx)
	found, attempts, err := discovery.DiscoverPublicKeys(discovery.App{Name: *name,
		Labels: map[types.ACIdentifier]string{}}, nil, insecure, 0)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil {
		found = found[:min(len(found), maxLocations)]
		for _, location := range found {
			if remote(location) == nil {
				return nil, fmt.Errorf("discovery of keys: the server names %q, which is no http or https URL",
					location)
			}
		}
		return found, nil
	}
	all := errors.New("no page names a key (no ac-discovery-pubkeys tag fits)")
	for i, attempt := range attempts {
		err := fmt.Errorf("at %s: %w", attempt.Prefix, attempt.Error)
		if all = fmt.Errorf("%w; %w", all, err); i == 0 {
			all = err
		}
	}
	return nil, fmt.Errorf("discovery of keys: %w", all)
}

var discovering sync.Mutex

// AddDiscovered trusts the keys for a prefix that discovery finds, as far as their servers were
// known by their certificates, without anybody looking at them. It returns the files that they are
// in now, in that configuration directory.
func (s Source) AddDiscovered(ctx context.Context, config, prefix string) ([]string, error) {
	locations, err := s.Discover(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, location := range locations {
		if !s.HTTPS(location) {
			return files, fmt.Errorf("key %s: not by HTTPS with a certificate that was checked: it has to be looked at",
				location)
		}
		keys, err := s.Read(ctx, location)
		for i := 0; err == nil && i < len(keys); i++ {
			if err = keys[i].Usable(); err == nil {
				var file string
				file, err = Add(config, prefix, keys[i])
				files = append(files, file)
			}
		}
		if err != nil {
			return files, fmt.Errorf("key %s: %w", location, err)
		}
	}
	return files, nil
}

// transport keeps to the schemes that are allowed, also on redirects, and bounds what comes.
func (s Source) transport(ctx context.Context) http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.TLS}
	t.DialContext = (&net.Dialer{Timeout: wait}).DialContext
	t.ResponseHeaderTimeout = wait
	t.DisableKeepAlives = true
	return &strict{s, ctx, s.Auth.Transport(certs.Transport(t, s.Certs))}
}

type strict struct {
	source Source
	ctx    context.Context
	next   http.RoundTripper
}

func (t *strict) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !(t.source.HTTP && r.URL.Scheme == "http") {
		return nil, fmt.Errorf("a key by %s can be anybody's (--insecure-allow-http takes it all the same)",
			r.URL.Scheme)
	}
	hops := 0
	for q := r; q.Response != nil && q.Response.Request != nil; q = q.Response.Request {
		if hops++; hops > maxRedirects {
			return nil, fmt.Errorf("more than %d redirects", maxRedirects)
		}
	}
	ctx, cancel := context.WithTimeout(t.ctx, wait)
	answer, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	answer.Body = &bounded{io.LimitReader(answer.Body, maxPage+1), answer.Body, cancel}
	return answer, nil
}

type bounded struct {
	io.Reader
	body   io.Closer
	cancel func()
}

func (b *bounded) Close() error {
	defer b.cancel()
	return b.body.Close()
}
