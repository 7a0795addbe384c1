package house

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

const module = "github.com/rkt-toolkit/rkt/"

// goList runs go list at the top of the repository and returns its lines, split into words.
func goList(t *testing.T, args ...string) (lines [][]string) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) > 0 {
			lines = append(lines, words)
		}
	}
	return lines
}

// compareGenerated compares a generated part of a page, which stands between "<!-- generated: NAME
// -->" and "<!-- end -->", with what it should be. make table writes it.
func compareGenerated(t *testing.T, page, name string, generate func(old string) string) {
	t.Helper()
	testkit.Generated(t, page, "<!-- generated: "+name+" -->\n", "<!-- end -->\n", generate)
}

// roomOf returns the room of a package, which is a directory below lib; programs are one room
// together.
func roomOf(pkg string) string {
	local, ours := strings.CutPrefix(pkg, module)
	if !ours {
		return ""
	}
	room, below := strings.CutPrefix(local, "lib/")
	if !below {
		return "programs"
	}
	room, _, _ = strings.Cut(room, "/")
	return room
}

// roomImports returns the rooms that each room imports something of. Tests do not count.
func roomImports(t *testing.T) map[string]map[string]bool {
	imports := map[string]map[string]bool{}
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./lib/...", "./rkt", "./rkt-...") {
		room := roomOf(line[0])
		if strings.HasPrefix(line[0], module+"lib/command/all") || room == "testkit" {
			continue // no program links it
		}
		if imports[room] == nil {
			imports[room] = map[string]bool{}
		}
		for _, imported := range line[1:] {
			if to := roomOf(imported); to != "" && to != room {
				imports[room][to] = true
			}
		}
	}
	return imports
}

// reachable returns all rooms that are imported by a room, directly or by others.
func reachable(imports map[string]map[string]bool, from string) map[string]bool {
	found, todo := map[string]bool{}, []string{from}
	for len(todo) > 0 {
		for room := range imports[todo[0]] {
			if !found[room] {
				found[room] = true
				todo = append(todo, room)
			}
		}
		todo = todo[1:]
	}
	return found
}

// floors places each room above all that it imports. Rooms that reach each other share a floor.
func floors(imports map[string]map[string]bool) map[string]int {
	reach := map[string]map[string]bool{}
	for room := range imports {
		reach[room] = reachable(imports, room)
	}
	floor := map[string]int{}
	var place func(room string) int
	place = func(room string) int {
		if floor[room] > 0 {
			return floor[room]
		}
		height := 1
		group := []string{room}
		for other := range reach[room] {
			switch {
			case other != room && reach[other][room]:
				group = append(group, other)
			case other != room:
				height = max(height, place(other)+1)
			}
		}
		for _, member := range group {
			floor[member] = height
		}
		return height
	}
	for room := range imports {
		place(room)
	}
	return floor
}

// drawRooms draws the rooms by floors, the highest first, with what each imports.
func drawRooms(imports map[string]map[string]bool) string {
	floor := floors(imports)
	rooms := slices.SortedFunc(maps.Keys(imports), func(a, b string) int {
		return cmp.Or(cmp.Compare(floor[b], floor[a]), strings.Compare(a, b))
	})
	var out strings.Builder
	out.WriteString("```\nfloor  room        imports something of\n")
	for i, room := range rooms {
		label := ""
		if i == 0 || floor[rooms[i-1]] != floor[room] {
			label = fmt.Sprint(floor[room])
			out.WriteString("-----  ----------  " + strings.Repeat("-", 62) + "\n")
		}
		below := slices.DeleteFunc(slices.Clone(rooms), func(r string) bool { return !imports[room][r] })
		out.WriteString(strings.TrimRight(fmt.Sprintf("%5s  %-10s  %s", label, room, strings.Join(below, " ")), " ") +
			"\n")
	}
	out.WriteString("```\n")
	return out.String()
}

// The picture of the rooms in docs/architecture.md is what the packages import.
func TestRoomsPicture(t *testing.T) {
	compareGenerated(t, "../../docs/architecture.md", "rooms", func(string) string { return drawRooms(roomImports(t)) })
}

// A picture of made-up rooms, of which two import each other.
func TestDrawRooms(t *testing.T) {
	got := drawRooms(map[string]map[string]bool{"top": {"a": true, "ground": true}, "a": {"b": true},
		"b": {"a": true, "ground": true}, "ground": {}})
	want := "```\nfloor  room        imports something of\n" +
		"-----  ----------  --------------------------------------------------------------\n" +
		"    3  top         a ground\n" +
		"-----  ----------  --------------------------------------------------------------\n" +
		"    2  a           b\n" +
		"       b           a ground\n" +
		"-----  ----------  --------------------------------------------------------------\n" +
		"    1  ground\n```\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// identifiers are the Go names that a sentence of docs/architecture.md puts into backquotes after a
// file.
var (
	walkHeading = regexp.MustCompile(`(?m)^### (One .*)\n`)
	walkFile    = regexp.MustCompile(`\]\(\.\./([-a-z0-9_/]+\.go)\)`)
	identifier  = regexp.MustCompile("`([A-Za-z][A-Za-z0-9]*(?:\\.[A-Za-z][A-Za-z0-9]*)?)`")
)

// maxWalk is in how many files a reader can follow a value.
const maxWalk = 3

// The walks in docs/architecture.md name files that exist, in each item those names that its file
// defines, and at most three files.
func TestWalks(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	headings := walkHeading.FindAllStringSubmatchIndex(string(text), -1)
	if len(headings) < 3 {
		t.Fatalf("only %d walks", len(headings))
	}
	for _, at := range headings {
		title, walk := string(text[at[2]:at[3]]), string(text[at[1]:])
		walk, _, _ = strings.Cut(walk, "\n#")
		files := map[string]bool{}
		for _, item := range regexp.MustCompile(`(?m)^\d+\. `).Split(walk, -1)[1:] {
			item, _, _ = strings.Cut(item, "\n\n")
			named := walkFile.FindStringSubmatch(item)
			if named == nil {
				t.Errorf("%s: an item without a file: %s", title, item)
				continue
			}
			files[named[1]] = true
			source, err := os.ReadFile(filepath.Join("../..", named[1]))
			if err != nil {
				t.Errorf("%s: %v", title, err)
				continue
			}
			names := identifier.FindAllStringSubmatch(item, -1)
			if len(names) == 0 {
				t.Errorf("%s: %s: names nothing in it", title, named[1])
			}
			for _, name := range names {
				if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name[1]) + `\b`).Match(source) {
					t.Errorf("%s: %s has no %s", title, named[1], name[1])
				}
			}
		}
		if len(files) == 0 || len(files) > maxWalk {
			t.Errorf("%s: goes through %d files, and a reader is promised at most %d", title, len(files), maxWalk)
		}
	}
}

// The walk of a pod in docs/architecture.md names programs and packages that exist, and functions
// that they have.
func TestWalkOfAPod(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walk, _ := strings.Cut(string(text), "\n## The walk of a pod\n")
	walk, _, _ = strings.Cut(walk, "\n## ")
	row := regexp.MustCompile("(?m)^\\| `([-a-z0-9]+)[^`]*` \\| `(lib/[a-z0-9/]+)`: `([A-Za-z.]+)` \\|")
	rows := row.FindAllStringSubmatch(walk, -1)
	if all := strings.Count(walk, "\n| `"); len(rows) != all || all < 7 {
		t.Fatalf("only %d of %d rows name a program, a package and a function", len(rows), all)
	}
	for _, row := range rows {
		if _, err := os.Stat(filepath.Join("../..", row[1], "main.go")); err != nil {
			t.Errorf("%s: %v", row[1], err)
		}
		function := row[3][strings.LastIndexByte(row[3], '.')+1:]
		defined := regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + function + `\(`)
		sources, err := filepath.Glob(path.Join("../..", row[2], "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(sources, func(file string) bool {
			source, err := os.ReadFile(file)
			return err == nil && defined.Match(source)
		}) {
			t.Errorf("%s: %s has no function %s", row[1], row[2], function)
		}
		imports := goList(t, "-deps", "./"+row[1])
		if !slices.ContainsFunc(imports, func(line []string) bool { return line[0] == module+row[2] }) {
			t.Errorf("%s does not link %s", row[1], row[2])
		}
	}
}

// linkedBy returns, by module, the programs that link something of it.
func linkedBy(t *testing.T) map[string][]string {
	users := map[string][]string{}
	for _, program := range programs(t) {
		seen := map[string]bool{strings.TrimSuffix(module, "/"): true}
		for _, line := range goList(t, "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./"+program) {
			if !seen[line[0]] {
				seen[line[0]] = true
				users[line[0]] = append(users[line[0]], program)
			}
		}
	}
	return users
}

// The table in docs/dependencies.md has each module that a program links or that go.mod requires,
// and says by which programs it is linked. Why it is linked is written by hand.
func TestDependenciesTable(t *testing.T) {
	users, all := linkedBy(t), len(programs(t))
	for _, line := range goList(t, "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all") {
		if _, linked := users[line[0]]; !linked {
			users[line[0]] = nil
		}
	}
	compareGenerated(t, "../../docs/dependencies.md", "modules", func(old string) string {
		return dependencies(t, old, users, all)
	})
}

// dependencies returns the rows of old with the programs of today, and a row for each module that
// has none.
func dependencies(t *testing.T, old string, users map[string][]string, all int) string {
	out := "| module | why | linked by |\n|---|---|---|\n"
	row := func(name, why string) {
		by := strings.Join(users[name], ", ")
		switch len(users[name]) {
		case 0:
			by = "tests only"
		case all:
			by = "all"
		case all - 1:
			for _, program := range programs(t) {
				if !slices.Contains(users[name], program) {
					by = "all but " + program
				}
			}
		}
		out += fmt.Sprintf("| %s | %s | %s |\n", name, why, by)
	}
	done := map[string]bool{}
	for line := range strings.Lines(old) {
		cells := strings.Split(line, " | ")
		name := strings.TrimPrefix(cells[0], "| ")
		if _, still := users[name]; still && len(cells) == 3 && !done[name] {
			done[name] = true
			row(name, cells[1])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(users)) {
		if !done[name] {
			t.Errorf("docs/dependencies.md does not say why %s is linked", name)
			row(name, "?")
		}
	}
	return out
}

// A module that is new has no reason yet, and one that is gone has no row any more.
func TestDependencies(t *testing.T) {
	old := "| module | why | linked by |\n|---|---|---|\n| a.b/c | for c | all |\n| gone | once | rkt |\n| x.y | " +
		"tests | rkt |\n"
	want := "| module | why | linked by |\n|---|---|---|\n| a.b/c | for c | rkt, rkt-gc |\n| x.y | tests | tests " +
		"only |\n"
	if got := dependencies(t, old, map[string][]string{"a.b/c": {"rkt", "rkt-gc"}, "x.y": nil}, 20); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
