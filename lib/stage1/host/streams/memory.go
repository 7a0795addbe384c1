package streams

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// text is where the program's code and constants are in memory: addresses and lengths.
type text [][2]uintptr

// programText finds it. Nothing is found if the kernel does not say.
func programText() (found text) {
	program, _ := os.Readlink("/proc/self/exe")
	maps, _ := os.ReadFile("/proc/self/maps") // address permissions offset device inode path (proc(5))
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[5] != program || strings.Contains(f[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err == nil && err2 == nil {
			found = append(found, [2]uintptr{uintptr(start), uintptr(end - start)})
		}
	}
	return found
}

// forget takes it out of this process's memory: most was needed by the start only, and the rest is
// read again from the kernel's cache.
func (t text) forget() {
	for _, area := range t {
		unix.Syscall(unix.SYS_MADVISE, area[0], area[1], unix.MADV_DONTNEED)
	}
}
