package cli

import (
	"errors"
	"slices"
)

// Format is how a program prints its result: as text, or as JSON, on one line or indented. It is
// the value of --format, "" being text.
type Format string

const formatHelp = "FORMAT: text (default), json, or json-pretty"

// FormatVar registers --format, which refuses all other values. As JSON the program prints a value
// of the type of prints, of which docs/schema has the schema.
func (f *Flags) FormatVar(to *Format, prints any) {
	*to = "text"
	f.Prints = prints
	f.Var(to, "format", formatHelp)
}

// Set is what flag.Value asks for.
func (f *Format) Set(s string) error {
	if !slices.Contains([]string{"", "text", "json", "json-pretty"}, s) {
		return errors.New("unknown format; use text, json or json-pretty")
	}
	*f = Format(s)
	return nil
}

func (f *Format) String() string { return string(*f) }

// JSON reports whether the result is JSON; Process.PrintFormat prints it then.
func (f Format) JSON() bool { return f == "json" || f == "json-pretty" }

// PrintFormat prints a result as JSON of that format.
func (p *Process) PrintFormat(v any, f Format) error { return p.PrintJSON(v, f == "json-pretty") }
