package house

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxFunction is the most lines that a function has: what a second screen would need is two
// functions.
const maxFunction = 60

// functions calls f with each function of the programs and of lib, and how many lines it has.
func functions(t *testing.T, f func(dir, name string, lines int)) {
	t.Helper()
	for _, top := range []string{"../../lib", "../../rkt", "../../docs"} {
		err := filepath.WalkDir(top, func(file string, d os.DirEntry, err error) error {
			if err != nil || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
				return err
			}
			files := token.NewFileSet()
			tree, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, decl := range tree.Decls {
				if function, ok := decl.(*ast.FuncDecl); ok {
					lines := files.Position(function.End()).Line - files.Position(function.Pos()).Line + 1
					f(strings.TrimPrefix(filepath.Dir(file), "../../"), function.Name.Name, lines)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestShortFunctions(t *testing.T) {
	all := 0
	functions(t, func(dir, name string, lines int) {
		all++
		if lines > maxFunction {
			t.Errorf("%s: %s has %d lines; split it into named steps of at most %d", dir, name, lines, maxFunction)
		}
	})
	if all < 1500 {
		t.Errorf("looked at %d functions only", all)
	}
}

// maxProse and maxCode are the most columns of a line of prose, in pages and comments, and of code.
const maxProse, maxCode = 100, 120

// tooLong counts the lines of a file that are too long. A table's row can't be wrapped, nor what a
// page shows as code.
func tooLong(name, text string) (n int) {
	fenced := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(strings.ReplaceAll(line, "\t", "    "), "\n")
		columns, page, trimmed := utf8.RuneCountInString(line), strings.HasSuffix(name, ".md"), strings.TrimSpace(line)
		limit := maxCode
		switch {
		case page && strings.HasPrefix(trimmed, "```"):
			fenced = !fenced
			continue
		case page && (fenced || strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "|") ||
			strings.HasPrefix(line, "#")):
			continue
		case page, strings.HasPrefix(trimmed, "// "):
			limit = maxProse
		}
		if columns > limit {
			n++
		}
	}
	return n
}

func TestTooLong(t *testing.T) {
	long := strings.Repeat("x", 101)
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"a.md", long + "\n" + long[1:] + "\n| " + long + "\n# " + long + "\n```\n" + long + "\n```\n    " + long +
			"\n" + long, 2},
		{"a.go", "// " + long + "\n\t// " + long[8:] + "\n" + long + "\n" + long + long + "\n\t\t// x\n", 2},
	} {
		if got := tooLong(c.name, c.text); got != c.want {
			t.Errorf("%s: %d lines, want %d", c.name, got, c.want)
		}
	}
}

// tracked are the files of the checkout that match the patterns, new ones too. One that was removed
// may still be among them.
func tracked(t *testing.T, patterns ...string) []string {
	t.Helper()
	args := append([]string{"ls-files", "--cached", "--others", "--exclude-standard"}, patterns...)
	cmd := exec.Command("git", args...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func TestLineLengths(t *testing.T) {
	files := 0
	for _, name := range tracked(t, "*.go", "*.md") {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, fs.ErrNotExist) || bytes.HasPrefix(text, []byte("// Code generated ")) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		files++
		if n := tooLong(name, string(text)); n > 0 {
			t.Errorf("%s: %d lines are longer than %d columns of prose or %d of code", name, n, maxProse, maxCode)
		}
	}
	if files < 200 {
		t.Errorf("looked at %d files only", files)
	}
}
