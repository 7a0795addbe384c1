package fetch

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// TestUnchangedFile has a file be read once, as long as it is the same.
func TestUnchangedFile(t *testing.T) {
	one, two := aciOf(t, "example.com/app", "", "f=1"), aciOf(t, "example.com/app", "", "f=2")
	for _, kind := range []string{"", "docker-archive:"} {
		s, dir := newStore(t)
		if kind != "" {
			one, two = archiveOf(t, savedParts(t, nil, plainLayer(t, "f=1"))...),
				archiveOf(t, savedParts(t, nil, plainLayer(t, "f=2"))...)
		}
		file := archiveFile(t, one)
		ref := reference(t, kind+file)
		reads := 0
		o := quick
		o.settled = time.Nanosecond
		o.Progress = func(p Progress) {
			if p.Got == 0 {
				reads++
			}
		}
		fetch := func(want int) string {
			t.Helper()
			reads = 0
			id, err := Fetch(t.Context(), s, ref, o)
			must(t, err)
			if want == 0 && reads > 0 || want > 0 && reads == 0 && kind == "" {
				// of an archive, layers that are there are not read
				t.Errorf("%s: read %d times, want %d", kind, reads, want)
			}
			return id
		}
		id := fetch(1)
		for _, o.PullPolicy = range []PullPolicy{New, Update} {
			if fetch(0) != id {
				t.Error("another image")
			}
		}
		// Another file of the same size and times is another one.
		info, err := os.Stat(file)
		must(t, err)
		must(t, os.WriteFile(file, two, 0o644))
		must(t, os.Chtimes(file, info.ModTime(), info.ModTime()))
		if len(one) != len(two) || fetch(1) == id {
			t.Error("the change was not seen")
		}
		if kind == "" {
			must(t, os.WriteFile(file, one, 0o644))
			fetch(1) // again, to see that it is what the store has
		}
		// What the store has lost is read again, and what says so may be damaged.
		img, err := s.Image(fetch(0))
		must(t, err)
		must(t, os.RemoveAll(img.Layers[0]))
		fetch(1)
		damaged, err := filepath.Glob(dir + "/cas/remote/*/*")
		must(t, err)
		must(t, os.WriteFile(damaged[0], []byte("{"), 0o600))
		o.PullPolicy = Update
		if _, err := Fetch(t.Context(), s, ref, o); err != nil {
			t.Error(err)
		}
		// One that was changed a moment ago may be changed once more within one step of the clock.
		must(t, os.WriteFile(file, two, 0o644))
		o.settled = time.Hour
		fetch(1)
		must(t, os.Remove(file))
		if _, err := Fetch(t.Context(), s, ref, o); !testkit.Says(err, "no such file") {
			t.Error(err)
		}
	}
}

// TestUnchangedArchiveSigned has an archive be verified each time: its signatures are looked for in
// it.
func TestUnchangedArchiveSigned(t *testing.T) {
	s, _ := newStore(t)
	o := quick
	o.settled = time.Nanosecond
	ref := reference(t, "docker-archive:"+archiveFile(t, archiveOf(t, savedParts(t, nil, plainLayer(t, "f=1"))...)))
	_, err := Fetch(t.Context(), s, ref, o)
	must(t, err)
	o = signed(o)
	o.HaveKey = func(_ context.Context, name string) error {
		t.Errorf("asked for a key of ACIs called %s", name)
		return nil
	}
	if _, err := Fetch(t.Context(), s, ref, o); !testkit.Says(err, "known for docker archives") {
		t.Error(err)
	}
}

// TestUnchangedFileSigned has what came unsigned be checked when it must be.
func TestUnchangedFileSigned(t *testing.T) {
	data := aciOf(t, "example.com/app", "", "f=1")
	s, _ := newStore(t)
	file := archiveFile(t, data)
	o := quick
	o.settled = time.Nanosecond
	fetch := func(o Options, want string) {
		t.Helper()
		if _, err := Fetch(t.Context(), s, reference(t, file), o); err == nil != (want == "") ||
			err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	fetch(o, "")
	fetch(signed(o), "no signature of it")
	must(t, os.WriteFile(file+".asc", sign("example.com/app", data), 0o644))
	fetch(signed(o), "")
	must(t, os.Remove(file+".asc"))
	fetch(signed(o), "") // it was checked, and is the same
	fetch(o, "")
	distrusted := noKey(signed(o))
	fetch(distrusted, "no signature of it") // it is looked at again
	must(t, os.WriteFile(file+".sig", nil, 0o644))
	withFile := signed(o)
	withFile.Signature = file + ".sig"
	fetch(withFile, "bad signature")
}
