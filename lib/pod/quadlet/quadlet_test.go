package quadlet

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/tools/txtar"
)

// Each key of the manual page has a row, and each row is of a key; the page has the rows.
func TestKeys(t *testing.T) {
	file, err := os.Open("testdata/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	section, there := "", map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key := lines.Text()
		if strings.HasPrefix(key, "[") {
			section = strings.Trim(key, "[]")
		}
		if strings.HasPrefix(key, "[") || strings.HasPrefix(key, "#") {
			continue
		}
		there[section+" "+key] = true
		if !slices.ContainsFunc(keys, func(r row) bool {
			return r.section == section && (r.key == key ||
				r.key == "")
		}) {
			t.Errorf("%s= in [%s] has no row", key, section)
		}
	}
	if len(there) < 200 {
		t.Fatalf("found %d keys", len(there))
	}
	want := "| section | key | here |\n|---|---|---|\n"
	for _, r := range keys {
		if r.key != "" && r.section != "X-Rkt" && !there[r.section+" "+r.key] {
			t.Errorf("%s= in [%s] is not a key of Quadlet's", r.key, r.section)
		}
		here, key := r.here, r.key+"="
		if r.do == nil {
			here = "refused: " + here
		}
		if r.key == "" {
			key = "all"
		}
		want += fmt.Sprintf("| `[%s]` | `%s` | %s |\n", r.section, key, strings.ReplaceAll(here, "|", `\|`))
	}
	testkit.Generated(t, "../../../docs/from-podman.md", "<!-- made of lib/pod/quadlet/keys.go -->\n",
		"<!-- end of keys -->\n",
		func(string) string { return want })
}

// Each archive of testdata has Quadlet files, and want/FILE, what one of them becomes; or
// wrong/FILE, the error.
func TestConvert(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal(err, archives)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for _, f := range archive.Files {
			name := filepath.Join(dir, f.Name)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for i, f := range archive.Files {
			kind, name, _ := strings.Cut(f.Name, "/")
			if kind != "want" && kind != "wrong" {
				continue
			}
			unit, err := Convert(filepath.Join(dir, name))
			got := strings.ReplaceAll(show(unit, err), dir, "DIR")
			if os.Getenv("UPDATE") != "" {
				archive.Files[i].Data = []byte(got)
			} else if got != string(f.Data) {
				t.Errorf("%s: %s:\n%swant:\n%s", path, name, got, f.Data)
			}
			if (err != nil) != (kind == "wrong") {
				t.Errorf("%s: %s: %v", path, name, err)
			}
		}
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// show is a unit as text.
func show(u *Unit, err error) string {
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	line := func(name string, words ...string) {
		if len(words) > 0 && words[0] != "" {
			fmt.Fprintf(&b, "%s: %q\n", name, words)
		}
	}
	line("name", u.Name)
	line("run", u.Args...)
	line("once", u.Once...)
	line("reload", u.Reload...)
	line("note", u.Note)
	for _, s := range u.Settings {
		fmt.Fprintf(&b, "[%s] %s=%s\n", s.Section, s.Name, s.Value)
	}
	if u.Offline {
		b.WriteString("offline\n")
	}
	if u.Network != "" {
		fmt.Fprintf(&b, "network %s\n%s", u.Network, u.NetworkText)
	}
	return b.String()
}

// Every refused key is refused by one line with its name, and what to write.
func TestRefused(t *testing.T) {
	for _, r := range keys {
		if r.do != nil || r.section == "Kube" || r.section == "Build" {
			continue
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "x."+strings.ToLower(r.section))
		text := "[" + r.section + "]\nImage=example.com/x\nSubnet=10.1.1.0/24\n" + r.key + "=value\n"
		if r.section != "Container" && r.section != "Image" {
			text = strings.ReplaceAll(text, "Image=example.com/x\n", "")
		}
		if r.section != "Network" {
			text = strings.ReplaceAll(text, "Subnet=10.1.1.0/24\n", "")
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Convert(path)
		if want := path + ": " + r.key + "=: " + r.here; !testkit.Says(err, want) {
			t.Errorf("[%s] %s=: %v, want %s", r.section, r.key, err, want)
		}
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{`a  "b c" 'd "e' f\x20g`, []string{"a", "b c", `d "e`, "f g"}},
		{`sh -c "echo %i $A \"x\""`, []string{"sh", "-c", `echo %i $A "x"`}},
		{`"" a\ b \101é`, nil}, {`""`, []string{""}}, {"", nil}, {`a"b"c`, []string{"abc"}},
	} {
		got, err := words(c.text)
		if c.text == `"" a\ b \101é` {
			if err == nil {
				t.Errorf("%s: %q, want an error", c.text, got)
			}
			continue
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.text, got, err, c.want)
		}
	}
	for _, wrong := range []string{`"a`, `a\`, `\xZZ`, `\q`, `\x00`, `\u12`} {
		if got, err := words(wrong); err == nil {
			t.Errorf("%s: %q, want an error", wrong, got)
		}
	}
}

// Whatever a file holds, it is read or refused.
func FuzzConvert(f *testing.F) {
	f.Add("[Container]\nImage=x\nExec=\"a\\x20\"\nVolume=a:b:c\nMount=type=bind,x\nPublishPort=1-2:3-4/udp\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []string{"container", "network", "volume", "image"} {
			path := filepath.Join(dir, "x."+kind)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, _ = Convert(path)
		}
	})
}
