package doctor

import (
	"os"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	for line, want := range map[string]struct {
		major, minor int
		vulnerable   bool
	}{
		"systemd 252 (252.39-1~deb12u2)": {252, 39, false}, "systemd 257 (257.9-1~deb13u1)": {257, 9, false},
		"systemd 258 (258.4-1)": {258, 4, true}, "systemd 258 (258.5-1)": {258, 5, false},
		"systemd 258 (258-1)": {258, 0, true}, "systemd 259 (259.1)": {259, 1, true}, "systemd 259 (259.2)": {259, 2,
			false}, "systemd 260 (260~rc1)": {260, 0, false},
		"systemd 258": {258, 0, true}, "systemd 259 (v259-3.fc44)": {259, 0, true}, "": {0, 0, false},
		"busybox": {0, 0, false},
	} {
		major, minor, _ := version(line)
		if major != want.major || minor != want.minor || vulnerable(major, minor) != want.vulnerable {
			t.Errorf("%q: %d.%d, vulnerable %v", line, major, minor, vulnerable(major, minor))
		}
		if vulnerable(major, minor) && mended[major] == "" {
			t.Errorf("%q: no version without the fault", line)
		}
	}
}

func TestWorst(t *testing.T) {
	for want, list := range map[Verdict][]Verdict{OK: {OK, OK}, Warning: {OK, Warning, OK},
		Fault: {Warning, Fault, Warning}} {
		var found []Finding
		for _, v := range list {
			found = append(found, Finding{Verdict: v})
		}
		if got := Worst(found); got != want {
			t.Errorf("%v: %s", list, got)
		}
	}
	if Worst(nil) != OK {
		t.Error("nothing found is bad")
	}
}

// The page has a row for each check, and none more.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		if strings.Count(string(page), "\n| `"+name+"` | ") != 1 {
			t.Errorf("docs/doctor.md: no row of %s, or several", name)
		}
	}
	if rows := strings.Count(string(page), "\n| `"); rows != len(Names()) {
		t.Errorf("docs/doctor.md: %d rows, %d checks", rows, len(Names()))
	}
}
