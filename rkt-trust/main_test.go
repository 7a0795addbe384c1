package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/trust"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"rkt-trust": main,
		"keyserver": func() {
			fmt.Fprintln(os.Stderr, keyserver(os.Args[1]))
			os.Exit(1)
		},
	})
}

// TestScripts runs the sessions in testdata, with keys of the real gpg and openssl.
func TestScripts(t *testing.T) {
	for program, pkg := range map[string]string{"gpg": "gpg", "openssl": "openssl", "unshare": "util-linux",
		"ip": "iproute2", "curl": "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: install the Debian package %s", program, pkg)
		}
	}
	testscript.Run(t, testscript.Params{
		ContinueOnError:     true,
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("RKT_LOCAL_CONFIG", e.WorkDir+"/etc")
			home, err := os.MkdirTemp("", "gnupg") // gpg's sockets have short names
			if err != nil {
				return err
			}
			e.Defer(func() {
				_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
				os.RemoveAll(home)
			})
			e.Setenv("GNUPGHOME", home)
			return os.Chmod(home, 0o700)
		},
	})
}

// keyserver DIR serves files to https://example.com and http://example.com, with a certificate of a
// new authority, ca.pem. The page of each directory is its file index. /redirect leads to http.
func keyserver(dir string) error {
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign}
	cert := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"example.com"}, NotBefore: ca.NotBefore,
		NotAfter: ca.NotAfter}
	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	certDER, err2 := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey)
	keyDER, err3 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	for file, block := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: caDER},
		"cert.pem": {Type: "CERTIFICATE", Bytes: certDER}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "http://example.com/key.asc", http.StatusFound)
			return
		}
		text, err := os.ReadFile(dir + r.URL.Path)
		if err != nil {
			text, err = os.ReadFile(dir + r.URL.Path + "/index")
		}
		if err != nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(text)
	})
	ended := make(chan error, 2)
	go func() { ended <- http.ListenAndServe("127.0.0.1:80", handler) }()
	go func() { ended <- http.ListenAndServeTLS("127.0.0.1:443", "cert.pem", "key.pem", handler) }()
	return <-ended
}

// TestKilled kills rkt-trust at random instants: the keystore has the key or not, and never half of
// it.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/key.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		0o644); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("rkt-trust")
	if err != nil {
		t.Fatal(err)
	}
	name, err := image.ParseReference("docker://example.com/team/app")
	if err != nil {
		t.Fatal(err)
	}
	args := func(config string) []string {
		return []string{"--local-config=" + config, "--prefix=example.com/team", "--skip-fingerprint-review",
			dir + "/key.pub"}
	}
	begin := time.Now()
	if out, err := exec.Command(program, args(dir+"/whole")...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	took := time.Since(begin)
	with, without := 0, 0
	for i := 0; i < 60 || (with == 0 || without == 0) && i < 600; i++ {
		config := fmt.Sprintf("%s/%d", dir, i)
		cmd := exec.Command(program, args(config)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(mathrand.N(took * 2))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		err := trust.New(config).HaveImageKey(name)
		if _, none := errors.AsType[*trust.NoKey](err); none {
			without++
		} else if err != nil {
			t.Errorf("after a kill: %v", err)
		} else {
			with++
		}
		if out, err := exec.Command(program, args(config)...).CombinedOutput(); err != nil {
			t.Errorf("the next one: %v: %s", err, out)
		} else if err := trust.New(config).HaveImageKey(name); err != nil {
			t.Error(err)
		}
	}
	if with == 0 || without == 0 {
		t.Errorf("%d were killed late, %d early", with, without)
	}
}
