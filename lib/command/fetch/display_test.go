package fetch

import (
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image/fetch"
)

const (
	layerA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	layerB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// shown gives what a display writes for what happens, one step a second.
func shown(t *testing.T, name string, local bool, columns int, steps ...fetch.Progress) *strings.Builder {
	t.Helper()
	var out strings.Builder
	at := time.Unix(1e9, 0)
	d := &display{p: &cli.Process{Name: "rkt-fetch", Stderr: &out}, name: name, local: local,
		now: func() time.Time { return at }}
	if columns > 0 {
		d.columns = func() int { return columns }
	}
	for _, step := range steps {
		d.update(step)
		at = at.Add(time.Second)
	}
	d.clear()
	return &out
}

// screen is what a terminal shows after it was sent a text, with only the controls that a display
// uses.
func screen(t *testing.T, text string, columns int) []string {
	t.Helper()
	lines, y, x := []string{""}, 0, 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\r':
			x = 0
		case text[i] == '\n': // the terminal driver makes it \r\n
			y, x = y+1, 0
			if y == len(lines) {
				lines = append(lines, "")
			}
		case strings.HasPrefix(text[i:], "\x1b[A"):
			y, i = y-1, i+2
		case strings.HasPrefix(text[i:], "\x1b[J"):
			lines[y], i = lines[y][:x], i+2
			lines = lines[:y+1]
		case text[i] < ' ':
			t.Fatalf("control %q", text[i:])
		default:
			if x == columns {
				t.Fatalf("a line is longer than the terminal is wide: %q", lines[y])
			}
			lines[y] = lines[y][:x] + text[i:i+1]
			x++
		}
	}
	return lines
}

func TestDisplayTerminal(t *testing.T) {
	steps := []fetch.Progress{
		{Blob: layerA, Size: 20_000_000},
		{Blob: layerB, Size: 400},
		{Blob: layerA, Got: 5_000_000, Size: 20_000_000},
	}
	half := shown(t, "docker://redis\x1b", false, 60, steps...).String()
	before := half[:strings.LastIndex(half, "\r")] // without what clear does
	want := []string{
		"docker://redis?",
		"aaaaaaaaaaaa  [======                  ] 5.0 MB of 20.0 MB",
		"bbbbbbbbbbbb  [                        ] 0 B of 400 B",
	}
	if got := screen(t, before, 60); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", got)
	}
	if got := screen(t, half, 60); strings.Join(got, "\n") != "docker://redis?\n" {
		t.Errorf("when it fails: %q", got)
	}
	all := shown(t, "docker://redis", false, 60, append(steps,
		fetch.Progress{Blob: layerB, Got: 400, Size: 400}, fetch.Progress{Blob: layerA, Got: 20_000_000,
			Size: 20_000_000})...).String()
	want = []string{"docker://redis", "bbbbbbbbbbbb  400 B in 2.0 s", "aaaaaaaaaaaa  20.0 MB in 4.0 s", ""}
	if got := screen(t, all, 60); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", got)
	}
	// A narrow terminal, and a URL with a secret.
	url := "https://example.com/a/very/long/path/app.aci?token=s3cret"
	got := shown(t, url, false, 30, fetch.Progress{Blob: url, Size: -1}, fetch.Progress{Blob: url, Got: 7, Size: -1},
		fetch.Progress{Blob: url, Got: 7, Size: 7}).String()
	if strings.Contains(got, "s3cret") || screen(t, got, 30)[0] != "https://example.com/a/very/lo" {
		t.Errorf("%q", got)
	}
}

func TestDisplayPlain(t *testing.T) {
	var steps []fetch.Progress
	for i := range int64(25) {
		steps = append(steps, fetch.Progress{Blob: layerA, Got: i * 1_000_000, Size: 24_000_000})
	}
	url := "https://example.com/app.aci"
	for _, c := range []struct {
		name  string
		local bool
		steps []fetch.Progress
		want  string
	}{
		{"docker://redis", false, steps, "rkt-fetch: docker://redis: aaaaaaaaaaaa: 10.0 MB of 24.0 MB\n" +
			"rkt-fetch: docker://redis: aaaaaaaaaaaa: 20.0 MB of 24.0 MB\nrkt-fetch: docker://redis: aaaaaaaaaaaa: " +
			"24.0 MB in 24.0 s\n"},
		{"oci:redis", true, steps, ""},
		{url + "?token=s3cret", false, []fetch.Progress{{Blob: url + "?token=s3cret", Size: -1},
			{Blob: url + "?token=s3cret", Got: 1500, Size: 1500}},
			"rkt-fetch: " + url + ": 1.5 kB in 1.0 s\n"},
		{"./app.aci", true, []fetch.Progress{{Blob: "/x/app.aci"}, {Blob: url, Got: 0, Size: 9},
			{Blob: url, Got: 9, Size: 9}},
			"rkt-fetch: ./app.aci: " + url + ": 9 B in 1.0 s\n"},
	} {
		if got := shown(t, c.name, c.local, 0, c.steps...).String(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
