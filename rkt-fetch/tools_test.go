package main

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// tool makes a command of scripts of a function.
func tool(f func(args []string) error) func() {
	return func() {
		if err := f(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+":", err)
			os.Exit(1)
		}
	}
}

// tarStream writes an archive of entries NAME/, NAME=TEXT, NAME->TARGET, NAME=>TARGET (a hard link)
// and NAME:SIZE (noise, the same each time).
func tarStream(w io.Writer, entries []string) error {
	archive := tar.NewWriter(w)
	for _, e := range entries {
		h := &tar.Header{Mode: 0o755, ModTime: time.Unix(1e9, 0)}
		var content io.Reader = strings.NewReader("")
		switch {
		case strings.Contains(e, "->"):
			h.Typeflag = tar.TypeSymlink
			h.Name, h.Linkname, _ = strings.Cut(e, "->")
		case strings.Contains(e, "=>"):
			h.Typeflag = tar.TypeLink
			h.Name, h.Linkname, _ = strings.Cut(e, "=>")
		case strings.HasSuffix(e, "/"):
			h.Typeflag, h.Name = tar.TypeDir, e
		case strings.Contains(e, "="):
			name, text, _ := strings.Cut(e, "=")
			h.Typeflag, h.Name, h.Size, content = tar.TypeReg, name, int64(len(text)), strings.NewReader(text)
		default:
			name, size, _ := strings.Cut(e, ":")
			n, err := strconv.ParseInt(size, 10, 64)
			if err != nil {
				return fmt.Errorf("%s: %w", e, err)
			}
			var seed [32]byte
			copy(seed[:], name)
			h.Typeflag, h.Name, h.Size, content = tar.TypeReg, name, n, io.LimitReader(rand.NewChaCha8(seed), n)
		}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(archive, content); err != nil {
			return err
		}
	}
	return archive.Close()
}

// mklayout DIR LAYER... makes an OCI layout; a layer is a comma list of entries.
func mklayout(args []string) error {
	img := v1.Image(empty.Image)
	for _, entries := range args[1:] {
		var b bytes.Buffer
		if err := tarStream(&b, strings.Split(entries, ",")); err != nil {
			return err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(b.Bytes())), nil
		})
		if err != nil {
			return err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return err
		}
	}
	img, err := mutate.ConfigFile(img, func() *v1.ConfigFile {
		file, _ := img.ConfigFile()
		file = file.DeepCopy()
		file.OS, file.Architecture, file.Config.Cmd = "linux", runtime.GOARCH, []string{"/bin/app"}
		return file
	}())
	if err != nil {
		return err
	}
	return writeLayout(args[0], img)
}

// writeLayout makes an OCI layout of one image.
func writeLayout(dir string, img v1.Image) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(img)
}

// mkaci FILE [NAME[,FIELDS]:] ENTRY... makes an ACI; FIELDS are further ones of the manifest.
func mkaci(args []string) error {
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	name, fields, entries := "example.com/app", "", args[1:]
	if len(entries) > 0 && strings.HasSuffix(entries[0], ":") {
		name, fields, _ = strings.Cut(strings.TrimSuffix(entries[0], ":"), ",")
		if entries = entries[1:]; fields != "" {
			fields = "," + fields
		}
	}
	manifest := fmt.Sprintf(`manifest={"acKind":"ImageManifest","acVersion":"0.8.11","name":"%s"%s,`+
		`"app":{"exec":["/app"],"user":"0","group":"0"}}`, name, fields)
	return tarStream(f, append([]string{manifest, "rootfs/"}, entries...))
}

// webserver ADDRESS DIR LOG [CERT KEY] serves files, with ETags, and writes down requests and what
// came of them. If there is a file DIR/break, the next answer is cut after that many bytes; if
// there is DIR/stall, it stands still there until the other side has gone. If there is DIR/login,
// USER:PASSWORD, nobody else gets anything. The page of / is DIR/index.
func webserver(args []string) error {
	dir := args[1]
	log, err := os.OpenFile(args[2], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w, status: http.StatusOK, left: -1}
		defer func() { fmt.Fprintln(log, r.Method, r.Host+r.URL.RequestURI(), r.Header.Get("Range"), a.status) }()
		if login, err := os.ReadFile(dir + "/login"); err == nil {
			user, password, _ := r.BasicAuth()
			if user+":"+password != string(login) {
				a.WriteHeader(http.StatusUnauthorized)
				return
			}
		}
		file := filepath.Join(dir, filepath.FromSlash(r.URL.Path))
		if r.URL.Path == "/" {
			file = dir + "/index"
		}
		data, err := os.ReadFile(file)
		if err != nil {
			http.NotFound(a, r)
			return
		}
		for _, trouble := range []string{dir + "/break", dir + "/stall"} {
			text, err := os.ReadFile(trouble)
			if err == nil && os.Remove(trouble) == nil {
				a.left, _ = strconv.Atoi(strings.TrimSpace(string(text)))
				if trouble == dir+"/stall" {
					a.gone = r.Context().Done()
				}
			}
		}
		a.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
		if text, err := os.ReadFile(dir + "/cache-control"); err == nil {
			a.Header().Set("Cache-Control", strings.TrimSpace(string(text)))
		}
		http.ServeContent(a, r, file, time.Time{}, bytes.NewReader(data))
	})
	if len(args) > 3 {
		return http.ListenAndServeTLS(args[0], args[3], args[4], handler)
	}
	return http.ListenAndServe(args[0], handler)
}

type answer struct {
	http.ResponseWriter
	status, left int
	gone         <-chan struct{}
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.left < 0 || len(p) < a.left {
		n, err := a.ResponseWriter.Write(p)
		if a.left >= 0 {
			a.left -= n
		}
		return n, err
	}
	_, _ = a.ResponseWriter.Write(p[:a.left])
	a.ResponseWriter.(http.Flusher).Flush()
	if a.gone != nil {
		<-a.gone
	}
	panic(http.ErrAbortHandler)
}

// spoil DIR truncate|change spoils the largest blob of a layout or of a registry's directory.
func spoil(args []string) error {
	largest, size := "", int64(0)
	err := filepath.Walk(args[0], func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	if args[1] == "truncate" {
		return os.Truncate(largest, size/2)
	}
	data, err := os.ReadFile(largest)
	if err != nil {
		return err
	}
	data[size/2] ^= 0xff
	return os.WriteFile(largest, data, 0o644)
}

// push DIR HOST/NAME:TAG pushes the image of a layout.
func push(args []string) error {
	index, err := layout.ImageIndexFromPath(args[0])
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(args[1])
	if err != nil {
		return err
	}
	return remote.Write(ref, img)
}

// mkcerts makes ca.pem, and a certificate of it for this machine: cert.pem, key.pem.
func mkcerts([]string) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign}
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames:    []string{"localhost", "example.com"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}
	caDER, err1 := x509.CreateCertificate(crand.Reader, ca, ca, &caKey.PublicKey, caKey)
	certDER, err2 := x509.CreateCertificate(crand.Reader, cert, ca, &key.PublicKey, caKey)
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
	return nil
}

// proxy LISTEN TARGET LOG passes requests on, slowly, and writes down their paths.
func proxy(args []string) error {
	target, err := url.Parse("http://" + args[1])
	if err != nil {
		return err
	}
	log, err := os.OpenFile(args[2], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	pass := httputil.NewSingleHostReverseProxy(target)
	return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(log, r.Method, r.URL.Path)
		time.Sleep(20 * time.Millisecond)
		pass.ServeHTTP(w, r)
	}))
}

// webproxy LISTEN TARGET LOG USER:PASSWORD is a proxy for which TARGET is every host.
func webproxy(args []string) error {
	log, err := os.OpenFile(args[2], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: args[1]})
	return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w, status: http.StatusOK, left: -1}
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(args[3])) {
			a.WriteHeader(http.StatusProxyAuthRequired)
		}
		fmt.Fprintln(log, r.Method, r.RequestURI, a.status)
		switch {
		case a.status != http.StatusOK:
		case r.Method == http.MethodConnect:
			there, err := net.Dial("tcp", args[1])
			if err != nil {
				a.WriteHeader(http.StatusBadGateway)
				return
			}
			w.WriteHeader(http.StatusOK)
			here, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(there, here)
				there.Close()
			}()
			_, _ = io.Copy(here, there)
			here.Close()
		default:
			pass.ServeHTTP(w, &http.Request{Method: r.Method, URL: &url.URL{Path: r.URL.Path}, Header: r.Header,
				Host: r.Host})
		}
	}))
}

// await ADDRESS waits until somebody listens.
func await(args []string) error {
	for range 500 {
		c, err := net.Dial("tcp", args[0])
		if err == nil {
			return c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s: nobody listens", args[0])
}
