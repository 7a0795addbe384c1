// Package bounded reads what others have written and may be of any size: up to a limit, and from
// regular files only.
package bounded

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrTooLarge is the error for what is larger than the limit, by errors.Is.
var ErrTooLarge = errors.New("too large")

// tooLarge is an ErrTooLarge that names the limit.
type tooLarge int64

func (e tooLarge) Error() string        { return fmt.Sprintf("larger than %d bytes", int64(e)) }
func (e tooLarge) Is(target error) bool { return target == ErrTooLarge }

// Read reads all that there is, up to limit bytes.
func Read(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		return nil, tooLarge(limit)
	}
	return text, err
}

// File reads an open file, which must be a regular one. The error names it.
func File(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", f.Name())
	}
	text, err := Read(f, limit)
	if errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%s: %w", f.Name(), err)
	}
	return text, err
}
