package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// TestKilled kills rkt-net at random instants, alone or with all that it started, and then takes
// the network away.
func TestKilled(t *testing.T) {
	isolate(t)
	rounds := 60
	if os.Getenv("RKT_TORTURE") != "" {
		rounds = 400
	}
	several := "default-restricted,guarded,web"
	if variant() { // without iptables, which the plugin firewall needs
		rounds, several = rounds/2, "default-restricted,web"
	}
	for _, test := range []struct {
		name   string
		nets   string
		ports  []string
		rounds int
	}{
		{"default", "default", nil, rounds},
		{"ports", "default", []string{"tcp:8080", "udp:5353"}, rounds / 4},
		{"several", several, []string{"tcp:127.0.0.1:8080"}, rounds / 4},
	} {
		t.Run(test.name, func(t *testing.T) { killRounds(t, test.nets, test.ports, test.rounds) })
	}
}

func killRounds(t *testing.T, nets string, ports []string, rounds int) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "net.d"), 0o755))
	for _, name := range []string{"60-guarded.conflist", "20-web.conf"} {
		must(t, example("/etc/rkt/net.d/"+name, filepath.Join(dir, "net.d", name)))
	}
	prepared := func() string {
		uuid := poddir.NewUUID()
		must(t, prepare(dir, uuid))
		must(t, os.WriteFile(filepath.Join(dir, "pods", uuid, poddir.ManifestFile), manifest(ports...), 0o644))
		return uuid
	}
	args := func(verb, uuid string) []string {
		if verb == "add" {
			return []string{verb, "--net=" + nets, uuid}
		}
		return []string{verb, uuid}
	}
	uuid := prepared()
	took := map[string]time.Duration{}
	for _, verb := range []string{"add", "del"} {
		start := time.Now()
		if out, err := rktNet(t.Context(), dir, args(verb, uuid)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		took[verb] = time.Since(start)
	}
	kills := map[string]int{}
	for i := range rounds {
		verb, target := "add", "rkt-net"
		if i%3 == 2 {
			verb = "del"
		}
		if i%2 == 0 {
			target = "all of it"
		}
		uuid := prepared()
		if verb == "del" {
			if out, err := rktNet(t.Context(), dir, args("add", uuid)...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		after := time.Duration(rand.Int64N(int64(took[verb])))
		cmd := rktNet(t.Context(), dir, args(verb, uuid)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		must(t, cmd.Start())
		time.Sleep(after)
		cmd.Process.Kill()
		for target != "rkt-net" && killSession(cmd.Process.Pid) {
		}
		if err := cmd.Wait(); err != nil {
			kills[verb]++
		}
		if verb == "add" && i%4 == 0 { // run again, it finishes
			if out, err := rktNet(t.Context(), dir, args("add", uuid)...).CombinedOutput(); err != nil &&
				!whole(dir, uuid) {
				t.Fatalf("add again, %s killed after %v: %v\n%s", target, after, err, out)
			}
		}
		if out, err := rktNet(t.Context(), dir, "del", uuid).CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%s of %s killed after %v: del: %v\n%s", target, verb, after, err, out)
		}
		if strings.Contains(nets, "web") { // whose bridge stays
			shell(t, "! ip link show rkt0 >/dev/null 2>&1 || ip link del rkt0")
			shell(t, "RKT_DIR="+dir+" rkt-net del "+uuid) // and with it the guard of the host's loopback
		}
		if left := leftovers(); left != "" {
			t.Fatalf("%s of %s killed after %v: left behind:\n%s", target, verb, after, left)
		}
		if entries, _ := filepath.Glob(filepath.Join(dir, "pods", uuid, "net*")); len(entries) > 0 {
			t.Fatalf("%s of %s killed after %v: %s", target, verb, after, entries)
		}
	}
	// what host-local remembers of its last address, which scripts do not expect
	must(t, os.RemoveAll("/var/lib/cni/networks"))
	t.Logf("%d rounds: %d adds (of %v) and %d dels (of %v) killed before their end; nothing left", rounds, kills["add"],
		took["add"], kills["del"], took["del"])
}

// TestKilledRepair kills rkt-net check --repair at random instants, after all rules have gone: it
// can be run again, and del takes all of it.
func TestKilledRepair(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "net.d"), 0o755))
	must(t, example("/etc/rkt/net.d/60-guarded.conflist", filepath.Join(dir, "net.d", "60-guarded.conflist")))
	uuid := poddir.NewUUID()
	must(t, prepare(dir, uuid))
	must(t, os.WriteFile(filepath.Join(dir, "pods", uuid, poddir.ManifestFile), manifest("tcp:8080", "udp:5353"),
		0o644))
	run := func(args ...string) {
		t.Helper()
		if out, err := rktNet(t.Context(), dir, append(args, uuid)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	kills, nets := 0, "default-restricted,guarded"
	if variant() {
		nets = "default-restricted,default"
	}
	for i := range 12 {
		run("add", "--net="+nets)
		shell(t, "nft flush ruleset")
		cmd := rktNet(t.Context(), dir, "check", "--repair", uuid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		must(t, cmd.Start())
		time.Sleep(time.Duration(rand.Int64N(int64(300 * time.Millisecond))))
		cmd.Process.Kill()
		for i%2 == 0 && killSession(cmd.Process.Pid) {
		}
		if cmd.Wait() != nil {
			kills++
		}
		if i%3 == 0 {
			run("check", "--repair")
		}
		run("del")
		if left := leftovers(); left != "" {
			t.Fatalf("round %d: left behind:\n%s", i, left)
		}
	}
	if kills == 0 {
		t.Error("it was never killed before its end")
	}
	must(t, os.RemoveAll("/var/lib/cni/networks"))
}

func whole(dir, uuid string) bool {
	_, err := os.Stat(filepath.Join(dir, "pods", uuid, poddir.NetnsFile))
	return err == nil
}

// killSession kills what is left of a session and reports whether there was anything: systemd does
// so with a service that does not stop in time.
func killSession(session int) (found bool) {
	processes, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range processes {
		data, _ := os.ReadFile(file)
		name := strings.LastIndex(string(data), ")")
		if name < 0 {
			continue
		}
		fields := strings.Fields(string(data)[name+1:]) // state, parent, group, session: proc_pid_stat(5)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if fields[3] == strconv.Itoa(session) && fields[0] != "Z" {
			unix.Kill(pid, unix.SIGKILL)
			found = true
		}
	}
	return found
}
