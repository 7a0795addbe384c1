package fetch

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image/auth"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// keychain has user mary with the password s3cret for these registries and web servers,
// HOST[:PORT].
func keychain(t testing.TB, hosts ...string) *auth.Keychain {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/auth.d", 0o755))
	list := `"` + strings.Join(hosts, `","`) + `"`
	for kind, field := range map[string]string{"dockerAuth": "registries", "auth": `type":"basic","domains`} {
		text := fmt.Sprintf(`{"rktKind":"%s","rktVersion":"v1","%s":[%s],"credentials":{"user":"mary",`+
			`"password":"s3cret"}}`, kind, field, list)
		must(t, os.WriteFile(dir+"/auth.d/"+kind+".json", []byte(text), 0o600))
	}
	return auth.New(func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] }, dir)
}

// TestRegistryToken is a registry that wants a token of its token server, and sends for layers to
// another host, which is told nothing.
func TestRegistryToken(t *testing.T) {
	one := gzipLayer(t, "one")
	l := newLayout(t)
	l.image(one)
	var mu sync.Mutex
	var elsewhere []string
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		elsewhere = append(elsewhere, r.Header.Get("Authorization")+r.Header.Get("Cookie")+r.Header.Get("Referer"))
		http.ServeFile(w, r, l.dir+"/blobs/sha256/"+strings.TrimPrefix(r.URL.Path, "/"))
	}))
	defer store.Close()
	logins := 0
	g := &registry{dir: l.dir}
	g.override = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			user, password, _ := r.BasicAuth()
			if user != "mary" || password != "s3cret" || r.URL.Query().Get("scope") != "repository:app:pull" {
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}`, http.StatusUnauthorized)
				return true
			}
			logins++
			fmt.Fprint(w, `{"token":"the-token"}`)
			return true
		case r.Header.Get("Authorization") != "Bearer the-token":
			w.Header().Set("WWW-Authenticate",
				fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:app:pull"`, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		case strings.HasPrefix(r.URL.Path, "/v2/app/blobs/"):
			http.Redirect(w, r, store.URL+"/"+r.URL.Path[strings.LastIndex(r.URL.Path, ":")+1:]+"?signature=x",
				http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	server := httptest.NewServer(g)
	defer server.Close()
	host := server.Listener.Addr().String()
	ref := reference(t, "docker://"+host+"/app")

	s, dir := newStore(t)
	for _, c := range []struct {
		keys *auth.Keychain
		want string
	}{
		{nil, "the registry " + host + " ... wants credentials"},
		{keychain(t, "other.example.com"), "the registry " + host + " ... wants " +
			"credentials"},
	} {
		o := quick
		o.Auth = c.keys
		if _, err := Fetch(t.Context(), s, ref, o); !testkit.Says(err, c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
		wantNothing(t, dir)
	}
	o := quick
	// these are for a registry there, and not for what one is sent to
	o.Auth = keychain(t, host, store.Listener.Addr().String())
	if _, err := Fetch(t.Context(), s, ref, o); err != nil || logins != 1 {
		t.Errorf("%d logins, %v", logins, err)
	}
	if len(elsewhere) != 2 || strings.Join(elsewhere, "") != "" {
		t.Errorf("the other host was told %q", elsewhere)
	}
}

// TestServerCredentials has an ACI, its signature and the page of discovery protected by a
// password, and a redirect to another host.
func TestServerCredentials(t *testing.T) {
	aci := aciOf(t, "example.com/app", "", "f=one")
	var told []string
	g := &web{files: map[string][]byte{
		"/app": tag("example.com https://example.com/x.{ext}"), "/x.aci": aci, "/x.aci.asc": []byte("signature"),
		"/y.aci": aci, "/elsewhere.aci": aci,
	}}
	g.override = func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		switch {
		case r.Host == "other.example.com":
			told = append(told, r.Header.Get("Authorization")+r.Header.Get("Referer"))
			return false
		case user != "mary" || password != "s3cret":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/away.aci":
			http.Redirect(w, r, "https://other.example.com/elsewhere.aci?signature=s3cret", http.StatusFound)
		case r.URL.Path == "/nowhere.aci":
			http.Redirect(w, r, "https://example.org/elsewhere.aci?signature=s3cret", http.StatusFound)
		default:
			return false
		}
		return true
	}
	o := example(t, g)
	s, _ := newStore(t)
	o.Verify = func(_ context.Context, _ string, signature []byte, signed io.ReadSeeker) (keystore.Proof, error) {
		_, err := io.Copy(io.Discard, signed)
		if string(signature) != "signature" {
			err = fmt.Errorf("signature %q", signature)
		}
		return keystore.Proof{Name: "example.com/app", Key: "test"}, err
	}
	for _, c := range []struct {
		name  string
		login bool
		want  string // of the error
	}{
		{"https://example.com/y.aci", false, "example.com wants credentials ... " +
			"auth.d ... 401"},
		{"https://example.com/y.aci", true, ""},
		{"https://example.com/away.aci", true, ""},
		{"https://example.com/nowhere.aci", true,
			`Get "https://example.org/elsewhere.aci?…": lookup example.org`},
		{"example.com/app", false, "discovery at example.com/app: expected a 200 OK got 401"},
		{"example.com/app", true, ""},
	} {
		o := o
		o.InsecureImage = c.name != "example.com/app" // which is verified
		if c.login {
			o.Auth = keychain(t, "example.com")
		}
		id, err := Fetch(t.Context(), s, reference(t, c.name), o)
		if c.want == "" && (id != idOf(aci) || err != nil) ||
			!testkit.Says(err, c.want) {
			t.Errorf("%s: %s %v, want %s", c.name, id, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: a secret in %v", c.name, err)
		}
	}
	if len(told) != 1 || told[0] != "" {
		t.Errorf("the other host was told %q", told)
	}
}

// TestRegistrySecret has a registry that sends for a layer to a signed address where nobody is.
func TestRegistrySecret(t *testing.T) {
	l := newLayout(t)
	one := gzipLayer(t, "one")
	l.image(one)
	server := httptest.NewServer(&registry{dir: l.dir, override: func(w http.ResponseWriter, r *http.Request) bool {
		away := strings.HasSuffix(r.URL.Path, digest(one.compressed))
		if away {
			http.Redirect(w, r, "https://127.0.0.1:1/layer?X-Amz-Signature=s3cret", http.StatusFound)
		}
		return away
	}})
	defer server.Close()
	s, _ := newStore(t)
	_, err := Fetch(t.Context(), s, reference(t, "docker://"+server.Listener.Addr().String()+"/app"), quick)
	if err == nil || strings.Contains(err.Error(), "s3cret") ||
		!strings.Contains(err.Error(), `"https://127.0.0.1:1/layer?…"`) {
		t.Error(err)
	}
}

// TestUnchangedName has registries that know no HEAD, send no digest, lie, or are in trouble.
func TestUnchangedName(t *testing.T) {
	l := newLayout(t)
	l.image(gzipLayer(t, "one"))
	head := func(f http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				f(w, r)
			}
			return r.Method == http.MethodHead
		}
	}
	for _, c := range []struct {
		name     string
		override func(http.ResponseWriter, *http.Request) bool
		gets     int
		want     string
	}{
		{"the same", nil, 0, ""},
		{"no HEAD", head(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }),
			1, ""},
		{"no digest", head(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "100") }),
			1, ""},
		{"another digest", head(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", digest(nil))
			w.Header().Set("Content-Type", typeManifest)
			w.Header().Set("Content-Length", "100")
		}), 1, ""},
		{"gone", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "manifests") {
				http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`,
					http.StatusNotFound)
				return true
			}
			return false
		}, 1, "MANIFEST_UNKNOWN: manifest unknown"},
		{"in trouble", head(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}), 0, "503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &registry{dir: l.dir}
			server := httptest.NewServer(g)
			defer server.Close()
			s, _ := newStore(t)
			ref := reference(t, "docker://"+server.Listener.Addr().String()+"/app")
			id, err := Fetch(t.Context(), s, ref, quick)
			must(t, err)
			g.asked, g.override = nil, c.override
			again, err := Fetch(t.Context(), s, ref, quick)
			if c.want == "" && (again != id || err != nil) ||
				!testkit.Says(err, c.want) {
				t.Errorf("%s %v", again, err)
			}
			if n := g.count("/v2/app/manifests/latest") - g.count("HEAD /v2/app/manifests/latest"); n != c.gets {
				t.Errorf("the manifest was got %d times", n)
			}
		})
	}
}

// TestResumedAnew has tokens and signed addresses that have expired when a download breaks off.
func TestResumedAnew(t *testing.T) {
	var noise strings.Builder
	for range 10_000 {
		noise.WriteString(rand.Text())
	}
	big := gzipLayer(t, "noise="+noise.String())
	l := newLayout(t)
	l.image(big)
	blob := digest(big.compressed)
	send := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			w = &breaking{w, 50_000}
		}
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(big.compressed))
	}
	for _, elsewhere := range []bool{false, true} {
		var mu sync.Mutex
		var asked []string
		note := func(what string, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, what+r.Header.Get("Range"))
		}
		tokens, addresses := 0, 0 // the newest is the one that is good
		store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			note("store "+r.URL.Path, r)
			switch {
			case r.URL.Path != fmt.Sprintf("/%d", addresses) || r.Header.Get("Authorization") != "":
				w.WriteHeader(http.StatusForbidden)
			case r.Header.Get("Range") == "":
				addresses = 7 // the one that leads here expires
				fallthrough
			default:
				send(w, r)
			}
		}))
		g := &registry{dir: l.dir, override: func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.URL.Path == "/token":
				tokens++
				fmt.Fprintf(w, `{"token":"token-%d"}`, tokens)
			case r.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", tokens):
				w.Header().Set("WWW-Authenticate",
					fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:app:pull"`, r.Host))
				w.WriteHeader(http.StatusUnauthorized)
				if strings.HasSuffix(r.URL.Path, blob) {
					note("refused ", r)
				}
			case strings.HasSuffix(r.URL.Path, blob) && elsewhere:
				note("registry ", r)
				addresses++
				http.Redirect(w, r, fmt.Sprintf("%s/%d", store.URL, addresses), http.StatusTemporaryRedirect)
			case strings.HasSuffix(r.URL.Path, blob):
				note("registry ", r)
				if r.Header.Get("Range") == "" {
					defer func() { tokens++ }() // the one that it came with expires
				}
				send(w, r)
			default:
				return false
			}
			return true
		}}
		server := httptest.NewServer(g)
		s, _ := newStore(t)
		if _, err := Fetch(t.Context(), s, reference(t, "docker://"+server.Listener.Addr().String()+"/app"),
			quick); err != nil {
			t.Errorf("%v: %v", elsewhere, err)
		}
		want := []string{"registry ", "refused bytes=50000-", "registry bytes=50000-"}
		if elsewhere {
			want = []string{"registry ", "store /1", "store /1bytes=50000-", "registry bytes=50000-",
				"store /8bytes=50000-"}
		}
		if !slices.Equal(asked, want) {
			t.Errorf("%v: asked %q, want %q", elsewhere, asked, want)
		}
		server.Close()
		store.Close()
	}
}

// TestSecondFetchRequests counts what a registry is asked when a name is still the same: one HEAD,
// and no more than the login takes.
func TestSecondFetchRequests(t *testing.T) {
	l := newLayout(t)
	l.image(gzipLayer(t, "one"))
	const head, token = "HEAD /v2/app/manifests/latest", "GET /token"
	for _, c := range []struct {
		name, challenge string
		login, plain    bool     // there are credentials; it speaks plain HTTP
		second          []string // asked for, and by the third fetch
	}{
		{name: "no login", second: []string{head}},
		{name: "no login, plain HTTP", plain: true, second: []string{head}},
		{name: "no login wanted, but there are credentials", login: true, second: []string{head}},
		{name: "password", challenge: "Basic", login: true, second: []string{head}},
		{name: "password, plain HTTP", challenge: "Basic", login: true, plain: true, second: []string{head, head}},
		{name: "token for anybody", challenge: "Bearer", second: []string{token, head}},
		// Credentials go only to the token server that the registry names at the time.
		{name: "token for a password", challenge: "Bearer", login: true, second: []string{head, token, head}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			var asked, passwords []string
			challenge := c.challenge
			g := &registry{dir: l.dir, override: func(w http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, r.Method+" "+r.URL.Path)
				user, password, _ := r.BasicAuth()
				if password != "" {
					passwords = append(passwords, r.URL.Path)
				}
				known := user == "mary" && password == "s3cret"
				scheme := "https"
				if r.TLS == nil {
					scheme = "http"
				}
				switch {
				case r.URL.Path == "/token" && (known || !c.login):
					fmt.Fprint(w, `{"token":"the-token"}`)
				case challenge == "Basic" && !known:
					w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
					w.WriteHeader(http.StatusUnauthorized)
				case challenge == "Bearer" && r.Header.Get("Authorization") != "Bearer the-token":
					w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s://%s/token",service="test"`,
						scheme, r.Host))
					w.WriteHeader(http.StatusUnauthorized)
				default:
					w.Header().Set("ETag", `"1"`) // as real ones do
					return false
				}
				return true
			}}
			server := httptest.NewUnstartedServer(g)
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			if c.plain {
				server.Start()
			} else {
				server.StartTLS()
			}
			defer server.Close()
			host := server.Listener.Addr().String()
			o := quick
			if !c.plain {
				o.Certs = []string{t.TempDir()}
				must(t, os.Mkdir(o.Certs[0]+"/"+host, 0o755))
				authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
				must(t, os.WriteFile(o.Certs[0]+"/"+host+"/ca.crt", authority, 0o644))
			}
			if c.login {
				o.Auth = keychain(t, host)
			}
			s, _ := newStore(t)
			ref := reference(t, "docker://"+host+"/app")
			fetch := func() (id string) {
				t.Helper()
				asked, passwords = nil, nil
				id, err := Fetch(t.Context(), s, ref, o)
				must(t, err)
				return id
			}
			id := fetch()
			for _, turn := range []string{"second", "third"} {
				if again := fetch(); again != id || !slices.Equal(asked, c.second) {
					t.Errorf("%s fetch: %s, asked for %q, want %q", turn, again, asked, c.second)
				}
			}
			if c.challenge == "" && passwords != nil {
				t.Errorf("a password was sent to who did not want it: %q", passwords)
			}

			// The registry wants another login than before, or none any more.
			for _, challenge = range []string{"Bearer", "Basic", "", c.challenge} {
				if challenge == "Basic" && !c.login {
					continue
				}
				if again := fetch(); again != id || len(asked) > 5 {
					t.Errorf("now %q: %s, asked for %q", challenge, again, asked)
				}
			}
			// What is not remembered is not trusted: the same by --insecure-options=tls leaves no
			// challenge.
			if s, dir := newStore(t); !c.plain {
				o.InsecureTLS = true
				if _, err := Fetch(t.Context(), s, ref, o); err != nil {
					t.Error(err)
				}
				if known, err := s.Remote(ref); known.Challenge != "" || err != nil {
					t.Errorf("%s: remembered %q, %v", dir, known.Challenge, err)
				}
			}
		})
	}
}

// TestRegistryDockerTokens has the two kinds of tokens that Docker's config.json may hold: one to
// get others with from the token server (distribution's OAuth 2, a POST), and one that the registry
// itself takes.
func TestRegistryDockerTokens(t *testing.T) {
	l := newLayout(t)
	l.image(gzipLayer(t, "one"))
	for field, want := range map[string]string{"identitytoken": "the-identity", "registrytoken": "the-token"} {
		t.Run(field, func(t *testing.T) {
			var mu sync.Mutex
			posts := 0
			server := httptest.NewServer(&registry{dir: l.dir, override: func(w http.ResponseWriter,
				r *http.Request) bool {
				switch {
				case r.URL.Path == "/token":
					mu.Lock()
					defer mu.Unlock()
					posts++
					if r.Method != http.MethodPost || r.FormValue("grant_type") != "refresh_token" ||
						r.FormValue("refresh_token") != want ||
						r.FormValue("scope") != "repository:app:pull" || r.FormValue("service") != "test" {
						t.Errorf("%s %v", r.Method, r.Form)
						w.WriteHeader(http.StatusUnauthorized)
						return true
					}
					fmt.Fprint(w, `{"access_token":"the-token"}`)
				case r.Header.Get("Authorization") != "Bearer the-token":
					w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`,
						r.Host))
					w.WriteHeader(http.StatusUnauthorized)
				default:
					return false
				}
				return true
			}})
			defer server.Close()
			host := server.Listener.Addr().String()
			dir := t.TempDir()
			text := fmt.Sprintf(`{"auths":{"%s":{"auth":"bWFyeTo=","%s":"%s"}}}`, host, field, want)
			must(t, os.WriteFile(dir+"/config.json", []byte(text), 0o600))
			o := quick
			o.Auth = auth.New(func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] })
			s, _ := newStore(t)
			for range 2 {
				if _, err := Fetch(t.Context(), s, reference(t, "docker://"+host+"/app"), o); err != nil {
					t.Error(err)
				}
			}
			if field == "identitytoken" && posts != 2 || field == "registrytoken" && posts != 0 {
				t.Errorf("%d tokens were asked for", posts)
			}
		})
	}
}
