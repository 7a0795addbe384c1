package devfilter

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// run runs a program of the test's instructions as the kernel would, on one access.
func run(t *testing.T, program []instruction, deviceType byte, majorNumber, minorNumber uint32, access int32) bool {
	t.Helper()
	var r [7]uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		to, from := i.registers&15, i.registers>>4
		switch i.code {
		case loadHalf, loadWord:
			word := [...]uint32{uint32(access)<<16 | uint32(Rule{Type: deviceType}.kind()), majorNumber,
				minorNumber}[i.offset/4]
			if i.code == loadHalf {
				word &= 0xffff
			}
			r[to] = word
		case move32:
			r[to] = uint32(i.immediate)
		case copy32:
			r[to] = r[from]
		case and32:
			r[to] &= uint32(i.immediate)
		case shiftRight32:
			r[to] >>= i.immediate
		case unlessEqual:
			if r[to] != uint32(i.immediate) {
				pc += int(i.offset)
			}
		case unlessSame:
			if r[to] != r[from] {
				pc += int(i.offset)
			}
		case exit:
			return r[result] == 1
		default:
			t.Fatalf("instruction %d: opcode %#x", pc, i.code)
		}
	}
	t.Fatal("the program has no end")
	return false
}

func TestAssemble(t *testing.T) {
	const m, r, w = 1, 2, 4
	rules := []Rule{
		{Type: 'c', Major: 1, Minor: 3, Access: "rwm"}, {Type: 'c', Major: 136, AnyMinor: true, Access: "rw"},
		{Type: 'b', Major: 8, Minor: 1, Access: "r"}, {Type: 'c', Major: 1, Minor: 5, Access: "w"},
	}
	program := assemble(rules)
	for _, test := range []struct {
		kind         byte
		major, minor uint32
		access       int32
		want         bool
	}{
		{'c', 1, 3, r, true}, {'c', 1, 3, r | w | m, true}, {'b', 1, 3, r, false}, {'c', 1, 4, r, false},
		{'c', 136, 0, r, true}, {'c', 136, 1<<20 - 1, r | w, true}, {'c', 136, 0, m, false},
		{'c', 136, 0, r | m, false}, {'c', 137, 0, r, false},
		{'b', 8, 1, r, true}, {'b', 8, 1, w, false}, {'b', 8, 1, r | w, false}, {'b', 8, 0, r, false},
		{'c', 8, 1, r, false},
		{'c', 1, 5, w, true}, {'c', 1, 5, r, false}, {'b', 259, 0, r, false},
	} {
		if got := run(t, program, test.kind, test.major, test.minor, test.access); got != test.want {
			t.Errorf("%c %d:%d access %d: %v, want %v", test.kind, test.major, test.minor, test.access, got, test.want)
		}
	}
	if run(t, assemble(nil), 'c', 1, 3, r) {
		t.Error("without a rule a device is allowed")
	}
}

// group makes a group below the process's own, in the hierarchy of a type and with a file of a
// name, and moves there the process of a command that has been prepared to wait. The group is
// removed with the test.
func group(t *testing.T, parent string) string {
	t.Helper()
	dir := filepath.Join(parent, "rkt-devfilter-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// tryDevices opens devices from a process in a group, and returns which it could, as "null:rw
// zero:-".
func tryDevices(t *testing.T, dir string) string {
	t.Helper()
	const script = `echo $$ >"$1/cgroup.procs" || exit 9
for device in null zero full; do
	how=
	(: </dev/$device) 2>/dev/null && how=r
	(: >/dev/$device) 2>/dev/null && how=${how}w
	printf '%s:%s ' $device ${how:--}
done`
	out, err := exec.Command("sh", "-c", script, "sh", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// In a real cgroup: the kernel takes the program, and it does what the rules say. A second filter
// holds besides the first.
func TestAttach(t *testing.T) {
	unified := mountOf(t, unix.CGROUP2_SUPER_MAGIC, "/sys/fs/cgroup", "/sys/fs/cgroup/unified")
	dir := group(t, unified)
	null := Rule{Type: 'c', Major: 1, Minor: 3, Access: "rwm"}
	if err := Attach(dir, []Rule{null, {Type: 'c', Major: 1, Minor: 5, Access: "r"}, {Type: 'c', Major: 1, Minor: 7,
		Access: "w"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := tryDevices(t, dir), "null:rw zero:r full:w"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := Attach(dir, []Rule{null}); err != nil {
		t.Fatal(err)
	}
	if got, want := tryDevices(t, dir), "null:rw zero:- full:-"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// mountOf is the first of some directories that is of a type of file system; the test needs one.
func mountOf(t *testing.T, magic int64, dirs ...string) string {
	t.Helper()
	for _, dir := range dirs {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && int64(st.Type) == magic {
			return dir
		}
	}
	t.Fatalf("none of %v is a cgroup file system of the type that this test needs", dirs)
	return ""
}

// The devices controller of version 1, on machines that have it: a kernel has it or the other for a
// hierarchy, so this is no part of what every machine can show. The rules' text is in any case.
func TestLimit(t *testing.T) {
	for want, r := range map[string]Rule{"c 1:3 rwm": {Type: 'c', Major: 1, Minor: 3, Access: "rwm"},
		"b 8:* r": {Type: 'b', Major: 8, AnyMinor: true, Access: "r"}} {
		if r.String() != want {
			t.Errorf("%q, want %q", r, want)
		}
	}
	const controller = "/sys/fs/cgroup/devices"
	if _, err := os.Stat(controller + "/cgroup.procs"); errors.Is(err, os.ErrNotExist) {
		return
	}
	dir := group(t, controller)
	if err := Limit(dir, []Rule{{Type: 'c', Major: 1, Minor: 3, Access: "rwm"}, {Type: 'c', Major: 1, Minor: 5,
		Access: "r"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := tryDevices(t, dir), "null:rw zero:r full:-"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestOf(t *testing.T) {
	if r, err := Of("/dev/null", "rw"); err != nil || r.String() != "c 1:3 rw" {
		t.Errorf("%v, %v", r, err)
	}
	for _, path := range []string{"/etc", "/nowhere"} {
		if r, err := Of(path, "r"); err == nil {
			t.Errorf("%s: %v, want an error", path, r)
		}
	}
}
