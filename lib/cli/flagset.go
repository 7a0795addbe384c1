package cli

import (
	"flag"
	"strings"
	"time"
)

// Flags are the flags of a command, each registered once: its name, what it sets, and its help. A
// help text of a flag that takes a value begins with a word for the value and a colon: "FILE: the
// pod whose UUID is in FILE". That of another flag may show a value in this way, too, "=false: ..."
// or "[=TIME]: ...". Further lines are further forms of the flag, each with a help text of its own
// or, if it ends with the colon, with that of the next. A flag with the help text of the flag
// before it, or with none, is another name of that.
type Flags struct {
	*flag.FlagSet
	Global *Global

	Root  bool // only root may run the program: others get ErrUnprivileged, after --help and before anything is read
	NoDir bool // it uses nothing in the data directory: no paths.d, broken or not, is in its way
	// Sort tells the flags of a command line from its operands; nil is Anywhere.
	Sort func(p *Process, args []string) (flags, operands []string, err error)

	Words  []string // the flags as they were given
	Prints any      // what --format=json prints a value of the type of; see FormatVar

	sections []section
}

// section is a part of the flags, under a title of its own. Those of others are not in the flag
// set: they are shown only.
type section struct {
	title   string
	of      *flag.FlagSet
	program string // whose flags these are, if they are another program's
	shown   bool   // and not in the set
	known   bool   // from the table
	names   []string
}

// NewFlags returns a set with the global flags.
func NewFlags(name string) *Flags {
	fs := newFlagSet(name)
	g := globalFlags(fs)
	return &Flags{FlagSet: fs, Global: g, sections: []section{{title: "Flags", of: fs}}}
}

// NoFlags returns a set without flags, for flags that stand elsewhere on the command line.
func NoFlags(name string) *Flags {
	fs := newFlagSet(name)
	return &Flags{FlagSet: fs, sections: []section{{of: fs}}}
}

// Section begins a part of the flags: those that are registered from here on are under a title of
// their own.
func (f *Flags) Section(title string) {
	f.sections = append(f.sections, section{title: title, of: f.FlagSet})
}

// Borrow is Section for flags of another program, which are passed on to it.
func (f *Flags) Borrow(program, title string) {
	f.sections = append(f.sections, section{title: title, of: f.FlagSet, program: program})
}

// Show has the help list the flags of another set, which stand elsewhere on the command line: those
// of an app.
func (f *Flags) Show(program, title string, other *Flags) {
	for _, s := range other.sections {
		f.sections = append(f.sections, section{title: title, of: s.of, program: program, shown: true, names: s.names})
	}
}

func (f *Flags) add(name string) {
	last := &f.sections[len(f.sections)-1]
	last.names = append(last.names, name)
}

func (f *Flags) Var(value flag.Value, name, help string) {
	f.FlagSet.Var(value, name, help)
	f.add(name)
}

func (f *Flags) StringVar(to *string, name, value, help string) {
	f.FlagSet.StringVar(to, name, value, help)
	f.add(name)
}

func (f *Flags) BoolVar(to *bool, name string, value bool, help string) {
	f.FlagSet.BoolVar(to, name, value, help)
	f.add(name)
}

func (f *Flags) DurationVar(to *time.Duration, name string, value time.Duration, help string) {
	f.FlagSet.DurationVar(to, name, value, help)
	f.add(name)
}

func (f *Flags) UintVar(to *uint, name string, value uint, help string) {
	f.FlagSet.UintVar(to, name, value, help)
	f.add(name)
}

func (f *Flags) Func(name, help string, set func(string) error) {
	f.FlagSet.Func(name, help, set)
	f.add(name)
}

// Hidden registers a flag that one program of the toolkit gives another, and that no help shows.
func (f *Flags) Hidden(name string, set func(string) error) { f.FlagSet.Func(name, "", set) }

func (f *Flags) BoolFunc(name, help string, set func(string) error) {
	f.FlagSet.BoolFunc(name, help, set)
	f.add(name)
}

// UUIDFile registers --uuid-file of a program that takes one pod or several.
func (f *Flags) UUIDFile(to *string) {
	f.StringVar(to, "uuid-file", "", "FILE: the pod whose UUID is in FILE")
}

// isBool reports whether a flag takes no word after it.
func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// Section is a part of a usage text.
type Section struct {
	Title   string
	Program string // whose flags these are; "" is the command's own
	Entries []Entry
}

// Entry is what a usage text says of a flag.
type Entry struct {
	Forms []string // "--net=NETWORKS"
	Text  string
}

// Help returns the help of the flags, in the order in which they were registered.
func (f *Flags) Help() (all []Section) {
	for _, s := range f.sections {
		if len(s.names) == 0 {
			continue
		}
		out := Section{Title: s.title, Program: s.program}
		if last := len(all) - 1; last >= 0 && all[last].Title == s.title {
			out, all = all[last], all[:last]
		}
		previous := ""
		for _, name := range s.names {
			fl := s.of.Lookup(name)
			if last := len(out.Entries) - 1; last >= 0 && (fl.Usage == "" || fl.Usage == previous) {
				out.Entries[last].Forms = anotherName(out.Entries[last].Forms, name)
				continue
			}
			out.Entries = append(out.Entries, entries(fl)...)
			previous = fl.Usage
		}
		all = append(all, out)
	}
	return all
}

// anotherName adds another name of a flag to its forms, a letter before them.
func anotherName(forms []string, name string) []string {
	if len(name) == 1 {
		return append([]string{"-" + name}, forms...)
	}
	_, value, takes := strings.Cut(forms[len(forms)-1], "=")
	if takes {
		name += "=" + value
	}
	return append(forms, "--"+name)
}

// entries reads a flag's help text; see Flags.
func entries(f *flag.Flag) (all []Entry) {
	dashes := "--"
	if len(f.Name) == 1 {
		dashes = "-"
	}
	var e Entry
	for line := range strings.SplitSeq(f.Usage, "\n") {
		shown := dashes + f.Name
		if !isBool(f) || strings.HasPrefix(line, "=") || strings.HasPrefix(line, "[=") {
			value, text, _ := strings.Cut(line+" ", ": ")
			if !strings.HasPrefix(value, "=") && !strings.HasPrefix(value, "[=") {
				value = "=" + value
			}
			shown, line = shown+value, strings.TrimSpace(text)
		}
		e.Forms = append(e.Forms, shown)
		if line != "" {
			e.Text = line
			all, e = append(all, e), Entry{}
		}
	}
	if len(e.Forms) > 0 {
		all = append(all, e)
	}
	if last := len(all) - 1; !strings.Contains(f.Usage, "default") && !isBool(f) {
		all[last].Text += defaultOf(f)
	}
	return all
}

// defaultOf is what a help text says of a flag's default, or "" for one that sets nothing.
func defaultOf(f *flag.Flag) string {
	value := f.DefValue
	if value == "" || value == "0" || value == "0s" {
		return ""
	}
	if t, err := time.ParseDuration(value); err == nil {
		value = shortest(t)
	}
	return " (default " + value + ")"
}

// shortest is a time as one types it: 24h, 30m, 90s.
func shortest(t time.Duration) string {
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
