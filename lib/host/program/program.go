// Package program finds programs of the host. It is the only place that searches $PATH: the toolkit
// runs as root, often in a directory that is not root's, and an element of $PATH that is empty or
// relative means that directory.
package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotFound is the cause of the error for a program that is not there.
var ErrNotFound = errors.New("not found in $PATH")

// system are the directories of system programs, which the $PATH of a unit or a user may lack.
var system = []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"}

// Look returns the path of a program, which is absolute.
func Look(name string) (string, error) {
	if !strings.Contains(name, "/") {
		for _, dir := range dirs(os.Getenv("PATH")) {
			path := filepath.Join(dir, name)
			info, err := os.Stat(path)
			if err == nil && info.Mode().IsRegular() && unix.Access(path, unix.X_OK) == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", name, ErrNotFound)
}

// Command is exec.CommandContext of a program that Look finds. Running one that it does not find
// returns ErrNotFound.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	path, err := Look(name)
	if err != nil {
		path = "/" + name // which exec.Command does not search for
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Args[0] = name
	if err != nil {
		cmd.Err = err
	}
	return cmd
}

// Path is the value of $PATH for another program that searches for itself, made of its own value of
// it.
func Path(value string) string { return strings.Join(dirs(value), ":") }

// dirs are the directories to search for a value of $PATH.
func dirs(value string) []string {
	own := slices.DeleteFunc(filepath.SplitList(value), func(dir string) bool { return !filepath.IsAbs(dir) })
	return append(own, system...)
}
