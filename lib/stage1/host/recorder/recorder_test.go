package recorder

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func newRoot(t *testing.T, asked bool) podRoot {
	t.Helper()
	root := podRoot(t.TempDir())
	if err := os.MkdirAll(filepath.Join(string(root), StatusDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if asked {
		if err := root.mark(AskedFile); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// ends is what Ended leaves for an app, and with which status it ends the pod, "" for not at all.
func (r podRoot) ends(t *testing.T, app string, e End) (recorded, pod string) {
	t.Helper()
	var failed Failed
	if err := r.ended(app, e); errors.As(err, &failed) {
		pod = strconv.Itoa(failed.Status)
	} else if err != nil {
		t.Errorf("%+v: %v", e, err)
	}
	text, _ := os.ReadFile(filepath.Join(string(r), StatusDir, app))
	return strings.TrimSpace(string(text)), pod
}

func TestEnded(t *testing.T) {
	for _, c := range []struct {
		code, status, result string
		asked                bool
		recorded, pod        string
	}{
		{"exited", "0", "success", false, "0", ""},
		{"exited", "3", "exit-code", false, "3", "3"},
		{"exited", "3", "exit-code", true, "3", "3"},
		{"exited", "0", "protocol", false, "0", "255"},
		{"killed", "KILL", "signal", false, "137", "137"},
		{"killed", "KILL", "signal", true, "137", "137"},
		// The signals that systemd takes for success are that only if somebody asked for the stop.
		{"killed", "TERM", "success", false, "143", "143"},
		{"killed", "INT", "success", false, "130", "130"},
		{"killed", "HUP", "success", false, "129", "129"},
		{"killed", "PIPE", "success", false, "141", "141"},
		{"killed", "TERM", "success", true, "143", ""},
		{"dumped", "QUIT", "core-dump", true, "131", ""},
		{"dumped", "QUIT", "core-dump", false, "131", "131"},
		{"dumped", "SEGV", "core-dump", true, "139", "139"},
		{"killed", "RTMIN", "signal", false, "162", "162"},
		{"killed", "RTMIN+3", "success", true, "165", ""},
		{"killed", "RTMIN+", "signal", false, "255", "255"},
		{"killed", "RTMINOR", "signal", false, "255", "255"},
		{"killed", "WHAT", "signal", false, "255", "255"},
		{"exited", "300", "exit-code", false, "255", "255"},
		{"", "", "resources", false, "255", "255"},
		{"", "", "success", false, "255", "255"}, // what it depends on has failed
		{"", "", "success", true, "255", ""},
		{"exited", "0", "start-limit-hit", false, "", ""},
	} {
		recorded, pod := newRoot(t, c.asked).ends(t, "app", End{c.result, c.code, c.status})
		if recorded != c.recorded || pod != c.pod {
			t.Errorf("%+v: recorded %q, the pod ends with %q", c, recorded, pod)
		}
	}
}

// The first app that fails gives the pod its status.
func TestFirst(t *testing.T) {
	root := newRoot(t, false)
	for _, c := range []struct{ app, code, status, result, recorded, pod string }{
		{"well", "exited", "0", "success", "0", ""},
		{"first", "exited", "5", "exit-code", "5", "5"},
		{"second", "killed", "TERM", "success", "143", ""},
		{"third", "exited", "6", "exit-code", "6", ""},
	} {
		recorded, pod := root.ends(t, c.app, End{c.result, c.code, c.status})
		if recorded != c.recorded || pod != c.pod {
			t.Errorf("%+v: recorded %q, the pod ends with %q", c, recorded, pod)
		}
	}
	if err := root.stopped(); err != (Failed{5}) {
		t.Errorf("stopped: %v", err)
	}
	if _, err := os.Stat(string(root) + StoppedFile); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(string(root)+FailedFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := root.stopped(); err != (Failed{255}) {
		t.Errorf("a damaged note: %v", err)
	}
	if err := newRoot(t, true).stopped(); err != nil {
		t.Errorf("no failure: %v", err)
	}
}

// PID 1 has been asked to stop by the signal that all processes got.
func TestAskedAll(t *testing.T) {
	root := newRoot(t, false)
	for _, arguments := range []string{"systemd\x00--system\x00", "systemd\x00--system\x00--deserialize\x0023\x00"} {
		if err := os.MkdirAll(string(root)+"/proc/1", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(string(root)+"/proc/1/cmdline", []byte(arguments), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, want := root.asked(), strings.Contains(arguments, "deserialize"); got != want {
			t.Errorf("%q: asked is %v", arguments, got)
		}
	}
}

// The request to stop may become known a moment after the death.
func TestAskedLate(t *testing.T) {
	root := newRoot(t, false)
	go func() {
		time.Sleep(askedWait / 4)
		root.mark(AskedFile)
	}()
	if recorded, pod := root.ends(t, "app", End{"success", "killed", "TERM"}); recorded != "143" || pod != "" {
		t.Errorf("recorded %q, the pod ends with %q", recorded, pod)
	}
}

// What an app ended with counts for the pod also where nothing can be written.
func TestNoRoom(t *testing.T) {
	root := podRoot(filepath.Join(t.TempDir(), "file"))
	if err := os.WriteFile(string(root), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, pod := root.ends(t, "app", End{"exit-code", "exited", "3"}); pod != "3" {
		t.Errorf("the pod ends with %q", pod)
	}
	if _, pod := root.ends(t, "app", End{"success", "exited", "0"}); pod != "" {
		t.Errorf("the pod ends with %q", pod)
	}
}
