package enter

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// sleeper starts a process in a new user namespace of a range, which then makes nested ones. It
// returns the PID of one whose name is sleep.
func sleeper(t *testing.T, base uint32, nested bool) int {
	t.Helper()
	argv := []string{"sleep", "60"}
	if nested {
		argv = append([]string{"unshare", "--user"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(base), Size: userns.Count}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids,
		Credential: &syscall.Credential{}, GidMappingsEnableSetgroups: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)); string(name) == "sleep\n" {
			return cmd.Process.Pid
		}
	}
	t.Fatal("does not start")
	return 0
}

// The user namespace is the one that the pod's file says, and no other that its PID 1 may have
// made.
func TestUsersOf(t *testing.T) {
	const base = 0x20000000
	p, lock, err := poddir.In(t.TempDir()).Create(poddir.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	own, its, nested, other := os.Getpid(), sleeper(t, base, false), sleeper(t, base, true),
		sleeper(t, base+1<<16, false)
	of := func(pid int) error {
		u, err := usersOf(p, pid)
		if u != nil {
			closeAll(u.files)
		}
		return err
	}
	if err := of(own); err != nil {
		t.Errorf("the host's: %v", err)
	}
	for name, pid := range map[string]int{"one": its, "nested": nested} {
		if err := of(pid); !errors.Is(err, errForeignUsers) {
			t.Errorf("%s, in a pod that has the host's: %v", name, err)
		}
	}
	if err := os.WriteFile(p.Path(poddir.UsersFile), []byte(userns.Range{Base: base}.String()+"\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	if err := of(its); err != nil {
		t.Errorf("the pod's: %v", err)
	}
	for name, pid := range map[string]int{"the host's": own, "nested": nested, "another pod's": other} {
		if err := of(pid); !errors.Is(err, errForeignUsers) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(p.Path(poddir.UsersFile), []byte("0:65536\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := of(own); !testkit.Says(err, "range of user IDs") {
		t.Errorf("a damaged file: %v", err)
	}
}
