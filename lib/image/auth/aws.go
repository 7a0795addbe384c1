package auth

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// AWS is a key of Amazon Web Services, with which requests to S3 and what speaks like it are
// signed.
type AWS struct {
	ID, Secret string
	Region     string // "" is the one that the host's name has, else us-east-1
}

// awsHost finds the region in the name of a host of S3.
var awsHost = regexp.MustCompile(`(?:^|\.)s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-[0-9]+)` +
	`\.amazonaws\.com(?:\.cn)?$`)

func (a AWS) region(host string) string {
	if a.Region != "" {
		return a.Region
	}
	if m := awsHost.FindStringSubmatch(strings.ToLower(host)); m != nil {
		return m[1]
	}
	return "us-east-1"
}

// Sign signs a request without a body for S3 (Signature Version 4, "Authenticating Requests: Using
// the Authorization Header"). One whose address is signed already is left as it is.
func (a AWS) Sign(r *http.Request, now time.Time) {
	query := r.URL.Query()
	if query.Has("X-Amz-Signature") || query.Has("Signature") {
		return
	}
	moment := now.UTC().Format("20060102T150405Z")
	nothing := fmt.Sprintf("%x", sha256.Sum256(nil))
	r.Header.Set("X-Amz-Date", moment)
	r.Header.Set("X-Amz-Content-Sha256", nothing)
	host := r.URL.Host
	if r.Host != "" {
		host = r.Host
	}
	headers := map[string]string{"host": host, "x-amz-content-sha256": nothing, "x-amz-date": moment}
	if span := r.Header.Get("Range"); span != "" {
		headers["range"] = span
	}
	var names []string
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	canonical := r.Method + "\n" + awsPath(r.URL) + "\n" + awsQuery(query) + "\n"
	for _, name := range names {
		canonical += name + ":" + strings.TrimSpace(headers[name]) + "\n"
	}
	signed := strings.Join(names, ";")
	canonical += "\n" + signed + "\n" + nothing

	scope := moment[:8] + "/" + a.region(r.URL.Hostname()) + "/s3/aws4_request"
	text := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x", moment, scope, sha256.Sum256([]byte(canonical)))
	key := []byte("AWS4" + a.Secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s,Signature=%x", a.ID,
		scope, signed, mac(key, text)))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func awsPath(u *url.URL) string {
	parts := strings.Split(u.EscapedPath(), "/")
	for i, part := range parts {
		if plain, err := url.PathUnescape(part); err == nil {
			parts[i] = awsEscape(plain)
		}
	}
	return cmp.Or(strings.Join(parts, "/"), "/")
}

// awsQuery is sorted by the names and then the values, as they are escaped.
func awsQuery(query url.Values) string {
	var all []string
	for name, values := range query {
		for _, value := range values {
			all = append(all, awsEscape(name)+"\x00"+awsEscape(value)) // NUL is in neither, and sorts before all
		}
	}
	slices.Sort(all)
	return strings.ReplaceAll(strings.Join(all, "&"), "\x00", "=")
}

// awsEscape escapes all but the unreserved characters of RFC 3986.
func awsEscape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
