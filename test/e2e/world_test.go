package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// worldNames are hosts of the world, as the host of a session sees them.
var worldNames = []string{"coreos.com", "myapp.com", "registry-1.docker.io"}

// world makes the session's host believe in a web server for coreos.com and myapp.com, which serves
// the directory web/HOST, and in Docker Hub, a real registry, all by HTTPS.
func world(ts *testscript.TestScript, neg bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the world"}, DNSNames: worldNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyText := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	certFile, keyFile := ts.MkAbs("world.crt"), ts.MkAbs("world.key")
	ts.Check(os.WriteFile(certFile, cert, 0o644))
	ts.Check(os.WriteFile(keyFile, keyText, 0o600))
	appendTo(ts, "/etc/ssl/certs/ca-certificates.crt", string(cert))
	hosts := "127.0.0.2 registry-1.docker.io\n"
	for _, name := range worldNames[:2] {
		hosts += "127.0.0.1 " + name + "\n"
	}
	appendTo(ts, "/etc/hosts", hosts)

	config := ts.MkAbs("hub.yml")
	text := "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " + ts.MkAbs("hub") + "}}\n" +
		"http: {addr: '127.0.0.2:443', tls: {certificate: " + certFile + ", key: " + keyFile + "}}\n"
	ts.Check(os.WriteFile(config, []byte(text), 0o600))
	ts.Check(ts.Exec("systemd-run", "--quiet", "--unit=hub", "docker-registry", "serve", config))
	awaitPort(ts, "127.0.0.2:443")

	pair, err := tls.X509KeyPair(cert, keyText)
	ts.Check(err)
	listener, err := tls.Listen("tcp", "127.0.0.1:443", &tls.Config{Certificates: []tls.Certificate{pair}})
	ts.Check(err)
	root := ts.MkAbs("web")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.FileServer(http.Dir(filepath.Join(root, filepath.Base(r.Host)))).ServeHTTP(w, r)
	})}
	go server.Serve(listener)
	ts.Defer(func() { server.Close() })
}

func appendTo(ts *testscript.TestScript, file, text string) {
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	ts.Check(err)
	_, err = f.WriteString(text)
	ts.Check(err)
	ts.Check(f.Close())
}

// awaitPort waits until somebody listens.
func awaitPort(ts *testscript.TestScript, address string) {
	for end := time.Now().Add(waitLimit(30)); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s does not answer: %v", address, err)
		}
	}
}
