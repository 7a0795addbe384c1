package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"rkt-fetch":   main,
		"mklayout":    tool(mklayout),
		"mkaci":       tool(mkaci),
		"webserver":   tool(webserver),
		"spoil":       tool(spoil),
		"push":        tool(push),
		"mkcerts":     tool(mkcerts),
		"proxy":       tool(proxy),
		"webproxy":    tool(webproxy),
		"await":       tool(await),
		"attach":      tool(attach),
		"pushindex":   tool(pushindex),
		"memregistry": tool(memregistry),
		"mkbomb":      tool(mkbomb),
		"wrap":        tool(wrap),
		"peak":        tool(peak),
	})
}

// TestScripts runs the sessions in testdata. $REGISTRY and $PROXY are addresses on which nobody
// listens yet, $RKT_DIR is a store of the session's own.
func TestScripts(t *testing.T) {
	for program, pkg := range map[string]string{"docker-registry": "docker-registry", "unshare": "util-linux",
		"ip": "iproute2", "jq": "jq", "skopeo": "skopeo", "podman": "podman", "xz": "xz-utils", "gpg": "gpg",
		"zstd": "zstd", "bzip2": "bzip2"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: install the Debian package %s", program, pkg)
		}
	}
	programs := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", programs, "../rkt-trust", "../rkt-image",
		"../test/fault").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		ContinueOnError:     true,
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// example NAME FILE [OLD NEW]... takes a file from docs/registries.md, where a line
			// that is its name introduces it.
			"example": func(ts *testscript.TestScript, _ bool, args []string) {
				page, err := os.ReadFile("../docs/registries.md")
				ts.Check(err)
				_, after, found := strings.Cut(string(page), "\n`"+args[0]+"`:\n\n")
				if !found {
					ts.Fatalf("docs/registries.md has no %s", args[0])
				}
				block, _, _ := strings.Cut(after, "\n\n")
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.NewReplacer(args[2:]...).Replace(block)),
					0o600))
			},
		},
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"REGISTRY", "PROXY"} {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				defer l.Close()
				e.Setenv(name, l.Addr().String())
			}
			e.Setenv("RKT_DIR", e.WorkDir+"/rkt")
			e.Setenv("RKT_LOCAL_CONFIG", e.WorkDir+"/etc")
			e.Setenv("RKT_SYSTEM_CONFIG", e.WorkDir+"/usr")
			e.Setenv("PATH", programs+":"+e.Getenv("PATH"))
			home, err := os.MkdirTemp("", "gnupg") // gpg's sockets have short names
			if err != nil {
				return err
			}
			e.Setenv("GNUPGHOME", home)
			e.Defer(func() {
				_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
				os.RemoveAll(home)
			})
			return nil
		},
	})
}

// TestKilled kills fetches at random instants. Whatever is in the store then is whole, and the next
// fetch makes it right.
func TestKilled(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the store needs root")
	}
	work := t.TempDir()
	layout := work + "/image"
	layers := []string{}
	for i := range 6 {
		entries := fmt.Sprintf("f%d:%d", i, 1_000_000)
		for j := range 40 {
			entries += fmt.Sprintf(",d%d/%d=text", j%7, j)
		}
		layers = append(layers, entries)
	}
	if err := mklayout(append([]string{layout}, layers...)); err != nil {
		t.Fatal(err)
	}
	killAll(t, work, nil, "oci:"+layout)
}

// TestKilledURL does the same with an ACI from a web server of which a whitelist hides something,
// and that lies on another.
func TestKilledURL(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the store needs root")
	}
	work := t.TempDir()
	base, app := []string{`example.com/base,"labels":[{"name":"version","value":"1"}]:`},
		[]string{"rootfs/noise:4000000"}
	for i := range 300 {
		base = append(base, fmt.Sprintf("rootfs/d%d/%d=text", i%7, i))
		app = append(app, fmt.Sprintf("rootfs/e%d/%d=text", i%7, i))
	}
	head := `example.com/app,"dependencies":[{"imageName":"example.com/base","labels":[{"name":"version",` +
		`"value":"1"}]}],"pathWhitelist":["/noise","/d1/1","/e2/2"]:`
	if err := errors.Join(mkaci(append([]string{work + "/base.aci"}, base...)),
		mkaci(append([]string{work + "/app.aci", head}, app...))); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(work + "/app.aci")
	if err != nil {
		t.Fatal(err)
	}
	resumed := atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			resumed.Add(1)
		}
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer server.Close()
	killAll(t, work, []string{work + "/base.aci"}, server.URL+"/app.aci")
	if resumed.Load() == 0 {
		t.Error("no fetch went on with the download of a killed one")
	}
}

// killAll kills fetches of an image into new stores, which have some images already, and compares
// the stores with one without kills.
func killAll(t *testing.T, work string, before []string, name string) {
	t.Helper()
	fill := func(dir string) {
		for _, name := range before {
			rktFetch(t, dir, name)
		}
	}
	clean := work + "/clean"
	fill(clean)
	begin := time.Now()
	id := strings.TrimSpace(rktFetch(t, clean, name))
	took := time.Since(begin)
	want := tree(t, clean)
	partly := 0
	for i := range 30 {
		dir := fmt.Sprintf("%s/%d", work, i)
		fill(dir)
		for range 1 + i%3 { // some are killed more than once
			cmd := exec.Command("rkt-fetch", "--dir="+dir, "--insecure-options=image", "--full",
				"--pull-policy=new", name)
			var out bytes.Buffer
			cmd.Stdout = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.Int64N(int64(took))))
			cmd.Process.Kill()
			cmd.Wait()
			s, err := store.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Image(id)
			if err != nil && !errors.Is(err, store.ErrNotFound) || err != nil && out.Len() > 0 {
				t.Errorf("after the kill: %v, printed %q", err, out.String())
			}
			if entries, _ := os.ReadDir(dir + "/cas/tmp"); len(entries) > 0 {
				partly++
			}
		}
		if again := strings.TrimSpace(rktFetch(t, dir, name)); again != id {
			t.Errorf("ID %s, want %s", again, id)
		}
		if got := tree(t, dir); got != want {
			for _, line := range strings.Split(got, "\n") {
				if !strings.Contains(want, line) {
					t.Errorf("in the store, and not without kills: %s", line)
				}
			}
			t.Errorf("another store than without kills: %d bytes of list, not %d", len(got), len(want))
		}
		os.RemoveAll(dir)
	}
	if partly == 0 {
		t.Error("no kill came in the middle of the work")
	}
}

func rktFetch(t *testing.T, dir, name string) string {
	t.Helper()
	out, err := exec.Command("rkt-fetch", "--dir="+dir, "--insecure-options=image", "--full", "--quiet",
		"--pull-policy=new", name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// tree writes down what is in a store, except for the times of what nothing in an image has a time
// for, and for the notes on files, which are not made of a file that is a moment old.
func tree(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `cd "$1/cas" && rm -rf remote/file && find . -printf '%p %y %m %U:%G\n' | `+
		`sort && find . -type f -exec sha256sum {} + | sort`, "-", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
