package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// meet waits until two apps have come to a point.
func meet(point string) {
	dir := os.Getenv("INSPECT_MEET")
	if dir == "" {
		return
	}
	check(os.WriteFile(filepath.Join(dir, point+"-"+os.Getenv("AC_APP_NAME")), nil, 0o644))
	for {
		found, err := filepath.Glob(filepath.Join(dir, point+"-*"))
		check(err)
		if len(found) > 1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// inspect prints what the app sees, a JSON object of strings. $INSPECT names paths to look at, with
// colons between them. With $INSPECT_MEET, a directory, it looks while another app of the pod does:
// the kernel gives the numbers of namespaces that have gone to new ones.
func inspect() {
	meet("before")
	seen := map[string]string{}
	seen["uid"], seen["gid"] = fmt.Sprint(os.Getuid()), fmt.Sprint(os.Getgid())
	groups, err := os.Getgroups()
	check(err)
	slices.Sort(groups)
	seen["groups"] = strings.Trim(fmt.Sprint(groups), "[]")
	seen["cwd"], err = os.Getwd()
	check(err)
	seen["hostname"], err = os.Hostname()
	check(err)
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	seen["umask"] = fmt.Sprintf("%04o", mask)
	for i, arg := range os.Args {
		seen[fmt.Sprintf("arg.%d", i)] = arg
	}
	seen["args"] = fmt.Sprint(len(os.Args))
	var names []string
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		names = append(names, name)
		seen["env."+name] = value
	}
	slices.Sort(names)
	seen["env"] = strings.Join(names, " ")
	for line := range lines("/proc/self/status") {
		name, value, _ := strings.Cut(line, ":")
		if strings.HasPrefix(name, "Cap") || name == "NoNewPrivs" || name == "Seccomp" {
			seen[name] = strings.TrimSpace(value)
		}
	}
	for line := range lines("/proc/self/limits") {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max ") && len(f) > 4 {
			at := slices.IndexFunc(f, func(s string) bool { return s == "unlimited" || s[0] >= '0' && s[0] <= '9' })
			seen["limit."+strings.Join(f[1:at], "-")] = f[at] + " " + f[at+1]
		}
	}
	for line := range lines("/proc/self/oom_score_adj") {
		seen["oom"] = line
	}
	for _, kind := range []string{"user", "pid", "ipc", "net", "uts", "mnt", "cgroup"} {
		seen["ns."+kind], _ = os.Readlink("/proc/self/ns/" + kind)
	}
	meet("after")
	for line := range lines("/proc/self/mounts") {
		f := strings.Fields(line)
		seen["mount."+f[1]] = f[2] + " " + f[3] // the last at a place is what is seen
	}
	var fds []string
	entries, err := os.ReadDir("/proc/self/fd")
	check(err)
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(to, "/proc/") || strings.HasPrefix(to, "anon_inode:") {
			// this one, and Go's own
			continue
		}
		kind, _, _ := strings.Cut(to, ":")
		fds = append(fds, e.Name()+"="+kind)
	}
	seen["fds"] = strings.Join(fds, " ")
	dev, _ := filepath.Glob("/dev/*")
	seen["dev"] = strings.ReplaceAll(strings.Join(dev, " "), "/dev/", "")
	for _, path := range filepath.SplitList(os.Getenv("INSPECT")) {
		seen["path."+path] = look(path)
	}
	text, err := json.Marshal(seen)
	check(err)
	fmt.Printf("%s\n", text)
}

// look tells of a path: what it is, its mode, owner, and what it holds; and whether something can
// be made there or written to it. Another app may look at the same directory at the same moment,
// and what it makes there for that is no content.
func look(path string) string {
	st, err := os.Lstat(path)
	if err != nil {
		return "none"
	}
	sys := st.Sys().(*syscall.Stat_t)
	said := fmt.Sprintf("%s %04o %d:%d", map[os.FileMode]string{0: "file", os.ModeDir: "dir", os.ModeSymlink: "link",
		os.ModeDevice | os.ModeCharDevice: "char", os.ModeNamedPipe: "pipe"}[st.Mode().Type()], sys.Mode&0o7777,
		sys.Uid, sys.Gid)
	switch st.Mode().Type() {
	case os.ModeDir:
		entries, err := os.ReadDir(path)
		if err != nil {
			said += " unreadable"
		} else if !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
			return !strings.HasPrefix(e.Name(), ".inspect-")
		}) {
			said += " empty"
		}
		if try, err := os.MkdirTemp(path, ".inspect-"); err == nil {
			os.Remove(try)
			return said + " writable"
		}
	case os.ModeSymlink:
		to, _ := os.Readlink(path)
		return said + " " + to
	case 0:
		if text, err := os.ReadFile(path); err != nil {
			said += " unreadable"
		} else if len(text) < 100 {
			said += fmt.Sprintf(" %q", text)
		}
		if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			f.Close()
			return said + " writable"
		}
	}
	return said
}

func lines(path string) func(func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan() && yield(s.Text()); {
		}
	}
}
