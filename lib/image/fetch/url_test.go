package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/testkit"
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

// reset forgets what was asked; answers that are on their way are waited for.
func (g *web) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
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
	damaged, err := filepath.Glob(dir + "/cas/remote/url/*")
	must(t, err)
	must(t, os.WriteFile(damaged[0], []byte(`{"id":"x"}`), 0o600))
	if _, err := s.Remote(ref); !testkit.Says(err, "damaged: ") {
		t.Error(err)
	}
	// nothing is remembered, not even the ETag; what was is damaged
	g.header = http.Header{"Cache-Control": {"no-store"}}
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
	for _, c := range []struct {
		expires, date, control string
		want                   time.Duration
	}{
		{"Sun, 09 Sep 2001 02:46:40 GMT", "", "", time.Hour}, // now is 01:46:40
		{"Sun, 09 Sep 2001 02:46:40 GMT", "Sun, 09 Sep 2001 02:45:40 GMT", "", time.Minute},
		{"Sun, 09 Sep 2001 02:46:40 GMT", "", "max-age=60", time.Minute},
		{"Sun, 09 Sep 2001 02:46:40 GMT", "", "max-age=0", 0},
		{"Sun, 09 Sep 2001 02:46:40 GMT", "", "no-cache", 0},
		{"Sun, 09 Sep 2001 00:46:40 GMT", "", "", 0},
		{"0", "", "", 0},
		{"Sun, 09 Sep 2091 00:46:40 GMT", "", "", maxAge},
	} {
		r := freshness(&http.Response{Header: http.Header{"Cache-Control": {c.control}, "Expires": {c.expires},
			"Date": {c.date}, "Etag": {`"1"`}}}, now)
		if want := now.Add(c.want); c.want == 0 && !r.Expires.IsZero() || c.want > 0 && !r.Expires.Equal(want) {
			t.Errorf("%+v: until %v", c, r.Expires)
		}
	}
	long := freshness(&http.Response{Header: http.Header{"Etag": {`"` + strings.Repeat("x", 2000) + `"`},
		"Last-Modified": {strings.Repeat("x", 2000)}}}, now)
	if long.ETag != "" || long.LastModified != "" {
		t.Errorf("%d bytes", len(long.ETag))
	}
}

func FuzzFreshness(f *testing.F) {
	f.Add("max-age=60, no-cache", "5", `"1"`)
	f.Fuzz(func(t *testing.T, control, age, tag string) {
		now := time.Unix(1e9, 0)
		r := freshness(&http.Response{Header: http.Header{"Cache-Control": {control}, "Age": {age}, "Etag": {tag},
			"Last-Modified": {tag}}}, now)
		if len(r.ETag) > maxValidator || len(r.LastModified) > maxValidator || !r.Expires.IsZero() &&
			(r.Expires.Before(now) || r.Expires.After(now.Add(maxAge))) {
			t.Errorf("%+v", r)
		}
	})
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
		http.ServeContent(&breaking{w.(*statusWriter).ResponseWriter, len(data) / 5}, r, "", time.Time{},
			bytes.NewReader(data))
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

// TestURLGoesOn has a later fetch go on with what an earlier one got.
func TestURLGoesOn(t *testing.T) {
	var noise strings.Builder
	for range 20_000 {
		noise.WriteString(rand.Text())
	}
	aci := aciOf(t, "example.com/app", "", "noise="+noise.String())
	data := gzipped(t, aci)
	const got = 100_000
	for _, c := range []struct {
		name   string
		change func(t *testing.T, g *web, dir string)
		tag    string   // the ETag of the first answer
		ranges []string // of the second fetch
	}{
		{"", func(*testing.T, *web, string) {}, `"1"`, []string{"bytes=100000-"}},
		{"changed", func(t *testing.T, g *web, _ string) { g.header["Etag"] = []string{`"2"`} }, `"1"`,
			[]string{"bytes=100000-"}},
		{"no ranges", func(t *testing.T, g *web, _ string) { g.header["Range"] = nil }, `"1"`,
			[]string{"bytes=100000-"}},
		{"no validator", func(*testing.T, *web, string) {}, "", []string{""}},
		{"shorter", func(t *testing.T, g *web, dir string) {
			files, err := filepath.Glob(dir + "/cas/partial/*/data")
			must(t, err)
			must(t, os.Truncate(files[0], 10<<20))
		}, `"1"`, []string{"bytes=10485760-", ""}},
		{"after a boot", func(t *testing.T, g *web, dir string) {
			files, err := filepath.Glob(dir + "/cas/partial/*/validator")
			must(t, err)
			must(t, os.WriteFile(files[0], []byte("another\n\"1\""), 0o600))
		}, `"1"`, []string{""}},
		{"half a note", func(t *testing.T, g *web, dir string) {
			files, err := filepath.Glob(dir + "/cas/partial/*/validator")
			must(t, err)
			must(t, os.Truncate(files[0], 10))
		}, `"1"`, []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := newStore(t)
			g := &web{files: map[string][]byte{"/app.aci": data}, header: http.Header{"Etag": {c.tag}}}
			var ranges []string
			first := true
			g.override = func(w http.ResponseWriter, r *http.Request) bool {
				ranges = append(ranges, r.Header.Get("Range"))
				if _, none := g.header["Range"]; none {
					r.Header.Del("Range")
				}
				if !first {
					return false
				}
				if len(ranges) > 1 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("ETag", c.tag)
				http.ServeContent(&breaking{w.(*statusWriter).ResponseWriter, got}, r, "", time.Time{},
					bytes.NewReader(data))
				return true
			}
			server := httptest.NewUnstartedServer(g)
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.Start()
			defer server.Close()
			ref := reference(t, server.URL+"/app.aci")
			if _, err := Fetch(t.Context(), s, ref, quick); !testkit.Says(err,
				fmt.Sprintf("truncated: %d of %d bytes", got, len(data))) {
				t.Fatal(err)
			}
			if ids, _ := s.Images(); len(ids) > 0 {
				t.Error("half an image is in the store")
			}
			g.mu.Lock()
			c.change(t, g, dir)
			first, ranges = false, nil
			g.mu.Unlock()
			if id, err := Fetch(t.Context(), s, ref, quick); id != idOf(aci) || err != nil {
				t.Errorf("%s %v", id, err)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			if fmt.Sprint(ranges) != fmt.Sprint(c.ranges) {
				t.Errorf("asked for %q, want %q", ranges, c.ranges)
			}
			if left, _ := filepath.Glob(dir + "/cas/partial/*"); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// TestURLManyAtOnce has many want one URL: one downloads it.
func TestURLManyAtOnce(t *testing.T) {
	aci := aciOf(t, "example.com/app", "", "noise="+strings.Repeat(rand.Text(), 50_000))
	g := &web{files: map[string][]byte{"/app.aci": gzipped(t, aci)}}
	server := httptest.NewServer(g)
	defer server.Close()
	_, dir := newStore(t)
	ref := reference(t, server.URL+"/app.aci")
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			s, err := store.Open(dir)
			if err == nil {
				err = s.Clean()
			}
			id := ""
			if err == nil {
				id, err = Fetch(t.Context(), s, ref, quick)
			}
			if id != idOf(aci) || err != nil {
				t.Errorf("%s %v", id, err)
			}
		})
	}
	wait.Wait()
	if n := strings.Count(fmt.Sprint(g.asked), "/app.aci 200"); n != 1 {
		t.Errorf("asked %q", g.asked)
	}
}

// TestURLWithoutLength shows how far it has come all the same.
func TestURLWithoutLength(t *testing.T) {
	aci := aciOf(t, "example.com/app", "", "f="+strings.Repeat("x", 1<<20))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = w.Write(aci)
	}))
	defer server.Close()
	s, _ := newStore(t)
	o := quick
	var all []Progress
	o.Progress = func(p Progress) { all = append(all, p) }
	if id, err := Fetch(t.Context(), s, reference(t, server.URL+"/app.aci"), o); id != idOf(aci) || err != nil {
		t.Errorf("%s %v", id, err)
	}
	n := int64(len(aci))
	if first, last := all[0], all[len(all)-1]; first.Got != 0 || first.Size != -1 || last.Got != n || last.Size != n {
		t.Errorf("%+v to %+v, want %d bytes", first, last, n)
	}
}

// TestURLBomb is an ACI that does not say how long it is: what it may unpack to grows with what has
// come of it.
func TestURLBomb(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	w := tar.NewWriter(z)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "rootfs/zeros", Size: 3 << 30}))
	_, err := w.Write(make([]byte, 8<<20)) // it does not come to the rest
	must(t, errors.Join(err, z.Close()))
	holes := append(gnuSparse(t, "rootfs/holes", 3<<30), aciOf(t, "example.com/app", "")...)
	for name, data := range map[string][]byte{"zeros": bomb.Bytes(), "holes": gzipped(t, holes), "plain holes": holes} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(data)
		}))
		defer server.Close()
		s, dir := newStore(t)
		_, err := Fetch(t.Context(), s, reference(t, server.URL+"/app.aci"), quick)
		if !testkit.Says(err, "larger than 1") {
			t.Errorf("%s: %v", name, err)
		}
		wantNothing(t, dir)
	}
}

// gnuSparse is the entry of a file that is one hole (GNU tar's old sparse format).
func gnuSparse(t testing.TB, name string, size int64) []byte {
	t.Helper()
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	copy(h[483:], fmt.Sprintf("%011o", size))
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func TestBadURL(t *testing.T) {
	good := aciOf(t, "example.com/app", "", "f=one")
	// The beginning of a stream that is larger than the limit; its end never comes.
	var endless bytes.Buffer
	z := gzip.NewWriter(&endless)
	_, _ = z.Write(slices.Concat(good[:len(good)-1024], make([]byte, 8<<20)))
	must(t, z.Flush())
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"not there", http.NotFound, "not on the server 127.0.0.1:"},
		{"not for everybody", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) },
			"wants credentials ... auth.d ... 403"},
		{"broken", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
			": 500 Internal Server Error"},
		{"busy for a day", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusTooManyRequests)
		}, `: 429 ... "86400"`},
		{"unchanged, unasked", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotModified) },
			": 304 Not Modified"},
		{"partial, unasked", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusPartialContent) },
			": 206 Partial Content"},
		{"empty", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) },
			": 204 No Content"},
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
			_, _ = w.Write(endless.Bytes())
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "larger than 4194304 bytes"},
		{"redirects without end", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}, "stopped after 10 redirects"},
		{"plain HTTP from another machine", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/app.aci", http.StatusFound)
		},
			"plain HTTP ... --insecure-options=http"},
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
			if !testkit.Says(err, c.want) {
				t.Errorf("%s %v\nwant %s", id, err, c.want)
			}
			wantNothing(t, dir)
		})
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	s, _ := newStore(t)
	if _, err := Fetch(t.Context(), s, reference(t, server.URL+"/app.aci"), quick); !testkit.Says(err, "certificate") {
		t.Error(err)
	}
	if _, err := Fetch(t.Context(), s, image.Reference{Kind: image.URL, URL: "http://192.0.2.1/app.aci"},
		quick); !testkit.Says(err, "plain HTTP") {
		t.Error(err)
	}
}

// FuzzACI has an ACI be anything: an error and nothing in the store, or an image.
func FuzzACI(f *testing.F) {
	whole := aciOf(f, "example.com/app", `,"pathWhitelist":["/a","/d/../b"]`, "a=1", "d/", "d/b=2", "l->/etc")
	f.Add(whole)
	f.Add(gzipped(f, whole))
	f.Add(aciOf(f, "example.com/app", `,"dependencies":[{"imageName":"x"}]`, "a=1"))
	f.Add(aciOf(f, "example.com/app", `,"labels":[{"name":"os","value":"plan9"}]`))
	f.Add(whole[:len(whole)-1024])
	f.Fuzz(func(t *testing.T, data []byte) {
		s, dir := newStore(t)
		id, err := Fetch(t.Context(), s, reference(t, archiveFile(t, data)),
			Options{PullPolicy: New, InsecureImage: true, MaxBytes: 1 << 20, MaxEntries: 100,
				dial: func(context.Context, string, string) (net.Conn, error) { return nil, fs.ErrNotExist }})
		if err == nil {
			if _, err := s.Image(id); err != nil {
				t.Error(err)
			}
			return
		}
		if ids, _ := s.Images(); len(ids) > 0 {
			t.Errorf("%v, and %v is in the store", err, ids)
		}
		if left, _ := os.ReadDir(filepath.Join(dir, "cas/tmp")); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	})
}
