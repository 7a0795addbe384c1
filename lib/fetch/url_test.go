package fetch

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image"
)

// web serves files with ETags, and writes down what is asked of it.
type web struct {
	mu       sync.Mutex
	files    map[string][]byte // by path
	header   http.Header       // of each answer
	override func(w http.ResponseWriter, r *http.Request) bool
	asked    []string // "PATH STATUS"
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (g *web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &statusWriter{w, 200}
	defer func() { g.asked = append(g.asked, fmt.Sprint(r.URL.RequestURI(), " ", s.status)) }()
	if g.override != nil && g.override(s, r) {
		return
	}
	data, ok := g.files[r.URL.Path]
	if !ok {
		http.NotFound(s, r)
		return
	}
	s.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha512.Sum512(data)))
	for name, values := range g.header {
		s.Header()[name] = values
	}
	http.ServeContent(s, r, "", time.Time{}, bytes.NewReader(data))
}

// wantAsked compares what was asked since the last call.
func (g *web) wantAsked(t testing.TB, want ...string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if fmt.Sprint(g.asked) != fmt.Sprint(want) {
		t.Errorf("asked %q, want %q", g.asked, want)
	}
	g.asked = nil
}

// aciOf is an ACI of that name with further fields of the manifest and entries of the rootfs.
func aciOf(t testing.TB, name, fields string, entries ...string) []byte {
	t.Helper()
	manifest := strings.Replace(aciText, "example.com/app", name, 1) + fields + "}"
	all := []string{"manifest=" + manifest, "rootfs/"}
	for _, e := range entries {
		all = append(all, "rootfs/"+e)
	}
	return tarOf(t, all...)
}

func idOf(aci []byte) string { return fmt.Sprintf("sha512-%x", sha512.Sum512(aci)) }

var quick = Options{PullPolicy: Update, InsecureImage: true, delay: time.Millisecond, idle: time.Second}

func TestURL(t *testing.T) {
	one, two := aciOf(t, "example.com/app", "", "f=one"), aciOf(t, "example.com/app", "", "f=two")
	g := &web{files: map[string][]byte{"/app.aci": gzipped(t, one)}}
	server := httptest.NewServer(g)
	defer server.Close()
	s, dir := newStore(t)
	ref := reference(t, server.URL+"/app.aci")
	fetch := func(want string, policy PullPolicy) {
		t.Helper()
		o := quick
		o.PullPolicy = policy
		if id, err := Fetch(t.Context(), s, ref, o); id != want || err != nil {
			t.Errorf("%s %v", id, err)
		}
	}
	fetch(idOf(one), Update)
	g.wantAsked(t, "/app.aci 200")
	fetch(idOf(one), New)
	fetch(idOf(one), Never)
	g.wantAsked(t)
	fetch(idOf(one), Update)
	g.wantAsked(t, "/app.aci 304")
	g.files["/app.aci"] = two
	fetch(idOf(two), Update)
	g.wantAsked(t, "/app.aci 200")
	if text, err := os.ReadFile(s.LayerPath(idOf(two)) + "/f"); string(text) != "two" || err != nil {
		t.Errorf("%q %v", text, err)
	}

	// The image vanishes: it is fetched whole.
	must(t, os.RemoveAll(s.LayerPath(idOf(two))))
	fetch(idOf(two), New)
	g.wantAsked(t, "/app.aci 200")

	// The server gives its word for an hour, and is not asked.
	g.header = http.Header{"Cache-Control": {"public, max-age=3600"}}
	fetch(idOf(two), Update)
	g.wantAsked(t, "/app.aci 304")
	fetch(idOf(two), Update)
	g.wantAsked(t)
	must(t, s.SetRemote(t.Context(), ref, freshness(&http.Response{Header: http.Header{}}, time.Now())))
	if _, err := s.Remote(ref); err == nil || !strings.Contains(err.Error(), "no image ID in it") {
		t.Error(err)
	}
	g.header = http.Header{"Cache-Control": {"no-store"}} // nothing is remembered, not even the ETag; what was is damaged
	fetch(idOf(two), Update)
	fetch(idOf(two), Update)
	g.wantAsked(t, "/app.aci 200", "/app.aci 200")
	if entries, _ := os.ReadDir(filepath.Join(dir, "cas/tmp")); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
}

func TestFreshness(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		control, age string
		want         time.Duration // 0: it is to be asked again; -1: nothing is remembered
	}{
		{"", "", 0},
		{"max-age=60", "", time.Minute},
		{"Max-Age=60", "20", 40 * time.Second},
		{`private, max-age="60"`, "", time.Minute},
		{"max-age=60", "90", 0},
		{"max-age=60, no-cache", "", 0},
		{"no-store, max-age=60", "", -1},
		{"max-age=99999999999999999999", "", 0},
		{"max-age=9999999999999999", "", maxAge},
		{"max-age=-5", "", 0},
		{"max-age=x,,=,s-maxage=5", "x", 0},
	} {
		answer := &http.Response{Header: http.Header{"Cache-Control": {c.control}, "Age": {c.age}, "Etag": {`"1"`}}}
		r := freshness(answer, now)
		got := time.Duration(0)
		switch {
		case r.ETag == "":
			got = -1
		case !r.Expires.IsZero():
			got = r.Expires.Sub(now)
		}
		if got != c.want {
			t.Errorf("%q, age %q: %v, want %v", c.control, c.age, got, c.want)
		}
	}
	long := freshness(&http.Response{Header: http.Header{"Etag": {`"` + strings.Repeat("x", 2000) + `"`}, "Last-Modified": {strings.Repeat("x", 2000)}}}, now)
	if long.ETag != "" || long.LastModified != "" {
		t.Errorf("%d bytes", len(long.ETag))
	}
}

// TestURLBreaksOff has a download go on where it broke off, in the middle of a gzip stream.
func TestURLBreaksOff(t *testing.T) {
	aci := aciOf(t, "example.com/app", "", "noise="+strings.Repeat(rand.Text(), 50_000))
	g := &web{files: map[string][]byte{"/app.aci": gzipped(t, aci)}}
	breaks := 0
	g.override = func(w http.ResponseWriter, r *http.Request) bool {
		if breaks++; breaks > 3 {
			return false
		}
		data := g.files["/app.aci"]
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(&breaking{w.(*statusWriter).ResponseWriter, len(data) / 5}, r, "", time.Time{}, bytes.NewReader(data))
		return true
	}
	g.header = http.Header{"Etag": {`"1"`}}
	server := httptest.NewServer(g)
	defer server.Close()
	s, _ := newStore(t)
	o := quick
	var got int64
	o.Progress = func(p Progress) {
		if p.Got < got || p.Size != int64(len(g.files["/app.aci"])) {
			t.Errorf("%+v", p)
		}
		got = p.Got
	}
	if id, err := Fetch(t.Context(), s, reference(t, server.URL+"/app.aci"), o); id != idOf(aci) || err != nil {
		t.Errorf("%s %v", id, err)
	}
	if breaks != 4 || got != int64(len(g.files["/app.aci"])) {
		t.Errorf("asked %d times, for %d bytes", breaks, got)
	}
}

func TestBadURL(t *testing.T) {
	good := aciOf(t, "example.com/app", "", "f=one")
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"not there", http.NotFound, "not on the server 127.0.0.1:"},
		{"not for everybody", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }, "does not show it to everybody (403 Forbidden)"},
		{"broken", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, ": 500 Internal Server Error"},
		{"unchanged, unasked", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotModified) }, "which nobody asked"},
		{"partial, unasked", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusPartialContent) }, ": 206 Partial Content"},
		{"empty", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }, ": 204 No Content"},
		{"a page", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "<html>", strings.Repeat("Welcome! ", 100))
		}, "bad archive: "},
		{"shorter than promised", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)+10_000))
			_, _ = w.Write(good)
		}, fmt.Sprintf("truncated: %d of %d bytes", len(good), len(good)+10_000)},
		{"longer than promised", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)-1024)) // the rest is not of this answer
			_, _ = w.Write(good[:len(good)-1024])
		}, "bad archive: unexpected EOF"},
		{"cut, and no length", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(good[:len(good)-1024])
		}, "bad archive: unexpected EOF"},
		{"padding without end", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(good)
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 64<<10))
			}
		}, "longer than 4194304 bytes"},
		{"a file without end", func(w http.ResponseWriter, r *http.Request) {
			z := gzip.NewWriter(w)
			_, _ = z.Write(good[:len(good)-1024])
			for r.Context().Err() == nil {
				_, _ = z.Write(make([]byte, 64<<10))
			}
		}, "larger than 4194304 bytes"},
		{"redirects without end", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, "stopped after 10 redirects"},
		{"plain HTTP from another machine", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/app.aci", http.StatusFound)
		},
			"plain HTTP to another machine: use --insecure-options=http to allow it"},
		{"another protocol", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "unsupported protocol scheme"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := newStore(t)
			server := httptest.NewServer(c.answer)
			defer server.Close()
			o := quick
			o.MaxBytes = 4 << 20
			id, err := Fetch(t.Context(), s, reference(t, server.URL+"/app.aci"), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %v\nwant %s", id, err, c.want)
			}
			wantNothing(t, dir)
			if _, err := os.Stat(filepath.Join(dir, "cas/remote")); err == nil {
				t.Error("it is remembered")
			}
		})
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	s, _ := newStore(t)
	if _, err := Fetch(t.Context(), s, reference(t, server.URL+"/app.aci"), quick); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	if _, err := Fetch(t.Context(), s, image.Reference{Kind: image.URL, URL: "http://192.0.2.1/app.aci"}, quick); err == nil ||
		!strings.Contains(err.Error(), "plain HTTP to another machine") {
		t.Error(err)
	}
}
