package fstab

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	got, err := Parse("# a comment\n\n/usr stage1/rootfs/usr none rbind,ro 0 0\n/a\\040b\\134 stage1/x\\011y none " +
		"bind 0 0\nsharedVolumes/a stage1/a none rbind,ro,nodev,rslave 0 0\n/x y none bind,rprivate\n")
	want := []Bind{
		{Source: "/usr", Target: "stage1/rootfs/usr", Recursive: true, ReadOnly: true},
		{Source: `/a b\`, Target: "stage1/x\ty"},
		{Source: "sharedVolumes/a", Target: "stage1/a", Recursive: true, ReadOnly: true, NoDev: true, Slave: true},
		{Source: "/x", Target: "y"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, line := range []string{"/usr", "/usr usr ext4 rw 0 0", "../usr usr none bind 0 0", "/usr /usr none bind 0 0",
		"/usr ../usr none bind 0 0", `/usr stage1/\056\056/\056\056/usr none bind 0 0`, "/usr usr none ro 0 0",
		"/usr usr none bind,noexec 0 0"} {
		if got, err := Parse(line); err == nil {
			t.Errorf("%q: %+v, want an error", line, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/usr stage1/rootfs/usr none rbind,ro 0 0\n")
	f.Add("/a\\040b\\ \\05 none bind 0 0")
	f.Fuzz(func(t *testing.T, text string) {
		binds, err := Parse(text)
		if err != nil {
			return
		}
		again := ""
		for _, b := range binds {
			again += b.String()
		}
		if got, err := Parse(again); err != nil || !reflect.DeepEqual(got, binds) {
			t.Errorf("%q: %+v, as written %q: %+v, %v", text, binds, again, got, err)
		}
	})
}

// Whatever is in a path, it is read as it was written, and is one line.
func FuzzString(f *testing.F) {
	f.Add("/a b", "c\td")
	f.Add("/#\\040\n/x y none bind 0 0\n", "\u00a0\u0085#")
	f.Fuzz(func(t *testing.T, source, target string) {
		want := Bind{Source: "/" + source, Target: "t" + strings.ReplaceAll(target, "/", "_"), NoDev: true}
		got, err := Parse(want.String())
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	})
}
