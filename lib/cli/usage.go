package cli

import (
	"flag"
	"slices"
	"strings"
)

// width is that of a usage text.
const width = 80

// Usage is what --help prints.
func (c *Command) Usage() string {
	var b strings.Builder
	for i, form := range c.Synopsis {
		start := "Usage: "
		if i > 0 {
			start = "       "
		}
		b.WriteString(strings.TrimRight(start+c.Name+" "+form, " ") + "\n")
	}
	block := func(text string) {
		if text != "" {
			b.WriteString("\n" + fill(strings.Trim(text, "\n")) + "\n")
		}
	}
	block(c.Text)
	if c.Verbs != nil {
		b.WriteString("\nCommands:\n" + columns(c.verbEntries()))
	}
	for _, s := range c.Help() {
		b.WriteString("\n" + s.Title + ":\n" + columns(s.Entries))
	}
	block(c.Notes)
	if c.Front {
		b.WriteString("\nFlags of every program:\n" + columns(GlobalHelp()))
	} else {
		block(globalLine())
	}
	return b.String()
}

// verbEntries are the verbs with their summaries.
func (c *Command) verbEntries() (all []Entry) {
	for _, v := range c.Verbs {
		all = append(all, Entry{Forms: []string{v.Name}, Text: v.Summary})
	}
	return all
}

// Help returns the help of all flags. A program's verbs have theirs together, each with the names
// of the verbs that take it, if not all do.
func (c *Command) Help() []Section {
	if c.Setup != nil {
		fs := NewFlags(c.Name)
		c.Setup(fs)
		return fs.Help()
	}
	type shared struct {
		entry Entry
		verbs []string
	}
	var all []*shared
	for _, v := range c.Verbs {
		fs := NewFlags(c.Name)
		v.Setup(fs)
		for _, s := range fs.Help() {
			for _, e := range s.Entries {
				at := slices.IndexFunc(all, func(have *shared) bool {
					return slices.Equal(have.entry.Forms, e.Forms) && have.entry.Text == e.Text
				})
				if at < 0 {
					at, all = len(all), append(all, &shared{entry: e})
				}
				all[at].verbs = append(all[at].verbs, v.Name)
			}
		}
	}
	if all == nil {
		return nil
	}
	out := Section{Title: "Flags"}
	for _, s := range all {
		if len(s.verbs) < len(c.Verbs) {
			s.entry.Text = strings.Join(s.verbs, ", ") + ": " + s.entry.Text
		}
		out.Entries = append(out.Entries, s.entry)
	}
	return []Section{out}
}

// GlobalHelp returns the help of the flags that every program takes.
func GlobalHelp() []Entry {
	fs := newFlagSet("")
	globalFlags(fs)
	var all []Entry
	for _, name := range globalNames {
		all = append(all, entries(fs.Lookup(name))...)
	}
	return append(all, Entry{Forms: []string{"-h", "--help"}, Text: "print this help"})
}

// globalLine names the flags that every program takes, in a few lines.
func globalLine() string {
	fs := newFlagSet("")
	globalFlags(fs)
	line := "Flags of every program (rkt help):"
	for i, name := range globalNames {
		f := fs.Lookup(name)
		word := entries(f)[0].Forms[0]
		if i > 0 {
			line += ","
		}
		line += " " + word
	}
	return line + ", --help."
}

// fill wraps the paragraphs of a text. Indented lines stay as they are.
func fill(text string) string {
	var lines []string
	paragraph := ""
	end := func() {
		lines = append(lines, wrap(paragraph, width)...)
		paragraph = ""
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" || line[0] == ' ' {
			end()
			lines = append(lines, line)
		} else {
			paragraph += " " + line
		}
	}
	end()
	return strings.Join(lines, "\n")
}

// columns writes entries in two columns.
func columns(all []Entry) string {
	const widest = 24 // of the first column: what is longer has a line of its own
	column := 0
	for _, e := range all {
		if n := len(strings.Join(e.Forms, ", ")); n <= widest {
			column = max(column, n)
		}
	}
	column = max(column, 12) + 5
	var b strings.Builder
	for _, e := range all {
		lines := wrap(e.Text, width-column)
		for i, head := range heads(e.Forms) {
			if i > 0 {
				b.WriteString("\n")
			}
			b.WriteString("  " + head)
			if n := 2 + len(head); i == len(heads(e.Forms))-1 && len(lines) > 0 {
				if n+2 > column {
					b.WriteString("\n" + strings.Repeat(" ", column))
				} else {
					b.WriteString(strings.Repeat(" ", column-n))
				}
			}
		}
		b.WriteString(strings.Join(lines, "\n"+strings.Repeat(" ", column)) + "\n")
	}
	return b.String()
}

// heads are the lines that the forms of a flag take.
func heads(forms []string) (lines []string) {
	line := ""
	for _, form := range forms {
		if line != "" && 2+len(line)+3+len(form) > width {
			lines, line = append(lines, line+","), ""
		}
		if line != "" {
			line += ", "
		}
		line += form
		if at := strings.LastIndex(line[:min(len(line), width-3)], "[,"); len(line) > width-3 && at > 0 {
			lines, line = append(lines, line[:at]), "    "+line[at:]
		}
	}
	return append(lines, line)
}

// wrap breaks a text into lines of at most so many columns.
func wrap(text string, columns int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > columns {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// Programs returns what the table has of a program: itself, and the flags of an app if it lists
// them. Flags that it passes on are those of other programs.
func (c *Command) Programs() []Program {
	own, apps := Program{Name: c.Name, Summary: c.Summary}, Program{Name: "app"}
	if c.Verbs == nil {
		own.Operand = operand(strings.Join(c.Synopsis, " "))
	}
	add := func(setup func(*Flags) Run) {
		fs := NewFlags(c.Name)
		setup(fs)
		for _, s := range fs.sections {
			to := &own
			if s.shown && !s.known {
				to = &apps
			} else if s.program != "" {
				continue
			}
			for _, name := range s.names {
				if !slices.ContainsFunc(to.Flags, func(have Flag) bool { return have.Name == name }) {
					to.Flags = append(to.Flags, tableFlag(s.of.Lookup(name)))
				}
			}
		}
	}
	if c.Setup != nil {
		add(c.Setup)
	}
	for i, v := range c.Verbs {
		verb := Verbal{Name: v.Name, Summary: v.Summary}
		if v.Setup != nil {
			add(v.Setup)
			verb.Operand = operand(c.Synopsis[i])
		}
		own.Verbs = append(own.Verbs, verb)
	}
	if apps.Flags == nil {
		return []Program{own}
	}
	return []Program{own, apps}
}

// GlobalProgram is what the table has of the flags of every program.
func GlobalProgram() (all Program) {
	fs := newFlagSet("")
	globalFlags(fs)
	for _, name := range globalNames {
		all.Flags = append(all.Flags, tableFlag(fs.Lookup(name)))
	}
	return all
}

// operand is what a command line names, for completion: POD, IMAGE or VOLUME.
func operand(synopsis string) string {
	at, found := len(synopsis), ""
	for _, word := range []string{"POD", "IMAGE", "VOLUME"} {
		if i := strings.Index(synopsis, word); i >= 0 && i < at {
			at, found = i, word
		}
	}
	return found
}

func tableFlag(f *flag.Flag) Flag {
	out := Flag{Name: f.Name, Value: !isBool(f), Help: f.Usage}
	if out.Value {
		out.Default = f.DefValue
	}
	return out
}
