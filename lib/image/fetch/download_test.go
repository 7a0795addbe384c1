package fetch

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// breaking cuts an answer off after some bytes of its body.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p[:min(len(p), b.left)])
	if b.left -= n; b.left == 0 {
		b.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func TestRetrying(t *testing.T) {
	data := []byte(rand.Text() + strings.Repeat(rand.Text(), 40_000)) // a megabyte
	serve := func(w http.ResponseWriter, r *http.Request, tag string) {
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
	reset := func(w http.ResponseWriter) {
		c, _, err := w.(http.Hijacker).Hijack()
		must(t, err)
		c.Close()
	}
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request, n int) // to the n-th request, from 1
		want   string                                              // of the error, "" if all of data is to come
		asked  int
		ranges []string
	}{
		{"at once", func(w http.ResponseWriter, r *http.Request, n int) { serve(w, r, `"1"`) }, "", 1, []string{""}},
		{"busy", func(w http.ResponseWriter, r *http.Request, n int) {
			if n < 4 {
				w.WriteHeader([]int{429, 503, 500}[n-1])
				return
			}
			serve(w, r, `"1"`)
		}, "", 4, nil},
		{"for ever busy", func(w http.ResponseWriter, r *http.Request, n int) { w.WriteHeader(502) },
			"502 Bad Gateway", 5, nil},
		{"not there", func(w http.ResponseWriter, r *http.Request, n int) { w.WriteHeader(404) },
			"404 Not Found", 1, nil},
		{"come back now", func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(429)
				return
			}
			serve(w, r, `"1"`)
		}, "", 2, nil},
		{"come back tomorrow", func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Retry-After", time.Now().Add(24*time.Hour).UTC().Format(http.TimeFormat))
			w.WriteHeader(503)
		}, "503 Service Unavailable", 1, nil},
		{"resets", func(w http.ResponseWriter, r *http.Request, n int) {
			if n < 3 {
				reset(w)
				return
			}
			serve(w, r, `"1"`)
		}, "", 3, nil},
		{"breaks off", func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				w = &breaking{w, 100_000}
			}
			serve(w, r, `"1"`)
		}, "", 2, []string{"", "bytes=100000-"}},
		{"breaks off, and is down then", func(w http.ResponseWriter, r *http.Request, n int) {
			switch n {
			case 1:
				serve(&breaking{w, 100_000}, r, `"1"`)
			case 2:
				reset(w)
			case 3:
				w.WriteHeader(503)
			default:
				serve(w, r, `"1"`)
			}
		}, "", 4, []string{"", "bytes=100000-", "bytes=100000-", "bytes=100000-"}},
		{"breaks off again and again", func(w http.ResponseWriter, r *http.Request, n int) {
			serve(&breaking{w, 100_000}, r, `"1"`)
		}, "", 11, nil},
		{"breaks off at one place", func(w http.ResponseWriter, r *http.Request, n int) {
			serve(&breaking{w, 10}, r, `"1"`)
		},
			"unexpected EOF", 5, []string{"", "bytes=10-", "bytes=20-", "bytes=30-", "bytes=40-"}},
		{"knows no ranges", func(w http.ResponseWriter, r *http.Request, n int) {
			r.Header.Del("Range")
			if n == 1 {
				w = &breaking{w, 100_000}
			}
			serve(w, r, `"1"`)
		}, "", 2, nil},
		{"stands still", func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				w.Header().Set("ETag", `"1"`)
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				_, _ = w.Write(data[:1000])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			serve(w, r, `"1"`)
		}, "", 2, []string{"", "bytes=1000-"}},
		{"stands still for ever", func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(data[:1000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "sends nothing more", 1, nil},
		{"is changed", func(w http.ResponseWriter, r *http.Request, n int) {
			serve(&breaking{w, 100_000}, r, fmt.Sprintf(`"%d"`, n))
		},
			"changed after 100000 bytes ... try again", 2, nil},
		{"has no validator", func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("ETag", `W/"weak"`)
			http.ServeContent(&breaking{w, 100_000}, r, "", time.Time{}, bytes.NewReader(data))
		}, "unexpected EOF", 1, nil},
		{"known by its time", func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				w = &breaking{w, 100_000}
			}
			http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(data))
		}, "", 2, []string{"", "bytes=100000-"}},
		{"sends another range", func(w http.ResponseWriter, r *http.Request, n int) {
			if n > 1 {
				r.Header.Set("Range", "bytes=5-")
			}
			serve(&breaking{w, 100_000}, r, `"1"`)
		}, `bytes from 100000 on, the server sends "bytes 5-`, 2, nil},
		{"has it no more", func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				serve(&breaking{w, 100_000}, r, `"1"`)
			}
			w.WriteHeader(410)
		}, "bytes from 100000 on, the server answers 410 Gone", 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var ranges []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				ranges = append(ranges, r.Header.Get("Range"))
				n := len(ranges)
				mu.Unlock()
				c.answer(w, r, n)
			}))
			defer server.Close()
			client := &http.Client{Transport: newTransport(Options{delay: time.Millisecond, idle: time.Second / 4},
				nil)}
			got, err := func() ([]byte, error) {
				answer, err := client.Get(server.URL)
				if err != nil {
					return nil, err
				}
				defer answer.Body.Close()
				if answer.StatusCode != http.StatusOK {
					return nil, errors.New(answer.Status)
				}
				return io.ReadAll(answer.Body)
			}()
			if c.want == "" && (err != nil || !bytes.Equal(got, data)) ||
				!testkit.Says(err, c.want) {
				t.Errorf("%d bytes, %v\nwant %d, %s", len(got), err, len(data), c.want)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(ranges) != c.asked || c.ranges != nil && !slices.Equal(ranges, c.ranges) {
				t.Errorf("asked %d times, for %q", len(ranges), ranges)
			}
		})
	}
}

// TestRetryingHTTP2 has an answer break off that is one stream of several in a connection.
func TestRetryingHTTP2(t *testing.T) {
	data := []byte(strings.Repeat(rand.Text(), 40_000))
	n := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n == 1 {
			w = &breaking{w, 100_000}
		}
		if r.ProtoMajor != 2 {
			t.Errorf("spoken: %s", r.Proto)
		}
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	client := &http.Client{Transport: newTransport(Options{InsecureTLS: true, delay: time.Millisecond,
		idle: time.Second}, nil)}
	answer, err := client.Get(server.URL)
	must(t, err)
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil || !bytes.Equal(got, data) || n != 2 {
		t.Errorf("%d bytes of %d after %d requests: %v", len(got), len(data), n, err)
	}
}

// TestRetryingCancelled ends what waits for a second try, and what waits for a body.
func TestRetryingCancelled(t *testing.T) {
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusOK} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(status)
			w.(http.Flusher).Flush()
			if status == http.StatusOK {
				<-r.Context().Done()
			}
		}))
		defer server.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		must(t, err)
		answer, err := (&http.Client{Transport: newTransport(Options{delay: firstDelay, idle: bodyIdle}, nil)}).Do(r)
		if err == nil {
			_, err = io.ReadAll(answer.Body)
			answer.Body.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 20*time.Second {
			t.Errorf("%d: %v after %v", status, err, time.Since(begin))
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-1/2", "bytes 5-9/*", "bytes 5-4/10", "bytes */10", "0-1/2", "bytes 1-2/1",
		"bytes -1-2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, size, err := contentRange(&http.Response{Header: http.Header{"Content-Range": {s}}})
		if err == nil && (from < 0 || size >= 0 && from >= size) {
			t.Errorf("%q: from %d, size %d", s, from, size)
		}
	})
}

func TestPassing(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&net.DNSError{IsNotFound: true}, false},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsTemporary: true}}, true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, false},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, false},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true},
		{errors.New("http2: server sent GOAWAY and closed the connection"), true},
		{errors.New("tls: failed to verify certificate"), false},
		{context.Canceled, false},
	} {
		if got := isTransient(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
