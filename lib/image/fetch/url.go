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

// fromURL fetches an ACI from a web server. What it sent before is not sent again as long as it says so (RFC 9111: max-age, else ETag
// or Last-Modified), and a download that was ended goes on where it was, if it is still the same.
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
	keep := false
	defer func() {
		if keep {
			err = errors.Join(err, part.Keep())
		} else {
			err = errors.Join(err, part.Drop())
		}
	}()
	for {
		got, known := f.remembered(ctx, ref, w) // again: the process that we have waited for may have fetched it
		if known != nil && time.Now().Before(known.Expires) {
			return got, nil
		}
		var proof *proof
		if known == nil { // else it was checked when it came
			if proof, err = f.proof(ctx, w.signature); err != nil {
				keep = part.Size > 0
				return found{}, err
			}
		}
		answer, err := f.ask(ctx, ref, part, known)
		if err != nil {
			keep = part.Size > 0
			return found{}, err // names the URL
		}
		defer answer.Body.Close()
		host := answer.Request.URL.Host
		size := answer.ContentLength
		switch {
		case answer.StatusCode == http.StatusNotModified && known != nil:
		case answer.StatusCode == http.StatusPartialContent && part.Size > 0:
			var from int64
			if from, size, err = contentRange(answer); err == nil && from == part.Size {
				break
			}
			fallthrough
		case answer.StatusCode == http.StatusRequestedRangeNotSatisfiable && part.Size > 0: // it has become shorter
			drop(answer)
			if err := part.Restart(""); err != nil {
				return found{}, err
			}
			continue
		case answer.StatusCode == http.StatusOK:
			if err := part.Restart(validator(answer)); err != nil {
				return found{}, err
			}
		case answer.StatusCode == http.StatusNotFound, answer.StatusCode == http.StatusGone:
			return found{}, fmt.Errorf("not on the server %s (bad HTTP status code: %s)", host, answer.Status)
		case answer.StatusCode == http.StatusUnauthorized, answer.StatusCode == http.StatusForbidden:
			login, _, err := f.options.Auth.Server(host)
			if err != nil {
				return found{}, err
			}
			return found{}, fmt.Errorf("%s (bad HTTP status code: %s)", auth.Refused("the server "+host, login, "auth.d"), answer.Status)
		default:
			keep = part.Size > 0 && answer.StatusCode >= http.StatusInternalServerError
			if after := answer.Header.Get("Retry-After"); after != "" {
				return found{}, fmt.Errorf("server %s: bad HTTP status code: %s, to be asked again after %.40q", host, answer.Status, after)
			}
			return found{}, fmt.Errorf("server %s: bad HTTP status code: %s", host, answer.Status)
		}
		now := freshness(answer, time.Now())
		if answer.StatusCode == http.StatusNotModified {
			if now.ETag == "" && now.LastModified == "" { // as RFC 9110, 15.4.5 allows
				now.ETag, now.LastModified = known.ETag, known.LastModified
			}
		} else {
			if proof == nil {
				if proof, err = f.proof(ctx, w.signature); err != nil {
					return found{}, err
				}
			}
			rest := &source{r: answer.Body, copy: part, all: proof != nil}
			v := f.reader(ctx, io.MultiReader(io.NewSectionReader(part.File, 0, part.Size), rest), ref.URL, size)
			proof.of(part.File, v)
			if got, err = f.unpack(ctx, v, w, proof); err != nil {
				keep = part.Validator != "" && (rest.broken || ctx.Err() != nil)
				return found{}, err
			}
		}
		now.ID, now.Manifest, now.Proof = got.id, got.manifest, got.by
		return got, f.store.SetRemote(ctx, ref, now)
	}
}

// remembered gives the image that a URL was last, if the store has it, it was verified if it must be, and it can be what is wanted.
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
func (f *acis) ask(ctx context.Context, ref image.Reference, part *store.Partial, known *store.Remote) (*http.Response, error) {
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

// source keeps what is read of a body, and tells whether it broke off.
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
