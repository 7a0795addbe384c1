package systree

import (
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// object is what the loader reads of an ELF file.
type object struct {
	path     string // canonical, in the root
	class    elf.Class
	machine  elf.Machine
	loader   string   // PT_INTERP
	needed   []string // DT_NEEDED
	runpath  []string // DT_RUNPATH, or DT_RPATH where there is none
	optional []dlopen
}

// dlopen is an entry of a .note.dlopen section (uapi-group.org, "dlopen() Metadata for ELF Files"):
// a library that is opened while the program runs.
type dlopen struct {
	Soname   []string // by preference
	Feature  string
	Priority string // "required", "recommended" or "suggested"; "" is recommended
}

// readObject returns nil for a file that is not an ELF file.
func readObject(name, path string) (*object, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var magic [len(elf.ELFMAG)]byte
	if _, err := io.ReadFull(file, magic[:]); err != nil || string(magic[:]) != elf.ELFMAG {
		return nil, nil
	}
	o, err := parseObject(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o.path = path
	return o, nil
}

func parseObject(r io.ReaderAt) (*object, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	o := &object{class: f.Class, machine: f.Machine}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			text, err := readAll(p.Open(), p.Filesz)
			if err != nil {
				return nil, err
			}
			o.loader = strings.TrimRight(string(text), "\x00")
		}
	}
	if f.SectionByType(elf.SHT_DYNAMIC) == nil { // linked statically
		return o, nil
	}
	if o.needed, err = f.DynString(elf.DT_NEEDED); err != nil {
		return nil, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		paths, err := f.DynString(tag)
		if err != nil {
			return nil, err
		}
		if len(paths) > 0 {
			o.runpath = strings.Split(strings.Join(paths, ":"), ":")
			break
		}
	}
	note := f.Section(".note.dlopen")
	if note == nil {
		return o, nil
	}
	text, err := readAll(note.Open(), note.Size)
	if err == nil {
		o.optional, err = parseNotes(text, f.ByteOrder)
	}
	if err != nil {
		return nil, fmt.Errorf(".note.dlopen: %w", err)
	}
	return o, nil
}

// maxPart bounds what is read of a file at once.
const maxPart = 1 << 20

func readAll(r io.Reader, size uint64) ([]byte, error) {
	if size > maxPart {
		return nil, fmt.Errorf("a part of %d bytes", size)
	}
	return io.ReadAll(r)
}

// dlopenNote is the type of the notes of .note.dlopen.
const dlopenNote = 0x407c0c0a

// parseNotes reads notes as elf(5) has them: three words, a name and a description, each padded to
// four bytes.
func parseNotes(text []byte, order binary.ByteOrder) ([]dlopen, error) {
	var list []dlopen
	for len(text) > 0 {
		if len(text) < 12 {
			return nil, errors.New("cut short")
		}
		name, size, kind := uint64(order.Uint32(text)), uint64(order.Uint32(text[4:])), order.Uint32(text[8:])
		text = text[12:]
		begin := (name + 3) &^ 3
		end := begin + size
		if end > uint64(len(text)) {
			return nil, errors.New("cut short")
		}
		if kind == dlopenNote {
			var entries []dlopen
			if err := json.Unmarshal([]byte(strings.TrimRight(string(text[begin:end]), "\x00")), &entries); err != nil {
				return nil, err
			}
			list = append(list, entries...)
		}
		text = text[min((end+3)&^3, uint64(len(text))):]
	}
	return list, nil
}
