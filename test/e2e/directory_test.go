package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rogpeppe/go-internal/testscript"
)

// entry is a name in the tables of docs/pod-directory.md.
type entry struct {
	name      string
	directory bool
	whole     bool   // a directory whose content is somebody else's
	since     string // what a pod has gone through when it may have the file: "", "run", "garbage"
	seen      bool
}

// directory holds the pods' directories against docs/pod-directory.md.
//
//	directory PAGE STATE     each file of the pods in that state, of which there are some, is on
//	                         the page, as one that pods in this state may have
//	directory -all [NAME…]   each name on the page, except for NAMEs, was seen in some pod
func directory() func(*testscript.TestScript, bool, []string) {
	var entries []*entry
	files, pods := 0, map[string]int{}
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if args[0] == "-all" {
			nowhere := 0
			for _, e := range entries {
				if !e.seen && !slices.Contains(args[1:], e.name) {
					ts.Logf("docs/pod-directory.md: %s: no pod has it", e.name)
					nowhere++
				}
			}
			ts.Logf("%d files of pods, by state: %v; %d names on the page", files, pods, len(entries))
			if nowhere > 0 {
				ts.Fatalf("the page has %d names that are nowhere", nowhere)
			}
			return
		}
		if entries == nil {
			entries = readPage(ts, args[0])
		}
		state, wrong := args[1], 0
		all, err := poddir.In("/var/lib/rkt").All()
		ts.Check(err)
		for _, p := range all {
			is, err := p.State()
			ts.Check(err)
			if is.String() != state {
				continue
			}
			pods[state]++
			dir := p.Dir()
			apps := appNames(ts, p)
			ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || path == dir {
					return err
				}
				files++
				name, _ := filepath.Rel(dir, path)
				at := slices.IndexFunc(entries, func(e *entry) bool {
					return namePattern(e.name, apps).MatchString(name)
				})
				if at < 0 {
					if !d.IsDir() || !slices.ContainsFunc(entries, func(e *entry) bool { return e.below(name, apps) }) {
						ts.Logf("%s: docs/pod-directory.md does not have %s", path, name)
						wrong++
					}
					return nil
				}
				e := entries[at]
				e.seen = true
				late := e.since == "run" && slices.Contains([]string{"preparing", "aborted prepare", "prepared"},
					state) || e.since == "garbage" && state != "exited garbage"
				if late || e.directory && !d.IsDir() {
					ts.Logf("%s: is not what docs/pod-directory.md says of %s: since %q, directory %v", path, e.name,
						e.since, e.directory)
					wrong++
				}
				if e.whole && d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}))
		}
		if pods[state] == 0 {
			ts.Fatalf("no pod is %s", state)
		}
		if wrong > 0 {
			ts.Fatalf("%d files are not as the page has them", wrong)
		}
	}
}

// appNames is a regular expression for the names of a pod's apps.
func appNames(ts *testscript.TestScript, p *poddir.Pod) string {
	names := []string{"no app yet"}
	apps, err := os.ReadDir(p.Path(poddir.AppsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		ts.Check(err)
	}
	for _, app := range apps {
		names = append(names, regexp.QuoteMeta(app.Name()))
	}
	return "(" + strings.Join(names, "|") + ")"
}

// below reports whether a directory leads to what the entry names.
func (e *entry) below(directory, apps string) bool {
	parts := strings.Split(e.name, "/")
	for n := 1; n < len(parts); n++ {
		if namePattern(strings.Join(parts[:n], "/"), apps).MatchString(directory) {
			return true
		}
	}
	return false
}

// namePattern is for the page's names: APP is an app of the pod, NAME and ID are anything, N a
// number.
func namePattern(name, apps string) *regexp.Regexp {
	text := regexp.QuoteMeta(strings.TrimSuffix(strings.TrimSuffix(name, "…"), "/"))
	text = regexp.MustCompile(`NAME|ID`).ReplaceAllString(text, `[^/]+`)
	text = strings.NewReplacer("APP", apps, "N", `[0-9]+`).Replace(text)
	return regexp.MustCompile("^" + text + "$")
}

func readPage(ts *testscript.TestScript, page string) (entries []*entry) {
	text, err := os.ReadFile(page)
	ts.Check(err)
	prefix, since, relevant := "", "", false
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "## `stage1/rootfs`"):
			prefix, since, relevant = "stage1/rootfs/", "", true
		case strings.HasPrefix(line, "## "):
			prefix, since, relevant = "", "", strings.HasPrefix(line, "## Files")
		case strings.HasPrefix(line, "Written by `rkt-run-prepared`"),
			strings.HasPrefix(line, "Written while the pod runs"):
			since = "run"
		case strings.HasPrefix(line, "Written by "):
			since = ""
		}
		cells := strings.Split(line, "|")
		if !relevant || len(cells) < 4 {
			continue
		}
		for i, name := range strings.Split(cells[1], "`") {
			if i%2 == 0 {
				continue
			}
			e := &entry{name: prefix + name, directory: strings.HasSuffix(strings.TrimSuffix(name, "…"), "/"),
				whole: strings.HasSuffix(name, "…"), since: since}
			if strings.Contains(cells[2], "written by `rkt-run-prepared") {
				e.since = "run"
			}
			if name == "garbage" {
				e.since = "garbage"
			}
			entries = append(entries, e)
		}
	}
	if len(entries) < 40 {
		ts.Fatalf("%s: only %d names", page, len(entries))
	}
	return entries
}
