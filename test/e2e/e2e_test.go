// Package e2e runs whole pods under a real systemd. Each file in testdata is a session at a
// terminal of a disposable host that has the toolkit in /usr/bin and the images of test/mkimage in
// /images.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/testkit"
	"github.com/rogpeppe/go-internal/testscript"
)

// insideVariable names the session that the program is to run, once it is inside a host.
const insideVariable = "RKT_E2E_SESSION"

func TestMain(m *testing.M) {
	testkit.Main()
	status := m.Run()
	os.RemoveAll(installation.dir)
	os.Exit(status)
}

// installation is what installed makes, once for all tests.
var installation struct {
	sync.Once
	dir string
}

// TestSessions boots a host for each session.
func TestSessions(t *testing.T) {
	testkit.Require(t, "systemd-nspawn", "machinectl", "dbus-daemon", "iptables", "docker-registry", "redis-server",
		"redis-cli", "busybox", "pgrep", "dnsmasq", "socat", "etcd")
	overlay := installed(t)
	sessions, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(sessions) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	for _, session := range sessions {
		t.Run(strings.TrimSuffix(filepath.Base(session), ".txtar"), func(t *testing.T) {
			besideOthers(t, session)
			play(t, "", []string{overlay}, session)
		})
	}
}

// hostUsers are sessions that are played a second time, in a host whose pods have the host's users
// unless they say otherwise. With RKT_TORTURE=1 all are, except those of ownUsers, which are about
// the default.
var (
	hostUsers = []string{"attach", "enter", "guide", "named-volumes", "notify", "stage2"}
	ownUsers  = []string{"isolation-page", "systemd-page", "users"}
)

// TestSessionsHostUsers plays sessions with --private-users=no in rkt.conf.
func TestSessionsHostUsers(t *testing.T) {
	names := hostUsers
	if os.Getenv("RKT_TORTURE") == "1" {
		sessions, err := filepath.Glob("testdata/*.txtar")
		if err != nil {
			t.Fatal(err)
		}
		names = nil
		for _, session := range sessions {
			if name := strings.TrimSuffix(filepath.Base(session), ".txtar"); !slices.Contains(ownUsers, name) {
				names = append(names, name)
			}
		}
	}
	playConfigured(t, "private-users no", names)
}

// TestSessionsToolkit plays sessions in hosts where all programs are one file (make toolkit).
func TestSessionsToolkit(t *testing.T) {
	overlay, toolkit := installed(t), t.TempDir()
	if err := os.Chmod(toolkit, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "make", "-C", "../..", "install", "TOOLKIT=1", "DESTDIR="+toolkit, "PREFIX=/usr")
	for _, name := range []string{"attach", "enter", "everyday", "first-try", "guide"} {
		t.Run(name, func(t *testing.T) {
			session := "testdata/" + name + ".txtar"
			besideOthers(t, session)
			play(t, "", []string{overlay, toolkit}, session)
		})
	}
}

// playConfigured plays sessions in hosts with a line in rkt.conf.
func playConfigured(t *testing.T, line string, names []string) {
	t.Helper()
	overlay, conf := installed(t), configured(t, line)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			session := "testdata/" + name + ".txtar"
			besideOthers(t, session)
			play(t, "", []string{overlay, conf}, session)
		})
	}
}

// configured is a directory with a line in rkt.conf.
func configured(t *testing.T, line string) string {
	t.Helper()
	conf := t.TempDir()
	if err := errors.Join(os.Chmod(conf, 0o755), os.MkdirAll(conf+"/etc/rkt", 0o755),
		os.WriteFile(conf+"/etc/rkt/rkt.conf", []byte(line+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return conf
}

// besideOthers has a session run beside others, unless it begins with "# Alone": it takes so much
// of what the machine has a limited number of.
func besideOthers(t *testing.T, session string) {
	t.Helper()
	text, err := os.ReadFile(session)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "# Alone") {
		t.Parallel()
	}
}

// installed is a directory with what "make install" installs, mkimage, and in /images the images
// and the documentation. It is made once, and nobody writes to it.
func installed(t *testing.T) string {
	t.Helper()
	installation.Do(func() { install(t) })
	if installation.dir == "" { // the test that tried has failed
		t.Fatal("what is to be tested could not be installed")
	}
	return installation.dir
}

// journalctl is that of the sessions' hosts: it waits until journald has read what it was sent
// before, which it does when it has the time.
const journalctl = "#!/bin/sh\n/usr/bin/journalctl --sync 2>/dev/null\nexec /usr/bin/journalctl \"$@\"\n"

func install(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rkt-e2e-installed-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "make", "-C", "../..", "install", "DESTDIR="+dir, "PREFIX=/usr")
	command(t, "go", "build", "-o", filepath.Join(dir, "usr/bin")+"/", "../mkimage", "../fault", "../schemacheck")
	local := filepath.Join(dir, "usr/local/bin")
	if err := os.MkdirAll(local, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(local, "journalctl"), []byte(journalctl), 0o755); err != nil {
		t.Fatal(err)
	}
	mkimage, images := filepath.Join(dir, "usr/bin/mkimage"), filepath.Join(dir, "images")
	if err := os.MkdirAll(images, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "cp", "-r", "../../README.md", "../../docs",
		"testdata/data-2-1.tar.gz", "testdata/data-2-2.tar.gz", "testdata/data-2-3.tar.gz", images)
	command(t, mkimage, "busybox", images+"/busybox")
	command(t, mkimage, "redis", images+"/redis")
	command(t, mkimage, "etcd", images+"/etcd")
	command(t, mkimage, "aci", images+"/busybox", images+"/busybox.aci")
	command(t, mkimage, "aci", images+"/etcd", images+"/etcd.aci", "coreos.com/etcd:v2.2.5")
	testapp := filepath.Join(images, "testapp")
	command(t, "env", "CGO_ENABLED=0", "go", "build", "-o", testapp, "../testapp")
	command(t, mkimage, "program", images+"/app", testapp, "serve", "80/tcp", "81/tcp", "53/udp",
		"appc.io/executor/socket-activated=80-tcp,81-tcp,53-udp,control")
	command(t, mkimage, "program", images+"/notify", testapp, "appc.io/executor/supports-systemd-notify=true")
	command(t, mkimage, "program", images+"/web", testapp, "web")
	command(t, mkimage, "aci", images+"/web", images+"/myapp.aci", "myapp.com/myapp-1.3.4", "http=80/tcp")
	command(t, mkimage, "aci", images+"/app", images+"/my-socket-activated-app.aci",
		"myapp.com/my-socket-activated-app:v1.0", "80-tcp=80/tcp/activated")
	loopback := filepath.Join(dir, "loopback")
	command(t, "env", "CGO_ENABLED=0", "GOARCH=386", "go", "build", "-o", loopback, "../loopback")
	command(t, mkimage, "program", images+"/loopback32", loopback)
	// appc's own validator of what runs apps, and the manifests of its two images.
	command(t, "sh", "-c",
		"mkdir $1/ace && cp $(go list -m -f '{{.Dir}}' github.com/appc/spec)/ace/*.json.in $1/ace && "+
			"CGO_ENABLED=0 go build -o $1/ace/ace-validator github.com/appc/spec/ace", "sh", images)
	// OCI's test of what a runtime makes of a configuration, in a module of its own: what it needs
	// is of other versions.
	command(t, "sh", "-c", "cd ../runtimetest && CGO_ENABLED=0 go build -o $1/runtimetest tool", "sh", images)
	installation.dir = dir
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := limited(t, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// limited prepares a command that is killed after a time that none takes, so that the test that
// runs it says what hung.
func limited(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	limit := 15 * time.Minute
	if os.Getenv("RKT_TORTURE") != "" {
		limit = 3 * time.Hour
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// play runs a session in a host of its own and looks at what it left. The host has the files of the
// tree root, or the machine's own.
func play(t *testing.T, root string, overlays []string, session string) {
	t.Helper()
	ctx := context.Background()
	session, err := filepath.Abs(session)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// not in a tmpfs: an overlay's upper directory may not be on every one
	dir, err := os.MkdirTemp("/var/tmp", "rkt-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	text, err := os.ReadFile(session)
	if err != nil {
		t.Fatal(err)
	}
	binds := []string{filepath.Dir(session), filepath.Dir(self)}
	if pictures := os.Getenv("RKT_PICTURES"); pictures != "" {
		binds = append(binds, pictures)
	}
	h, err := testkit.Boot(ctx, testkit.Config{
		Dir: dir, Root: root, Overlay: overlays, Binds: binds,
		Bare: strings.HasPrefix(string(text), "# Without systemd"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	inside(t, h, self, session, releaseVariable+"="+filepath.Base(root))
	for _, leak := range leaks(t, h) {
		t.Errorf("left behind: %s", leak)
	}
}

// inside runs a session in a host, with further environment variables; self is this program.
func inside(t *testing.T, h *testkit.Host, self, session string, env ...string) {
	t.Helper()
	limit := cmp.Or(os.Getenv("SESSION_TIMEOUT"), "10m")
	longest, err := time.ParseDuration(limit)
	if err != nil {
		t.Fatal(err)
	}
	// the session ends itself after its limit, unless it can't
	ctx, cancel := context.WithTimeout(t.Context(), longest+time.Minute)
	defer cancel()
	cmd := h.Command(ctx, self, "-test.run=^TestInside$", "-test.v", "-test.timeout="+limit)
	cmd.Env = append(append(cmd.Env, insideVariable+"="+session), env...)
	for _, name := range []string{"FUZZ_ROUNDS", "FUZZ_SEED", "FAULTS", "ROUNDS", "PODS", "RKT_PICTURES"} {
		// of the long runs, and of make pictures
		cmd.Env = append(cmd.Env, name+"="+os.Getenv(name))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		journal, _ := h.Command(ctx, "journalctl", "--no-pager", "--lines=60",
			"--output=short-monotonic").CombinedOutput()
		t.Fatalf("%v\n%s\nthe end of the host's journal:\n%s", err, out, journal)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
}

// made filters the names of files: it passes on those that are not there for a mount of the host's.
// A session's host has the checkout and the test's program mounted where they are, which may be
// below /tmp.
const made = ` | while read -r f; do grep -qF -e " $f " -e " $f/" /proc/self/mountinfo || echo "$f"; done`

// ofPods leaves the chains out that portmap and firewall make once for all pods and never remove,
// and no rule of a pod.
const ofPods = `sed -E '/CNI-(HOSTPORT|FORWARD|ADMIN)|CNI portfwd/{/CNI-DN-|([0-9]+\.){3}/!d}'`

// leakScripts print what is left behind, by what it is.
var leakScripts = map[string]string{
	"a machine": "machinectl list --no-legend",
	"a process": "pgrep --list-full 'nspawn|^ld-linux|redis|rkt' | grep -v docker-registry",
	"a mount":   "grep -E ' (/var/lib/rkt/|/run/rkt/|/run/systemd/nspawn)' /proc/self/mountinfo",
	"systemd-nspawn's": "find /run/systemd/nspawn /tmp -xdev -mindepth 1 '(' -name 'rkt-*' -o -name 'inode-*' -o " +
		"-name 'nspawn-*' ')'" + made,
	"a pod":             "find /var/lib/rkt/pods /var/lib/rkt/tmp /var/lib/rkt/garbage -mindepth 1 -maxdepth 1",
	"a half made image": "find /var/lib/rkt/cas/tmp -mindepth 1",
	"a namespace pin":   "find /run/rkt/netns /run/rkt/dirs -mindepth 1",
	"an interface":      "ls /sys/class/net | grep -vx lo",
	"a rule": "{ iptables-save; iptables-legacy-save; nft list ruleset; } | " + ofPods +
		" | grep -E 'CNI-|172\\.16\\.28|rkt_loopback'",
	"an address":       "find /var/lib/cni -type f | grep -vE '/(lock|last_reserved_ip\\.[0-9]+)$'",
	"a journal's link": "find /var/log/journal -type l",
	"a file in /tmp":   "find /tmp -xdev -mindepth 1 -name '*rkt*' -not -path '/tmp/systemd-private-*'" + made,
	// Those that systemd-nspawn makes below its unit go with the unit: with the one that has the
	// session in a virtual machine, at its end.
	"a cgroup": "find /sys/fs/cgroup -mindepth 1 -type d '(' -name 'rkt-*' -o -name payload -o -name " +
		"supervisor ')' -not -path '*/vm-command.service/*'",
}

// leaks lists what a session left, counted from the system and not from the toolkit's own records.
// What a unit that has just been stopped is still at is given the time to end.
func leaks(t *testing.T, h *testkit.Host) (found []string) {
	t.Helper()
	for end := time.Now().Add(waitLimit(10)); ; time.Sleep(200 * time.Millisecond) {
		if found = leftNow(t.Context(), h); len(found) == 0 || time.Now().After(end) {
			return found
		}
	}
}

func leftNow(ctx context.Context, h *testkit.Host) []string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var found []string
	for what, script := range leakScripts {
		out, _ := h.Command(ctx, "sh", "-c", "{ "+script+"; } 2>/dev/null").Output()
		if ctx.Err() != nil {
			return append(found, "a host in which nothing can be counted: hung at "+script)
		}
		if len(bytes.TrimSpace(out)) > 0 {
			found = append(found, fmt.Sprintf("%s: %s", what, out))
		}
	}
	return found
}

// TestInside runs one session in the host that it was started in.
func TestInside(t *testing.T) {
	session := os.Getenv(insideVariable)
	if session == "" {
		return // TestSessions starts it
	}
	testscript.Run(t, testscript.Params{
		Files:           []string{session},
		ContinueOnError: true, // one failure does not hide the rest
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"registry": registry,
			"waitfor": waitfor, "world": world, "page": page, "example": example, "cases": cases, "fuzz": fuzz,
			"directory": directory()},
		Condition: condition,
		Setup: func(env *testscript.Env) error {
			env.Setenv("LANG", "C.UTF-8")
			// of the long runs, and the upgrades
			for _, name := range []string{"FAULTS", "ROUNDS", "PODS", upgradeVariable, formerVariable} {
				env.Setenv(name, os.Getenv(name))
			}
			return nil
		},
	})
}

// condition is what a line of a session may begin with: controllers, where those of cgroup v2 are
// the host's, virtual, where the host is a virtual machine, systemd:N, where the host's systemd is
// of version N or later, and nftables, where its CNI plugins know these.
func condition(name string) (bool, error) {
	if name == "virtual" {
		return os.Getenv(slownessVariable) != "", nil
	}
	if name == "nftables" {
		cmd := exec.Command("/usr/lib/cni/ptp")
		cmd.Env = []string{"CNI_COMMAND=VERSION"}
		cmd.Stdin = strings.NewReader(`{"cniVersion":"1.0.0"}`)
		out, err := cmd.Output()
		return strings.Contains(string(out), `"1.1.0"`), err
	}
	if flavor, ok := strings.CutPrefix(name, "flavor:"); ok { // of pods for which no flag says one
		conf, err := os.ReadFile("/etc/rkt/rkt.conf")
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return (flavor == "init") == strings.Contains(string(conf), "stage1-name init"), err
	}
	if least, ok := strings.CutPrefix(name, "systemd:"); ok {
		want, err := strconv.Atoi(least)
		if err != nil {
			return false, err
		}
		out, err := exec.Command("systemctl", "--version").Output() // systemd 257 (257.9-1~deb13u1)
		if err != nil {
			return false, err
		}
		version, err := strconv.Atoi(strings.Fields(string(out))[1])
		return version >= want, err
	}
	text, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	return name == "controllers" && strings.Contains(string(text), "memory"), err
}

// registry starts a registry on 127.0.0.1:5000.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	config := ts.MkAbs("registry.yml")
	text := "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " + ts.MkAbs("registry") +
		"}}\nhttp: {addr: '127.0.0.1:5000'}\n"
	ts.Check(os.WriteFile(config, []byte(text), 0o600))
	ts.Check(ts.Exec("systemd-run", "--quiet", "--unit=registry", "docker-registry", "serve", config))
	awaitPort(ts, "127.0.0.1:5000")
}

// waitLimit is a limit of time, in seconds, as the machine needs it.
func waitLimit(seconds int) time.Duration {
	limit := time.Duration(seconds) * time.Second
	if n, err := strconv.Atoi(os.Getenv(slownessVariable)); err == nil {
		limit *= time.Duration(n)
	}
	return limit
}

// waitedInVain is set after a waitfor that has failed: what comes later in the session most likely
// fails, too.
const waitedInVain = "WAITED_IN_VAIN"

// waitfor runs a command until it succeeds: waitfor [-t SECONDS] COMMAND…
func waitfor(ts *testscript.TestScript, neg bool, args []string) {
	limit := 60
	if len(args) > 2 && args[0] == "-t" {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		limit, args = n, args[2:]
	}
	if neg || len(args) == 0 {
		ts.Fatalf("usage: waitfor [-t SECONDS] COMMAND [ARG …]")
	}
	if ts.Getenv(waitedInVain) != "" {
		limit = min(limit, 5)
	}
	for end := time.Now().Add(waitLimit(limit)); ts.Exec(args[0],
		args[1:]...) != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Setenv(waitedInVain, "1")
			ts.Fatalf("waited %s in vain for: %s", waitLimit(limit), strings.Join(args, " "))
		}
	}
}
