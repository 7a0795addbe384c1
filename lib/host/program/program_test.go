package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program in the working directory is never run, whatever $PATH says: it may be anybody's.
func TestLookIgnoresTheWorkingDirectory(t *testing.T) {
	dir, good := t.TempDir(), t.TempDir()
	for _, path := range []string{dir + "/tool", dir + "/bin/tool", dir + "/only-here", good + "/tool",
		good + "/rkt-not-executable"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+path+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(good+"/rkt-not-executable", 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, path := range []string{":" + good, ".:" + good, "bin:" + good, "./bin::" + good + ":", good + ":.",
		"..:../" + filepath.Base(dir) + ":" + good} {
		t.Setenv("PATH", path)
		if got, err := Look("tool"); err != nil || got != good+"/tool" {
			t.Errorf("PATH=%s: %s, %v", path, got, err)
		}
		out, err := Command(context.Background(), "tool").Output()
		if err != nil || strings.TrimSpace(string(out)) != good+"/tool" {
			t.Errorf("PATH=%s: ran %s, %v", path, out, err)
		}
		for _, name := range []string{"only-here", "./tool", "bin/tool", "", "rkt-not-executable", "../tool"} {
			if got, err := Look(name); !errors.Is(err, ErrNotFound) {
				t.Errorf("PATH=%s: %q is %s, %v", path, name, got, err)
			}
			if err := Command(context.Background(), name).Run(); !errors.Is(err, ErrNotFound) {
				t.Errorf("PATH=%s: %q ran: %v", path, name, err)
			}
		}
		for dir := range strings.SplitSeq(Path(path), ":") {
			if !filepath.IsAbs(dir) {
				t.Errorf("PATH=%s becomes %s", path, Path(path))
			}
		}
	}
	// Without any, the system's.
	t.Setenv("PATH", "")
	if got, err := Look("sh"); err != nil || !filepath.IsAbs(got) {
		t.Errorf("sh: %s, %v", got, err)
	}
}
