package pid1

import (
	"os"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"golang.org/x/sys/unix"
)

// watchMemory looks for processes of apps that the kernel kills for lack of memory. An app that has
// lost one is stopped: it may go on, and not work.
func (p *pod) watchMemory() {
	var watched []unix.PollFd
	var apps []*process
	for _, a := range p.apps {
		fd, err := unix.Open(a.memoryEvents(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil { // without a limit there is no such file
			watched, apps = append(watched, unix.PollFd{Fd: int32(fd), Events: unix.POLLPRI}), append(apps, a)
		}
	}
	if len(watched) == 0 {
		return
	}
	go func() {
		text := make([]byte, 512)
		for {
			for i := range watched {
				if n, err := unix.Pread(int(watched[i].Fd), text, 0); err == nil && kills(string(text[:n])) {
					apps[i].of.events <- func() {
						apps[i].starved()
						apps[i].stop()
					}
					watched[i].Fd = -1 // once is enough
				}
			}
			if _, err := unix.Poll(watched, -1); err != nil && err != unix.EINTR {
				return
			}
		}
	}()
}

func (a *process) memoryEvents() string { return a.group() + "/memory.events" }

// starved notes, and tells, whether the kernel has killed a process of the app for lack of memory.
func (a *process) starved() {
	if text, err := os.ReadFile(a.memoryEvents()); a.starve || err != nil || !kills(string(text)) {
		return
	}
	a.starve = true
	tell(streams.Say(a.Name, "out of memory: the kernel has killed a process of the app, which is stopped"))
}

// kills reports whether a file memory.events knows of a process that was killed.
func kills(events string) bool {
	for line := range strings.Lines(events) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strings.TrimSpace(n) != "0"
		}
	}
	return false
}
