package fetch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/appc/spec/discovery"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// example is the machine that has all names that end in example.com, over TLS.
func example(t *testing.T, g *web) Options {
	t.Helper()
	server := httptest.NewUnstartedServer(g)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	o := quick
	o.InsecureTLS = true
	o.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, _ := net.SplitHostPort(address)
		if !strings.HasSuffix(host, "example.com") || port != "443" {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	return o
}

// tag is a page with an ac-discovery tag.
func tag(content string) []byte {
	return []byte(`<!DOCTYPE html><html><head><title>x</title><meta name="ac-discovery" content="` + content +
		`"></head><body>Hello</body></html>`)
}

const platform = `,"labels":[{"name":"version","value":"1"},{"name":"os","value":"linux"},{"name":"arch","value":"%s"}]`

func TestByName(t *testing.T) {
	labels := fmt.Sprintf(platform, appcArch())
	app := aciOf(t, "example.com/app", labels, "f=app")
	file := "/app-1-linux-" + appcArch() + ".aci"
	for _, c := range []struct {
		name, ref string
		files     map[string][]byte
		asked     []string
		want      string // of the error, "" for app
	}{
		{"simple", "example.com/app:1", map[string][]byte{file: app}, []string{file + " 200"}, ""},
		{"meta", "example.com/app:1", map[string][]byte{
			"/app": tag("example.com https://store.example.com/{name}/{version}/{os}/{arch}.{ext}"),
			"/example.com/app/1/linux/" + appcArch() + ".aci": app,
		}, []string{file + " 404", "/app?ac-discovery=1 200", "/example.com/app/1/linux/" + appcArch() + ".aci 200"},
			""},
		{"without a version", "example.com/app", map[string][]byte{
			"/app": tag("example.com https://example.com/x-{version}.{ext}"), "/x-latest.aci": app,
		}, []string{"/app?ac-discovery=1 200", "/x-latest.aci 200"}, ""},
		{"the page above", "example.com/app", map[string][]byte{
			"/": tag("example.com https://example.com/x.{ext}"), "/x.aci": app,
		}, []string{"/app?ac-discovery=1 404", "/?ac-discovery=1 200", "/x.aci 200"}, ""},
		{"a page without tags", "example.com/app", map[string][]byte{
			"/app": []byte("<html>Hello"), "/": tag("example.com https://example.com/x.{ext}"), "/x.aci": app,
		}, nil, ""},
		{"the second place", "example.com/app", map[string][]byte{
			"/app": append(tag("example.com hdfs://example.com/x.{ext}"),
				append(tag("example.com https://gone.com/x.{ext}"),
					tag("example.com https://example.com/x.{ext}")...)...),
			"/x.aci": app,
		}, []string{"/app?ac-discovery=1 200", "/x.aci 200"}, ""},
		{"labels", "example.com/app:1,channel=beta", map[string][]byte{
			"/app": tag("example.com https://example.com/{channel}.{ext}"), "/beta.aci": app,
		}, nil, `https://example.com/beta.aci: entry "manifest": its label channel is "", not "beta"`},
		{"a template of labels that nobody gave", "example.com/app", map[string][]byte{
			"/app": tag("example.com https://example.com/{channel}.{ext}"),
		}, nil, "discovery at example.com: ... got 404"},
		{"another version", "example.com/app:2", map[string][]byte{
			"/app": tag("example.com https://example.com/x.{ext}"), "/x.aci": app,
		}, nil, `its label version is "1", not "2"`},
		{"another image", "example.com/other:1", map[string][]byte{
			"/other": tag("example.com https://example.com/x.{ext}"), "/x.aci": app,
		}, nil, "it is called example.com/app in its manifest"},
		{"of another machine", "example.com/app,arch=vax", map[string][]byte{
			"/app": tag("example.com https://example.com/x.{ext}"), "/x.aci": app,
		}, nil, `its label arch is "` + appcArch() + `", not "vax"`},
		{"another prefix", "example.com/app", map[string][]byte{"/app": tag("example.org https://example.com/x.{ext}")},
			nil, "discovery at example.com: "},
		{"nothing", "example.com/app:1", nil, []string{file + " 404", "/app?ac-discovery=1 404",
			"/?ac-discovery=1 404"},
			"discovery at example.com/app: ... got 404; discovery at example.com: ... " +
				"got 404"},
		{"no such host", "gone.com/app", nil, []string{}, "no such host"},
		{"empty pages", "example.com/app", map[string][]byte{"/app": nil, "/": nil}, nil, "no page says where"},
		{"only other protocols", "example.com/app",
			map[string][]byte{"/app": tag("example.com hdfs://example.com/x.{ext}")}, nil,
			"no place ... by https"},
		{"plain HTTP to another machine", "example.com/app",
			map[string][]byte{"/app": tag("example.com http://192.0.2.1/x.{ext}")}, nil,
			"plain HTTP ... --insecure-options=http"},
		{"many parts", "example.com" + strings.Repeat("/a", 20), nil, []string{}, "a name of 21 parts (20 is the most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &web{files: c.files}
			s, dir := newStore(t)
			o := example(t, g)
			id, err := Fetch(t.Context(), s, reference(t, c.ref), o)
			if c.want == "" && (err != nil || id != idOf(app)) ||
				!testkit.Says(err, c.want) {
				t.Errorf("%s %v\nwant %s", id, err, c.want)
			}
			if c.asked != nil {
				g.wantAsked(t, c.asked...)
			}
			if c.want != "" {
				wantNothing(t, dir)
				return
			}
			for _, policy := range []PullPolicy{New, Never} {
				o.PullPolicy = policy
				g.wantAsked(t, g.asked...)
				if id, err := Fetch(t.Context(), s, reference(t, c.ref), o); id != idOf(app) || err != nil {
					t.Errorf("%s: %s %v", policy, id, err)
				}
				g.wantAsked(t)
			}
		})
	}
}

// TestDiscoveryHTTP is a page that is there only without TLS.
func TestDiscoveryHTTP(t *testing.T) {
	app := aciOf(t, "example.com/app", "", "f=app")
	g := &web{files: map[string][]byte{"/app": tag("example.com http://example.com/x.{ext}"), "/x.aci": app}}
	server := httptest.NewServer(g)
	defer server.Close()
	o := quick
	o.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "example.com:80" {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		}
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	s, dir := newStore(t)
	if _, err := Fetch(t.Context(), s, reference(t, "example.com/app"), o); !testkit.Says(err, "no such host") {
		t.Error(err)
	}
	wantNothing(t, dir)
	g.wantAsked(t)
	o.InsecureHTTP = true
	if id, err := Fetch(t.Context(), s, reference(t, "example.com/app"), o); id != idOf(app) || err != nil {
		t.Errorf("%s %v", id, err)
	}
	if discovery.Client.Transport == nil {
		t.Error("package discovery was left without its transport")
	}
}

// TestHostilePages is a server whose pages never end, or lead nowhere.
func TestHostilePages(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"a page without end": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write(bytes.Repeat([]byte("<p>"), 10_000))
			}
		},
		"a tag without end": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `<meta name="ac-discovery" content="`)
			for r.Context().Err() == nil {
				_, _ = w.Write(bytes.Repeat([]byte("x"), 10_000))
			}
		},
		"redirects without end": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		},
		"endless templates": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w,
				strings.Repeat(`<meta name="ac-discovery" content="example.com https://{name}/{name}/{name}.{ext}">`,
					1000))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := &web{override: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.RawQuery == "" {
					return false
				}
				answer(w, r)
				return true
			}}
			s, dir := newStore(t)
			id, err := Fetch(t.Context(), s, reference(t, "example.com/app"), example(t, g))
			if err == nil || len(err.Error()) > 4096 {
				t.Errorf("%s: %d bytes of error", id, len(err.Error()))
			}
			wantNothing(t, dir)
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzDiscoveryPage has the pages be anything.
func FuzzDiscoveryPage(f *testing.F) {
	f.Add(tag("example.com https://example.com/{name}-{version}.{ext}"), "example.com/app", "1")
	f.Add([]byte("<meta name=ac-discovery content='x {ext}'><meta name='ac-discovery"), "x", "{ext}")
	f.Fuzz(func(t *testing.T, page []byte, name, version string) {
		ref, err := image.AppcReference(name, map[string]string{"version": version})
		if err != nil {
			return
		}
		a := &acis{client: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(page))}, nil
		})}}
		app := discovery.App{Name: types.ACIdentifier(ref.App),
			Labels: map[types.ACIdentifier]string{"version": ref.Version}}
		endpoints, err := a.discover(t.Context(), app)
		if err == nil && len(endpoints) == 0 {
			t.Error("neither a place nor an error")
		}
		for _, e := range endpoints {
			if !strings.Contains(string(page), "ac-discovery") || e.ACI == "" {
				t.Errorf("%+v is not in the page", e)
			}
		}
	})
}
