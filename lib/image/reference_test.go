package image

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestParseReference(t *testing.T) {
	t.Chdir("/usr")
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct{ in, name, key string }{
		{"docker://redis", "registry-1.docker.io/library/redis:latest",
			"docker/registry-1.docker.io/library/redis:latest"},
		{"docker://redis:7.1\n", "registry-1.docker.io/library/redis:7.1",
			"docker/registry-1.docker.io/library/redis:7.1"},
		{"docker://redis:7.2", "registry-1.docker.io/library/redis:7.2",
			"docker/registry-1.docker.io/library/redis:7.2"},
		{"docker://docker.io/redis", "registry-1.docker.io/library/redis:latest",
			"docker/registry-1.docker.io/library/redis:latest"},
		{"docker://index.docker.io/me/app", "registry-1.docker.io/me/app:latest",
			"docker/registry-1.docker.io/me/app:latest"},
		{"docker://Quay.io/a/b", "quay.io/a/b:latest", "docker/quay.io/a/b:latest"},
		{"docker://localhost/x", "localhost/x:latest", "docker/localhost/x:latest"},
		{"docker://127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1", "docker/127.0.0.1:5000/x:1"},
		{"docker://[::1]:5000/x", "[::1]:5000/x:latest", "docker/[::1]:5000/x:latest"},
		{"docker://redis:7@" + digest, "registry-1.docker.io/library/redis@" + digest,
			"docker/registry-1.docker.io/library/redis@" + digest},
		{"oci:/srv/redis", "oci:/srv/redis", "oci/%2Fsrv%2Fredis:"},
		{"oci:redis:7", "oci:/usr/redis:7", "oci/%2Fusr%2Fredis:7"},
		{"oci:d:docker.io/library/redis:7", "oci:/usr/d:docker.io/library/redis:7",
			"oci/%2Fusr%2Fd:docker.io%2Flibrary%2Fredis:7"},
		{"oci-archive:a.tar", "oci-archive:/usr/a.tar", "oci-archive/%2Fusr%2Fa.tar:"},
		{"oci-archive:/a.tar:7", "oci-archive:/a.tar:7", "oci-archive/%2Fa.tar:7"},
		{"docker-archive:a.tar", "docker-archive:/usr/a.tar", "docker-archive/%2Fusr%2Fa.tar:"},
		{"docker-archive:a.tar:h.x:5000/redis:7", "docker-archive:/usr/a.tar:h.x:5000/redis:7",
			"docker-archive/%2Fusr%2Fa.tar:h.x:5000%2Fredis:7"},
		{"app.aci", "/usr/app.aci", "file/%2Fusr%2Fapp.aci"},
		{"./app", "/usr/app", "file/%2Fusr%2Fapp"},
		{"../app", "/app", "file/%2Fapp"},
		{"/a//b/../c", "/a/c", "file/%2Fa%2Fc"},
		{"file:///a%20b", "/a b", "file/%2Fa%20b"},
		{"https://example.com/a.aci?x=1", "https://example.com/a.aci?x=1", "url/https:%2F%2Fexample.com%2Fa.aci%3Fx=1"},
		{"sha512-ab", "sha512-ab", ""},
		{"docker://h.x/y:" + strings.Repeat("a", 128), "h.x/y:" + strings.Repeat("a", 128), "docker/h.x/y:" +
			strings.Repeat("a", 128)},
		{"coreos.com/etcd", "coreos.com/etcd", "appc/coreos.com/etcd:"},
		{"coreos.com/etcd:v2.2.5", "coreos.com/etcd:v2.2.5", "appc/coreos.com/etcd:v2.2.5"},
		{"coreos.com/etcd:v2,os=linux,arch=amd64", "coreos.com/etcd:v2,arch=amd64,os=linux",
			"appc/coreos.com/etcd:v2,arch=amd64,os=linux"},
		{"coreos.com/etcd,version=v2", "coreos.com/etcd:v2", "appc/coreos.com/etcd:v2"},
		{"etcd:a/../b", "etcd:a/../b", "appc/etcd:a%2F..%2Fb"},
		{"redis", "redis", "appc/redis:"},
	} {
		r, err := ParseReference(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if r.Name() != c.name || r.Key() != c.key {
			t.Errorf("%s: name %q, key %q\nwant    %q, key %q", c.in, r.Name(), r.Key(), c.name, c.key)
		}
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	for _, in := range []string{
		"", "docker://", "docker:///x", "docker://Redis", "docker://a//b", "docker://../x", "docker://host.x/../y",
		"docker://x:", "docker://x:a/b", "docker://x@sha256:12", "docker://x@md5:aa", "docker://a_b.c/x",
		"docker://h:port/x", "docker://x\x00", "docker://x\ny", "docker://" + strings.Repeat("a/", 200) + "a",
		"docker://-h.x/y", "docker://x:" + strings.Repeat("a", 129), "docker://x:.a", "docker://x@sha256:" +
			strings.Repeat("a", 63), "docker://x@sha256:" + strings.Repeat("a", 65),
		"docker://x@sha256:" + strings.Repeat("A", 64), "docker://x@sha512:" + strings.Repeat("a", 64),
		"oci-archive:", "docker-archive::x", "docker-archive:x:", "docker-archive:/", "oci-archive:x:a b",
		"oci:", "oci::tag", "oci:dir:", "oci:dir:a b", "oci:/",
		"file://", "file://x", "file:///", "file:///a%00b", "file:///%zz", "/",
		"ftp://x/y", "http://", "https:///x", "https://u:p@h/x",
		"sha512-", "sha512-a", "sha512-XY", "sha512-" + strings.Repeat("a", 129),
		"Redis", "a b", "a//b", "a/../b", "a/./b", "x:", "x,", "x,a", "x,a=", "x,a=1,a=2", "x:1,version=2",
		// longer with the working directory
		"x,name=y", "-x", "./" + strings.Repeat("a/", 2046), "oci:" + strings.Repeat("a/", 2044),
		strings.Repeat("a", 300) + "/b", strings.Repeat("/a", 3000),
	} {
		if r, err := ParseReference(in); err == nil {
			t.Errorf("%q: taken for %+v", in, r)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q is more than a line", in, err)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	f.Add("./" + strings.Repeat("a/", 2040))
	for _, s := range []string{"docker://h.x:1/a/b:t@sha256:", "oci:a:b", "oci-archive:./a:b:c",
		"docker-archive:a:b/c:d", "file:///a", "./a", "a.aci", "sha512-ab", "a/b:1,c=d", "https://a/../b", "a:..",
		"a,b=" + strings.Repeat("%", 200), "oci:.:..", "docker://a/" + strings.Repeat("b", 250)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		if r.Name() == "" {
			t.Fatalf("%q: no name", s)
		}
		key := r.Key()
		if (key == "") != (r.Kind == ID) {
			t.Fatalf("%q: key %q", s, key)
		}
		if key == "" {
			return
		}
		if key != filepath.Clean(key) || !filepath.IsLocal(key) || !strings.HasPrefix(key, string(r.Kind)+"/") {
			t.Fatalf("%q: key %q", s, key)
		}
		for part := range strings.SplitSeq(key, "/") {
			if len(part) > 255 || part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\x00\n") {
				t.Fatalf("%q: key %q", s, key)
			}
		}
		again, err := ParseReference(string(prefix(r)) + r.Name())
		if err != nil || again.Key() != key {
			t.Fatalf("%q: its name %q is another: %v", s, r.Name(), err)
		}
	})
}

// prefix is what Name leaves out of what a user writes.
func prefix(r Reference) string {
	if r.Kind == Docker {
		return "docker://"
	}
	return ""
}

// TestParseKey has each reference come back of its key, and be typed again.
func TestParseKey(t *testing.T) {
	for _, name := range []string{
		"docker://busybox", "docker://localhost:5000/a/b:1", "docker://h.x/a@sha256:" + strings.Repeat("0", 64),
		"oci:/srv/My App%2F:1", "oci:/x", "oci-archive:/x.tar:a:b", "docker-archive:/x.tar:redis:7", "/srv/a b%20.aci",
		"https://h.x/a.aci?b=%20", "example.com/app", "example.com/app:1.0", "example.com/app:1,os=linux,arch=amd64",
		"example.com/app,os=linux", "a:1+2~3",
	} {
		ref, err := ParseReference(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, ok := ParseKey(ref.Key())
		if !ok || got.Key() != ref.Key() {
			t.Errorf("%s: key %s gives %+v, %v", name, ref.Key(), got, ok)
			continue
		}
		if again, err := ParseReference(got.Typed()); err != nil || again.Key() != ref.Key() {
			t.Errorf("%s: typed as %s it is %+v, %v", name, got.Typed(), again, err)
		}
	}
	long, err := ParseReference("/" + strings.Repeat("n", 300))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{long.Key(), "", "docker", "docker/", "docker/x", "oci/..", "file/x", "id/sha512-00",
		"appc/%", "appc/../x:1", "oci/%0A:", "url/x"} {
		if got, ok := ParseKey(key); ok {
			t.Errorf("%q gives %+v", key, got)
		}
	}
}
