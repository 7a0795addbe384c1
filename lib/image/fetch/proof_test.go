package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// sign makes what testVerify takes for a signature.
func sign(name string, aci []byte) []byte { return fmt.Appendf(nil, "%s %x", name, sha256.Sum256(aci)) }

func testVerify(_ context.Context, name string, signature []byte, signed io.ReadSeeker) (keystore.Proof, error) {
	data, err := io.ReadAll(signed)
	if err == nil && !bytes.Equal(signature, sign(name, data)) {
		err = errors.New("bad signature")
	}
	return keystore.Proof{Name: name, Key: "test"}, err
}

// signed are options that insist on a signature.
func signed(o Options) Options {
	o.InsecureImage, o.Verify, o.good = false, testVerify, func(keystore.Proof) error { return nil }
	return o
}

// noKey is for options that trust nobody.
func noKey(o Options) Options {
	err := errors.New("no key is trusted")
	o.HaveKey = func(context.Context, string) error { return err }
	o.good = func(keystore.Proof) error { return err }
	return o
}

func TestSignedFile(t *testing.T) {
	good := gzipped(t, aciOf(t, "example.com/app", "", "f=1"))
	s, dir := newStore(t)
	file := archiveFile(t, good)
	ref := reference(t, file)
	fetch := func(want string, o Options) {
		t.Helper()
		id, err := Fetch(t.Context(), s, ref, o)
		if !testkit.Says(err, want) {
			t.Errorf("%s %v, want %q", id, err, want)
		}
	}
	fetch("no signature of it (error opening signature file: open "+file+
		".asc: no such file or directory): use --insecure-options=image to run it unsigned", signed(quick))
	must(t, os.WriteFile(file+".asc", sign("example.com/other", good), 0o644))
	fetch("bad signature", signed(quick))
	must(t, os.WriteFile(file+".asc", make([]byte, 2<<20), 0o644))
	fetch("larger than 1048576 bytes", signed(quick))
	wantNothing(t, dir)
	must(t, os.WriteFile(file+".asc", sign("example.com/app", good), 0o644))
	fetch("", signed(quick))
	must(t, os.Rename(file+".asc", file+".sig"))
	fetch("no such file", signed(quick)) // also of what the store has: the policy is update
	o := signed(quick)
	o.Signature = file + ".sig"
	fetch("", o)
	fetch("", quick)
	o.Verify = func(_ context.Context, _ string, _ []byte, r io.ReadSeeker) (keystore.Proof, error) {
		_, err := r.Read(make([]byte, 10))
		return keystore.Proof{}, err
	}
	fetch("it was changed while it was read", o) // or a verifier that does not look at all of it
	o.PullPolicy = Never
	fetch("it was changed while it was read", o) // a file that is there is read
	must(t, os.Remove(file))
	fetch("", o)
	o.PullPolicy = Update
	fetch("no such file", o)
}

// A server that makes a signature when it is asked for it says so, and is asked again after the
// image.
func TestDeferredSignature(t *testing.T) {
	good := gzipped(t, aciOf(t, "example.com/app", "", "f=1"))
	ready := 1 // answers until the signature is there
	g := &web{files: map[string][]byte{"/app.aci": good, "/app.aci.asc": sign("example.com/app", good)}}
	g.override = func(w http.ResponseWriter, r *http.Request) bool {
		deferred := r.URL.Path == "/app.aci.asc" && ready > 0
		if deferred {
			ready--
			w.WriteHeader(http.StatusAccepted)
		}
		return deferred
	}
	server := httptest.NewServer(g)
	defer server.Close()
	s, _ := newStore(t)
	ref := reference(t, server.URL+"/app.aci")
	if _, err := Fetch(t.Context(), s, ref, signed(quick)); err != nil {
		t.Error(err)
	}
	g.wantAsked(t, "/app.aci.asc 202", "/app.aci 200", "/app.aci.asc 200")

	s, dir := newStore(t)
	ready = 2
	if _, err := Fetch(t.Context(), s, ref, signed(quick)); !testkit.Says(err, "no signature yet ... 202") {
		t.Error(err)
	}
	wantNothing(t, dir)
	ready, g.files["/app.aci.asc"] = 1, sign("example.com/app", []byte("another"))
	if _, err := Fetch(t.Context(), s, ref, signed(quick)); !testkit.Says(err, "bad signature") {
		t.Error(err)
	}
	wantNothing(t, dir)
}

func TestSignedURL(t *testing.T) {
	good := gzipped(t, aciOf(t, "example.com/app", "", "f=1"))
	g := &web{files: map[string][]byte{"/app.aci": good}}
	server := httptest.NewServer(g)
	defer server.Close()
	s, dir := newStore(t)
	ref := reference(t, server.URL+"/app.aci?x=1")
	_, err := Fetch(t.Context(), s, ref, signed(quick))
	if !testkit.Says(err, "no signature of it ... "+
		server.URL+"/app.aci.asc?…: ... 404 ... --insecure-options=image") {
		t.Error(err)
	}
	g.wantAsked(t, "/app.aci.asc?x=1 404")
	g.files["/app.aci.asc"] = sign("example.com/app", []byte("another"))
	if _, err = Fetch(t.Context(), s, ref, signed(quick)); !testkit.Says(err, "bad signature") {
		t.Error(err)
	}
	wantNothing(t, dir)
	g.reset()

	// What came unsigned is not what was checked.
	if _, err = Fetch(t.Context(), s, ref, quick); err != nil {
		t.Error(err)
	}
	if _, err = Fetch(t.Context(), s, ref, signed(quick)); !testkit.Says(err, "bad signature") {
		t.Error(err)
	}
	g.wantAsked(t, "/app.aci?x=1 200", "/app.aci.asc?x=1 200", "/app.aci?x=1 200")

	g.files["/app.aci.asc"] = sign("example.com/app", good)
	for range 2 { // and what was checked is not sent again
		if _, err = Fetch(t.Context(), s, ref, signed(quick)); err != nil {
			t.Error(err)
		}
	}
	g.wantAsked(t, "/app.aci.asc?x=1 200", "/app.aci?x=1 200", "/app.aci?x=1 304")

	distrusted := noKey(signed(quick))
	if _, err = Fetch(t.Context(), s, ref, distrusted); !testkit.Says(err, "no key is trusted") {
		t.Error(err)
	}
	g.reset()

	// A changed one needs a signature of its own.
	g.files["/app.aci"] = gzipped(t, aciOf(t, "example.com/app", "", "f=2"))
	if _, err = Fetch(t.Context(), s, ref, signed(quick)); !testkit.Says(err, "bad signature") {
		t.Error(err)
	}
	g.files["/app.aci.asc"] = sign("example.com/app", g.files["/app.aci"])
	if _, err = Fetch(t.Context(), s, ref, signed(quick)); err != nil {
		t.Error(err)
	}

	// A signature of this machine.
	delete(g.files, "/app.aci.asc")
	g.files["/app.aci"] = good
	o := signed(quick)
	o.Signature = archiveFile(t, sign("example.com/app", good))
	if _, err = Fetch(t.Context(), s, ref, o); err != nil {
		t.Error(err)
	}
	g.override = func(w http.ResponseWriter, r *http.Request) bool {
		for r.Context().Err() == nil && strings.HasSuffix(r.URL.Path, ".asc") {
			_, _ = w.Write(make([]byte, 64<<10)) // a signature without end
		}
		return false
	}
	g.files["/app.aci"] = gzipped(t, aciOf(t, "example.com/app", "", "f=3"))
	if _, err = Fetch(t.Context(), s, ref, signed(quick)); !testkit.Says(err, "larger than 1048576 bytes") {
		t.Error(err)
	}
}

// TestSignedName has the pages say where signatures are; what an image depends on needs its own.
func TestSignedName(t *testing.T) {
	shop := newShop(t)
	base := shop.add("base", "", "b=1")
	app := shop.add("app", dependsOn("base"), "a=1")
	shop.web.files["/example.com/app.aci.asc"] = sign("example.com/app", app)
	s, dir := newStore(t)
	o := signed(example(t, shop.web))
	_, err := Fetch(t.Context(), s, reference(t, "example.com/app"), o)
	if !testkit.Says(err, "dependency example.com/base: https://example.com/example.com/base.aci: no "+
		"signature of it") {
		t.Error(err)
	}
	if ids, _ := s.Images(); len(ids) > 0 {
		t.Error("it is in the store")
	}
	shop.web.files["/example.com/base.aci.asc"] = sign("example.com/base", base)
	if id, err := Fetch(t.Context(), s, reference(t, "example.com/app"), o); id != idOf(app) || err != nil {
		t.Errorf("%s %v", id, err)
	}
	// of the image that is asked for, not of what it depends on
	o.Signature = archiveFile(t, sign("example.com/app", app))
	if id, err := Fetch(t.Context(), s, reference(t, "example.com/app"), o); id != idOf(app) || err != nil {
		t.Errorf("%s %v", id, err)
	}
	if entries, _ := os.ReadDir(dir + "/cas/partial"); len(entries) > 0 {
		t.Errorf("left over: %v", entries)
	}
}
