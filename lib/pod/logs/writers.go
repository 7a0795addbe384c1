package logs

import (
	"bytes"
	"io"
	"strings"
)

// cursorLine is how the last line begins that journalctl --show-cursor prints.
const cursorLine = "-- cursor: "

// cursor passes on what journalctl prints, without the last line.
type cursor struct {
	out    io.Writer
	silent bool // keep it all
	held   []byte
}

// Write holds the last line back.
func (c *cursor) Write(text []byte) (int, error) {
	c.held = append(c.held, text...)
	last := bytes.LastIndexByte(bytes.TrimSuffix(c.held, []byte("\n")), '\n') + 1
	if !c.silent && last > 0 {
		if _, err := c.out.Write(c.held[:last]); err != nil {
			return 0, err
		}
	}
	c.held = append(c.held[:0], c.held[last:]...)
	return len(text), nil
}

// end returns the cursor, "" if there was none.
func (c *cursor) end() (string, error) {
	if at, ok := strings.CutPrefix(string(c.held), cursorLine); ok {
		return strings.TrimSpace(at), nil
	}
	if c.silent {
		return "", nil
	}
	_, err := c.out.Write(c.held)
	return "", err
}

// counter counts the bytes that it passes on.
type counter struct {
	out io.Writer
	n   int64
	err error
}

func (c *counter) Write(text []byte) (int, error) {
	n, err := c.out.Write(text)
	c.n += int64(n)
	c.err = err
	return n, err
}

// skipper passes on all but the first n bytes.
type skipper struct {
	out io.Writer
	n   int64
}

func (s *skipper) Write(text []byte) (int, error) {
	rest := text[min(int64(len(text)), s.n):]
	s.n -= int64(len(text) - len(rest))
	if len(rest) > 0 {
		if _, err := s.out.Write(rest); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}
