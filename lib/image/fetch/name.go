package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/appc/spec/discovery"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/auth"
)

const (
	maxDiscoveryPage  = 1 << 20 // bytes that are read of a page
	maxDiscoveryParts = 20      // of a name: each is a page to look at
	maxPlaces         = 10      // that pages name for one image
)

// registries have images of Docker and OCI, and no ACI: somebody has left "docker://" out.
var registries = []string{"docker.io", "index.docker.io", "registry-1.docker.io", "ghcr.io", "mcr.microsoft.com",
	"public.ecr.aws", "registry.access.redhat.com", "registry.gitlab.com", "registry.k8s.io"}

// byName finds an ACI by its appc name. Simple discovery comes first, as the specification had it
// up to version 0.8 and old servers do: a URL that follows from name and labels. Then the pages
// under the name say in meta tags where the image is (appc spec, discovery.md). Of several places,
// the first that has the image is taken.
func (f *acis) byName(ctx context.Context, ref image.Reference, w want) (found, error) {
	if err := otherThanACI(ref); err != nil {
		return found{}, err
	}
	labels := map[types.ACIdentifier]string{"os": "linux", "arch": appcArch()}
	for name, value := range ref.Labels {
		labels[types.ACIdentifier(name)] = value
	}
	if ref.Version != "" {
		labels["version"] = ref.Version
	}
	if ref.Version != "" {
		url := fmt.Sprintf("https://%s-%s-%s-%s.aci", ref.App, ref.Version, labels["os"], labels["arch"])
		if got, err := f.fromPlace(ctx, url, "", w); err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return found{}, context.Cause(ctx)
		}
		// the error that is reported is that of meta discovery
	}
	endpoints, err := f.discover(ctx, discovery.App{Name: types.ACIdentifier(ref.App), Labels: labels})
	if err != nil {
		return found{}, err
	}
	var errs []error
	for _, endpoint := range endpoints[:min(len(endpoints), maxPlaces)] {
		got, err := f.fromPlace(ctx, endpoint.ACI, endpoint.ASC, w)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return found{}, context.Cause(ctx)
		}
		if err != errOtherProtocol {
			errs = append(errs, err)
		}
	}
	if errs == nil {
		return found{}, errors.New("discovery found no place that is reached by https")
	}
	return found{}, oneError(errs)
}

var errOtherProtocol = errors.New("not http or https")

// fromPlace fetches an ACI from a URL that discovery has found.
func (f *acis) fromPlace(ctx context.Context, url, signature string, w want) (found, error) {
	if !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://") {
		return found{}, errOtherProtocol
	}
	at, err := image.ParseReference(url)
	if err == nil {
		var got found
		w.signature = cmp.Or(w.signature, signature)
		if got, err = f.fromURL(ctx, at, w); err == nil {
			return got, nil
		}
	}
	return found{}, fmt.Errorf("%s: %w", auth.PlainURL(url), err)
}

// otherThanACI returns an error for the name of a registry's image without its docker://.
func otherThanACI(ref image.Reference) error {
	if !strings.ContainsAny(ref.App, "./") {
		registry := ref.App
		switch {
		case ref.App == "docker" && ref.Version != "":
			registry = ref.Version // somebody wrote docker:redis
		case ref.Version != "":
			registry += ":" + ref.Version
		}
		return fmt.Errorf("not in the store, and no host is named in it: docker://%s is an image in a registry",
			registry)
	}
	if host, _, _ := strings.Cut(ref.App, "/"); slices.Contains(registries, host) {
		name := ref.App
		if ref.Version != "" {
			name += ":" + ref.Version
		}
		return fmt.Errorf("%s is a registry: write docker://%s", host, name)
	}
	return nil
}

// oneError makes one line of several.
func oneError(errs []error) error {
	all := errs[0]
	for _, err := range errs[1:] {
		all = fmt.Errorf("%w; %w", all, err)
	}
	return all
}

// discovering is held while the package discovery is used: its HTTP client is a global of it.
var discovering sync.Mutex

// discover does meta discovery.
func (f *acis) discover(ctx context.Context, app discovery.App) (discovery.ACIEndpoints, error) {
	if parts := strings.Count(app.Name.String(), "/") + 1; parts > maxDiscoveryParts {
		return nil, fmt.Errorf("a name of %d parts (%d is the most that discovery is done for)", parts,
			maxDiscoveryParts)
	}
	insecure := discovery.InsecureNone
	if f.options.InsecureHTTP {
		insecure |= discovery.InsecureHTTP
	}
	discovering.Lock()
	defer discovering.Unlock()
	before := discovery.Client.Transport
	defer func() { discovery.Client.Transport = before }()
	discovery.Client.Transport = &pages{ctx, f.client.Transport}
	endpoints, attempts, err := discovery.DiscoverACIEndpoints(app, nil, insecure, 0)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil {
		return endpoints, nil
	}
	if len(attempts) == 0 {
		return nil, errors.New("discovery: no page says where it is (no ac-discovery tag fits)")
	}
	var errs []error
	for _, attempt := range attempts {
		errs = append(errs, fmt.Errorf("discovery at %s: %w", attempt.Prefix, attempt.Error))
	}
	return nil, oneError(errs)
}

// pages gives package discovery what it has not: an end when the context ends, and pages of bounded
// size.
type pages struct {
	ctx  context.Context
	next http.RoundTripper
}

func (p *pages) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := p.next.RoundTrip(r.WithContext(p.ctx))
	if err == nil {
		answer.Body = page{io.LimitReader(answer.Body, maxDiscoveryPage), answer.Body}
	}
	return answer, err
}

type page struct {
	io.Reader
	io.Closer
}
