package fetch

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/store"
)

const (
	maxAge       = 365 * 24 * time.Hour // that a server's word holds
	maxValidator = 1024                 // bytes of an ETag or a time
)

// fromURL fetches an ACI from a web server. What it sent before is not sent again as long as it says so (RFC 9111: max-age, else ETag
// or Last-Modified).
func (f *acis) fromURL(ctx context.Context, ref image.Reference, w want) (found, error) {
	known, err := f.store.Remote(ref)
	old, have := found{}, false
	if err == nil {
		old, have = f.have(known.ID)
	}
	if have = have && w.check(old.manifest) == nil && (w.id == "" || w.id == old.id); have && time.Now().Before(known.Expires) {
		return old, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, ref.URL, nil)
	if err != nil {
		return found{}, err
	}
	r.Header.Set("User-Agent", "rkt")
	if have && known.ETag != "" {
		r.Header.Set("If-None-Match", known.ETag)
	}
	if have && known.LastModified != "" {
		r.Header.Set("If-Modified-Since", known.LastModified)
	}
	answer, err := f.client.Do(r)
	if err != nil {
		return found{}, err // names the URL
	}
	defer answer.Body.Close()
	host := answer.Request.URL.Host
	switch answer.StatusCode {
	case http.StatusOK:
		if old, err = f.unpack(ctx, f.reader(ctx, answer.Body, ref.URL, answer.ContentLength), w); err != nil {
			return found{}, err
		}
		known = store.Remote{}
	case http.StatusNotModified:
		if !have {
			return found{}, fmt.Errorf("the server %s says that it is unchanged, which nobody asked", host)
		}
	case http.StatusNotFound, http.StatusGone:
		return found{}, fmt.Errorf("not on the server %s (%s)", host, answer.Status)
	case http.StatusUnauthorized, http.StatusForbidden:
		return found{}, fmt.Errorf("the server %s does not show it to everybody (%s)", host, answer.Status)
	default:
		return found{}, fmt.Errorf("server %s: %s", host, answer.Status)
	}
	now := freshness(answer, time.Now())
	now.ID = old.id
	if answer.StatusCode == http.StatusNotModified && now.ETag == "" && now.LastModified == "" { // as RFC 9110, 15.4.5 allows
		now.ETag, now.LastModified = known.ETag, known.LastModified
	}
	return old, f.store.SetRemote(ctx, ref, now)
}

// freshness reads what an answer says of the time for which it is good, and how to ask for news.
func freshness(answer *http.Response, now time.Time) store.Remote {
	var r store.Remote
	fresh, stale := time.Duration(0), false
	for directive := range strings.SplitSeq(strings.Join(answer.Header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store":
			return r
		case "no-cache":
			stale = true
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 63); err == nil {
				fresh = min(maxAge, time.Duration(min(seconds, uint64(maxAge/time.Second)))*time.Second)
			}
		}
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
