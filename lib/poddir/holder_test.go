package poddir

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain is, in a process that TestHeldByExec starts, one that executes a program from a thread
// that is not its first, again and again.
func TestMain(m *testing.M) {
	if rounds, err := strconv.Atoi(os.Getenv("RKT_TEST_EXEC")); err == nil {
		execAgain(rounds)
	}
	os.Exit(m.Run())
}

func execAgain(rounds int) {
	if rounds == 0 {
		time.Sleep(time.Minute)
	}
	for {
		ready := make(chan bool)
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == os.Getpid() { // another one gets the first thread
				<-ready
				return
			}
			os.Setenv("RKT_TEST_EXEC", strconv.Itoa(rounds-1))
			unix.Exec("/proc/self/exe", os.Args, os.Environ())
		}()
		time.Sleep(time.Millisecond)
		close(ready)
	}
}

// A process that executes another program has its lock all the time.
func TestHeldByExec(t *testing.T) {
	p, lock, err := In(t.TempDir()).Create(NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	const rounds = 300
	holder := exec.Command("/proc/self/exe")
	holder.Env = append(os.Environ(), "RKT_TEST_EXEC="+strconv.Itoa(rounds))
	holder.ExtraFiles = []*os.File{lock}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { holder.Process.Kill(); holder.Wait() }()
	looks, wrong := 0, 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); looks++ {
		if held, err := p.HeldBy(holder.Process.Pid); err != nil || !held {
			t.Logf("look %d: %v", looks, err)
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d looks saw the lock with nobody", wrong, looks)
	}
}
