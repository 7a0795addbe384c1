package run

import (
	"reflect"
	"testing"
)

func TestParseMounts(t *testing.T) {
	got, err := parseMounts("# a comment\n\n/usr stage1/rootfs/usr none rbind,ro 0 0\n/a\\040b\\134 stage1/x\\011y none bind 0 0\n")
	want := []bind{{"/usr", "stage1/rootfs/usr", true, true}, {`/a b\`, "stage1/x\ty", false, false}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, line := range []string{"/usr", "/usr usr ext4 rw 0 0", "usr usr none bind 0 0", "/usr /usr none bind 0 0", "/usr ../usr none bind 0 0",
		`/usr stage1/\056\056/\056\056/usr none bind 0 0`} {
		if got, err := parseMounts(line); err == nil {
			t.Errorf("%q: %+v, want an error", line, got)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("/usr stage1/rootfs/usr none rbind,ro 0 0\n")
	f.Add("/a\\040b\\ \\05 none bind 0 0")
	f.Fuzz(func(t *testing.T, text string) { parseMounts(text) })
}
