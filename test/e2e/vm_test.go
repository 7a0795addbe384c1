package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// slownessVariable has the number that limits of time are multiplied by, slowness, in a virtual
// machine whose CPU is emulated.
const (
	slownessVariable = "RKT_E2E_SLOWNESS"
	slowness         = 6
)

// bootOptions are words of the kernel's command line, by the names of the sessions that need them.
var bootOptions = map[string]string{"testdata/vm/selinux.txtar": "security=selinux"} // or the kernel has AppArmor

// longVM are sessions that make torture alone plays.
var longVM = []string{"testdata/vm/clock.txtar", "testdata/vm/ipvlan.txtar"}

// TestVM runs the sessions in testdata/vm, one after the other in one virtual machine: what needs
// controllers or a kernel that the machine may not have. Those with boot options have another.
func TestVM(t *testing.T) {
	all, err := filepath.Glob("testdata/vm/*.txtar")
	if err != nil || len(all) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	sessions := map[string][]string{}
	for _, session := range all {
		if slices.Contains(longVM, session) && os.Getenv("RKT_TORTURE") == "" {
			continue
		}
		options := bootOptions[session]
		sessions[options] = append(sessions[options], session)
	}
	for options, sessions := range sessions {
		playVM(t, vm{options: options}, sessions, 20*time.Minute)
	}
	playVM(t, vm{line: initLine}, initFlavorVM, 20*time.Minute)
}

// initFlavorVM are the sessions of a virtual machine that pods of flavor init play in another one.
var initFlavorVM = []string{"testdata/vm/limits.txtar", "testdata/vm/tasks.txtar"}

// vmLineVariable has a line of rkt.conf for TestSessionsVM.
const vmLineVariable = "RKT_VM_CONF"

// vmReleasesVariable names releases of Debian, trees in the directory that releasesVariable names:
// the virtual machines of TestSessionsVM have their files and kernels in place of the machine's
// own.
const vmReleasesVariable = "RKT_VM_RELEASES"

// TestSessionsVM runs the sessions that $RKT_VM_SESSIONS names in virtual machines, each in its
// own: on a whole machine's systemd, with its cgroups. Each takes two to six minutes where
// the CPU is emulated.
func TestSessionsVM(t *testing.T) {
	names := strings.Fields(os.Getenv("RKT_VM_SESSIONS"))
	if len(names) == 0 {
		return // make torture runs it
	}
	machines := []vm{{}}
	if releases := strings.Fields(os.Getenv(vmReleasesVariable)); len(releases) > 0 {
		machines = nil
		for _, name := range releases {
			root, err := filepath.Abs(filepath.Join(os.Getenv(releasesVariable), name))
			if err == nil {
				root, err = filepath.EvalSymlinks(root)
			}
			if err != nil {
				t.Fatalf("no tree of the release %s: %v; run make test-vm-releases", name, err)
			}
			machines = append(machines, vm{release: name, root: root})
		}
	}
	for _, machine := range machines {
		for _, name := range names {
			session := "testdata/" + name + ".txtar"
			machine.options, machine.line = bootOptions[session], os.Getenv(vmLineVariable)
			t.Run(filepath.Join(machine.release, name), func(t *testing.T) {
				playVM(t, machine, []string{session}, 30*time.Minute)
			})
		}
	}
}

// vm is what a virtual machine is of: a release of Debian and the tree of its files, or the
// machine's own; its boot options, and a line of its rkt.conf.
type vm struct{ release, root, options, line string }

// kernel is the directory with the unpacked kernel.
func (m vm) kernel() string {
	if m.release == "" {
		return "../../bin/vm"
	}
	return "../../bin/vm-" + m.release
}

// playVM runs sessions one after the other in one virtual machine.
func playVM(t *testing.T, of vm, sessions []string, limit time.Duration) {
	testkit.Require(t, "qemu-system-x86_64", "mke2fs", "systemd-nspawn", "busybox")
	overlays := []string{installed(t)}
	if of.line != "" {
		overlays = append(overlays, configured(t, of.line))
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "rkt-e2e-vm-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const machine = "/machine" // where the virtual machine has the files of this one
	script, looks := "failed=0\n", ""
	for what, look := range leakScripts {
		file := filepath.Join(dir, regexp.MustCompile(`\W`).ReplaceAllString(what, "")+".sh")
		text := "left=$(\n{ " + look + "\n} 2>/dev/null\n)\ntest -z \"$left\" || { echo \"left behind: " + what +
			": $left\"; exit 1; }\n"
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		looks += "sh " + machine + file + " || failed=1\n"
	}
	for _, session := range sessions {
		session, err := filepath.Abs(session)
		if err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("PODS=%s %s=%s %s='%s' %s=%d", os.Getenv("PODS"), releaseVariable, of.release,
			insideVariable, machine+session, slownessVariable, slowness)
		script += fmt.Sprintf(" '%s' -test.run='^TestInside$' -test.v -test.timeout=%s || failed=1\n%s", machine+self,
			limit, looks)
	}
	file := filepath.Join(dir, "sessions.sh")
	if err := os.WriteFile(file, []byte(script+"exit $failed\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var out bytes.Buffer
	start := time.Now()
	status, err := testkit.VM{Dir: dir, Kernel: of.kernel(), Root: of.root, Options: of.options,
		Overlay: overlays,
		Args:    []string{"/bin/sh", machine + file}, WorkDir: "/", Stdout: &out, Stderr: &out}.Run(ctx)
	if err != nil || status != 0 {
		t.Fatalf("status %d, %v\n%s", status, err, out.String())
	}
	if testing.Verbose() {
		t.Logf("%s", out.String())
	}
	for _, session := range sessions { // each has been run, and none has been left out
		name := strings.TrimSuffix(filepath.Base(session), ".txtar")
		if !strings.Contains(out.String(), "--- PASS: TestInside/"+name) {
			t.Errorf("%s did not pass\n%s", name, out.String())
		}
	}
	t.Logf("%d sessions, %v", len(sessions), time.Since(start).Round(time.Second))
}
