package all

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

const (
	schemas = "../../../docs/schema"
	module  = "github.com/rkt-toolkit/rkt/"
)

// printed is what a command prints with --format=json, by the command's name, such as "rkt image
// df".
func printed() map[string]any {
	found := map[string]any{}
	look := func(name string, setup func(*cli.Flags) cli.Run) {
		fs := cli.NoFlags(name)
		setup(fs)
		if fs.Prints != nil {
			found[strings.Replace(name, "rkt-", "rkt ", 1)] = fs.Prints
		}
	}
	for _, c := range Programs() {
		if c.Setup != nil {
			look(c.Name, c.Setup)
		}
		for _, v := range c.Verbs {
			if v.Setup != nil {
				look(c.Name+" "+v.Name, v.Setup)
			}
		}
	}
	return found
}

// The schemas in docs/schema are made from the types of what is printed and their comments.
func TestSchemas(t *testing.T) {
	var files, rows []string
	for name, value := range printed() {
		s, err := schemaOf(name, reflect.TypeOf(value))
		if err != nil {
			t.Fatal(name, err)
		}
		text, err := json.MarshalIndent(s, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		file := strings.ReplaceAll(name, " ", "-") + ".json"
		testkit.Golden(t, filepath.Join("..", schemas, file), append(text, '\n'))
		files = append(files, file)
		rows = append(rows, fmt.Sprintf("| `%s` | [%s](schema/%s) | %s |\n", name, file, file, what(s)))
	}
	entries, err := os.ReadDir(schemas)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(files, e.Name()) {
			t.Errorf("docs/schema/%s: of no command", e.Name())
		}
	}
	slices.Sort(rows)
	testkit.Generated(t, "../../../docs/json.md", "<!-- generated: schemas -->\n", "<!-- end -->", func(string) string {
		return "| command | schema | prints |\n|---|---|---|\n" + strings.Join(rows, "")
	})
}

// what tells in a few words what the JSON is.
func what(s *jsonschema.Schema) string {
	if s.Items != nil {
		return "an array of objects with " + keys(s.Items)
	}
	return "an object with " + keys(s)
}

func keys(s *jsonschema.Schema) string {
	var all []string
	for _, name := range s.PropertyOrder {
		all = append(all, "`"+name+"`")
	}
	return strings.Join(all, ", ")
}

// schemaOf makes a schema of a type. Objects may have further properties: later versions of a
// program print more.
func schemaOf(name string, of reflect.Type) (*jsonschema.Schema, error) {
	s, err := jsonschema.ForType(of, &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[netip.Addr](): {Type: "string", Description: `An IP address, "" for none.`},
	}})
	if err != nil {
		return nil, err
	}
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", name+" --format=json"
	return s, describe(s, of)
}

// describe adds what comments say of a type and its fields, and opens what is closed.
func describe(s *jsonschema.Schema, of reflect.Type) error {
	s.Types = slices.DeleteFunc(s.Types, func(kind string) bool { return kind == "null" }) // nothing prints null
	if len(s.Types) == 1 {
		s.Type, s.Types = s.Types[0], nil
	}
	switch of.Kind() {
	case reflect.Pointer:
		return describe(s, of.Elem())
	case reflect.Slice:
		return describe(s.Items, of.Elem())
	case reflect.Struct:
		if s.Properties == nil {
			return nil
		}
		s.AdditionalProperties = nil
		return describeFields(s, of)
	}
	return nil
}

func describeFields(s *jsonschema.Schema, of reflect.Type) error {
	comments, err := commentsOf(of)
	if err != nil {
		return err
	}
	for i := range of.NumField() {
		field := of.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous:
			err = describeFields(s, field.Type)
		case s.Properties[name] != nil:
			p := s.Properties[name]
			if err = describe(p, field.Type); p.Description == "" {
				p.Description = comments[field.Name]
			}
			if err == nil && p.Description == "" {
				err = fmt.Errorf("%s.%s: no comment says what it is", of, field.Name)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// commentsOf reads the comments of a struct's fields in its package's source.
func commentsOf(of reflect.Type) (map[string]string, error) {
	dir, ok := strings.CutPrefix(of.PkgPath(), module)
	if !ok {
		return nil, fmt.Errorf("%s: not of this module", of)
	}
	files, err := filepath.Glob(filepath.Join("../../..", dir, "*.go"))
	if err != nil {
		return nil, err
	}
	comments := map[string]string{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == of.Name() {
				for _, field := range spec.Type.(*ast.StructType).Fields.List {
					for _, name := range field.Names {
						comments[name.Name] = sentence(field.Doc.Text() + field.Comment.Text())
					}
				}
			}
			return true
		})
	}
	return comments, nil
}

// sentence has a comment begin with a capital and end with a full stop.
func sentence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return ""
	}
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
