// Package stats reads what running pods and their apps use: from their cgroups, in the files that
// Documentation/admin-guide/cgroup-v2.rst of Linux describes, and from the network devices of the
// pod.
package stats

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

// Usage is what a cgroup has used and uses. What the kernel does not count there, for lack of a
// controller, is nil.
type Usage struct {
	CPU        *uint64 `json:"cpu_nanoseconds,omitempty"`   // since the cgroup was made
	Memory     *uint64 `json:"memory_bytes,omitempty"`      // now, with the page cache
	MemoryPeak *uint64 `json:"memory_peak_bytes,omitempty"` // Linux 5.19 or newer
	MemoryMax  *uint64 `json:"memory_max_bytes,omitempty"`  // the limit, if there is one
	Tasks      *uint64 `json:"tasks,omitempty"`             // processes and threads now
	Read       *uint64 `json:"read_bytes,omitempty"`        // from disks
	Written    *uint64 `json:"written_bytes,omitempty"`     // to disks
	OOMKills   *uint64 `json:"oom_kills,omitempty"`         // processes that were killed since memory was short
}

// App is what an app of a pod uses.
type App struct {
	Name string `json:"name"` // in its pod
	Usage
}

// Pod is what a pod uses, its own systemd and journald included.
type Pod struct {
	UUID string `json:"uuid"`           // the pod's UUID
	Name string `json:"name,omitempty"` // the name that --pod-name gave it
	Usage
	Received *uint64 `json:"received_bytes,omitempty"` // by its network devices; nil with the host's network
	Sent     *uint64 `json:"sent_bytes,omitempty"`     // by the same
	Apps     []App   `json:"apps"`                     // those that run
}

// Read looks at a running pod.
func Read(p running.Pod) (Pod, error) {
	leader, err := p.Leader()
	if err != nil {
		return Pod{}, err
	}
	group, err := p.Flavor.Group(leader, "")
	if err != nil {
		return Pod{}, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	names, err := p.Apps()
	if err != nil {
		return Pod{}, err
	}
	pod := Pod{UUID: p.UUID, Name: p.Name(), Apps: []App{}}
	if pod.Usage, err = usage(group); err != nil {
		return Pod{}, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	for _, name := range names {
		group, err := p.Flavor.Group(leader, name)
		if err != nil {
			return Pod{}, fmt.Errorf("pod %s: app %q: %w", p.UUID, name, err)
		}
		u, err := usage(group)
		if errors.Is(err, fs.ErrNotExist) { // it has exited
			continue
		}
		if err != nil {
			return Pod{}, fmt.Errorf("pod %s: app %q: %w", p.UUID, name, err)
		}
		pod.Apps = append(pod.Apps, App{name, u})
	}
	if !process.SameNamespace(leader, os.Getpid(), "net") {
		if pod.Received, pod.Sent, err = traffic(leader); err != nil {
			return Pod{}, fmt.Errorf("pod %s: %w", p.UUID, err)
		}
	}
	return pod, nil
}

// usage reads the files of a cgroup.
func usage(dir string) (u Usage, err error) {
	if _, err := os.Stat(dir); err != nil {
		return u, err
	}
	cpu, err := field(dir, "cpu.stat", "usage_usec")
	if cpu != nil {
		*cpu *= uint64(time.Microsecond)
	}
	errs := []error{err}
	get := func(to **uint64, file, name string) {
		*to, err = field(dir, file, name)
		errs = append(errs, err)
	}
	u.CPU = cpu
	get(&u.Memory, "memory.current", "")
	get(&u.MemoryPeak, "memory.peak", "")
	get(&u.MemoryMax, "memory.max", "")
	get(&u.Tasks, "pids.current", "")
	get(&u.OOMKills, "memory.events", "oom_kill")
	get(&u.Read, "io.stat", "rbytes")
	get(&u.Written, "io.stat", "wbytes")
	return u, errors.Join(errs...)
}

// field reads a number of a cgroup's file: of the line "NAME NUMBER", of all words "NAME=NUMBER"
// together, or, without a name, the whole file. It is nil where there is no such file, and for
// "max".
func field(dir, file, name string) (*uint64, error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n, err := parse(string(text), name)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", dir, file, err)
	}
	return n, nil
}

func parse(text, name string) (*uint64, error) {
	if name == "" {
		text = strings.TrimSpace(text)
		if text == "max" {
			return nil, nil
		}
		n, err := strconv.ParseUint(text, 10, 64)
		return &n, err
	}
	var sum uint64
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == name {
			n, err := strconv.ParseUint(words[1], 10, 64)
			return &n, err
		}
		for _, word := range words {
			value, ok := strings.CutPrefix(word, name+"=")
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return nil, err
			}
			sum += n
		}
	}
	return &sum, nil
}

// traffic adds up what the network devices of a process's network namespace have received and sent,
// except lo (proc(5), net/dev).
func traffic(pid int) (received, sent *uint64, err error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	received, sent = new(uint64), new(uint64)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, numbers, ok := strings.Cut(lines.Text(), ":")
		f := strings.Fields(numbers)
		if !ok || len(f) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		in, errIn := strconv.ParseUint(f[0], 10, 64)
		out, errOut := strconv.ParseUint(f[8], 10, 64)
		if err := errors.Join(errIn, errOut); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		*received, *sent = *received+in, *sent+out
	}
	return received, sent, lines.Err()
}
