package host

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/systree"
)

// The copy of systemd has programs of systemd and nothing else that can be started: no shell, and
// no tool.
func TestProgramsHaveNoShell(t *testing.T) {
	var programs []string
	err := systree.In(t.TempDir()).Use(Programs("/usr/bin/systemd-nspawn"), func(dir string) error {
		return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if library := strings.Contains(d.Name(), ".so"); err == nil && !library && info.Mode()&0o111 != 0 {
				name, _ := filepath.Rel(dir, path) // of two absolute paths it can't fail
				programs = append(programs, "/"+name)
			}
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{NspawnFile, "/usr/lib/systemd/systemd", "/usr/lib/systemd/systemd-executor",
		"/usr/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-shutdown"}
	if i := slices.Index(want, "/usr/lib/systemd/systemd-executor"); !slices.Contains(programs, want[i]) {
		// before systemd 255
		want = slices.Delete(want, i, i+1)
	}
	if !slices.Equal(programs, want) {
		t.Errorf("%v, want %v", programs, want)
	}
}

// What units of a pod start is in the copy of systemd, or rkt's.
func TestUnitsStartPrograms(t *testing.T) {
	var copied []string
	for _, p := range Programs("") {
		copied = append(copied, p.Path)
	}
	app := hostile
	app.Notify, app.PreStart, app.PostStop, app.Stdin, app.Stdout = true, []string{"/pre"}, []string{"/post"},
		stage1.TTY, stage1.Attached
	app.Health = &stage1.Health{Exec: []string{"/check"}, Interval: 30e9, Timeout: 5e9, StartPeriod: 1e9, Retries: 3}
	files, err := Files(uuid, stage1.Resources{TasksMax: 1}, []stage1.App{app})
	if err != nil {
		t.Fatal(err)
	}
	ready, _ := Ready([]string{app.Name}, nil)
	files[ReadyUnit] = written(t, ready)
	started := 0
	for name, text := range files {
		for line := range strings.Lines(string(text)) {
			setting, command, _ := strings.Cut(strings.TrimSpace(line), "=")
			if !strings.HasPrefix(setting, "Exec") {
				continue
			}
			started++
			program, _, _ := strings.Cut(command, " ")
			if !strings.HasPrefix(program, "/rkt/") && !slices.Contains(copied, program) {
				t.Errorf("%s: %s: not in the pod", name, strings.TrimSpace(line))
			}
		}
	}
	if started < 10 {
		t.Errorf("%d commands in %d files", started, len(files))
	}
}
