// Host runs a command in a disposable systemd host.
//
//	go run ./test/host [--bare] [--root=DIR] [--overlay=DIR] [--bind=DIR] -- COMMAND [ARG …]
//
// The command sees the machine's own files, or those of another release in --root=DIR, with the
// overlay over them, a systemd that has just booted, and a /var/lib/rkt that is empty; nothing that
// it does lasts. The exit status is the command's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func main() {
	testkit.Main()
	status, err := run(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		status = 254
	}
	os.Exit(status)
}

func run(ctx context.Context) (status int, err error) {
	var c testkit.Config
	flag.Func("overlay", "a directory that lies over the machine's root",
		func(s string) error { c.Overlay = append(c.Overlay, s); return nil })
	flag.Func("bind", "a directory that the host has as it is", func(s string) error {
		if dir := filepath.Clean(s); dir == "/tmp" || dir == "/var/tmp" || dir == "/run" || dir == "/" {
			return errors.New("the host's systemd would empty the machine's own; bind a directory in it")
		}
		c.Binds = append(c.Binds, s)
		return nil
	})
	flag.StringVar(&c.Root, "root", "", "a tree with the files of another release")
	flag.BoolVar(&c.Bare, "bare", false, "no systemd in the host")
	flag.Parse()
	if flag.NArg() == 0 {
		return 0, errors.New("no command given")
	}
	if c.Dir, err = os.MkdirTemp("/var/tmp", "rkt-testhost-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.Dir)) }()
	h, err := testkit.Boot(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	wd, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	inDir := append([]string{"-c", `cd "$0" 2>/dev/null; exec "$@"`, wd}, flag.Args()...)
	cmd := h.Command(ctx, "/bin/sh", inDir...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}
