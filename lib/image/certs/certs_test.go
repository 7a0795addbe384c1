package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTransport(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})

	shown := ""
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		shown = ""
		for _, c := range r.TLS.PeerCertificates {
			shown += c.SerialNumber.String()
		}
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	host := server.Listener.Addr().String()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	for _, c := range []struct {
		name  string
		files map[string][]byte
		want  string // what is shown, or what an error says
	}{
		{"nothing", nil, "unknown authority ... /a/" + host + "/ca.crt)"},
		{"authority", map[string][]byte{"a/" + host + "/ca.crt": ca}, ""},
		{"authority, second directory", map[string][]byte{"b/" + host + "/x.crt": ca, "b/" + host + "/README": nil},
			""},
		{"of another host", map[string][]byte{"a/127.0.0.1/ca.crt": ca, "a/127.0.0.1:1/ca.crt": ca},
			"unknown authority ... /a/" + host + "/ca.crt)"},
		{"the first directory wins", map[string][]byte{"a/" + host + "/README": nil, "b/" + host + "/x.crt": ca},
			"unknown authority ... /a/" + host + "/ca.crt)"},
		{"one to show", map[string][]byte{"a/" + host + "/ca.crt": ca, "a/" + host + "/me.cert": cert,
			"a/" + host + "/me.key": keyPEM}, "7"},
		{"no key", map[string][]byte{"a/" + host + "/ca.crt": ca, "a/" + host + "/me.cert": cert}, "/a/" + host +
			"/me.key is missing"},
		{"not a key", map[string][]byte{"a/" + host + "/me.cert": cert, "a/" + host + "/me.key": ca},
			"certificate rather than a key"},
		{"no certificate", map[string][]byte{"a/" + host + "/ca.crt": []byte("x")}, "/a/" + host +
			"/ca.crt: no certificate in it"},
	} {
		dir := t.TempDir()
		for name, data := range c.files {
			write(t, filepath.Join(dir, name), data)
		}
		directories := []string{dir + "/a", dir + "/b"}
		client := &http.Client{Transport: Transport(&http.Transport{}, directories)}
		for range 2 {
			shown = "not asked"
			answer, err := client.Get(server.URL)
			if err == nil {
				answer.Body.Close()
			}
			if !testkit.Gives(shown, err, c.want) {
				t.Errorf("%s: %s, %v, want %s", c.name, shown, err, c.want)
			}
		}
	}
}

func TestFolders(t *testing.T) {
	if got := Directories("/usr/lib/rkt", "/etc/rkt", ""); !slices.Equal(got,
		append([]string{"/etc/rkt/certs.d", "/usr/lib/rkt/certs.d"}, Shared...)) {
		t.Error(got)
	}
}
