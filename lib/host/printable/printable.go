// Package printable makes text safe to show. What an image, a pod, a registry or a key says of
// itself can hold escape sequences that a terminal obeys, newlines that make a line of their own,
// and marks that reverse the order in which a line is read. Every program passes such text through
// here before it prints it, hands it to the journal or to systemd.
//
// Printable is what Go's unicode.IsPrint says: letters, marks, numbers, punctuation, symbols and
// the space. That leaves out all control characters (C0, DEL and C1), the Unicode format characters
// (bidirectional overrides, joiners), spaces other than the ASCII one, and code points that are
// private or not assigned.
package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Line is s on one line: a newline and a tab become a space, what else is not printable, or not
// UTF-8, a "?".
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// JSON is a JSON text with the same value, in whose strings what is not printable is written as
// \uXXXX (RFC 8259, section 7). The text must be valid JSON; its layout stays.
func JSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1: // no UTF-8, which Go's own reader takes for U+FFFD
			out = append(out, `\ufffd`...)
		case r == '\n' || r == '\t' || unicode.IsPrint(r): // no string has the first two, nor a carriage return
			out = append(out, text[:size]...)
		case r == '\r':
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				out = fmt.Appendf(out, `\u%04x`, unit)
			}
		}
		text = text[size:]
	}
	return out
}
