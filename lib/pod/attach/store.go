package attach

import (
	"fmt"
	"os"

	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"golang.org/x/sys/unix"
)

// fdStore is where the pod's systemd keeps open files for the next process of the service
// (FileDescriptorStoreMax=).
type fdStore struct {
	socket string
	kept   map[string]*os.File
}

// newStore has what was kept, as sd_listen_fds_with_names(3) tells.
func newStore(getenv func(string) string, pid int) (*fdStore, error) {
	s := &fdStore{socket: getenv("NOTIFY_SOCKET"), kept: map[string]*os.File{}}
	if s.socket == "" {
		return nil, fmt.Errorf("--serve: no socket to notify; the pod's systemd starts this program so")
	}
	for i, name := range activation.Names(getenv, pid) {
		fd := activation.First + i
		unix.CloseOnExec(fd)
		if name == "" || s.kept[name] != nil {
			unix.Close(fd)
			continue
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.kept[name] = os.NewFile(uintptr(fd), name)
	}
	return s, nil
}

// take is what was kept under a name, or nil.
func (s *fdStore) take(name string) *os.File {
	file := s.kept[name]
	delete(s.kept, name)
	return file
}

// keep has a file kept, whatever becomes of its other end.
func (s *fdStore) keep(name string, file *os.File) error {
	return s.notify("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, file)
}

// forget has what was kept under a name closed.
func (s *fdStore) forget(name string) {
	if file := s.take(name); file != nil {
		file.Close()
	}
	s.notify("FDSTOREREMOVE=1\nFDNAME="+name, nil)
}

// notify is sd_notify(3).
func (s *fdStore) notify(text string, file *os.File) error {
	if file == nil {
		return systemd.Notify(s.socket, []byte(text), nil)
	}
	return control(file, func(fd int) error { return systemd.Notify(s.socket, []byte(text), unix.UnixRights(fd)) })
}
