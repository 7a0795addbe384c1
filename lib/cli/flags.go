package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/spelling"
)

// Flag is a flag in the table.
type Flag struct {
	Name    string
	Value   bool   // takes a value
	Help    string // as it is registered, see Flags
	Default string
}

// Program is a program in the table: its name, what it does, and its flags. Those of "" are every
// program's, those of "app" follow an image, and those of "rkt run" are of no other program. A
// program needs those of the others to find the command among rkt's words, to pass flags on, and to
// tell a line of rkt.conf that is meant for another program from one that is misspelt. The table is
// made from the programs' Commands, which a program does not link.
type Program struct {
	Name    string
	Summary string
	Operand string // what it is about, for completion: POD, IMAGE, VOLUME or nothing
	Verbs   []Verbal
	Flags   []Flag
}

// Verbal is a verb of a program in the table.
type Verbal struct{ Name, Summary, Operand string }

// Table returns the table.
func Table() []Program { return table }

// InTable returns a program of the table, or an empty one.
func InTable(name string) Program {
	for _, p := range table {
		if p.Name == name {
			return p
		}
	}
	return Program{}
}

// FirstLine is the first sentence of what a flag does, without the word for its value.
func (f Flag) FirstLine() string {
	lines := strings.Split(f.Help, "\n")
	line := lines[0]
	if f.Value || strings.HasPrefix(line, "=") || strings.HasPrefix(line, "[=") {
		_, line, _ = strings.Cut(line, ": ")
	}
	line, _, _ = strings.Cut(line, ";")
	return line
}

// Summary returns what a program does, in a few words.
func Summary(program string) string { return InTable(program).Summary }

// FlagsOf returns the flags of a program in the table, and of each whether it takes a value.
func FlagsOf(program string) map[string]bool {
	flags := map[string]bool{}
	for _, f := range InTable(program).Flags {
		flags[f.Name] = f.Value
	}
	return flags
}

// Programs are the programs of the table.
func Programs() (names []string) {
	for _, p := range table {
		if strings.HasPrefix(p.Name, "rkt-") {
			names = append(names, p.Name)
		}
	}
	return names
}

// allFlags is FlagsOf of all programs together.
func allFlags() map[string]bool {
	all := map[string]bool{}
	for _, p := range table {
		maps.Copy(all, FlagsOf(p.Name))
	}
	return all
}

// having returns the programs of the table that have a flag.
func having(name string) (programs []string) {
	for _, p := range table {
		if slices.ContainsFunc(p.Flags, func(f Flag) bool { return f.Name == name }) {
			programs = append(programs, p.Name)
		}
	}
	return programs
}

// Known returns a flag set with the flags of these programs, which takes any value and keeps none.
func Known(programs ...string) *flag.FlagSet {
	fs := newFlagSet("")
	for _, program := range programs {
		for _, f := range InTable(program).Flags {
			if fs.Lookup(f.Name) == nil {
				fs.Var(anyValue{f, nil}, f.Name, f.Help)
			}
		}
	}
	return fs
}

// Borrowed registers flags of another program, whose help they have. set is called with what each
// is given; it may be nil.
func (f *Flags) Borrowed(program string, names []string, set func(name, value string) error) {
	for _, of := range InTable(program).Flags {
		if slices.Contains(names, of.Name) {
			f.Var(anyValue{of, set}, of.Name, of.Help)
		}
	}
}

// ShowTable is Show for the flags of a program of the table.
func (f *Flags) ShowTable(program, title string) {
	other := NoFlags("")
	var names []string
	for _, of := range InTable(program).Flags {
		names = append(names, of.Name)
	}
	other.Borrowed(program, names, nil)
	f.Show(program, title, other)
	f.sections[len(f.sections)-1].known = true
}

// anyValue is the value of a flag of another program.
type anyValue struct {
	of  Flag
	set func(name, value string) error
}

func (v anyValue) String() string   { return v.of.Default }
func (v anyValue) IsBoolFlag() bool { return !v.of.Value }
func (v anyValue) Set(s string) error {
	if v.set == nil {
		return nil
	}
	return v.set(v.of.Name, s)
}

// newFlagSet returns a flag set that prints nothing by itself.
func newFlagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// netWords are what --net takes in the next word as well: no image, pod or command is called so.
var netWords = []string{"host", "none", "all", "default", "default-restricted"}

// JoinNet makes --net WORD into --net=WORD, up to "--": --net may also stand alone, as rkt had it.
func JoinNet(args []string) []string {
	var joined []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(joined, args[i:]...)
		}
		joined = append(joined, args[i])
		if args[i] == "--net" && i+1 < len(args) && slices.Contains(netWords, args[i+1]) {
			i++
			joined[len(joined)-1] += "=" + args[i]
		}
	}
	return joined
}

// FlagWords returns how many words the flag at the beginning of args takes, itself and its value,
// or 0 if it is no flag. A flag that the set does not have is an UnknownFlag, except help.
func FlagWords(fs *flag.FlagSet, args []string) (int, error) {
	word := args[0]
	if word == "-" || word == "--" || !strings.HasPrefix(word, "-") {
		return 0, nil
	}
	typed, _, joined := strings.Cut(word, "=")
	name := strings.TrimPrefix(strings.TrimPrefix(typed, "-"), "-")
	if name == "help" || name == "h" {
		return 1, nil
	}
	if name == "" || name[0] == '-' {
		return 0, fmt.Errorf("%s: not a flag", word)
	}
	f := fs.Lookup(name)
	if f == nil {
		return 0, unknownFlag(fs, typed)
	}
	if joined || isBool(f) {
		return 1, nil
	}
	if len(args) == 1 {
		return 0, fmt.Errorf("flag %s needs a value", typed)
	}
	return 2, nil
}

// Anywhere sorts a command line into flags and operands: flags may also follow operands, up to a
// "--".
func Anywhere(fs *flag.FlagSet, args []string) (flags, operands []string, err error) {
	for len(args) > 0 {
		if args[0] == "--" {
			return flags, append(operands, args[1:]...), nil
		}
		n, err := FlagWords(fs, args)
		if err != nil {
			return nil, nil, err
		}
		if n == 0 {
			operands = append(operands, args[0])
			n = 1
		} else {
			flags = append(flags, args[:n]...)
		}
		args = args[n:]
	}
	return flags, operands, nil
}

// Leading sorts a command line into the flags at its beginning and what follows them.
func Leading(fs *flag.FlagSet, args []string) (flags, rest []string, err error) {
	n := 0
	for n < len(args) {
		words, err := FlagWords(fs, args[n:])
		if err != nil {
			return nil, nil, err
		}
		if words == 0 {
			break
		}
		n += words
	}
	return args[:n], args[n:], nil
}

// UnknownFlag is the error for a flag that a program does not have.
type UnknownFlag struct {
	Typed string // with its dashes
	Near  string // a flag of the program that is spelt almost so, without dashes; or ""
}

func unknownFlag(fs *flag.FlagSet, typed string) UnknownFlag {
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return UnknownFlag{Typed: typed, Near: spelling.Near(strings.TrimLeft(typed, "-"), names)}
}

func (f UnknownFlag) Error() string {
	programs := slices.DeleteFunc(having(strings.TrimLeft(f.Typed, "-")),
		func(s string) bool { return s == "" || s == "app" })
	switch {
	case len(programs) > 0:
		return fmt.Sprintf("unknown flag %s; it is a flag of %s", f.Typed, strings.Join(programs, ", "))
	case f.Near != "":
		return fmt.Sprintf("unknown flag %s; did you mean --%s?", f.Typed, f.Near)
	}
	return fmt.Sprintf("unknown flag %s (--help lists the flags)", f.Typed)
}

// ParseFlags sets flags from words that are all flags and their values. It returns flag.ErrHelp for
// --help.
func ParseFlags(fs *flag.FlagSet, words []string) error {
	checkValues(fs)
	for len(words) > 0 {
		n, err := FlagWords(fs, words)
		if err != nil {
			return err
		}
		typed, value, joined := strings.Cut(words[0], "=")
		name := strings.TrimLeft(typed, "-")
		switch {
		case n == 0:
			return fmt.Errorf("%q: not a flag", words[0])
		case name == "help" || name == "h":
			return flag.ErrHelp
		case n == 2:
			value = words[1]
		case !joined:
			value = "true"
		}
		if err := fs.Set(name, value); err != nil {
			return err
		}
		words = words[n:]
	}
	return nil
}

// mayBeEmpty are flags for which an empty value means something: no capability, no group, no such
// directory.
var mayBeEmpty = strings.Fields(`caps-retain cap-retain caps-remove cap-remove supplementary-gids
	system-config local-config user-config`)

// checkValues has each flag of a set refuse, with a ValueError, what it would take for something
// else.
func checkValues(fs *flag.FlagSet) {
	fs.VisitAll(func(f *flag.Flag) {
		if _, done := f.Value.(*checked); !done {
			f.Value = &checked{Value: f.Value, name: f.Name}
		}
	})
}

// ValueError says that a flag does not take a value, wherever that came from.
type ValueError struct {
	Flag, Value string
	Cause       error
}

func (e ValueError) Error() string { return fmt.Sprintf("--%s=%q: %v", e.Flag, e.Value, e.Cause) }

func (e ValueError) Unwrap() error { return e.Cause }

// checked is a flag's value with further checks.
type checked struct {
	flag.Value
	name string
	text string // what it was set to last
}

func (c *checked) IsBoolFlag() bool {
	b, ok := c.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// Set refuses an empty value, as of a variable that is not set: --user= would be root, and rkt gc
// --uuid-file= all pods. Other errors are in words that say what to write.
func (c *checked) Set(value string) error {
	c.text = value
	err := c.Value.Set(value)
	if value == "" && !slices.Contains(mayBeEmpty, c.name) {
		err = errors.New("the value is empty; for the default, leave the flag out")
	} else if getter, ok := c.Value.(flag.Getter); ok {
		switch v := getter.Get().(type) {
		case time.Duration:
			if err != nil || v < 0 {
				err = errors.New("not a time such as 30m or 24h")
			}
		case bool:
			if err != nil {
				err = errors.New("neither true nor false")
			}
		case uint:
			if err != nil {
				err = errors.New("not a number")
			}
		}
	}
	if err != nil {
		return ValueError{c.name, value, err}
	}
	return nil
}
