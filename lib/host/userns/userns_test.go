package userns

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	for s, base := range map[string]uint32{"524288:65536\n": 524288, "524288:65536": 524288, "1879048192:65536": 0,
		"1878982656:65536": 1878982656, "": 0, "0:65536": 0, "65536:65536": 0, "524289:65536": 0, "524288:65537": 0,
		"524288": 0, "-524288:65536": 0, "524288:65536:1": 0, "4294967296:65536": 0, "524288:65536\n\n": 0,
		"0x80000:65536": 0} {
		got, err := Parse(s)
		if (err == nil) != (base != 0) || got.Base != base {
			t.Errorf("%q: %d, %v; want %d", s, got.Base, err, base)
		}
	}
}

// From every random number on, each range that Parse takes comes once, and none that belongs to
// somebody.
func TestFree(t *testing.T) {
	const base, last = firstRange << 16, lastRange << 16
	for _, n := range []uint32{0, 1, lastRange - firstRange, lastRange - firstRange + 1, math.MaxInt32,
		math.MaxUint32} {
		seen := map[Range]bool{}
		for r := range Free(n, []Span{{base, 1}, {base + Count + 5, Count}, {last + Count - 1, 1 << 31}, {0, base}}) {
			back, err := Parse(r.String())
			if err != nil || back != r || seen[r] {
				t.Fatalf("%d: %v, read back as %v, %v, twice %v", n, r, back, err, seen[r])
			}
			seen[r] = true
		}
		for r, want := range map[Range]bool{{base}: false, {base + Count}: false, {base + 2*Count}: false,
			{base + 3*Count}: true,
			{last}:           false, {last - Count}: true} {
			if seen[r] != want {
				t.Errorf("%d: %v: %v, want %v", n, r, seen[r], want)
			}
		}
		if want := lastRange - firstRange + 1 - 4; len(seen) != want {
			t.Errorf("%d: %d ranges, want %d", n, len(seen), want)
		}
	}
	for r := range Free(7, []Span{{0, 1 << 32}}) {
		t.Errorf("%v, and all are taken", r)
	}
}

// What belongs to users of the host, to their containers, and to running ones.
func TestTaken(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nbig:x:700000:4:::\n+::::::\nbroken\nlong:x:99999999999:1:::\n",
		"etc/group":  "root:x:0:\nbig:x:800000:a,b\n",
		"etc/subuid": "# none\nuser:1000000:65536\n1000: 2000000 : 1 " +
			"\nbad:x:1\nhalf:5\n\nall:2147483647:2147483648\n",
		"etc/subgid":        "user:3000000:65536",
		"proc/self/uid_map": "         0          0 4294967295\n", "proc/self/gid_map": "0 0 4294967295\n",
		"proc/1/uid_map": "         0          0 4294967295\n", "proc/1/gid_map": "0 0 4294967295\n",
		"proc/77/uid_map": "         0    4000000      65536\n     65536    5000000          1\n",
		"proc/77/gid_map": "0 6000000 65536\n", "proc/78/uid_map": "0 4000000 65536\n", "proc/78/gid_map": "",
		"proc/79/uid_map": "0 1 4294967294\n", "proc/net/uid_map": "0 9000000 1\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Of processes in one namespace, one is asked; 94 and 95 are in that of the host.
	for process, ns := range map[string]string{"self": "1", "94": "1", "95": "1", "92": "2", "93": "2"} {
		dir := filepath.Join(root, "proc", process)
		text := "0 7000000 10\n"
		if ns == "1" {
			text = "0 8000000 10\n"
		}
		err := errors.Join(os.MkdirAll(filepath.Join(dir, "ns"), 0o755),
			os.Symlink("user:["+ns+"]", filepath.Join(dir, "ns/user")))
		if process != "self" {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, "uid_map"), []byte(text), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := Taken(root)
	want := []Span{{0, 1}, {700000, 1}, {0, 1}, {800000, 1}, {1000000, 65536}, {2000000, 1}, {2147483647, 2147483648},
		{3000000, 65536},
		{4000000, 65536}, {5000000, 1}, {6000000, 65536}, {7000000, 10}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v\nwant %v", got, err, want)
	}
	if got, err := Taken(t.TempDir()); err != nil || got != nil {
		t.Errorf("a host without any: %v, %v", got, err)
	}
	if err := os.Remove(filepath.Join(root, "etc/subuid")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "etc/subuid"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := Taken(root); err == nil {
		t.Errorf("a file that can't be read: %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("524288:65536\n")
	f.Add("::")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := Parse(s); err == nil && (r.Base < 1<<19 || r.Base > math.MaxInt32) {
			t.Errorf("%q: %v", s, r)
		}
	})
}
