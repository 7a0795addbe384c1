package running

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// A pod has ended, another process has got the number of its first one, and rkt-gc holds the lock:
// the pod has exited all the same, and the other process is not the pod's.
func TestReusedNumber(t *testing.T) {
	pods := poddir.In(t.TempDir())
	p, lock, err := pods.Create(poddir.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- other.Wait() }()
	defer other.Process.Kill()
	for name, text := range map[string]string{poddir.ManifestFile: "{}", poddir.StartedFile: "",
		poddir.PIDFile: strconv.Itoa(other.Process.Pid) + "\n"} {
		if err := os.WriteFile(p.Path(name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if state, err := p.State(); err != nil || state != poddir.Exited {
		t.Fatalf("state %v, %v", state, err)
	}
	log, pod := slog.New(slog.DiscardHandler), Pod{Pod: p}
	if err := errors.Join(pod.Ask(log), Await(p, 0), Kill(p, log)); err != nil {
		t.Error(err)
	}
	if leader, err := pod.Leader(); err == nil {
		t.Errorf("leader %d", leader)
	}
	select {
	case err := <-done:
		t.Errorf("the other process was ended: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if held, err := p.HeldBy(os.Getpid()); err != nil || !held {
		t.Error("the holder of the lock is not seen")
	}
	// The holder itself is stopped.
	holder := exec.Command("sleep", "60")
	if _, err := unix.FcntlInt(lock.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	holder.ExtraFiles = []*os.File{lock}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if err := os.WriteFile(p.Path(poddir.PIDFile), []byte(strconv.Itoa(holder.Process.Pid)+"\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := Kill(p, log); err != nil {
		t.Error(err)
	}
	if err := holder.Wait(); err == nil {
		t.Error("the holder of the lock was not stopped")
	}
}
