package printable

import (
	"bytes"
	"io"
	"regexp"
	"strings"
)

// maxLine is how much of a line without an end is kept before it is written.
const maxLine = 64 << 10

// color is what sets colors and the like on a terminal (ECMA-48's SGR), as journalctl writes it.
var color = regexp.MustCompile("\x1b\\[[0-9;]*m")

// Terminal is a writer of text for a terminal: lines, tabs and colors pass, and what else is not
// printable is a "?".
type Terminal struct {
	to   io.Writer
	rest []byte // of a line that has not ended
}

// NewTerminal returns a Terminal that writes to another writer. Close writes the last line if it
// has no end.
func NewTerminal(to io.Writer) *Terminal { return &Terminal{to: to} }

func (t *Terminal) Write(text []byte) (int, error) {
	t.rest = append(t.rest, text...)
	end := bytes.LastIndexByte(t.rest, '\n') + 1
	if end == 0 && len(t.rest) > maxLine {
		end = len(t.rest)
	}
	whole := string(t.rest[:end])
	t.rest = append(t.rest[:0], t.rest[end:]...)
	if whole == "" {
		return len(text), nil
	}
	if _, err := io.WriteString(t.to, lines(whole)); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Close writes what is left. It does not close the other writer.
func (t *Terminal) Close() error {
	rest := string(t.rest)
	t.rest = nil
	_, err := io.WriteString(t.to, lines(rest))
	return err
}

// lines is text of several lines, without what a terminal obeys besides colors.
func lines(text string) string {
	var out strings.Builder
	plain := func(s string) {
		for part := range strings.Lines(s) {
			end := strings.HasSuffix(part, "\n")
			for i, cell := range strings.Split(strings.TrimSuffix(part, "\n"), "\t") {
				if i > 0 {
					out.WriteByte('\t')
				}
				out.WriteString(Line(cell))
			}
			if end {
				out.WriteByte('\n')
			}
		}
	}
	at := 0
	for _, found := range color.FindAllStringIndex(text, -1) {
		plain(text[at:found[0]])
		out.WriteString(text[found[0]:found[1]])
		at = found[1]
	}
	plain(text[at:])
	return out.String()
}
