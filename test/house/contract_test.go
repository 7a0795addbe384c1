package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// podFiles are names of files of a pod's directory that mean nothing else.
var podFiles = regexp.MustCompile(`^(stage1|overlay|sharedVolumes|net|rkt/status)/|` +
	`^(sharedVolumes|subcgroup|ppid|users-reserved|prepared\.json|nspawn-options|resolv\.conf|` +
	`host-resolv\.conf|host-hosts)$`)

// contract are functions and types that look at the contract between programs, and who may use each
// besides lib/poddir; what others need, poddir tells.
var contract = []struct {
	name, instead string
	may           []string
}{
	{"schema.PodManifest", "poddir.Manifest, which is light and the same for all",
		[]string{"lib/pod/prepare", "lib/pod/metadata"}},
	{"poddir.ManifestFile", "Pod.Manifest", []string{"lib/pod/prepare", "lib/pod/metadata", "lib/command/catmanifest",
		"lib/pod/gc"}},
	{"HeldBy", "Pod.State", []string{"lib/stage1/running"}},
	// who has the lock
	{"StateHeld", "Pod.State", []string{"lib/pod/gc", "lib/pod/run", "lib/pod/copy", "lib/network/cni"}},
	{"poddir.PIDFile", "Pod.Supervisor", []string{"lib/pod/run", "lib/command/status"}},
}

// The names of a pod's files, who reads its manifest, and who finds out whether it lives are in
// lib/poddir.
func TestOneContract(t *testing.T) {
	used := map[string]bool{}
	files := 0
	err := filepath.WalkDir("../../lib", func(path string, d fs.DirEntry, err error) error {
		dir := strings.TrimPrefix(filepath.Dir(path), "../../")
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") ||
			dir == "lib/poddir" || dir == "lib/testkit" {
			return err
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && podFiles.MatchString(text) {
					t.Errorf("%s: %q is a name of a pod's file: lib/poddir has it", path, text)
				}
			case *ast.SelectorExpr:
				name := n.Sel.Name
				if of, ok := n.X.(*ast.Ident); ok && (of.Name == "poddir" || of.Name == "schema") {
					name = of.Name + "." + name
				}
				for _, c := range contract {
					if c.name != name {
						continue
					}
					used[c.name+dir] = true
					if !slices.Contains(c.may, dir) {
						t.Errorf("%s: uses %s: take %s", path, name, c.instead)
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 200 {
		t.Errorf("looked at %d files only", files)
	}
	for _, c := range contract {
		for _, dir := range c.may {
			if !used[c.name+dir] {
				t.Errorf("%s does not use %s any more: take it off the list", dir, c.name)
			}
		}
	}
}
