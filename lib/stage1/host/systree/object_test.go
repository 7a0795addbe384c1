package systree

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
)

// note is one as linkers write it (elf(5)).
func note(name string, kind uint32, text string) []byte {
	padded := func(s string) []byte { return append([]byte(s), make([]byte, (4-len(s)%4)%4)...) }
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	return append(append(b, padded(name)...), padded(text)...)
}

func TestParseNotes(t *testing.T) {
	const text = `[{"feature":"bpf","description":"BPF","priority":"recommended",` +
		`"soname":["libbpf.so.1","libbpf.so.0"]}]` + "\x00"
	want := dlopen{Soname: []string{"libbpf.so.1", "libbpf.so.0"}, Feature: "bpf", Priority: "recommended"}
	one := note("FDO\x00", dlopenNote, text)
	for _, c := range []struct {
		name  string
		notes []byte
		want  []dlopen
		fails bool
	}{
		{"none", nil, nil, false},
		{"one", one, []dlopen{want}, false},
		{"two", bytes.Repeat(one, 2), []dlopen{want, want}, false},
		{"of another type", note("GNU\x00", 3, "abc"), nil, false},
		{"without its padding", one[:len(one)-(4-len(text)%4)%4], []dlopen{want}, false},
		{"cut in the words", one[:11], nil, true},
		{"cut in the text", one[:40], nil, true},
		{"no JSON", note("FDO\x00", dlopenNote, "{"), nil, true},
		{"a size of 4 GB", note("FDO\x00", dlopenNote, text)[:4], nil, true},
	} {
		got, err := parseNotes(c.notes, binary.LittleEndian)
		if (err != nil) != c.fails || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func FuzzParseNotes(f *testing.F) {
	f.Add(note("FDO\x00", dlopenNote, `[{"soname":["a"]}]`))
	f.Add(note("", 0, strings.Repeat("x", 9)))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseNotes(text, binary.LittleEndian)
		if err != nil && list != nil {
			t.Errorf("%v and %v", list, err)
		}
	})
}

func FuzzParseObject(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = parseObject(bytes.NewReader(text)) })
}
