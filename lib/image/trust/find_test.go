package trust

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image/auth"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// What servers of keys can do wrong.
func TestRead(t *testing.T) {
	k := publicKey(t, newEntity(t, "a", nil))
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(k.Text)
	}))
	defer plain.Close()
	hang := make(chan bool)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/key":
			_, _ = w.Write(k.Text)
		case "/private":
			if user, password, _ := r.BasicAuth(); user != "mary" || password != "s3cret" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = w.Write(k.Text)
		case "/giant":
			for range 64 {
				_, _ = w.Write(bytes.Repeat([]byte("x"), keystore.MaxFile/32))
			}
		case "/html":
			_, _ = w.Write([]byte("<html>no such page</html>"))
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/plain":
			http.Redirect(w, r, plain.URL, http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/hang":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-hang
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	defer close(hang)
	file := t.TempDir() + "/key"
	if err := os.WriteFile(file, k.Text, 0o644); err != nil {
		t.Fatal(err)
	}
	config := t.TempDir()
	host := strings.TrimPrefix(server.URL, "https://")
	text := `{"rktKind":"auth","rktVersion":"v1","domains":["` + host +
		`"],"type":"basic","credentials":{"user":"mary","password":"s3cret"}}`
	if err := errors.Join(os.Mkdir(config+"/auth.d", 0o755), os.WriteFile(config+"/auth.d/a.json", []byte(text),
		0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		location string
		source   Source
		want     string
	}{
		{file, Source{}, ""},
		{"file://" + file, Source{}, ""},
		{file + "x", Source{}, "no such file"},
		{"/dev/zero", Source{}, "not a regular file"},
		{server.URL + "/key", Source{TLS: true}, ""},
		{server.URL + "/key", Source{}, "certificate"},
		{server.URL + "/none", Source{TLS: true}, "404 Not Found"},
		{server.URL + "/private", Source{TLS: true}, "401 Unauthorized"},
		{server.URL + "/private", Source{TLS: true, Auth: auth.New(os.Getenv, config)}, ""},
		{"https://127.0.0.1:1/?token=s3cret", Source{}, `Get "https://127.0.0.1:1/?…": dial`},
		{server.URL + "/giant", Source{TLS: true}, "larger than"},
		{server.URL + "/html", Source{TLS: true}, "not an OpenPGP key"},
		{server.URL + "/loop", Source{TLS: true}, "redirects"},
		{server.URL + "/plain", Source{TLS: true}, "insecure-allow-http"},
		{server.URL + "/plain", Source{TLS: true, HTTP: true}, ""},
		{server.URL + "/file", Source{TLS: true, HTTP: true}, "can be anybody's"},
		{plain.URL, Source{}, "insecure-allow-http"},
		{plain.URL, Source{HTTP: true}, ""},
		{server.URL + "/hang", Source{TLS: true}, "deadline"},
		{"https://127.0.0.1:1/", Source{TLS: true}, "connection refused"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		keys, err := c.source.Read(ctx, c.location)
		cancel()
		if c.want == "" && (err != nil || len(keys) != 1 || keys[0].Fingerprint != k.Fingerprint) ||
			!testkit.Says(err, c.want) {
			t.Errorf("%s %+v: %v, %v, want %q", c.location, c.source, keys, err, c.want)
		}
	}
}
