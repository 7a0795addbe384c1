package cli

import (
	"encoding/json"
	"fmt"

	"github.com/rkt-toolkit/rkt/lib/host/printable"
)

// Say writes one line to standard error, after the program's name. Whatever an image, a pod or a
// server has put into it, it stays one line, and nothing that a terminal obeys.
func (p *Process) Say(format string, args ...any) {
	fmt.Fprintf(p.Stderr, "%s: %s\n", p.Name, printable.Line(fmt.Sprintf(format, args...)))
}

// PrintLine writes one line to standard output, as Say does to standard error, without the
// program's name.
func (p *Process) PrintLine(format string, args ...any) error {
	_, err := fmt.Fprintln(p.Stdout, printable.Line(fmt.Sprintf(format, args...)))
	return err
}

// PrintJSON writes a value to standard output as JSON, on one line or, pretty, indented with tabs.
// What is not printable is escaped.
func (p *Process) PrintJSON(value any, pretty bool) error {
	var text []byte
	var err error
	if pretty {
		text, err = json.MarshalIndent(value, "", "\t")
	} else {
		text, err = json.Marshal(value)
	}
	if err == nil {
		_, err = p.Stdout.Write(append(printable.JSON(text), '\n'))
	}
	return err
}
