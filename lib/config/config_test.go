package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenPaths(t *testing.T) {
	head := func(kind, rest string) string { return fmt.Sprintf(`{"rktKind":"%s","rktVersion":"v1"%s}`, kind, rest) }
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"paths.d/a.json": head("paths", `,"data":"/a"`), "paths.d/b.json": head("paths",
			`,"stage1-images":"/b"`)}, "{/a /b} {  }"},
		{map[string]string{"paths.d/a.json": head("paths", `,"data":"/a"`), "paths.d/b.json": head("paths",
			`,"data":"/b"`)}, "paths.d/b.json: data is in another file of the directory too"},
		{map[string]string{"paths.d/a.json": head("paths", `,"data":"a"`)},
			`paths.d/a.json: data: "a" is not an absolute path`},
		{map[string]string{"paths.d/a.json": head("paths", `,"data":7`)},
			"paths.d/a.json: data: must be a string, not number"},
		{map[string]string{"paths.d/a.json": head("paths", ``)}, "paths.d/a.json: neither data nor stage1-images"},
		{map[string]string{"paths.d/a.json": head("paths", `,"date":"/a","data":"/b"`)},
			`paths.d/a.json: unknown field "date"; there are data, stage1-images`},
		{map[string]string{"stage1.d/a.json": head("stage1", `,"location":"l","versoin":"v"`)},
			`stage1.d/a.json: unknown field "versoin"; there are name, version, location`},
		{map[string]string{"paths.d/a.json": head("auth", ``)},
			`paths.d/a.json: rktKind "auth" has no place in paths.d`},
		{map[string]string{"paths.d": ""}, "paths.d: not a directory"},
		{map[string]string{"stage1.d/a.json": head("stage1", `,"name":"n","version":"v"`),
			"stage1.d/b.json": head("stage1", `,"location":"l"`)}, "{ } {n v l}"},
		{map[string]string{"stage1.d/a.json": head("stage1", `,"name":"n"`)},
			"stage1.d/a.json: name and version go together"},
		{map[string]string{"stage1.d/a.json": head("stage1", ``)},
			"stage1.d/a.json: neither name and version nor location"},
		{map[string]string{"stage1.d/a.json": head("stage1", `,"location":"l"`), "stage1.d/b.json": head("stage1",
			`,"location":"l"`)}, "stage1.d/b.json: location is in another file of the directory too"},
		{map[string]string{"stage1.d/a.json": head("stage1", `,"name":"n","version":"v"`),
			"stage1.d/b.json": head("stage1", `,"name":"n","version":"v"`)},
			"stage1.d/b.json: name and version are in another file of the directory too"},
		{map[string]string{"stage1.d/a.json": "x"},
			"stage1.d/a.json: invalid character 'x' looking for beginning of value"},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			write(t, filepath.Join(dir, name), text)
		}
		paths, err := ReadPaths("", dir, "/no/such")
		stage1, err2 := ReadStage1("", dir, "/no/such")
		got := fmt.Sprint(paths, " ", stage1)
		if err := errors.Join(err, err2); !testkit.Gives(got, err, c.want) || err != nil && !testkit.Says(err,
			dir+"/") {
			t.Errorf("%s, %v, want %s", got, err, c.want)
		}
	}
}

// FuzzFiles has one file of every kind. What is read of it comes back when it is printed and read
// again.
func FuzzFiles(f *testing.F) {
	for _, text := range []string{
		`{"rktKind":"auth","rktVersion":"v1","domains":["a.b:1"],"type":"basic","credentials":{"user":"<&>",` +
			`"password":"p"}}`,
		`{"rktKind":"auth","rktVersion":"v1","domains":["A","b"],"type":"aws","credentials":{"accessKeyID":"i",` +
			`"secretAccessKey":"s","awsRegion":"r"}}`,
		`{"rktKind":"dockerAuth","rktVersion":"v1","registries":["quay.io"],"credentials":{"user":"u","password":"p"}}`,
		`{"rktKind":"paths","rktVersion":"v1","data":"/x"}`,
		`{"rktKind":"stage1","rktVersion":"v1","location":"l"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		kind, err := kindOf(text)
		directory, ok := map[string]string{"auth": "auth.d", "dockerAuth": "auth.d", "paths": "paths.d",
			"stage1": "stage1.d"}[kind]
		if err != nil || !ok {
			return
		}
		dir := t.TempDir()
		write(t, filepath.Join(dir, directory, "a.json"), string(text))
		paths, err := ReadPaths(dir)
		if err != nil {
			return
		}
		data := paths.Data
		if data == "" {
			data = "/data"
		}
		first, err := Print(data, dir)
		if err != nil {
			return
		}
		var printed struct {
			Entries []json.RawMessage `json:"stage0"`
		}
		if err := json.Unmarshal(first, &printed); err != nil {
			t.Fatal(err)
		}
		again := t.TempDir()
		for i, e := range printed.Entries {
			kind, err := kindOf(e)
			if err != nil {
				t.Fatalf("%s: %v", e, err)
			}
			directory := map[string]string{"auth": "auth.d", "dockerAuth": "auth.d", "paths": "paths.d",
				"stage1": "stage1.d"}[kind]
			write(t, fmt.Sprintf("%s/%s/%d.json", again, directory, i), string(e))
		}
		second, err := Print(data, again)
		if err != nil || string(first) != string(second) {
			t.Errorf("%s came back as %s: %v", first, second, err)
		}
	})
}

func TestNoSecretIsPrinted(t *testing.T) {
	a := Auth{Password: "s3cret", Token: "s3cret", SecretAccessKey: "s3cret", File: "f"}
	if text := fmt.Sprintf("%v %+v %#v %s", a, a, a, a); strings.Contains(text, "s3cret") {
		t.Error(text)
	}
}
