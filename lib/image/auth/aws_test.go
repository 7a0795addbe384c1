package auth

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The examples of AWS ("Authenticating Requests: Using the Authorization Header (AWS Signature
// Version 4)", Examples).
func TestAWSExamples(t *testing.T) {
	key := AWS{ID: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	now := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ address, span, headers, signature string }{
		{"https://examplebucket.s3.amazonaws.com/test.txt", "bytes=0-9", "host;range;x-amz-content-sha256;x-amz-date",
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"https://examplebucket.s3.amazonaws.com/?lifecycle", "", "host;x-amz-content-sha256;x-amz-date",
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", "", "host;x-amz-content-sha256;x-amz-date",
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	} {
		r, err := http.NewRequest(http.MethodGet, c.address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.span != "" {
			r.Header.Set("Range", c.span)
		}
		key.Sign(r, now)
		want := "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=" +
			c.headers + ",Signature=" + c.signature
		if got := r.Header.Get("Authorization"); got != want {
			t.Errorf("%s: %s, want %s", c.address, got, want)
		}
	}
}

// What AWS has no example of is compared with what curl signs (which takes a query in the order
// that it has).
func TestAWSLikeCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("curl is missing: run make deps, or install Debian's package curl")
	}
	asked := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r }))
	defer server.Close()
	for _, path := range []string{"/", "/a/b.aci", "/a~b/c-d_e.aci", "/a.aci?a=2&a-b=3&b=1", "/with%20space.aci",
		"/?x="} {
		out, err := exec.Command("curl", "-sS", "--noproxy", "*", "--aws-sigv4", "aws:amz:eu-west-3:s3", "--user",
			"ID:key", "-H", "X-Amz-Content-Sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			server.URL+path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		curls := <-asked
		now, err := time.Parse("20060102T150405Z", curls.Header.Get("X-Amz-Date"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequest(http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		AWS{ID: "ID", Secret: "key", Region: "eu-west-3"}.Sign(r, now)
		plain := func(s string) string { return strings.ReplaceAll(s, ", ", ",") }
		if got, want := plain(r.Header.Get("Authorization")), plain(curls.Header.Get("Authorization")); got != want {
			t.Errorf("%s: %s, curl has %s", path, got, want)
		}
	}
}

func TestAWSRegion(t *testing.T) {
	for host, want := range map[string]string{
		"s3.amazonaws.com":                            "us-east-1",
		"s3-external-1.amazonaws.com":                 "us-east-1",
		"s3-eu-west-1.amazonaws.com":                  "eu-west-1",
		"bucket.s3-us-gov-west-1.amazonaws.com":       "us-gov-west-1",
		"bucket.s3.eu-central-1.amazonaws.com":        "eu-central-1",
		"bucket.s3.dualstack.eu-west-2.amazonaws.com": "eu-west-2",
		"s3.cn-north-1.amazonaws.com.cn":              "cn-north-1",
		"minio.example.com":                           "us-east-1",
		"evils3.eu-west-9.amazonaws.com":              "us-east-1",
	} {
		if got := (AWS{}).region(host); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
	if got := (AWS{Region: "x"}).region("s3-eu-west-1.amazonaws.com"); got != "x" {
		t.Error(got)
	}
	r, err := http.NewRequest(http.MethodGet, "https://s3.amazonaws.com/x?X-Amz-Signature=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if (AWS{ID: "x", Secret: "y"}).Sign(r, time.Now()); len(r.Header) != 0 {
		t.Errorf("an address that is signed was signed again: %v", r.Header)
	}
}
