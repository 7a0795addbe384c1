package all

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

// ManualPage is a program's manual page in man(7)'s language.
func ManualPage(c *cli.Command) string {
	var b strings.Builder
	name := strings.ReplaceAll(c.Name, " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" rkt\n.ad l\n.nh\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.nf\n", strings.ToUpper(name),
		name, escape(c.Summary))
	for _, form := range c.Synopsis {
		fmt.Fprintf(&b, "\\fB%s\\fR %s\n", escape(c.Name), escape(form))
	}
	b.WriteString(".fi\n.SH DESCRIPTION\n" + text(c.Text) + text(c.Details))
	if c.Verbs != nil {
		b.WriteString(".SH COMMANDS\n")
		for _, v := range c.Verbs {
			b.WriteString(item(v.Name, v.Summary))
		}
	}
	b.WriteString(".SH OPTIONS\n")
	for _, s := range c.Help() {
		if s.Title != "Flags" {
			b.WriteString(".SS " + escape(s.Title) + "\n")
		}
		for _, e := range s.Entries {
			b.WriteString(item(strings.Join(e.Forms, ", "), e.Text))
		}
	}
	if c.Name != "rkt-stage2" {
		b.WriteString(".SS Flags of every program\n")
		for _, e := range cli.GlobalHelp() {
			b.WriteString(item(strings.Join(e.Forms, ", "), e.Text))
		}
		b.WriteString(text("Each flag but those of an app can be set by a variable, as RKT_DIR=DIR, or by a line in " +
			"/etc/rkt/rkt.conf, as \"dir DIR\"."))
	}
	b.WriteString(text(c.Notes))
	if c.Examples != nil {
		b.WriteString(".SH EXAMPLES\n")
	}
	for _, e := range c.Examples {
		b.WriteString(text(e.Text) + literal("    "+e.Line))
	}
	b.WriteString(".SH EXIT STATUS\n" + text(exit(c)))
	b.WriteString(".SH FILES\n")
	for _, f := range append(slices.Clone(c.Files), files...) {
		b.WriteString(item(f.Path, f.Text))
	}
	b.WriteString(".SH SEE ALSO\n" + text(seeAlso(c)))
	return b.String()
}

// files are those of every program.
var files = []cli.File{
	{Path: "/var/lib/rkt", Text: "data directory: images, pods and named volumes"},
	{Path: "/etc/rkt", Text: "the administrator's configuration"},
	{Path: "/usr/lib/rkt", Text: "the vendor's configuration"},
	{Path: "/run/rkt", Text: "network namespaces and sockets"},
}

func exit(c *cli.Command) string {
	if c.Exit != "" {
		return c.Exit
	}
	return "0 on success, or 254 after an error, which is one line on standard error."
}

// seeAlso lists pages: ours and those of the system.
func seeAlso(c *cli.Command) string {
	var pages []string
	for _, name := range c.SeeAlso {
		section := "1"
		switch {
		case strings.HasPrefix(name, "systemd."):
			section = "5"
		case name == "sd_notify":
			section = "3"
		case name == "ip-netns":
			section = "8"
		}
		pages = append(pages, name+"("+section+")")
	}
	if c.Name != "rkt" && !slices.Contains(c.SeeAlso, "rkt") {
		pages = append([]string{"rkt(1)"}, pages...)
	}
	return strings.Join(pages, ", ")
}

// text writes paragraphs; indented lines stay as they are.
func text(s string) string {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(strings.Trim(s, "\n"), "\n\n") {
		var filled, kept []string
		for line := range strings.SplitSeq(paragraph, "\n") {
			if strings.HasPrefix(line, " ") {
				kept = append(kept, line)
			} else if line != "" {
				filled = append(filled, line)
			}
		}
		if filled != nil {
			b.WriteString(".PP\n" + escape(strings.Join(filled, "\n")) + "\n")
		}
		if kept != nil {
			b.WriteString(literal(strings.Join(kept, "\n")))
		}
	}
	return b.String()
}

// item is a word and what it means.
func item(head, body string) string {
	head = strings.ReplaceAll(escape(head), "[,", `\:[,`) // where a line may break
	return ".TP\n\\fB" + head + "\\fR\n" + escape(body) + "\n"
}

func literal(text string) string { return ".PP\n.nf\n" + escape(text) + "\n.fi\n" }

// escape keeps lines from being taken for requests, and writes what is not ASCII in roff's way.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r > 0x7e:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	lines := strings.Split(b.String(), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
