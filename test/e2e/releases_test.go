package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// releasesVariable names a directory of trees, one for each release of Debian, which "make
// releases" makes; sessionsVariable has the names of sessions to run there, or all are run;
// tableVariable names a page to write the table into. In a host, releaseVariable has the name of
// its release, or "." for the machine's own.
const (
	releaseVariable  = "RKT_E2E_RELEASE"
	releasesVariable = "RKT_RELEASES"
	sessionsVariable = "RKT_RELEASES_SESSIONS"
	tableVariable    = "RKT_RELEASES_TABLE"
)

// TestReleases runs sessions on hosts of other releases, each with a systemd of its own, and prints
// which passed.
func TestReleases(t *testing.T) {
	dir := os.Getenv(releasesVariable)
	if dir == "" {
		t.Skipf("$%s is not set: run make test, or make test-releases", releasesVariable)
	}
	trees, err := filepath.Glob(filepath.Join(dir, "*/usr/lib/systemd"))
	if err != nil || len(trees) == 0 {
		t.Fatalf("%s: no trees of releases; make them with make releases: %v", dir, err)
	}
	sessions := strings.Fields(os.Getenv(sessionsVariable))
	if len(sessions) == 0 {
		files, err := filepath.Glob("testdata/*.txtar")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			sessions = append(sessions, strings.TrimSuffix(filepath.Base(file), ".txtar"))
		}
		sessions = append(sessions, softReboot)
	}
	results := newMatrix(t, trees, sessions)
	overlay := installed(t)
	for _, release := range results.releases {
		for _, session := range sessions {
			t.Run(release.name+"/"+session, func(t *testing.T) {
				file := "testdata/" + session + ".txtar"
				if session == softReboot {
					file = "testdata/" + session + "/1-before.txtar"
				}
				besideOthers(t, file)
				t.Cleanup(func() { results.record(release, session, !t.Failed()) })
				if session == softReboot {
					playSoftReboot(t, release.root, overlay)
					return
				}
				play(t, release.root, []string{overlay}, file)
			})
		}
	}
	t.Cleanup(func() { // when all of them have ended
		t.Log("\n" + results.String())
		if page := os.Getenv(tableVariable); page != "" {
			if err := results.write(page); err != nil {
				t.Error(err)
			}
		}
	})
}

// release is a tree with the files of one release of Debian.
type release struct{ name, root, systemd string }

// matrix is which session passed on which release.
type matrix struct {
	releases []release
	sessions []string

	sync.Mutex
	passed map[string]map[string]bool // by name of the release, by session
}

func newMatrix(t *testing.T, trees, sessions []string) *matrix {
	t.Helper()
	m := &matrix{sessions: sessions, passed: map[string]map[string]bool{}}
	for _, tree := range trees {
		root := strings.TrimSuffix(tree, "/usr/lib/systemd")
		out, err := exec.Command("chroot", root, "systemctl", "--version").Output()
		if err != nil {
			t.Fatalf("%s: systemctl --version: %v", root, err)
		}
		m.releases = append(m.releases, release{filepath.Base(root), root, strings.Fields(string(out))[1]})
		m.passed[filepath.Base(root)] = map[string]bool{}
	}
	slices.SortFunc(m.releases, func(a, b release) int { return cmp.Compare(a.systemd, b.systemd) })
	return m
}

func (m *matrix) record(r release, session string, passed bool) {
	m.Lock()
	defer m.Unlock()
	m.passed[r.name][session] = passed
}

// String is a line for each session, with a column for each release.
func (m *matrix) String() string {
	text := fmt.Sprintf("%-16s", "session")
	for _, r := range m.releases {
		text += fmt.Sprintf(" %-14s", r.name+" "+r.systemd)
	}
	for _, session := range m.sessions {
		text += fmt.Sprintf("\n%-16s", session)
		for _, r := range m.releases {
			text += fmt.Sprintf(" %-14s", map[bool]string{true: "passes", false: "FAILS"}[m.passed[r.name][session]])
		}
	}
	return text + "\n"
}

// Marks around the table in a page.
const (
	tableBegin = "<!-- made by make test-releases -->\n"
	tableEnd   = "<!-- end -->\n"
)

// write puts a summary between the marks of a page: a line for each release.
func (m *matrix) write(page string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s: has no marks for the table", page)
	}
	table := "| Debian | systemd | sessions that pass | that fail |\n|---|---|---|---|\n"
	for _, r := range m.releases {
		var failed []string
		for _, session := range m.sessions {
			if !m.passed[r.name][session] {
				failed = append(failed, session)
			}
		}
		table += fmt.Sprintf("| %s | %s | %d of %d | %s |\n", r.name, r.systemd, len(m.sessions)-len(failed),
			len(m.sessions),
			strings.Join(failed, ", "))
	}
	return os.WriteFile(page, []byte(before+tableBegin+table+tableEnd+after), 0o644)
}
