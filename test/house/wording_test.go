package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxWords is how many words of a sentence of ours a test may expect one after another. A test that
// wants more stands in the way of who improves the sentence: it matches by the program, the
// object's name, and the word or flag that says what to type next.
const maxWords = 4

// system are texts of the kernel and of Go's library: not ours to improve.
var system = regexp.MustCompile(`(?i)no such file or directory|permission denied|connection refused|` +
	`no space left on device|invalid argument|address already in use|too many levels of symbolic links|` +
	`read-only file system|operation not permitted|invalid cross-device link|unexpected end of json input|` +
	`certificate signed by unknown authority|bad http status code|not found|invalid tar header`)

// objects are nouns before the name of an object: they belong to the name.
var objects = strings.Fields("image layer entry app pod network plugin port volume secret dependency user " +
	"group program isolator annotation key sysctl format line mount")

var (
	quoted  = regexp.MustCompile(`"[^"]*"`)
	classes = regexp.MustCompile(`\\[bBdDwWsS]|\[[^\]]*\](\{[^}]*\}|[+*?])?`)
	aWord   = regexp.MustCompile(`^[A-Za-z]+(('|\.)[a-z]+)?$`)
)

// longestRun returns how many words of a sentence follow each other in what a test expects: a
// regular expression, or a text. A name, a flag, a path and ".*" end a run.
func longestRun(text string, pattern bool) (longest int) {
	text = quoted.ReplaceAllString(strings.ReplaceAll(text, "''", "'"), " @ ")
	if pattern {
		text = classes.ReplaceAllString(text, "@")
		text = strings.NewReplacer(`\n`, " @ ", `\`, "", ".*", " @ ", "|", " @ ").Replace(text)
	}
	run, before := 0, ""
	for _, field := range strings.Fields(system.ReplaceAllString(text, " @ ")) {
		word := strings.Trim(field, "^$().,;:?*!")
		switch {
		case !aWord.MatchString(word), slices.Contains(objects, before) && strings.HasSuffix(field, ":"):
			run = 0
		case !slices.Contains(objects, word):
			run++
			longest = max(longest, run)
		}
		before = word
	}
	return longest
}

func TestLongestRun(t *testing.T) {
	for _, c := range []struct {
		text    string
		pattern bool
		want    int
	}{
		{`^rkt-net: pod "x y": is running; stop it first$`, true, 5},
		{`^rkt-net: pod "x y": is running; stop`, true, 3},
		{`is .*running|stop it`, true, 2},
		{`pod [-0-9a-f]{36}: has\nended`, true, 1},
		{`open /x: no such file or directory`, false, 1},
		{`use --flag or that`, false, 2},
		{`network net: plugin double: it fails`, false, 2},
	} {
		if got := longestRun(c.text, c.pattern); got != c.want {
			t.Errorf("%s: %d words, want %d", c.text, got, c.want)
		}
	}
}

// expectation is a line of a script that expects something of a program's errors.
var expectation = regexp.MustCompile(`(?m)^(?:\[[^\]]*\] )*(?:(?:! )?(?:stderr '|stdout '\^?rkt)|` +
	`(?:exec bash )?[a-z]+\.sh ')((?:[^'\n]|'')*)'`)

// keptWords are scripts that hold what a program says, word by word: to who types a mistake, and to
// scripts that were written for rkt 1.30.
var keptWords = []string{"mistakes.txtar", "words.txtar"}

// Scripts match errors by kind, not by whole sentences.
func TestWordingInScripts(t *testing.T) {
	found := 0
	for _, name := range tracked(t, "*.txtar") {
		text, err := os.ReadFile("../../" + name)
		if err != nil || slices.Contains(keptWords, filepath.Base(name)) {
			continue
		}
		for _, m := range expectation.FindAllStringSubmatch(string(text), -1) {
			found++
			if n := longestRun(m[1], true); n > maxWords {
				t.Errorf("%s: %d words of a sentence: %s", name, n, m[1])
			}
		}
	}
	if found < 500 {
		t.Errorf("looked at %d expectations only", found)
	}
}

// wording finds what a function of a test expects of the text of errors.
type wording struct {
	function *ast.FuncDecl
	texts    map[string]bool       // variables that hold the text of an error
	values   map[string][]ast.Expr // what is assigned to a variable, or to a field of the tables
	parts    []ast.Expr            // what an error is to contain
	whole    []ast.Expr            // what an error is to be
}

// looksIn are functions of the package strings.
var looksIn = []string{"Contains", "HasPrefix", "HasSuffix"}

// isText reports whether an expression is the text of an error.
func (w *wording) isText(e ast.Expr) (is bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			sel, ok := n.Fun.(*ast.SelectorExpr)
			if ok && slices.Contains(looksIn, sel.Sel.Name) {
				return false // whether, not the text
			}
			is = is || ok && sel.Sel.Name == "Error" && len(n.Args) == 0
		case *ast.Ident:
			is = is || w.texts[n.Name]
		}
		return true
	})
	return is
}

// learn notes what a node says of variables and tables.
func (w *wording) learn(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if id, ok := left.(*ast.Ident); ok && len(n.Lhs) == len(n.Rhs) {
				w.values[id.Name] = append(w.values[id.Name], n.Rhs[i])
				w.texts[id.Name] = w.texts[id.Name] || w.isText(n.Rhs[i])
			}
		}
	case *ast.RangeStmt:
		table := []ast.Expr{n.X}
		if id, ok := n.X.(*ast.Ident); ok {
			table = w.values[id.Name]
		}
		for _, t := range table {
			if lit, ok := t.(*ast.CompositeLit); ok {
				w.learnTable(n, lit)
			}
		}
	}
	return true
}

// learnTable notes the elements of a table that a loop goes through: for the loop's variables, and
// for the fields of its struct.
func (w *wording) learnTable(loop *ast.RangeStmt, table *ast.CompositeLit) {
	var fields []string
	if array, ok := table.Type.(*ast.ArrayType); ok {
		if s, ok := array.Elt.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					fields = append(fields, name.Name)
				}
			}
		}
	}
	note := func(variable, value ast.Expr) {
		if id, ok := variable.(*ast.Ident); ok {
			w.values[id.Name] = append(w.values[id.Name], value)
		}
	}
	for _, e := range table.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			note(loop.Key, pair.Key)
			e = pair.Value
		}
		note(loop.Value, e)
		row, ok := e.(*ast.CompositeLit)
		if !ok {
			continue
		}
		for i, value := range row.Elts {
			if pair, ok := value.(*ast.KeyValueExpr); ok {
				note(pair.Key, pair.Value)
			} else if i < len(fields) {
				w.values[fields[i]] = append(w.values[fields[i]], value)
			}
		}
	}
}

// look finds where a node compares the text of an error.
func (w *wording) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		if n.Op != token.EQL && n.Op != token.NEQ {
			break
		}
		if w.isText(n.X) {
			w.whole = append(w.whole, n.Y)
		} else if w.isText(n.Y) {
			w.whole = append(w.whole, n.X)
		}
	case *ast.CallExpr:
		sel, ok := n.Fun.(*ast.SelectorExpr)
		if ok && len(n.Args) == 2 && (slices.Contains([]string{"Says", "Has"}, sel.Sel.Name) || w.isText(n.Args[0]) &&
			slices.Contains(looksIn, sel.Sel.Name)) {
			w.parts = append(w.parts, n.Args[1])
		}
	}
	return true
}

// literals returns the texts that an expression can be.
func (w *wording) literals(e ast.Expr, seen map[ast.Expr]bool) (found []string) {
	if seen[e] {
		return nil
	}
	seen[e] = true
	variable := ""
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return []string{text}
	case *ast.BinaryExpr:
		return []string{strings.Join(append(w.literals(e.X, seen), w.literals(e.Y, seen)...), "@")}
	case *ast.Ident:
		variable = e.Name
	case *ast.SelectorExpr:
		variable = e.Sel.Name
	case *ast.CallExpr:
		for _, arg := range e.Args {
			found = append(found, w.literals(arg, seen)...)
		}
	}
	for _, value := range w.values[variable] {
		found = append(found, w.literals(value, seen)...)
	}
	return found
}

// Tests in Go match errors by kind: by errors.Is, by errors.As, or by a part of what they say. None
// wants the whole text.
func TestWordingInTests(t *testing.T) {
	found := 0
	for _, name := range tracked(t, "*_test.go") {
		file, err := parser.ParseFile(token.NewFileSet(), "../../"+name, nil, parser.SkipObjectResolution)
		if err != nil {
			continue // removed in the tree, and in the index still
		}
		for _, d := range file.Decls {
			function, ok := d.(*ast.FuncDecl)
			if !ok || function.Body == nil {
				continue
			}
			w := &wording{function: function, texts: map[string]bool{}, values: map[string][]ast.Expr{}}
			ast.Inspect(function.Body, w.learn)
			ast.Inspect(function.Body, w.look)
			found += len(w.parts)
			w.report(t, name)
		}
	}
	if found < 100 {
		t.Errorf("looked at %d expectations only", found)
	}
}

func (w *wording) report(t *testing.T, name string) {
	long := map[string]bool{}
	for _, e := range w.parts {
		for _, text := range w.literals(e, map[ast.Expr]bool{}) {
			if longestRun(strings.ReplaceAll(text, " ... ", " @ "), false) > maxWords {
				long[text] = true
			}
		}
	}
	for _, text := range slices.Sorted(maps.Keys(long)) {
		t.Errorf("%s: %s: more than %d words of a sentence: %s", name, w.function.Name.Name, maxWords, text)
	}
	for _, e := range w.whole {
		texts := w.literals(e, map[ast.Expr]bool{})
		if len(texts) == 0 || slices.ContainsFunc(texts, func(s string) bool { return s != "" }) {
			t.Errorf("%s: %s compares the whole text of an error: testkit.Says looks for parts of it", name,
				w.function.Name.Name)
		}
	}
}
