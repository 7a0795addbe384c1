package list

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

const manifest = `{"acVersion":"0.8.11","acKind":"PodManifest","apps":[
	{"name":"web","image":{"name":"example.com/web","id":"sha512-0123456789abcdef0123",
		"labels":[{"name":"version","value":"1.2"}]}},
	{"name":"db","image":{"name":"example.com/db","id":"sha512-fedcba9876543210"}}]}`

// make makes a prepared pod, or one that has ended.
func makePod(t *testing.T, data, uuid string, started bool, created time.Time) {
	t.Helper()
	p, lock, err := poddir.In(data).Create(uuid)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	files := map[string]string{poddir.ManifestFile: manifest, poddir.NameFile: "name-of-" + uuid[:1] + "\n"}
	if started {
		files[poddir.StartedFile] = ""
	}
	for name, text := range files {
		if err := os.WriteFile(p.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p.Path(name), created, created); err != nil {
			t.Fatal(err)
		}
	}
}

func run(data string, args ...string) (string, error) {
	var out, complaints bytes.Buffer
	err := Command.Start(context.Background(), &cli.Process{Name: "rkt-list", Args: append([]string{"--dir=" + data},
		args...), Stdout: &out, Stderr: &complaints, Getenv: os.Getenv})
	return out.String(), err
}

func TestFields(t *testing.T) {
	data := t.TempDir()
	makePod(t, data, "11111111-1111-4111-8111-111111111111", true, time.Now().Add(-3*time.Hour))
	makePod(t, data, "22222222-1111-4111-8111-111111111111", false, time.Now().Add(-time.Hour))
	for _, c := range []struct{ args, want string }{
		{"", "UUID APP IMAGE NAME STATE CREATED STARTED NETWORKS|11111111 web example.com/web:1.2 exited 3 hours ago " +
			"3 hours ago|db example.com/db|22222222 web example.com/web:1.2 prepared 1 hour ago|db example.com/db"},
		{"--no-legend --fields=uuid,state", "11111111 exited||22222222 prepared|"},
		{"--no-legend --fields=name,app", "name-of-1 web|db|name-of-2 web|db"},
		{"--fields=imagename,imageid --full", "IMAGE NAME IMAGE ID|example.com/web:1.2 " +
			"sha512-0123456789ab|example.com/db sha512-fedcba987654|example.com/web:1.2 " +
			"sha512-0123456789ab|example.com/db sha512-fedcba987654"},
		{"--no-legend --full --fields=uuid",
			"11111111-1111-4111-8111-111111111111||22222222-1111-4111-8111-111111111111|"},
	} {
		out, err := run(data, strings.Fields(c.args)...)
		var lines []string
		for line := range strings.Lines(out) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		if got := strings.Join(lines, "|"); err != nil || got != c.want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", c.args, err, got, c.want)
		}
	}
	if out, err := run(data, "--fields=uuid,pid"); out != "" ||
		!testkit.Says(err, `--fields=uuid,pid: "pid" ... uuid, name ... networks`) {
		t.Errorf("%q, %v", out, err)
	}
}

// An error has no headings before it, and no pods are an empty list.
func TestNoPods(t *testing.T) {
	data := t.TempDir()
	if out, err := run(data, "--format=json"); out != "[]\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := run(data); !strings.HasPrefix(out, "UUID") || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if err := os.WriteFile(data+"/pods", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"text", "json"} {
		if out, err := run(data, "--format="+format); out != "" || err == nil {
			t.Errorf("%s: %q, %v", format, out, err)
		}
	}
}

// Ten thousand pods are each listed once, as text and as JSON. test/bench.sh has the time that it
// takes.
func TestTenThousand(t *testing.T) {
	const n = 10000
	data := t.TempDir()
	makePod(t, data, "00000000-1111-4111-8111-111111111111", true, time.Now())
	first := poddir.In(data).Path() + "/00000000-1111-4111-8111-111111111111/"
	want := []string{"00000000-1111-4111-8111-111111111111"}
	for i := 1; i < n; i++ { // of the same age, and so in the order of their names
		uuid := fmt.Sprintf("%08x-1111-4111-8111-111111111111", i)
		dir := poddir.In(data).Path() + "/" + uuid + "/"
		err := errors.Join(os.Mkdir(dir, 0o700), os.Link(first+poddir.ManifestFile, dir+poddir.ManifestFile))
		if i%2 == 0 {
			err = errors.Join(err, os.Link(first+poddir.StartedFile, dir+poddir.StartedFile))
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, uuid)
	}
	out, err := run(data, "--no-legend", "--full", "--fields=uuid,state")
	var got []string
	states := map[string]int{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 {
			got = append(got, f[0])
			states[f[1]]++
		}
	}
	if err != nil || !slices.Equal(got, want) || states["exited"] != n/2 || states["prepared"] != n/2 {
		t.Errorf("%v, %d lines, states %v", err, len(got), states)
	}
	out, err = run(data, "--format=json")
	var pods []struct{ Name, State string }
	if err := json.Unmarshal([]byte(out), &pods); err != nil {
		t.Fatal(err)
	}
	got = nil
	for _, p := range pods {
		got = append(got, p.Name)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("JSON: %v, %d pods", err, len(got))
	}
}
