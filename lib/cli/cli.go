// Package cli is the frame that every program of the toolkit runs in: flags, exit status, how an error is printed, and how
// one program becomes or calls the next. It is the only package under lib that prints, exits or looks at os.Args.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rkt-toolkit/rkt/lib/config"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"golang.org/x/sys/unix"
)

// ExitFailure is the exit status of every error of the toolkit's own, as rkt had it since 1.18, so that it can be told
// from the status of an app.
const ExitFailure = 254

// ExitStatus is an error that ends the program with that status and prints nothing: whoever returns it has said, or
// another program has said, all there is to say.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Process is what a program is started with, and what it may write to besides files.
type Process struct {
	Name   string   // the program, as errors name it
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	PID    int // its own process ID

	// Chosen are the flags that the caller has set, on the command line or by a variable, by name, with what they were set to. Parsing
	// the command line fills it.
	Chosen map[string]string

	debug    bool
	rootOnly bool // see RootFlags
	noDir    bool // see FlagsWithoutDir
}

// Main runs a program and exits. usage is the whole text of --help. The exit status is 0, that of an ExitStatus, or
// ExitFailure after one line on standard error.
func Main(name, usage string, run func(context.Context, *Process) error) {
	p := &Process{
		Name: name, Args: os.Args[1:],
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, PID: os.Getpid(),
	}
	os.Exit(p.report(usage, run(context.Background(), p)))
}

// Interruptible gives a context that SIGINT and SIGTERM cancel, for programs that take back what they have begun. After stop those
// signals do what they do by default; it returns the error of a signal that came before, so that a program that is to become
// another one loses none.
func Interruptible(parent context.Context) (_ context.Context, stop func() error) {
	ctx, cancel := context.WithCancelCause(parent)
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGINT, unix.SIGTERM)
	stopping, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		select {
		case s := <-caught:
			cancel(fmt.Errorf("ended by signal: %s", s))
			return
		case <-stopping:
		}
		select {
		case s := <-caught:
			cancel(fmt.Errorf("ended by signal: %s", s))
		default:
		}
	}()
	var once sync.Once
	return ctx, func() error {
		once.Do(func() {
			signal.Stop(caught)
			close(stopping)
			<-stopped
		})
		return context.Cause(ctx)
	}
}

func (p *Process) report(usage string, err error) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, flag.ErrHelp) {
		if _, err := io.WriteString(p.Stdout, usage); err != nil {
			return ExitFailure
		}
		return 0
	}
	p.print(err)
	if status, ok := errors.AsType[ExitStatus](err); ok {
		return int(status)
	}
	return ExitFailure
}

// print writes a line for each error that errors.Join has joined, other than an ExitStatus. One that only wraps several has words of
// its own.
func (p *Process) print(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		for _, err := range joined.Unwrap() {
			p.print(err)
		}
		return
	}
	if _, said := errors.AsType[ExitStatus](err); said {
		return
	}
	hint := ""
	if errors.Is(err, os.ErrPermission) && unix.Geteuid() != 0 && !strings.HasSuffix(err.Error(), ")") { // an error that has no hint yet
		hint = " (try it as root)"
	}
	p.Say("%s%s", strings.TrimRight(err.Error(), "\n"), hint)
}

// Global holds the flags that every program takes (rkt 1.30's global flags).
type Global struct {
	Debug         bool
	Dir           string // data directory: store and pods
	SystemConfig  string // the vendor's configuration
	LocalConfig   string // the administrator's
	UserConfig    string // a third layer, which wins
	Insecure      Insecure
	TrustKeysFrom bool // --trust-keys-from-https
}

// Flags returns a flag set that holds the global flags and prints nothing by itself.
func (p *Process) Flags() (*flag.FlagSet, *Global) {
	fs := newFlagSet(p.Name)
	g := &Global{}
	fs.BoolVar(&g.Debug, "debug", false, "")
	fs.StringVar(&g.Dir, "dir", "/var/lib/rkt", "")
	fs.StringVar(&g.SystemConfig, "system-config", "/usr/lib/rkt", "")
	fs.StringVar(&g.LocalConfig, "local-config", "/etc/rkt", "")
	fs.StringVar(&g.UserConfig, "user-config", "", "")
	fs.Var(&g.Insecure, "insecure-options", "")
	fs.BoolVar(&g.TrustKeysFrom, "trust-keys-from-https", false, "")
	return fs, g
}

// RootFlags is Flags for a program that only root may run: parsing the command line ends with ErrUnprivileged for others, after
// --help and before anything is read.
func (p *Process) RootFlags() (*flag.FlagSet, *Global) {
	p.rootOnly = true
	return p.Flags()
}

// FlagsWithoutDir is Flags for a program that uses nothing in the data directory: no paths.d, broken or not, is in its way, and --debug
// adds no line about where it runs.
func (p *Process) FlagsWithoutDir() (*flag.FlagSet, *Global) {
	p.noDir = true
	return p.Flags()
}

// ErrUnprivileged is the error for a caller that is not root.
var ErrUnprivileged = errors.New("cannot run as unprivileged user (try it as root)")

// Args are the global flags for another program of the toolkit.
func (g *Global) Args() []string {
	args := []string{"--dir=" + g.Dir, "--system-config=" + g.SystemConfig, "--local-config=" + g.LocalConfig,
		"--user-config=" + g.UserConfig, "--insecure-options=" + g.Insecure.String()}
	if g.Debug {
		args = append(args, "--debug")
	}
	if g.TrustKeysFrom {
		args = append(args, "--trust-keys-from-https")
	}
	return args
}

// Parse reads the flags at the beginning of args, then RKT_* variables, then rkt.conf in the administrator's configuration
// directory; the data directory last of all from rkt's paths.d. It returns flag.ErrHelp for --help.
func (p *Process) Parse(fs *flag.FlagSet, g *Global, args []string) error {
	flags, rest, err := Leading(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	return p.ParseSorted(fs, g, flags, rest)
}

// ParseAnywhere is Parse for programs whose flags may also follow operands, up to a "--".
func (p *Process) ParseAnywhere(fs *flag.FlagSet, g *Global, args []string) error {
	flags, operands, err := Anywhere(fs, args)
	if err != nil {
		return err
	}
	return p.ParseSorted(fs, g, flags, operands)
}

// unreadable reports whether rkt.conf was not read because the caller may not read the directory, or because there is none. That stops
// no program: the files of the directory that one needs it reads later.
func unreadable(err error) bool {
	_, isPath := errors.AsType[*fs.PathError](err)
	return isPath && (errors.Is(err, fs.ErrPermission) && unix.Geteuid() != 0 || errors.Is(err, unix.ENOTDIR))
}

// ParseSorted is Parse for a command line that has been sorted into flags and operands.
func (p *Process) ParseSorted(fs *flag.FlagSet, g *Global, flags, operands []string) error {
	if err := ParseFlags(fs, flags); err != nil {
		return err
	}
	if p.rootOnly && unix.Geteuid() != 0 {
		return ErrUnprivileged
	}
	p.warnOfVariables(fs, os.Environ())
	if err := parseVariables(fs, operands); err != nil {
		return err
	}
	p.Chosen = map[string]string{}
	fs.Visit(func(f *flag.Flag) { p.Chosen[f.Name] = f.Value.(*checked).text })
	p.debug = g.Debug
	if g.LocalConfig != "" { // known only now
		err := p.parseFile(fs, operands, filepath.Join(g.LocalConfig, confFile))
		if unreadable(err) {
			p.Debugf("no rkt.conf: %v", err)
		} else if err != nil {
			return err
		}
	}
	p.debug = g.Debug
	if p.noDir {
		return nil
	}
	if err := p.absoluteDir(g); err != nil {
		return err
	}
	if p.debug {
		defer func() {
			p.Log().Debug("runs", "dir", g.Dir, "configuration", g.LocalConfig, "insecure", g.Insecure.String())
		}()
	}
	if given(fs)["dir"] {
		return nil
	}
	paths, err := config.ReadPaths(g.SystemConfig, g.LocalConfig, g.UserConfig)
	if err == nil && paths.Data != "" {
		g.Dir = paths.Data
	}
	return err
}

// absoluteDir makes the data directory an absolute path: the programs that get it change their working directory. A
// relative one in rkt.conf would be another in each directory that a program is started in, so it is an error.
func (p *Process) absoluteDir(g *Global) (err error) {
	if filepath.IsAbs(g.Dir) {
		return nil
	}
	if _, chosen := p.Chosen["dir"]; !chosen {
		return fmt.Errorf("%s: dir %s: not an absolute path", filepath.Join(g.LocalConfig, confFile), g.Dir)
	}
	if g.Dir, err = filepath.Abs(g.Dir); err == nil {
		p.Chosen["dir"] = g.Dir
	}
	return err
}

// Sibling finds another program of the toolkit: beside the running one, else in $PATH.
func Sibling(name string) (string, error) {
	self, err := os.Executable()
	if err == nil {
		path := filepath.Join(filepath.Dir(self), name)
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return program.Look(name)
}

// Exec becomes the program at path. Descriptors that are to stay open must not be close-on-exec. It returns only on
// failure.
func Exec(path string, argv, env []string) error {
	if err := unix.Exec(path, argv, env); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
