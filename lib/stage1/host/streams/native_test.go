package streams

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Records are parted and read as journald does, and say whose they are.
func TestNextEntry(t *testing.T) {
	a := &app{name: "web", pid: 7}
	const own = "RKT_POD=uuid\nRKT_APP=web\n"
	binary := "MESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n"
	for message, want := range map[string]string{
		"MESSAGE=x\n":                                       "6 |x|MESSAGE=x\n",
		"MESSAGE=x\nPRIORITY=3\nA=b\n":                      "3 |x|MESSAGE=x\nPRIORITY=3\nA=b\n",
		"MESSAGE=x\nPRIORITY=8\n":                           "6 |x|MESSAGE=x\nPRIORITY=8\n",
		"SYSLOG_IDENTIFIER=t\nMESSAGE=x=y\n":                "6 t|x=y|SYSLOG_IDENTIFIER=t\nMESSAGE=x=y\n",
		"SYSLOG_IDENTIFIER=web\nMESSAGE=x\n":                "6 |x|SYSLOG_IDENTIFIER=web\nMESSAGE=x\n",
		"RKT_APP=other\nRKT_POD=o\nMESSAGE=x\n":             "6 |x|MESSAGE=x\n",
		binary + "A=b\n":                                    "6 |a\nb|" + binary + "A=b\n",
		"RKT_APP\n\x01\x00\x00\x00\x00\x00\x00\x00o\nA=b\n": "6 ||A=b\n",
		"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffx\n":      "6 ||",
		"A=b\nMESSAGE\n\x04\x00\x00\x00\x00\x00\x00\x00a\n": "6 ||A=b\n",
		"MESSAGE\n\x01":                                     "6 ||",
		"A=b\nno newline":                                   "6 ||A=b\n",
		"\n":                                                "6 ||",
		"A=b\n\nC=d\n":                                      "6 ||A=b\n",
		"MESSAGE=x\n\n\n\n":                                 "6 |x|MESSAGE=x\n",
	} {
		e, rest := a.nextEntry([]byte(message), "uuid")
		fields, ok := strings.CutSuffix(string(e.fields), own)
		if got := fmt.Sprintf("%d %s|%s|%s", e.priority, e.tag, e.text, fields); got != want || ok != (fields != "") ||
			e.app != "web" {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
		if strings.HasPrefix(message, "A=b\n\n") != (string(rest) == "C=d\n") {
			t.Errorf("%q: then %q", message, rest)
		}
	}
}

func FuzzNextEntry(f *testing.F) {
	f.Add("MESSAGE=x\nA\n\x01\x00\x00\x00\x00\x00\x00\x00b\n\nC=d\n")
	f.Fuzz(func(t *testing.T, message string) {
		a := &app{name: "web"}
		for rest := []byte(message); len(rest) > 0; {
			before := len(rest)
			var e entry
			if e, rest = a.nextEntry(rest, "uuid"); len(rest) >= before {
				t.Fatalf("%q: no progress", message)
			}
			if n := strings.Count("\n"+string(e.fields), "\nRKT_APP="); len(e.fields) > 0 && n < 1 {
				t.Fatalf("%q: %q", message, e.fields)
			}
		}
	})
}

// Nothing is read that could make the reader wait, or could change.
func TestReadSealed(t *testing.T) {
	memfd := func(seals int) int {
		fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if _, err := unix.Write(fd, []byte("A=b\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	w.WriteString("A=b\n")
	for file, want := range map[int]string{
		memfd(unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK): "A=b\n", memfd(unix.F_SEAL_WRITE): "", memfd(0): "",
		int(r.Fd()): "",
	} {
		if text, err := readSealed(file); string(text) != want || err != nil {
			t.Errorf("%q, %v; want %q", text, err, want)
		}
	}
}
