package fetch

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/auth"
)

// keychain has user mary with the password s3cret for these registries and web servers, HOST[:PORT].
func keychain(t testing.TB, hosts ...string) *auth.Keychain {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/auth.d", 0o755))
	list := `"` + strings.Join(hosts, `","`) + `"`
	for kind, field := range map[string]string{"dockerAuth": "registries", "auth": `type":"basic","domains`} {
		text := fmt.Sprintf(`{"rktKind":"%s","rktVersion":"v1","%s":[%s],"credentials":{"user":"mary","password":"s3cret"}}`, kind, field, list)
		must(t, os.WriteFile(dir+"/auth.d/"+kind+".json", []byte(text), 0o600))
	}
	return auth.New(func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] }, dir)
}

// TestRegistryToken is a registry that wants a token of its token server, and sends for layers to another host, which is told nothing.
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
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:app:pull"`, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		case strings.HasPrefix(r.URL.Path, "/v2/app/blobs/"):
			http.Redirect(w, r, store.URL+"/"+r.URL.Path[strings.LastIndex(r.URL.Path, ":")+1:]+"?signature=x", http.StatusTemporaryRedirect)
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
		{nil, "the registry " + host + " wants credentials, and there are none for it"},
		{keychain(t, "other.example.com"), "the registry " + host + " wants credentials, and there are none for it"},
	} {
		o := quick
		o.Auth = c.keys
		if _, err := Fetch(t.Context(), s, ref, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
		wantNothing(t, dir)
	}
	o := quick
	o.Auth = keychain(t, host, store.Listener.Addr().String()) // these are for a registry there, and not for what one is sent to
	if _, err := Fetch(t.Context(), s, ref, o); err != nil || logins != 1 {
		t.Errorf("%d logins, %v", logins, err)
	}
	if len(elsewhere) != 2 || strings.Join(elsewhere, "") != "" {
		t.Errorf("the other host was told %q", elsewhere)
	}
}

// TestServerCredentials has an ACI, its signature and the page of discovery behind a password, and a redirect to another host.
func TestServerCredentials(t *testing.T) {
	aci := aciOf(t, "example.com/app", "", "f=one")
	guard := func(g http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "mary" || password != "s3cret" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			g.ServeHTTP(w, r)
		})
	}
	var told []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told = append(told, r.Header.Get("Authorization")+r.Header.Get("Referer"))
		_, _ = w.Write(aci)
	}))
	defer other.Close()
	server := httptest.NewServer(guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away.aci" {
			http.Redirect(w, r, other.URL+"/app.aci", http.StatusFound)
			return
		}
		_, _ = w.Write(aci)
	})))
	defer server.Close()
	host := server.Listener.Addr().String()
	s, _ := newStore(t)
	o := quick
	o.Auth = keychain(t, host)
	for _, name := range []string{"/app.aci", "/away.aci"} {
		if id, err := Fetch(t.Context(), s, reference(t, server.URL+name), o); id != idOf(aci) || err != nil {
			t.Errorf("%s: %s %v", name, id, err)
		}
	}
	if len(told) != 1 || told[0] != "" {
		t.Errorf("the other host was told %q", told)
	}
	o.Auth = nil
	if _, err := Fetch(t.Context(), s, reference(t, server.URL+"/new.aci"), o); err == nil || !strings.Contains(err.Error(), "wants credentials") {
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
		{"no HEAD", head(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }), 1, ""},
		{"no digest", head(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "100") }), 1, ""},
		{"another digest", head(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", digest(nil))
			w.Header().Set("Content-Type", typeManifest)
			w.Header().Set("Content-Length", "100")
		}), 1, ""},
		{"gone", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "manifests") {
				http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`, http.StatusNotFound)
				return true
			}
			return false
		}, 1, "MANIFEST_UNKNOWN: manifest unknown"},
		{"in trouble", head(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }), 0, "503"},
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
			if c.want == "" && (again != id || err != nil) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s %v", again, err)
			}
			if n := g.count("/v2/app/manifests/latest") - g.count("HEAD /v2/app/manifests/latest"); n != c.gets {
				t.Errorf("the manifest was got %d times", n)
			}
		})
	}
}
