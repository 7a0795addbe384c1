package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxFunction is the most lines that a function has: what a second screen would need is two functions.
const maxFunction = 60

// longFunctions are longer for now, by the directory and the name, with the most lines that each may have. What is shortened leaves
// the list, and nothing joins it.
var longFunctions = map[string]int{
	"lib/command/image list":        70,
	"lib/command/rkt front":         70,
	"lib/image FromOCI":             90,
	"lib/image/fetch byName":        70,
	"lib/image/recipe read":         70,
	"lib/image/store AddImage":      90,
	"lib/image/verify archive":      80,
	"lib/network/cni settleVersion": 70,
	"lib/pod/attach Attach":         70,
	"lib/pod/attach Serve":          70,
	"lib/pod/enter Run":             70,
	"lib/pod/export add":            70,
	"lib/pod/gc collect":            80,
	"lib/pod/gc remove":             80,
	"lib/pod/prepare add":           90,
	"lib/pod/prepare fill":          120,
	"lib/pod/prepare isolate":       70,
	"lib/pod/prepare resolve":       210,
	"lib/pod/prepare writeRoot":     70,
	"lib/pod/run Become":            210,
	"lib/pod/run activate":          70,
	"lib/pod/run mountAll":          70,
	"lib/pod/status read":           70,
	"lib/stage1 Config":             110,
	"lib/stage1 Files":              80,
	"lib/testkit become":            110,
	"lib/testkit becomeGuest":       110,
}

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
		limit := maxFunction
		if longer, ok := longFunctions[dir+" "+name]; ok {
			limit = longer
		}
		if strings.HasPrefix(dir, "lib/stage1/") && longFunctions["lib/stage1 "+name] > 0 { // it may move into a flavor
			limit = longFunctions["lib/stage1 "+name]
		}
		if lines > limit {
			t.Errorf("%s: %s has %d lines; split it into named steps of at most %d", dir, name, lines, limit)
		}
	})
	if all < 1500 {
		t.Errorf("looked at %d functions only", all)
	}
}
