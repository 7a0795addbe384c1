// Package cli is the frame that every program of the toolkit runs in: flags, exit status, how an
// error is printed, and how one program becomes or calls the next. It is the only package under lib
// that prints, exits or looks at os.Args.
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

// ExitFailure is the exit status of every error of the toolkit's own, as rkt had it since 1.18, so
// that it can be told from the status of an app.
const ExitFailure = 254

// ExitStatus is an error that ends the program with that status and prints nothing: whoever returns
// it has said, or another program has said, all there is to say.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Process is what a program is started with, and what it may write to besides files.
type Process struct {
	Name    string   // the program, as errors name it
	Invoked string   // argv[0]
	Args    []string // without the program's name
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Getenv  func(string) string
	PID     int // its own process ID

	// Chosen are the flags that the caller has set, on the command line or by a variable, by name,
	// with what they were set to. Parsing the command line fills it.
	Chosen map[string]string

	debug bool
}

// Environ is the environment, for programs that this one starts or becomes.
func (p *Process) Environ() []string { return os.Environ() }

// Setenv sets a variable of the environment that Environ returns.
func (p *Process) Setenv(name, value string) error { return os.Setenv(name, value) }

// Unsetenv removes a variable from it.
func (p *Process) Unsetenv(name string) { os.Unsetenv(name) }

// Streams are the descriptors of the standard streams, for a terminal or a program that is to have
// them.
func (p *Process) Streams() (stdin, stdout, stderr *os.File) { return os.Stdin, os.Stdout, os.Stderr }

// Interruptible gives a context that SIGINT and SIGTERM cancel, for programs that take back what
// they have begun. After stop those signals do what they do by default; it returns the error of a
// signal that came before, so that a program that is to become another one loses none.
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

// report prints an error, or for flag.ErrHelp the usage text, and returns the exit status.
func (p *Process) report(usage func() string, err error) int {
	status, isStatus := errors.AsType[ExitStatus](err)
	switch {
	case errors.Is(err, flag.ErrHelp):
		if _, err := io.WriteString(p.Stdout, usage()); err != nil {
			return ExitFailure
		}
	case err != nil:
		p.print(err)
		if !isStatus {
			return ExitFailure
		}
	}
	return int(status)
}

// print writes a line for each error that errors.Join has joined, other than an ExitStatus. One
// that only wraps several has words of its own.
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
	if errors.Is(err, os.ErrPermission) && unix.Geteuid() != 0 && !strings.HasSuffix(err.Error(), ")") {
		// an error that has no hint yet
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

// globalNames are the global flags in the order in which they are shown.
var globalNames = []string{"dir", "insecure-options", "local-config", "system-config", "user-config",
	"trust-keys-from-https", "debug"}

// globalFlags registers the global flags.
func globalFlags(fs *flag.FlagSet) *Global {
	g := &Global{}
	fs.StringVar(&g.Dir, "dir", "/var/lib/rkt", "DIR: data directory, with images and pods")
	fs.Var(&g.Insecure, "insecure-options", "LIST: checks to skip: image, tls, http, pubkey, ondisk, capabilities, "+
		"paths, seccomp, all-fetch, all-run, all")
	fs.StringVar(&g.LocalConfig, "local-config", "/etc/rkt", "DIR: the administrator's configuration")
	fs.StringVar(&g.SystemConfig, "system-config", "/usr/lib/rkt", "DIR: the vendor's configuration")
	fs.StringVar(&g.UserConfig, "user-config", "", "DIR: user configuration; overrides the other two")
	fs.BoolVar(&g.TrustKeysFrom, "trust-keys-from-https", false, "accept signing keys found over HTTPS without asking")
	fs.BoolVar(&g.Debug, "debug", false, "print what is decided and done, on standard error")
	return g
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

// Parse sorts the command line into flags and operands and reads the flags, then RKT_* variables,
// then rkt.conf in the administrator's configuration directory; the data directory last of all from
// rkt's paths.d. The operands are fs.Args. It returns flag.ErrHelp for --help.
func (p *Process) Parse(fs *Flags) error {
	sort := fs.Sort
	if sort == nil {
		sort = func(_ *Process, args []string) (flags, operands []string, err error) {
			return Anywhere(fs.FlagSet, args)
		}
	}
	flags, operands, err := sort(p, p.Args)
	if err != nil {
		return err
	}
	fs.Words = flags
	return p.parseSorted(fs, flags, operands)
}

// unreadable reports whether rkt.conf was not read because the caller may not read the directory,
// or because there is none. That stops no program: the files of the directory that one needs it
// reads later.
func unreadable(err error) bool {
	_, isPath := errors.AsType[*fs.PathError](err)
	return isPath && (errors.Is(err, fs.ErrPermission) && unix.Geteuid() != 0 || errors.Is(err, unix.ENOTDIR))
}

// parseSorted is Parse for a command line that has been sorted into flags and operands.
func (p *Process) parseSorted(set *Flags, flags, operands []string) error {
	fs, g := set.FlagSet, set.Global
	if err := ParseFlags(fs, flags); err != nil {
		return err
	}
	if set.Root && unix.Geteuid() != 0 {
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
	if set.NoDir {
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

// absoluteDir makes the data directory an absolute path: the programs that get it change their
// working directory. A relative one in rkt.conf would be another in each directory that a program
// is started in, so it is an error.
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

// Exec becomes the program at path. Descriptors that are to stay open must not be close-on-exec. It
// returns only on failure.
func Exec(path string, argv, env []string) error {
	if err := unix.Exec(path, argv, env); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
