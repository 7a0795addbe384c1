package host

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestReadsSignal tells a process that reads a signal from a descriptor from one that does not.
func TestReadsSignal(t *testing.T) {
	if readsSignal(os.Getpid(), haltSignal) {
		t.Fatal("read before there is a descriptor for it")
	}
	var set unix.Sigset_t
	bits := int(unsafe.Sizeof(set.Val[0])) * 8
	set.Val[(haltSignal-1)/bits] = 1 << ((haltSignal - 1) % bits)
	fd, err := unix.Signalfd(-1, &set, unix.SFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if !readsSignal(os.Getpid(), haltSignal) {
		t.Error("not read")
	}
	if readsSignal(os.Getpid(), haltSignal+1) {
		t.Error("another signal is read")
	}
}
