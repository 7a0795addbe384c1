package sysctl

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestCheck(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"net.core.somaxconn", "1", ""},
		{"net/ipv4/conf/eth0.100/forwarding", "1", ""},
		{"net.ipv4.conf.eth0/100.forwarding", "1", ""},
		{"kernel.sem", "1 2 3 4", ""},
		{"kernel/msgmax", "1", ""},
		{"fs.mqueue.msg_max", "1", ""},
		{"kernel.core_pattern", "|/x", "of a pod's own"},
		{"kernel.hostname", "x", "of a pod's own"},
		{"network", "x", "of a pod's own"},
		{"", "x", "of a pod's own"},
		{"net/../kernel/core_pattern", "x", "not a name of sysctl(8)"},
		{"net.//.kernel.core_pattern", "x", "not a name of sysctl(8)"},
		{"net..core", "x", "not a name of sysctl(8)"},
		{"net.", "x", "not a name of sysctl(8)"},
		{"net.a\x00", "x", "not a name of sysctl(8)"},
		{"net.core.somaxconn", "", "value in one line"},
		{"net.core.somaxconn", "1\n2", "value in one line"},
	} {
		err := Check(test.name, test.value)
		if !testkit.Says(err, test.want) {
			t.Errorf("%q=%q: %v, want %q", test.name, test.value, err, test.want)
		}
	}
}

func TestSet(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"net/core/somaxconn", "net/ipv4/conf/eth0.100/forwarding"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("somaxconn", filepath.Join(dir, "net/core/link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	fd := int(root.Fd())
	if err := Set(fd, map[string]string{"net.core.somaxconn": "7",
		"net.ipv4.conf.eth0/100.forwarding": "1"}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"net/core/somaxconn": "7", "net/ipv4/conf/eth0.100/forwarding": "1"} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	for name, want := range map[string]string{"net.none": "net.none=1: ... no such parameter",
		"net.core.link": "symbolic links"} {
		if err := Set(fd, map[string]string{name: "1"}); !testkit.Says(err, want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}
