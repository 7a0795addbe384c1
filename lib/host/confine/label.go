package confine

import (
	"errors"
	"fmt"
	"os"
)

// Module is a security module of the kernel that labels a program when it is executed.
type Module struct {
	files  []string // in /proc/thread-self/attr; the first that is there (proc(5), apparmor(7))
	prefix string
}

// The modules that rkt knows.
var (
	AppArmor = Module{[]string{"apparmor/exec", "exec"}, "exec "}
	SELinux  = Module{[]string{"exec"}, ""}
)

// Label sets the label that the calling thread, or a process that it forks, gets when it executes a
// program; "" changes nothing. It needs a /proc that has the thread.
func (m Module) Label(label string) (err error) {
	if label == "" {
		return nil
	}
	for _, file := range m.files {
		err = os.WriteFile("/proc/thread-self/attr/"+file, []byte(m.prefix+label), 0)
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("label %q: %w", label, err)
	}
	return nil
}
