package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/auth"
	"github.com/rkt-toolkit/rkt/lib/image/store"
)

const (
	maxAge       = 365 * 24 * time.Hour // that a server's word holds
	maxValidator = 1024                 // bytes of an ETag or a time
)

// fromURL fetches an ACI from a web server. What it sent before is not sent again as long as it
// says so (RFC 9111: max-age, else ETag or Last-Modified), and a download that was ended goes on
// where it was, if it is still the same.
func (f *acis) fromURL(ctx context.Context, ref image.Reference, w want) (got found, err error) {
	if w.signature == "" {
		w.signature = beside(ref.URL)
	}
	if got, known := f.remembered(ctx, ref, w); known != nil && time.Now().Before(known.Expires) {
		f.options.inStore(ref)
		return got, nil
	}
	f.options.log("remote fetching from URL %q", auth.PlainURL(ref.URL))
	part, err := f.store.Partial(ctx, ref)
	if err != nil {
		return found{}, err
	}
	t := &transfer{acis: f, ref: ref, want: w, part: part}
	defer func() {
		if t.keep {
			err = errors.Join(err, part.Keep())
		} else {
			err = errors.Join(err, part.Drop())
		}
	}()
	for {
		got, again, err := t.try(ctx)
		if err != nil || !again {
			return got, err
		}
	}
}

// transfer is the fetch of one ACI from a URL.
type transfer struct {
	*acis
	ref   image.Reference
	want  want
	part  *store.Partial
	known *store.Remote // what the server sent before, if the store still has it
	proof *proof        // asked for already, if nothing is known
	keep  bool          // what has come is kept for the next fetch
}

// try asks the server once, and reports whether to ask again, from the beginning.
func (t *transfer) try(ctx context.Context) (got found, again bool, err error) {
	// Once more: the process that we have waited for may have fetched it.
	if got, t.known = t.remembered(ctx, t.ref, t.want); t.known != nil && time.Now().Before(t.known.Expires) {
		return got, false, nil
	}
	t.proof = nil
	if t.known == nil { // else it was checked when it came
		if t.proof, err = t.acis.proof(ctx, t.want.signature); err != nil {
			t.keep = t.part.Size > 0
			return found{}, false, err
		}
	}
	answer, err := t.ask(ctx, t.ref, t.part, t.known)
	if err != nil {
		t.keep = t.part.Size > 0
		return found{}, false, err // names the URL
	}
	defer answer.Body.Close()
	size, again, err := t.heed(answer)
	if err != nil || again {
		return found{}, again, err
	}
	now := freshness(answer, time.Now())
	if answer.StatusCode != http.StatusNotModified {
		if got, err = t.receive(ctx, answer, size); err != nil {
			return found{}, false, err
		}
	} else if now.ETag == "" && now.LastModified == "" { // as RFC 9110, 15.4.5 allows
		now.ETag, now.LastModified = t.known.ETag, t.known.LastModified
	}
	now.ID, now.Manifest, now.Proof = got.id, got.manifest, got.by
	return got, false, t.store.SetRemote(ctx, t.ref, now)
}

// heed does what the status of an answer asks for. It returns the size of the whole ACI, and
// whether to ask again for all of it.
func (t *transfer) heed(answer *http.Response) (size int64, again bool, err error) {
	size = answer.ContentLength
	switch status := answer.StatusCode; {
	case status == http.StatusNotModified && t.known != nil:
		return size, false, nil
	case status == http.StatusPartialContent && t.part.Size > 0:
		if from, size, err := contentRange(answer); err == nil && from == t.part.Size {
			return size, false, nil
		}
		drop(answer)
		return 0, true, t.part.Restart("")
	case status == http.StatusRequestedRangeNotSatisfiable && t.part.Size > 0: // it has become shorter
		drop(answer)
		return 0, true, t.part.Restart("")
	case status == http.StatusOK:
		return size, false, t.part.Restart(validator(answer))
	}
	t.keep = t.part.Size > 0 && answer.StatusCode >= http.StatusInternalServerError
	return 0, false, t.refused(answer)
}

// refused is the error for an answer that has no ACI.
func (t *transfer) refused(answer *http.Response) error {
	host := answer.Request.URL.Host
	switch answer.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("not on the server %s (bad HTTP status code: %s)", host, answer.Status)
	case http.StatusUnauthorized, http.StatusForbidden:
		login, _, err := t.options.Auth.Server(host)
		if err != nil {
			return err
		}
		return fmt.Errorf("%s (bad HTTP status code: %s)", auth.Refused("the server "+host, login, "auth.d"),
			answer.Status)
	}
	if after := answer.Header.Get("Retry-After"); after != "" {
		return fmt.Errorf("server %s: bad HTTP status code: %s, to be asked again after %.40q", host,
			answer.Status, after)
	}
	return fmt.Errorf("server %s: bad HTTP status code: %s", host, answer.Status)
}

// receive unpacks what was kept of an earlier download, and then what the answer has.
func (t *transfer) receive(ctx context.Context, answer *http.Response, size int64) (got found, err error) {
	if t.proof == nil {
		if t.proof, err = t.acis.proof(ctx, t.want.signature); err != nil {
			return found{}, err
		}
	}
	rest := &source{r: answer.Body, copy: t.part, all: t.proof != nil}
	v := t.reader(ctx, io.MultiReader(io.NewSectionReader(t.part.File, 0, t.part.Size), rest), t.ref.URL, size)
	t.proof.of(t.part.File, v)
	if got, err = t.unpack(ctx, v, t.want, t.proof); err != nil {
		t.keep = t.part.Validator != "" && (rest.broken || ctx.Err() != nil)
		return found{}, err
	}
	return got, nil
}

// remembered gives the image that a URL was last, if the store has it, it was verified if it must
// be, and it can be what is wanted.
func (f *acis) remembered(ctx context.Context, ref image.Reference, w want) (found, *store.Remote) {
	known, err := f.store.Remote(ref)
	if err != nil {
		return found{}, nil
	}
	if !f.store.HasLayer(known.ID) || w.check(known.Manifest) != nil || w.id != "" && w.id != known.ID {
		return found{}, nil
	}
	if f.verifies() && (known.Proof == nil || f.options.resolver(f.store).Good(*known.Proof) != nil) {
		return found{}, nil
	}
	return found{known.ID, known.Manifest, known.Proof}, &known
}

// ask asks for a URL: for the rest of what has come, or for what is not known.
func (f *acis) ask(ctx context.Context, ref image.Reference, part *store.Partial, known *store.Remote) (*http.Response,
	error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, ref.URL, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "rkt")
	switch {
	case part.Size > 0:
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", part.Size))
		r.Header.Set("If-Range", part.Validator)
	case known != nil && known.ETag != "":
		r.Header.Set("If-None-Match", known.ETag)
	case known != nil && known.LastModified != "":
		r.Header.Set("If-Modified-Since", known.LastModified)
	}
	answer, err := f.client.Do(r)
	return answer, auth.HideQuery(err)
}

// source keeps what is read of a body, and reports whether it broke off.
type source struct {
	r      io.Reader
	copy   *store.Partial
	all    bool // the copy is needed even if nothing can go on with it
	broken bool
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.all || s.copy.Validator != "" {
		if _, err := s.copy.File.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	s.broken = s.broken || err != nil && err != io.EOF
	return n, err
}

// freshness reads what an answer says of the time for which it is good, and how to ask for news.
func freshness(answer *http.Response, now time.Time) store.Remote {
	var r store.Remote
	fresh, stale, said := time.Duration(0), false, false
	for directive := range strings.SplitSeq(strings.Join(answer.Header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store":
			return r
		case "no-cache":
			stale = true
		case "max-age":
			said = true
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 63); err == nil {
				fresh = min(maxAge, time.Duration(min(seconds, uint64(maxAge/time.Second)))*time.Second)
			}
		}
	}
	if at, err := http.ParseTime(answer.Header.Get("Expires")); err == nil && !said { // RFC 9111, 5.3
		sent, err := http.ParseTime(answer.Header.Get("Date"))
		if err != nil {
			sent = now
		}
		fresh = min(maxAge, at.Sub(sent))
	}
	if age, err := strconv.ParseUint(answer.Header.Get("Age"), 10, 31); err == nil {
		fresh -= time.Duration(age) * time.Second
	}
	if !stale && fresh > 0 {
		r.Expires = now.Add(fresh)
	}
	if tag := answer.Header.Get("ETag"); len(tag) <= maxValidator {
		r.ETag = tag
	}
	if changed := answer.Header.Get("Last-Modified"); len(changed) <= maxValidator {
		r.LastModified = changed
	}
	return r
}
