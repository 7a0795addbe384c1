package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/test/frame"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// commands are what scripts call besides the programs of the system.
var commands = map[string]func(){
	"rkt-net": main,
	"listen":  listen,
	"serve":   serve,
	"dial":    dial,
	"frame":   sendFrame,
	"guard":   guard,
}

// TestMain runs everything in a network and a mount namespace of its own: neither the machine's
// addresses and rules nor its /run and /var/lib/cni are touched.
func TestMain(m *testing.M) {
	if _, isCommand := commands[filepath.Base(os.Args[0])]; !isCommand && os.Getenv("RKT_NET_TEST") == "" {
		os.Exit(private())
	}
	testscript.Main(m, commands)
}

func private() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "RKT_NET_TEST=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "a namespace for the tests (they need root):", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// isolate makes what TestMain's namespaces lack, once.
func isolate(t *testing.T) {
	t.Helper()
	if os.Getenv("RKT_NET_TEST") == "ready" {
		return
	}
	for program, pkg := range map[string]string{"ip": "iproute2", "nsenter": "util-linux", "iptables": "iptables",
		"nft": "nftables", "jq": "jq", "/usr/lib/cni/ptp": "containernetworking-plugins"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: install the Debian package %s", program, pkg)
		}
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"))
	must(t, os.MkdirAll("/var/lib/cni", 0o755))
	must(t, unix.Mount("tmpfs", "/var/lib/cni", "tmpfs", 0, "mode=755"))
	if plugins := os.Getenv(pluginsVariable); plugins != "" {
		must(t, unix.Mount(plugins, "/usr/lib/cni", "", unix.MS_BIND, ""))
	}
	must(t, firewall(os.Getenv(firewallVariable)))
	shell(t, `ip link set lo up
		ip netns add outside
		ip link add out0 type veth peer name eth0 netns outside
		ip addr add 192.0.2.1/24 dev out0; ip link set out0 up
		ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside link set eth0 up; ip -n outside link set lo up`)
	os.Setenv("RKT_NET_TEST", "ready")
}

// pluginsVariable names a directory of plugins to test with instead of Debian's; firewallVariable
// says by what the host has its rules made, see firewall.
const pluginsVariable, firewallVariable = "RKT_NET_TEST_PLUGINS", "RKT_NET_TEST_FIREWALL"

// The programs that iptables and the like are symbolic links to.
const iptablesNFT, iptablesLegacy = "/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi"

// firewall makes the host one with iptables-nft (""), with iptables-legacy under the name of
// iptables ("legacy"), or without iptables ("nft").
func firewall(kind string) error {
	switch kind {
	case "legacy":
		return unix.Mount(iptablesLegacy, iptablesNFT, "", unix.MS_BIND, "")
	case "nft":
		return hide("iptables")
	}
	return nil
}

// hide takes a program from the host, "iptables" or "nft"; show gives it back.
func hide(program string) error {
	for _, file := range filesOf(program) {
		if err := unix.Mount("/dev/null", file, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func show(program string) error {
	for _, file := range filesOf(program) {
		if err := unix.Unmount(file, 0); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func filesOf(program string) []string {
	if program == "nft" {
		return []string{"/usr/sbin/nft"}
	}
	return []string{iptablesNFT, iptablesLegacy}
}

// TestUpstream runs the scripts with the plugins that "make cni" builds.
func TestUpstream(t *testing.T) {
	if variant() {
		return
	}
	again(t, "^(TestScripts|TestMany)$", "TestScripts/types", pluginsVariable+"="+upstream(t))
}

// TestFirewalls runs scripts with each version of the plugins on each kind of host that TestScripts
// and TestUpstream do not have, and kills rkt-net on one without iptables.
func TestFirewalls(t *testing.T) {
	if variant() {
		return
	}
	made, old := upstream(t), t.TempDir()
	shell(t, "cp "+made+"/* "+old+"; CGO_ENABLED=0 GOBIN="+old+" go -C ../cni/before-1.9 install tool")
	for _, test := range []struct {
		plugins, directory string
		kinds              []string
		scripts            string
	}{
		{"12", "/usr/lib/cni", []string{"legacy", "nft"}, "firewalls"},
		{"13", "../bin/_releases/trixie/usr/lib/cni", []string{""}, "firewalls"},
		{"forky", "../bin/_releases/forky/usr/lib/cni", []string{"", "legacy", "nft"}, "firewalls|dhcp"},
		{"make cni", made, []string{"legacy", "nft"}, "firewalls"},
		{"before 1.9", old, []string{"nft"}, "firewalls"},
	} {
		directory, err := filepath.Abs(test.directory)
		must(t, err)
		if _, err := os.Stat(directory); err != nil {
			t.Fatalf("%v (make releases)", err)
		}
		for _, kind := range test.kinds {
			t.Run(test.plugins+"/"+kind, func(t *testing.T) {
				t.Parallel()
				again(t, "^TestScripts$/^("+test.scripts+")$", "TestScripts/firewalls", pluginsVariable+"="+directory,
					firewallVariable+"="+kind)
			})
		}
	}
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		again(t, "^(TestKilled|TestKilledRepair|TestMany)$", "TestKilled/ports", pluginsVariable+"="+made,
			firewallVariable+"=nft")
	})
}

// variant reports whether the tests run for another one, with other plugins or another firewall.
func variant() bool { return os.Getenv(pluginsVariable) != "" }

// upstream builds the plugins of "make cni" and returns their directory.
func upstream(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	shell(t, "make --silent -C .. cni PREFIX=/usr DESTDIR="+dir)
	return filepath.Join(dir, "usr/libexec/rkt/cni")
}

// again runs the tests that match, in namespaces of their own, of which one has to pass.
func again(t *testing.T, tests, one string, env ...string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run="+tests, "-test.v", "-test.timeout=20m")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "RKT_NET_TEST=")
	}), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+one) {
		t.Fatalf("%v\n%s", err, failed(string(out)))
	}
}

// failed is what the failed tests of a run with -test.v print, or all if there are none.
func failed(output string) string {
	var parts strings.Builder
	for _, part := range strings.Split(output, "=== RUN   ")[1:] {
		name, _, _ := strings.Cut(part, "\n")
		if strings.Contains(output, "--- FAIL: "+name+" (") && !strings.Contains(output, "=== RUN   "+name+"/") {
			parts.WriteString(part)
		}
	}
	if parts.Len() == 0 {
		return output
	}
	return parts.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func shell(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// serial runs scripts one after the other: they count what the one system has.
type serial struct{ *testing.T }

func (serial) Parallel() {}

func (serial) Verbose() bool { return testing.Verbose() }

func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}

// ours are the network devices that are not a pod's: lo, and those that isolate and the scripts
// make.
var ours = regexp.MustCompile(`^\d+: (lo|out0|eth\d)[@:]`)

func TestScripts(t *testing.T) {
	isolate(t)

	// Short of the test's own deadline, or what ignores an interrupt is waited for after a failure.
	deadline, ok := t.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Hour)
	}
	testscript.RunT(serial{t}, testscript.Params{
		ContinueOnError: true,
		Dir:             "testdata",
		Deadline:        deadline.Add(-time.Minute),
		Condition:       condition,
		Setup: func(env *testscript.Env) error {
			env.Setenv("RKT_DIR", filepath.Join(env.WorkDir, "rkt"))
			env.Setenv("RKT_LOCAL_CONFIG", filepath.Join(env.WorkDir, "etc"))
			env.Setenv("RKT_SYSTEM_CONFIG", filepath.Join(env.WorkDir, "lib"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"prepared": func(ts *testscript.TestScript, neg bool, args []string) {
				for _, uuid := range args {
					ts.Check(prepare(ts.Getenv("RKT_DIR"), uuid))
				}
			},
			"clean": func(ts *testscript.TestScript, neg bool, args []string) {
				if left := leftovers(); left != "" {
					ts.Fatalf("left behind: %s", left)
				}
			},
			// example NAME FILE takes a file from the documentation, where a line that is its name
			// introduces it.
			"example": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(example(args[0], ts.MkAbs(args[1])))
			},
			// manifest POD NAME:[IP:]PORT… prepares a pod that is to have ports forwarded.
			"manifest": func(ts *testscript.TestScript, neg bool, args []string) {
				dir := filepath.Join(ts.Getenv("RKT_DIR"), "pods", args[0])
				if _, err := os.Stat(dir); err != nil {
					ts.Check(prepare(ts.Getenv("RKT_DIR"), args[0]))
				}
				ts.Check(os.WriteFile(filepath.Join(dir, poddir.ManifestFile), manifest(args[1:]...), 0o644))
			},
			// hide PROGRAM takes iptables or nft from the host; show PROGRAM gives it back.
			"hide": func(ts *testscript.TestScript, neg bool, args []string) { ts.Check(hide(args[0])) },
			"show": func(ts *testscript.TestScript, neg bool, args []string) { ts.Check(show(args[0])) },
			// locked DIRECTORY holds the lock of a directory until unlock, or until the script
			// ends, as a running pod does.
			"locked": func(ts *testscript.TestScript, neg bool, args []string) {
				f, err := os.Open(ts.MkAbs(args[0]))
				ts.Check(err)
				ts.Check(unix.Flock(int(f.Fd()), unix.LOCK_EX))
				locks = append(locks, f)
				ts.Defer(unlock)
			},
			"unlock": func(ts *testscript.TestScript, neg bool, args []string) { unlock() },
		},
	})
}

// condition has those of scripts: nft and legacy, the kind of host; upstream, plugins of 1.6 and
// later, which know nftables; 1.10; and flannel, where there is this plugin.
func condition(name string) (bool, error) {
	switch name {
	case "nft", "legacy":
		return os.Getenv(firewallVariable) == name, nil
	case "upstream":
		cmd := exec.Command("/usr/lib/cni/portmap")
		cmd.Env = []string{"CNI_COMMAND=VERSION"}
		cmd.Stdin = strings.NewReader(`{"cniVersion":"1.0.0"}`)
		out, err := cmd.Output()
		return strings.Contains(string(out), `"1.1.0"`), err
	case "flannel":
		_, err := os.Stat("/usr/lib/cni/flannel")
		return err == nil, nil
	case "1.10":
		text, err := os.ReadFile("/usr/lib/cni/portmap")
		return bytes.Contains(text, []byte("failed to delete stale UDP conntrack entries on DEL")), err
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// locks are those that locked holds; scripts run one after the other.
var locks []*os.File

func unlock() {
	for _, f := range locks {
		f.Close()
	}
	locks = nil
}

// documentation is where the examples are.
const documentation = "../docs/networking.md"

// example takes a file from the documentation, where a line that is its name introduces it.
func example(name, file string) error {
	page, err := os.ReadFile(documentation)
	if err != nil {
		return err
	}
	_, after, found := strings.Cut(string(page), "\n`"+name+"`:\n\n")
	if !found {
		return fmt.Errorf("%s: has no %s", documentation, name)
	}
	var block strings.Builder
	for line := range strings.Lines(after) {
		code, ok := strings.CutPrefix(line, "    ")
		if !ok && line != "\n" {
			break
		}
		block.WriteString(code)
	}
	return os.WriteFile(file, []byte(block.String()), 0o644)
}

// prepare makes a pod as rkt-prepare leaves it, so far as rkt-net looks.
func prepare(dir, uuid string) error {
	p, lock, err := poddir.In(dir).Create(uuid)
	if err != nil {
		return err
	}
	defer lock.Close()
	return os.WriteFile(p.Path(poddir.ManifestFile), []byte("{}\n"), 0o644)
}

// manifest is a pod manifest with the ports tcp (80/tcp), second (81/tcp), udp (53/udp) and range
// (7000-7009/tcp), of which those given are forwarded.
func manifest(forward ...string) []byte {
	type object = map[string]any
	ports := []object{}
	for _, f := range forward {
		name, host, _ := strings.Cut(f, ":")
		port := object{"name": name}
		if i := strings.LastIndex(host, ":"); i >= 0 {
			port["hostIP"], host = host[:i], host[i+1:]
		}
		port["hostPort"], _ = strconv.Atoi(host)
		ports = append(ports, port)
	}
	text, _ := json.Marshal(object{"ports": ports, "apps": []object{{"name": "app", "app": object{"ports": []object{
		{"name": "tcp", "protocol": "tcp", "port": 80, "count": 1}, {"name": "second", "protocol": "tcp", "port": 81},
		{"name": "udp", "protocol": "udp", "port": 53, "count": 1}, {"name": "range", "protocol": "tcp", "port": 7000,
			"count": 10},
	}}}}})
	return text
}

// ofAllPods reports whether a line of a table is about the chains that portmap and firewall make
// once for all pods and never remove, and about no pod.
func ofAllPods(line string) bool {
	return chainOfAll.MatchString(line) && !chainOfPod.MatchString(line)
}

var (
	chainOfAll = regexp.MustCompile(`CNI-(HOSTPORT-[A-Z]+|FORWARD|ADMIN)\b|CNI portfwd|CNI firewall`)
	chainOfPod = regexp.MustCompile(`CNI-DN-|id: |([0-9]+\.){3}[0-9]+|[0-9a-f]+::`)
)

// leftovers is what the system, not the toolkit, knows of networks of pods. The kernel destroys a
// namespace some time after its last user has gone, so it gets that time: a TCP connection whose
// process was killed as the cable went is a user for some hundred seconds, until the kernel gives
// up (tcp_orphan_retries of tcp(7)).
func leftovers() string {
	begin := time.Now()
	for {
		left, namespaces := leftNow(), namespacesLeft()
		if took := time.Since(begin); left == nil && namespaces == nil || left != nil && took > 20*time.Second ||
			took > 4*time.Minute {
			return strings.Join(append(left, namespaces...), "\n")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// namespacesLeft are the namespaces that still are, wherever they are held, other than those that
// the tests have made.
func namespacesLeft() []string {
	var left []string
	peers, _ := exec.Command("ip", "netns", "list-id").Output()
	for line := range strings.Lines(string(peers)) {
		if !strings.Contains(line, "(iproute2 netns name: ") {
			left = append(left, line)
		}
	}
	return left
}

// leftNow are links, rules, routes, reservations of addresses and mounts.
func leftNow() []string {
	var left []string
	links, _ := exec.Command("ip", "-o", "link").Output()
	for line := range strings.Lines(string(links)) {
		if !ours.MatchString(line) {
			left = append(left, line)
		}
	}
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		rules, _ := exec.Command(save).Output()
		for line := range strings.Lines(string(rules)) {
			if (strings.Contains(line, "CNI-") || strings.Contains(line, "name:")) && !ofAllPods(line) {
				left = append(left, line)
			}
		}
	}
	// of all tables, those that iptables doesn't show among them
	rules, _ := exec.Command("nft", "list", "ruleset").Output()
	for line := range strings.Lines(string(rules)) {
		if (strings.Contains(line, "CNI-") || strings.Contains(line, " comment ")) && !ofAllPods(line) {
			// a rule, and not a table's own comment
			left = append(left, line)
		}
	}
	routes, _ := exec.Command("ip", "route").Output()
	for line := range strings.Lines(string(routes)) {
		if !strings.Contains(line, "out0") && !strings.Contains(line, "eth") {
			left = append(left, line)
		}
	}
	reservations, _ := filepath.Glob("/var/lib/cni/networks/*/[0-9]*")
	pins, _ := filepath.Glob("/run/rkt/netns/*")
	left = append(append(left, reservations...), pins...)
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " /run/rkt/") {
			left = append(left, line)
		}
	}
	return left
}

// listen ADDRESS accepts one TCP connection and tells the caller whom it sees.
func listen() {
	l, err := net.Listen("tcp", os.Args[1])
	exitOn(err)
	answer(l)
}

// serve tcp|udp ADDRESS tells every caller whom it sees, until it is killed; curl understands it,
// too.
func serve() {
	if os.Args[1] == "udp" {
		c, err := net.ListenPacket("udp", os.Args[2])
		exitOn(err)
		var b [1024]byte
		for {
			_, from, err := c.ReadFrom(b[:])
			exitOn(err)
			host, _, _ := net.SplitHostPort(from.String())
			c.WriteTo([]byte(host+"\n"), from)
		}
	}
	l, err := net.Listen("tcp", os.Args[2])
	exitOn(err)
	for {
		answer(l)
	}
}

func answer(l net.Listener) {
	c, err := l.Accept()
	exitOn(err)
	defer c.Close()
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	exitOn(err)
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if request, _ := bufio.NewReader(c).ReadString('\n'); strings.HasPrefix(request, "GET ") {
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\n")
	}
	fmt.Fprintln(c, host)
}

// dial [-once] ADDRESS[/udp] prints what the server says, trying for a while, or once.
func dial() {
	tries, args := 100, os.Args[1:]
	if args[0] == "-once" {
		tries, args = 1, args[1:]
	}
	address, udp := strings.CutSuffix(args[0], "/udp")
	network := "tcp"
	if udp {
		network = "udp"
	}
	var err error
	for range tries {
		var c net.Conn
		if c, err = net.DialTimeout(network, address, time.Second); err == nil {
			if udp {
				fmt.Fprintln(c, "?")
				c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			}
			var line string
			if line, err = bufio.NewReader(c).ReadString('\n'); err == nil {
				fmt.Print(line)
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	exitOn(err)
}

// sendFrame DEVICE tcp|udp ADDRESS:PORT [SOURCE] says "answered" or "silence", see package frame.
func sendFrame() {
	to, err := netip.ParseAddrPort(os.Args[3])
	exitOn(err)
	var source netip.Addr
	if len(os.Args) > 4 {
		source, err = netip.ParseAddr(os.Args[4])
		exitOn(err)
	}
	answered, err := frame.Answered(os.Args[1], os.Args[2], source, to)
	exitOn(err)
	fmt.Println(map[bool]string{true: "answered", false: "silence"}[answered])
}

// guard makes the rule that rkt-net makes before a plugin forwards ports.
func guard() {
	lock, err := netfilter.Guard(context.Background())
	exitOn(err)
	lock.Close()
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// rktNet runs the program for a pod in dir.
func rktNet(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "rkt-net", args...)
	cmd.Env = append(os.Environ(), "RKT_DIR="+dir, "RKT_LOCAL_CONFIG="+dir)
	return cmd
}
