package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// TestMany attaches pods all at once: each gets an address of its own, and all are given back.
func TestMany(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	const n = 50
	uuids := make([]string, n)
	for i := range uuids {
		uuids[i] = poddir.NewUUID()
		must(t, prepare(dir, uuids[i]))
	}
	each := func(verb string) {
		t.Helper()
		errs := make(chan string)
		for _, uuid := range uuids {
			go func() {
				out, err := rktNet(t.Context(), dir, verb, uuid).CombinedOutput()
				if err != nil || len(out) > 0 {
					out = append(out, "error"...)
				}
				errs <- string(out)
			}()
		}
		for range uuids {
			if out := <-errs; out != "" {
				t.Error(out)
			}
		}
	}
	each("add")
	taken := map[string]bool{}
	for _, uuid := range uuids {
		networks, err := network.Read(filepath.Join(dir, "pods", uuid))
		if err != nil || len(networks) != 1 || len(networks[0].IPs) != 1 {
			t.Fatalf("%s: %v, %v", uuid, networks, err)
		}
		taken[networks[0].IPs[0].String()] = true
	}
	if len(taken) != n {
		t.Errorf("%d pods have %d addresses", n, len(taken))
	}
	each("del")
	if left := leftovers(); left != "" {
		t.Error(left)
	}
}

// TestSmallSubnet: of eight pods that want an address of a /29 at once, the five that it has room
// for get one, and the others are told so and leave nothing.
func TestSmallSubnet(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "net.d"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "net.d", "small.conf"),
		[]byte(`{"name":"small","type":"ptp","ipMasq":true,"ipam":{"type":"host-local","subnet":"10.40.0.0/29"}}`),
		0o644))
	type answer struct{ uuid, out string }
	answers := make(chan answer)
	for range 8 {
		uuid := poddir.NewUUID()
		must(t, prepare(dir, uuid))
		go func() {
			out, _ := rktNet(t.Context(), dir, "add", "--net=small", uuid).CombinedOutput()
			answers <- answer{uuid, string(out)}
		}()
	}
	var attached []string
	for range 8 {
		a := <-answers
		if a.out == "" {
			attached = append(attached, a.uuid)
			continue
		}
		if !strings.HasPrefix(a.out, "rkt-net: network small (") ||
			!strings.Contains(a.out, "no IP addresses available in range set: 10.40.0.1-10.40.0.6") ||
			strings.Count(a.out, "\n") != 1 {
			t.Errorf("said %q", a.out)
		}
		if _, err := os.Stat(filepath.Join(dir, "pods", a.uuid, "net")); err == nil {
			t.Errorf("%s: net/ is left", a.uuid)
		}
	}
	if len(attached) != 5 {
		t.Errorf("%d pods have an address", len(attached))
	}
	for _, uuid := range attached {
		if out, err := rktNet(t.Context(), dir, "del", uuid).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if left := leftovers(); left != "" {
		t.Error(left)
	}
}

// TestHostLocalLock: host-local takes the lock under which empty reservations are swept
// (lib/network/cni), or that would be a race.
func TestHostLocalLock(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "locktest"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "locktest", "lock"), nil, 0o644))
	lock, err := durable.Lock(filepath.Join(dir, "locktest", "lock"), 0)
	must(t, err)
	cmd := exec.Command("/usr/lib/cni/host-local")
	cmd.Env = []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=x", "CNI_NETNS=/x", "CNI_IFNAME=eth0",
		"CNI_PATH=/usr/lib/cni"}
	cmd.Stdin = strings.NewReader(`{"cniVersion":"0.4.0","name":"locktest","ipam":{"type":"host-local",` +
		`"subnet":"10.0.0.0/24","dataDir":"` + dir + `"}}`)
	must(t, cmd.Start())
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		t.Fatalf("host-local did not wait for the lock (%v)", err)
	case <-time.After(300 * time.Millisecond):
	}
	lock.Close()
	must(t, <-done)
}
