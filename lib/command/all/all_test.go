package all

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"go/format"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/rkt"
)

const tableFile = "../../cli/table.go"

// The table that each program has of the others' flags is made from the programs. RKT_WRITE_TABLE
// has it written (make table).
func TestTable(t *testing.T) {
	want, err := table()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("RKT_WRITE_TABLE") != "" {
		if err := os.WriteFile(tableFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(want) {
		t.Error("lib/cli/table.go is out of date: run make table")
	}
	kinds := map[string]bool{} // a command line is sorted before it is known whose flag it has
	for _, p := range cli.Table() {
		for _, f := range p.Flags {
			if kind, ok := kinds[f.Name]; ok && kind != f.Value {
				t.Errorf("--%s takes a value in one program and none in another", f.Name)
			}
			kinds[f.Name] = f.Value
		}
	}
}

// unlisted are flags that a command refuses with a reason, or that another program alone gives it.
var unlisted = map[string][]string{"rkt-unit": {"rm", "detach", "d", "uuid"}, "rkt-run-prepared": {"undo"}}

// What a program takes, its usage text, its manual page, the completion and the table say the same.
func TestSame(t *testing.T) {
	for _, c := range append(slices.Clone(Programs()), rkt.Run, rkt.RunPrepared) {
		if c.Name == "rkt-stage2" { // which takes no flags
			continue
		}
		usage, page := c.Usage(), strings.ReplaceAll(ManualPage(c), `\-`, "-")
		verb := strings.TrimPrefix(strings.TrimPrefix(c.Name, "rkt-"), "rkt ")
		if c.Name == "rkt" {
			verb = ""
		}
		words := complete(t, verb)
		taken := map[string]bool{}
		var forms []string
		for _, fs := range sets(c) {
			fs.VisitAll(func(f *flag.Flag) {
				if !slices.Contains(unlisted[c.Name], f.Name) {
					taken[dashed(f.Name)] = true
				}
			})
		}
		for _, s := range c.Help() {
			for _, e := range s.Entries {
				if len(strings.Fields(e.Text)) == 0 {
					t.Errorf("%s: %q has no help", c.Name, e.Forms)
				}
				forms = append(forms, e.Forms...)
				if s.Program == "app" {
					for _, form := range e.Forms {
						name, _, _ := strings.Cut(form, "=")
						taken[name] = true
					}
				}
			}
		}
		global := cli.NewFlags("")
		for flag := range taken {
			word := regexp.MustCompile("(?m)(^|[ ,B])" + flag + "($|[ ,=\\[\\\\])")
			if !word.MatchString(usage) {
				t.Errorf("%s --help does not list %s", c.Name, flag)
			}
			if !word.MatchString(page) {
				t.Errorf("the manual page of %s does not list %s", c.Name, flag)
			}
			if !slices.Contains(words, flag) && c.Name != "rkt-run-prepared" { // the command of rkt is another
				t.Errorf("the completion of %s does not have %s", c.Name, flag)
			}
		}
		for _, form := range forms {
			name, _, _ := strings.Cut(strings.SplitN(form, "[", 2)[0], "=")
			if !taken[name] {
				t.Errorf("%s --help lists %s, which it does not take", c.Name, form)
			}
		}
		for _, word := range words {
			if c.Name != "rkt-run-prepared" && !taken[word] && word != "--help" &&
				global.Lookup(strings.TrimLeft(word, "-")) == nil {
				t.Errorf("the completion of %s has %s, which it does not take", c.Name, word)
			}
		}
	}
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// sets are the flag sets of a program: one, or one for each verb.
func sets(c *cli.Command) (all []*cli.Flags) {
	setups := []func(*cli.Flags) cli.Run{c.Setup}
	if c.Setup == nil {
		setups = nil
		for _, v := range c.Verbs {
			setups = append(setups, v.Setup)
		}
	}
	for _, setup := range setups {
		fs := cli.NewFlags(c.Name)
		setup(fs)
		all = append(all, fs)
	}
	return all
}

// complete returns the flags that the shells offer after a command and an operand.
func complete(t *testing.T, verb string) (words []string) {
	t.Helper()
	args := []string{"completion", "words", "--"}
	if verb != "" {
		args = append(args, verb, "operand")
	}
	var out bytes.Buffer
	p := &cli.Process{Name: "rkt", Args: append(args, "-"), Stdout: &out, Stderr: &out, Getenv: os.Getenv}
	if status := rkt.Command.Execute(context.Background(), p); status != 0 {
		t.Fatalf("rkt %q: %d\n%s", p.Args, status, out.String())
	}
	for line := range strings.Lines(out.String()) {
		word, _, _ := strings.Cut(line, "\t")
		words = append(words, strings.TrimSuffix(word, "="))
	}
	return words
}

// Each program says what it is for, in lines that a terminal has room for, and shows how it is
// used.
func TestTexts(t *testing.T) {
	names := map[string]bool{}
	for _, c := range append(slices.Clone(Programs()), Pages...) {
		names[strings.ReplaceAll(c.Name, " ", "-")] = true
	}
	for _, c := range append(slices.Clone(Programs()), Pages...) {
		if c.Summary == "" || c.Synopsis == nil || c.SeeAlso == nil || c.Examples == nil && c.Name != "rkt-notify" &&
			c.Name != "rkt-stage2" {
			t.Errorf("%s: no summary, synopsis, examples or pages to see", c.Name)
		}
		for line := range strings.Lines(c.Usage()) {
			if len(strings.TrimRight(line, "\n")) > 80 {
				t.Errorf("%s: %d columns: %s", c.Name, len(line), line)
			}
		}
		for _, page := range c.SeeAlso {
			if strings.HasPrefix(page, "rkt") && !names[page] {
				t.Errorf("%s: see also %s: there is no such page", c.Name, page)
			}
		}
		for _, e := range c.Examples {
			if e.Line == "" || !strings.HasSuffix(e.Text, ".") {
				t.Errorf("%s: example %q: %q", c.Name, e.Line, e.Text)
			}
		}
		page := ManualPage(c)
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS",
			"FILES", "SEE ALSO"} {
			if !strings.Contains(page, "\n.SH "+section+"\n") {
				t.Errorf("%s: no section %s", c.Name, section)
			}
		}
	}
}

// table is the source of lib/cli/table.go: every program with its flags, for the programs, which do
// not link each other.
func table() ([]byte, error) {
	programs := []cli.Program{cli.GlobalProgram()}
	for _, c := range append(slices.Clone(Programs()), Pages...) {
		if c.Name != "rkt-stage2" { // which no user calls
			programs = append(programs, c.Programs()...)
		}
	}
	slices.SortFunc(programs, func(a, b cli.Program) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	b.WriteString("// Code generated by make table from the programs' Commands. DO NOT EDIT.\n\npackage cli\n\nvar " +
		"table = []Program{\n")
	for _, p := range programs {
		fmt.Fprintf(&b, "{Name: %q, Summary: %q, Operand: %q,", p.Name, p.Summary, p.Operand)
		if p.Verbs != nil {
			b.WriteString(" Verbs: []Verbal{\n")
			for _, v := range p.Verbs {
				fmt.Fprintf(&b, "{%q, %q, %q},\n", v.Name, v.Summary, v.Operand)
			}
			b.WriteString("},")
		}
		b.WriteString(" Flags: []Flag{\n")
		for _, f := range p.Flags {
			fmt.Fprintf(&b, "{%q, %t, %q, %q},\n", f.Name, f.Value, f.Help, f.Default)
		}
		b.WriteString("}},\n")
	}
	b.WriteString("}\n")
	return format.Source([]byte(b.String()))
}
