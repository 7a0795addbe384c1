package prepare

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestSELinuxFlag(t *testing.T) {
	for _, test := range []struct {
		values string
		want   SELinux
		err    string
	}{
		{"", SELinux{}, ""},
		{"auto", SELinux{}, ""},
		{"no", SELinux{Off: true}, ""},
		{"disable", SELinux{Off: true}, ""}, // Podman's word
		{"yes", SELinux{asked: "yes"}, ""},
		{"type:spc_t", SELinux{asked: "type:spc_t", typ: "spc_t"}, ""},
		{"type:a_t level:s0:c1,c2", SELinux{asked: "level:s0:c1,c2", typ: "a_t", level: "s0:c1,c2"}, ""},
		{"no filetype:a_t", SELinux{asked: "filetype:a_t", fileType: "a_t"}, ""},
		{"type:a_t no", SELinux{Off: true}, ""},
		{"type:a_t auto", SELinux{}, ""},
		{"maybe", SELinux{}, `"maybe" ... auto, yes, no, type:TYPE, filetype:TYPE, level:LEVEL`},
		{"user:x", SELinux{}, `"user:x" ... auto, yes, no, type:TYPE, filetype:TYPE, level:LEVEL`},
		{"type:", SELinux{}, `"" ... name in a context`},
		{"type:a:b", SELinux{}, `"a:b" ... name in a context`},
		{`level:s0"`, SELinux{}, `"s0\"" ... level such as s0:c1,c2`},
		{"level:", SELinux{}, `"" ... level such as s0:c1,c2`},
	} {
		var got SELinux
		var err error
		for _, value := range strings.Fields(test.values) {
			if err = got.Set(value); err != nil {
				break
			}
		}
		if test.err != "" {
			if !testkit.Says(err, test.err) {
				t.Errorf("%s: %v; want %s", test.values, err, test.err)
			}
		} else if err != nil || got != test.want {
			t.Errorf("%s: %+v, %v; want %+v", test.values, got, err, test.want)
		}
	}
}

// containers are contexts without categories.
func containers() *poddir.Labels {
	return &poddir.Labels{
		Process: selinux.Context{User: "u", Role: "r", Type: "container_t", Level: "s0"},
		File:    selinux.Context{User: "u", Role: "object_r", Type: "container_file_t", Level: "s0"},
	}
}

// given returns numbers in an order.
func given(numbers ...int) func(int) int {
	return func(int) int {
		n := numbers[0]
		numbers = append(numbers[1:], n)
		return n
	}
}

// A pod has categories that no other pod has, until that is removed: one that has exited has files
// with them.
func TestReserveCategories(t *testing.T) {
	pods := poddir.In(t.TempDir())
	give := func(random func(int) int, want string, files ...string) *poddir.Pod {
		t.Helper()
		p := newPod(t, pods)
		err := reserveCategories(p, pods, containers(), random)
		if want == "" {
			if !testkit.Says(err, "categories is free") {
				t.Error(err)
			}
			return p
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if err := os.WriteFile(p.Path(name), []byte("{}\n"), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		l, err := p.Labels()
		if err != nil || l.File.Level != want || l.Process.Level != want || l.Process.Type != "container_t" {
			t.Errorf("%v, %v; want %s", l, err, want)
		}
		return p
	}
	give(given(0), "s0:c0,c1", poddir.ManifestFile)
	exited := give(given(0, 1), "s0:c0,c2", poddir.ManifestFile, poddir.StartedFile)
	give(given(0, 1, 2), "s0:c1,c2")
	give(given(0, 1, 2), "")
	if _, err := exited.Delete(); err != nil {
		t.Fatal(err)
	}
	give(given(0, 1, 2), "s0:c0,c2")
}

// Of many at once, for whom there are few pairs, each has its own.
func TestManyReserveCategories(t *testing.T) {
	eachItsOwn(t, func(p *poddir.Pod, pods poddir.Pods) error {
		return reserveCategories(p, pods, containers(), func(int) int { return rand.IntN(4 * many) })
	}, levelOf)
}
