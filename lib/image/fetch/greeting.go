package fetch

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rkt-toolkit/rkt/lib/image/auth"
)

// greeting stands between go-containerregistry and a registry, and saves requests: that library
// asks for /v2/ before anything else, to learn whether and how to log in (distribution-spec,
// "Determining Support"). The HEAD of a manifest tells that as well, and when no login is needed,
// it is the answer that was wanted.
type greeting struct {
	next      http.RoundTripper
	head      string // path of the manifest that will be asked for with HEAD; "" to ask for /v2/ as usual
	challenge string // how the registry wanted a login, which is then not asked for; "" if that is not known

	mu    sync.Mutex
	asked map[string]*http.Response // answers to HEAD, by scheme: both are tried where either may be spoken
	heard string                    // a challenge that was heard by TLS
}

func (g *greeting) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case r.URL.Path == "/v2/" && r.Method == http.MethodGet:
		return g.greet(r)
	case r.URL.Path == g.head && r.Method == http.MethodHead:
		g.mu.Lock()
		answer := g.asked[r.URL.Scheme]
		delete(g.asked, r.URL.Scheme)
		g.mu.Unlock()
		if answer != nil {
			answer.Request = r
			return answer, nil
		}
	}
	return g.next.RoundTrip(r)
}

// greet answers GET /v2/.
func (g *greeting) greet(r *http.Request) (*http.Response, error) {
	if g.challenge != "" && r.URL.Scheme == "https" {
		return says(r, http.StatusUnauthorized, g.challenge), nil
	}
	if g.head != "" {
		head := r.Clone(r.Context())
		head.Method, head.URL.Path = http.MethodHead, g.head
		head.Header.Set("Accept", acceptManifests)
		answer, err := g.next.RoundTrip(head)
		if err != nil {
			return nil, err
		}
		drop(answer)
		answer.Body = http.NoBody
		switch status := answer.StatusCode; {
		case status == http.StatusUnauthorized && answer.Header.Get("WWW-Authenticate") != "":
			g.hear(r, answer)
			return says(r, status, answer.Header.Values("WWW-Authenticate")...), nil
		case status == http.StatusOK || status == http.StatusTooManyRequests ||
			status >= http.StatusInternalServerError:
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.asked == nil {
				g.asked = map[string]*http.Response{}
			}
			g.asked[r.URL.Scheme] = answer
			return says(r, http.StatusOK), nil
		}
		// It may speak otherwise to who has logged in.
	}
	answer, err := g.next.RoundTrip(r)
	if err == nil && answer.StatusCode == http.StatusUnauthorized {
		g.hear(r, answer)
	}
	return answer, err
}

// maxChallenge is how long a challenge may be that is remembered, bytes.
const maxChallenge = 1024

// hear notes a challenge that may be remembered.
func (g *greeting) hear(r *http.Request, answer *http.Response) {
	all := answer.Header.Values("WWW-Authenticate")
	if r.URL.Scheme != "https" || len(all) != 1 || len(all[0]) > maxChallenge {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heard = all[0]
}

// says makes an answer without a body.
func says(r *http.Request, status int, challenges ...string) *http.Response {
	return &http.Response{Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{"Www-Authenticate": challenges}, Body: http.NoBody, Request: r}
}

// acceptManifests are the media types of what a name may be.
var acceptManifests = strings.Join([]string{string(types.DockerManifestSchema2), string(types.DockerManifestList),
	string(types.OCIManifestSchema1), string(types.OCIImageIndex)}, ",")

// digestNow asks a registry for the digest of a name: by one request if it wants no login, or one
// with user and password that is known from before. It gives the challenge to be remembered for
// that, too.
func (q registryQuery) digestNow(ctx context.Context, target name.Reference, known string) (digest, challenge string,
	err error) {
	// Credentials go to a token server only if the registry has named it just now.
	if !strings.HasPrefix(strings.ToLower(known), "basic ") && q.login != (auth.Credentials{}) {
		known = ""
	}
	for _, challenge := range slices.Compact([]string{known, ""}) {
		g := &greeting{next: q.through, head: "/v2/" + target.Context().RepositoryStr() + "/manifests/" +
			target.Identifier(), challenge: challenge}
		var puller *remote.Puller
		if puller, err = remote.NewPuller(q.options(g)...); err != nil {
			return "", "", err
		}
		var now *v1.Descriptor
		if now, err = puller.Head(ctx, target); err == nil {
			return now.Digest.String(), cmp.Or(challenge, g.heard), nil
		}
	}
	return "", "", err
}
