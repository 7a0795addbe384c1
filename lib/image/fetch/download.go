package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// retrying is a transport that does not give up at once. What a server or a network says to try
// again (429, 5xx, a reset) is tried again after a while that doubles, or that Retry-After says.
// The body of an answer goes on where it breaks off or stands still, by a range request (RFC 9110,
// 14), if the server gives it a validator to know it by; one without is not, because the rest could
// be of something else. Whoever reads a body through it sees one body.
type retrying struct {
	next  http.RoundTripper
	delay time.Duration // before the second try
	idle  time.Duration // a body that brings nothing for so long has broken off

	// logs in anew, where that takes more than next does; may be nil
	login func(context.Context) (http.RoundTripper, error)
}

const (
	maxTries    = 5                // of one request, and of going on with a body at one place
	maxWait     = time.Minute      // what Retry-After may ask for; more is not waited
	firstDelay  = time.Second / 2  // so that all tries take about 8 s
	bodyIdle    = 45 * time.Second // as long as a switch-over of a server takes
	minProgress = 64 << 10         // bytes after which going on counts as having worked
)

func (p *retrying) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return p.next.RoundTrip(r)
	}
	for try := 1; ; try++ {
		ctx, cancel := context.WithCancelCause(r.Context())
		answer, err := p.next.RoundTrip(r.WithContext(ctx))
		wait, again := p.again(answer, err, try)
		if !again || r.Context().Err() != nil {
			if err != nil {
				cancel(nil)
				return nil, err
			}
			answer.Body = p.resuming(r, answer, cancel)
			return answer, nil
		}
		drop(answer)
		cancel(nil)
		if err := sleep(r.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// again reports whether to try once more, and after which time.
func (p *retrying) again(answer *http.Response, err error, try int) (time.Duration, bool) {
	if try >= maxTries {
		return 0, false
	}
	// so that many clients do not come back at one time
	wait := time.Duration(float64(p.delay<<(try-1)) * (0.75 + rand.Float64()/2))
	if err != nil {
		return wait, isTransient(err)
	}
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return 0, false
	}
	after := answer.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(after, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(after); err == nil {
		wait = max(wait, time.Until(at))
	}
	return wait, wait <= maxWait
}

// isTransient reports whether retrying after err may succeed. A name that does not exist, a port on
// which nobody listens and a host that does not answer are more likely mistakes.
func isTransient(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsTemporary || dns.IsTimeout
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "http2: ")
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drop ends an answer, so that its connection can serve the next.
func drop(answer *http.Response) {
	if answer != nil {
		_, _ = io.CopyN(io.Discard, answer.Body, 4<<10)
		answer.Body.Close()
	}
}

// resuming is the body of an answer, and of those that go on with it.
type resuming struct {
	retrying  *retrying
	request   *http.Request
	validator string // for If-Range; "" if there is none
	at, end   int64  // offsets in the whole; end is -1 if it is not known
	body      io.ReadCloser
	cancel    context.CancelCauseFunc // of the answer that body is of
	idle      *time.Timer
	tries     int
	brokeOff  int64 // where it broke off the last time
}

var errIdle = errors.New("the server sends nothing more")

func (p *retrying) resuming(r *http.Request, answer *http.Response, cancel context.CancelCauseFunc) *resuming {
	b := &resuming{retrying: p, request: r, validator: validator(answer), end: answer.ContentLength}
	b.take(answer.Body, cancel)
	if answer.StatusCode == http.StatusPartialContent { // a range that our caller has asked for
		from, size, err := contentRange(answer)
		if b.at, b.end = from, size; err != nil {
			b.validator = ""
		}
	} else if answer.StatusCode != http.StatusOK || r.Method == http.MethodHead { // which has a length, and no body
		b.validator = ""
	}
	return b
}

// take goes on with that body, which cancel ends.
func (b *resuming) take(body io.ReadCloser, cancel context.CancelCauseFunc) {
	b.body, b.cancel = body, cancel
	b.idle = time.AfterFunc(b.retrying.idle, func() { cancel(errIdle) })
	b.idle.Stop()
}

func (b *resuming) Read(p []byte) (int, error) {
	for {
		b.idle.Reset(b.retrying.idle)
		n, err := b.body.Read(p)
		stood := !b.idle.Stop()
		b.at += int64(n)
		switch {
		case err == nil || n > 0:
			return n, nil // the body gives its error again
		case err == io.EOF && (b.end < 0 || b.at >= b.end):
			return 0, io.EOF
		case stood:
			err = errIdle
		}
		if err := b.resume(err); err != nil {
			return 0, err
		}
	}
}

func (b *resuming) Close() error {
	b.idle.Stop()
	err := b.body.Close()
	b.cancel(nil)
	return err
}

// resume asks for the rest. If it cannot be had, its error is why the body broke off.
func (b *resuming) resume(cause error) error {
	if b.at-b.brokeOff >= minProgress {
		b.tries = 0
	}
	b.brokeOff = b.at
	renewed := false
	for b.validator != "" && b.request.Context().Err() == nil {
		b.tries++
		wait, again := b.retrying.again(nil, io.ErrUnexpectedEOF, b.tries)
		if !again {
			break
		}
		b.body.Close()
		b.cancel(nil)
		if sleep(b.request.Context(), wait) != nil {
			break
		}
		ctx, cancel := context.WithCancelCause(b.request.Context())
		r := b.request.Clone(ctx)
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.at))
		r.Header.Set("If-Range", b.validator)
		answer, err := b.retrying.next.RoundTrip(r)
		if err == nil && !renewed && (answer.StatusCode == http.StatusUnauthorized ||
			answer.StatusCode == http.StatusForbidden) {
			renewed = true
			drop(answer)
			answer, err = b.retrying.anew(r)
		}
		if _, again := b.retrying.again(answer, err, 1); again {
			drop(answer)
			cancel(nil)
			continue
		}
		if err != nil {
			cancel(nil)
			return fmt.Errorf("%w, and then: %w", cause, err)
		}
		b.take(answer.Body, cancel)
		if err := b.check(answer); err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return nil
		}
		b.idle.Reset(b.retrying.idle)
		_, err = io.CopyN(io.Discard, b.body, b.at) // a server that knows no ranges
		b.idle.Stop()
		if err == nil {
			return nil
		}
	}
	return cause
}

// anew sends a request the way that its redirects have come, with a new token and to where it leads
// now: both may hold only for some minutes, which a large download takes.
func (p *retrying) anew(r *http.Request) (*http.Response, error) {
	next := p.next
	if p.login != nil {
		var err error
		if next, err = p.login(r.Context()); err != nil {
			return nil, err
		}
	}
	first := r
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	first = first.Clone(r.Context())
	first.Header.Del("Authorization")
	for _, name := range []string{"Range", "If-Range"} {
		first.Header.Set(name, r.Header.Get(name))
	}
	return (&http.Client{Transport: next}).Do(first)
}

// check reports whether an answer goes on with the body.
func (b *resuming) check(answer *http.Response) error {
	switch answer.StatusCode {
	case http.StatusPartialContent:
		from, size, err := contentRange(answer)
		if err != nil || from != b.at || b.end >= 0 && size >= 0 && size != b.end {
			return fmt.Errorf("asked for the bytes from %d on, the server sends %q", b.at,
				answer.Header.Get("Content-Range"))
		}
		return nil
	case http.StatusOK:
		if validator(answer) == b.validator {
			return nil
		}
		return fmt.Errorf("it was changed after %d bytes had been downloaded: try again", b.at)
	}
	return fmt.Errorf("asked for the bytes from %d on, the server answers %s", b.at, answer.Status)
}

// validator is what reports whether a resource has been changed: a strong ETag, else the time of
// its last change.
func validator(answer *http.Response) string {
	if tag := answer.Header.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return answer.Header.Get("Last-Modified")
}

// contentRange reads "bytes FROM-TO/SIZE"; a size of "*" is -1.
func contentRange(answer *http.Response) (from, size int64, err error) {
	text, ok := strings.CutPrefix(answer.Header.Get("Content-Range"), "bytes ")
	span, total, ok2 := strings.Cut(text, "/")
	first, last, ok3 := strings.Cut(span, "-")
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	size = -1
	var err3 error
	if total != "*" {
		size, err3 = strconv.ParseInt(total, 10, 64)
	}
	if err := cmp.Or(err1, err2, err3); err != nil || !ok || !ok2 || !ok3 || from < 0 || to < from ||
		size >= 0 && to >= size {
		return 0, -1, fmt.Errorf("a range of %q", answer.Header.Get("Content-Range"))
	}
	return from, size, nil
}
