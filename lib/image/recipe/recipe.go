// Package recipe is how an archive is put together again from the directory that was made of it:
// all of the archive's bytes but the contents of files that are in the directory. A recipe costs
// little, and with it the store need not keep what it has unpacked.
//
// It is a gzip stream of records. A record is a letter, numbers as encoding/binary's Uvarint has
// them, and bytes:
//
//	R length bytes                   bytes of the archive
//	F length name size checksum      the content of a file of the directory; CRC-32C
//	E                                the end
//
// The checksum tells which file is not what it was. That all of it is what it was only the digest
// of the archive tells.
package recipe

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"golang.org/x/sys/unix"
)

const (
	maxRaw  = 32 << 10 // bytes in a record
	maxName = 64 << 10 // of a file
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum continues the checksum of a file's content, which begins with 0.
func Checksum(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// Writer writes a recipe while an archive is read from its beginning to its end.
type Writer struct {
	raw []byte
	buf *bufio.Writer
	z   *gzip.Writer
	err error
}

// NewWriter writes to w.
func NewWriter(w io.Writer) *Writer {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	return &Writer{raw: make([]byte, 0, maxRaw), buf: bufio.NewWriterSize(z, maxRaw), z: z, err: err}
}

// Raw notes bytes of the archive.
func (w *Writer) Raw(p []byte) {
	for len(p) > 0 {
		n := min(len(p), cap(w.raw)-len(w.raw))
		w.raw = append(w.raw, p[:n]...)
		if p = p[n:]; len(w.raw) == cap(w.raw) {
			w.flush()
		}
	}
}

// File notes that the next size bytes of the archive are the content of a file in the directory.
func (w *Writer) File(name string, size int64, checksum uint32) {
	w.flush()
	w.record('F', []byte(name))
	w.number(uint64(size))
	w.number(uint64(checksum))
}

func (w *Writer) flush() {
	if len(w.raw) > 0 {
		w.record('R', w.raw)
		w.raw = w.raw[:0]
	}
}

func (w *Writer) record(letter byte, p []byte) {
	w.write([]byte{letter})
	w.number(uint64(len(p)))
	w.write(p)
}

func (w *Writer) number(n uint64) { w.write(binary.AppendUvarint(nil, n)) }

func (w *Writer) write(p []byte) {
	if w.err == nil {
		_, w.err = w.buf.Write(p)
	}
}

// Close ends the recipe, and reports whether all of it was written. What it is written to stays
// open.
func (w *Writer) Close() error {
	w.flush()
	w.write([]byte{'E'})
	if w.err == nil {
		w.err = w.buf.Flush()
	}
	if w.err == nil {
		w.err = w.z.Close()
	}
	return w.err
}

// ErrDamaged says that a recipe cannot be read.
var ErrDamaged = errors.New("damaged recipe")

// read calls raw and file for the records of a recipe.
func read(recipe io.Reader, raw func(p []byte) error, file func(name string, size int64, checksum uint32) error) error {
	z, err := gzip.NewReader(recipe)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	in := &records{Reader: bufio.NewReader(z), buffer: make([]byte, maxName)}
	for {
		more, err := in.next(raw, file)
		if err != nil || !more {
			return err
		}
	}
}

// records reads the parts of records; the first error stays in err.
type records struct {
	*bufio.Reader
	buffer []byte
	err    error
}

func (r *records) number(max uint64) uint64 {
	n, err := binary.ReadUvarint(r)
	if err == nil && n > max {
		err = fmt.Errorf("a number of %d", n)
	}
	if err != nil && r.err == nil {
		r.err = err
	}
	return min(n, max)
}

func (r *records) text(max uint64) []byte {
	p := r.buffer[:r.number(max)]
	if _, err := io.ReadFull(r, p); err != nil && r.err == nil {
		r.err = err
	}
	return p
}

// next calls raw or file for a record. There are no more after the one of the end.
func (r *records) next(raw func(p []byte) error,
	file func(name string, size int64, checksum uint32) error) (more bool, err error) {
	letter, err := r.ReadByte()
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	switch letter {
	case 'R':
		if p := r.text(maxRaw); r.err == nil {
			return true, raw(p)
		}
	case 'F':
		name := string(r.text(maxName))
		size, checksum := r.number(1<<62), r.number(1<<32-1)
		if r.err == nil {
			return true, file(name, int64(size), uint32(checksum))
		}
	case 'E':
		if _, r.err = r.ReadByte(); r.err == io.EOF { // which checks gzip's own sum
			return false, nil
		}
		if r.err == nil {
			r.err = errors.New("more after its end")
		}
	default:
		r.err = fmt.Errorf("a record of type %q", letter)
	}
	return false, fmt.Errorf("%w: %w", ErrDamaged, r.err)
}

// Restore writes the archive that a recipe and the directory root make. bad, if not nil, is told of
// each file that is not what it was; if it returns nil, Restore goes on with as many bytes as the
// archive had. Without it such a file is an error.
func Restore(w io.Writer, recipe io.Reader, root *os.File, bad func(name string, problem error) error) error {
	buffer := make([]byte, 256<<10)
	return read(recipe, func(p []byte) error {
		_, err := w.Write(p)
		return err
	}, func(name string, size int64, checksum uint32) error {
		err := content(w, root, name, size, checksum, buffer)
		if problem, ok := errors.AsType[*changed](err); ok {
			if bad != nil {
				return bad(name, problem.err)
			}
			return fmt.Errorf("%q: %w", name, problem.err)
		}
		return err
	})
}

// changed says that a file is not what it was, whatever was written of it.
type changed struct{ err error }

func (c *changed) Error() string { return c.err.Error() }

// content writes the size bytes that a file should have.
func content(w io.Writer, root *os.File, name string, size int64, checksum uint32, buffer []byte) error {
	f, problem := open(root, name)
	if problem == nil {
		defer f.Close()
		var info os.FileInfo
		if info, problem = f.Stat(); problem == nil && (!info.Mode().IsRegular() || info.Size() != size) {
			problem = fmt.Errorf("has %d bytes, not %d", info.Size(), size)
		}
	}
	sum := uint32(0)
	for left := size; left > 0; {
		p := buffer[:min(left, int64(len(buffer)))]
		n := 0
		if problem == nil {
			n, problem = io.ReadFull(f, p)
		}
		clear(p[n:])
		sum = Checksum(sum, p)
		if _, err := w.Write(p); err != nil {
			return err
		}
		left -= int64(len(p))
	}
	if problem == nil && sum != checksum {
		problem = errors.New("other content")
	}
	if problem != nil {
		return &changed{problem}
	}
	return nil
}

// open opens a file of the directory for reading. No link leads out, and the last part of the name
// is no link.
func open(root *os.File, name string) (*os.File, error) {
	fd, err := openat.FD(int(root.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, openat.Beneath)
	switch err {
	case nil:
		return os.NewFile(uintptr(fd), name), nil
	case unix.ENOENT:
		return nil, errors.New("is missing")
	}
	return nil, err
}

// Complete copies a recipe and puts the contents into it that root does not have, because a later
// entry of the archive took the file's place. aside is a directory of all that was replaced so.
func Complete(w *Writer, recipe io.Reader, root, aside *os.File) error {
	buffer := make([]byte, 256<<10)
	replaced, err := index(aside, buffer)
	if err != nil {
		return err
	}
	return read(recipe, func(p []byte) error {
		w.Raw(p)
		return w.err
	}, func(name string, size int64, checksum uint32) error {
		var problem *changed
		if err := content(io.Discard, root, name, size, checksum, buffer); !errors.As(err, &problem) {
			w.File(name, size, checksum)
			return errors.Join(err, w.err)
		}
		path, ok := replaced[key{size, checksum}]
		if !ok {
			return fmt.Errorf("%q: %w, and was not replaced", name, problem.err)
		}
		return content(rawWriter{w}, aside, path, size, checksum, buffer)
	})
}

type rawWriter struct{ w *Writer }

func (r rawWriter) Write(p []byte) (int, error) {
	r.w.Raw(p)
	return len(p), r.w.err
}

type key struct {
	size     int64
	checksum uint32
}

// index finds all files in a directory by what is in them.
func index(dir *os.File, buffer []byte) (map[key]string, error) {
	all := map[key]string{}
	directories := []string{"."}
	for len(directories) > 0 {
		at := directories[len(directories)-1]
		directories = directories[:len(directories)-1]
		directory, err := open(dir, at)
		if err != nil {
			return nil, err
		}
		entries, err := directory.ReadDir(-1)
		if err := errors.Join(err, directory.Close()); err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := at + "/" + e.Name()
			if e.IsDir() {
				directories = append(directories, name)
			}
			if !e.Type().IsRegular() {
				continue
			}
			f, err := open(dir, name)
			if err != nil {
				return nil, err
			}
			k := key{}
			for err == nil {
				var n int
				n, err = f.Read(buffer)
				k.size, k.checksum = k.size+int64(n), Checksum(k.checksum, buffer[:n])
			}
			if err := f.Close(); err != nil {
				return nil, err
			}
			if err != io.EOF {
				return nil, err
			}
			all[k] = name
		}
	}
	return all, nil
}
