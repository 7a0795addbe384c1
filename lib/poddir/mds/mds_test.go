package mds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/poddir"
)

const uuid = "11111111-2222-4333-8444-555555555555"

func newPod(t *testing.T) *poddir.Pod {
	t.Helper()
	p, lock, err := poddir.In(t.TempDir()).Create(uuid)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	return p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKnows(t *testing.T) {
	p := newPod(t)
	for _, token := range []string{"", "x"} {
		if Knows(p, token) {
			t.Errorf("a pod that is not registered knows %q", token)
		}
	}
	write(t, p.Path(poddir.MetadataFile), "http://10.0.0.1:18112/"+uuid+"/token\n")
	for token, want := range map[string]bool{"token": true, "": false, "toke": false, "token\n": false, uuid: false} {
		if Knows(p, token) != want {
			t.Errorf("Knows(%q) = %v", token, !want)
		}
	}
	if got := URL(p); got != "http://10.0.0.1:18112/"+uuid+"/token" {
		t.Errorf("URL = %q", got)
	}
}

// Programs that start at once agree on one key, which nobody else can read, and leave nothing
// besides.
func TestKey(t *testing.T) {
	data := t.TempDir()
	if _, err := Key(data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before it is made: %v", err)
	}
	var all sync.WaitGroup
	keys := make([]string, 8)
	for i := range keys {
		all.Go(func() {
			if err := makeKey(data); err != nil {
				t.Error(err)
			}
			key, err := Key(data)
			if err != nil || len(key) != 64 {
				t.Errorf("%d bytes, %v", len(key), err)
			}
			keys[i] = string(key)
		})
	}
	all.Wait()
	for _, key := range keys {
		if key != keys[0] {
			t.Error("two keys")
		}
	}
	info, err := os.Stat(filepath.Join(data, keyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Join(data, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, bad := range []string{"", "xyz", strings.Repeat("ab", 31)} {
		write(t, filepath.Join(data, keyFile), bad)
		if _, err := Key(data); err == nil {
			t.Errorf("a key of %q", bad)
		}
	}
}

func TestDataDir(t *testing.T) {
	for _, name := range []string{"", "..", "../../etc", "no-uuid"} {
		if got := DataDir(name); got != "" {
			t.Errorf("DataDir(%q) = %q", name, got)
		}
	}
}

// A pod reaches the host at a gateway of its networks, in the answer of any version of CNI, if the
// host has the address.
func TestHostAddress(t *testing.T) {
	for _, c := range []struct{ netns, result, want string }{
		{"host", "", "127.0.0.1"},
		{"/run/netns/x", `{"cniVersion":"1.0.0","ips":[{"address":"127.0.0.9/8","gateway":"127.0.0.1"}]}`, "127.0.0.1"},
		{"/run/netns/x", `{"cniVersion":"0.2.0","ip4":{"ip":"127.0.0.9/8","gateway":"127.0.0.1"}}`, "127.0.0.1"},
		{"/run/netns/x", `{"cniVersion":"1.0.0","ips":[{"address":"198.51.100.9/24","gateway":"198.51.100.1"}]}`, ""},
		{"/run/netns/x", `{"cniVersion":"1.0.0","ips":[{"address":"198.51.100.9/24"}]}`, ""},
		{"/run/netns/x", `{"cniVersion":"1.0.0"}`, ""},
	} {
		p := newPod(t)
		write(t, p.Path("net/netns"), c.netns+"\n")
		if c.result != "" {
			write(t, p.Path("net/eth0/config"), `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"ptp"}]}`)
			write(t, p.Path("net/eth0/result"), c.result)
		}
		got, err := hostAddress(p.Dir())
		if (err == nil) != (c.want != "") || c.want != "" && got.String() != c.want {
			t.Errorf("%s: %v, %v; want %q", c.result, got, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), "of the pod's networks") {
			t.Errorf("%s: %v", c.result, err)
		}
	}
}

// A gateway that is no address is passed over.
func TestGateways(t *testing.T) {
	for result, want := range map[string]string{
		`{"ips":[{"gateway":"10.0.0.1"},{"gateway":"fd00::1"}]}`:       "[10.0.0.1 fd00::1]",
		`{"ip4":{"gateway":"10.0.0.1"},"ip6":{"gateway":"fd00::1"}}`:   "[10.0.0.1 fd00::1]",
		`{"ips":[{"gateway":"no address"},{},{"gateway":"10.0.0.1"}]}`: "[10.0.0.1]",
		`{"ips":"text"}`: "[]",
		``:               "[]",
	} {
		if got := fmt.Sprint(gateways([]byte(result))); got != want {
			t.Errorf("%s: %s, want %s", result, got, want)
		}
	}
}
