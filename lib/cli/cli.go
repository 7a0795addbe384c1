// Package cli is the frame that every program of the toolkit runs in: flags, exit status, how an error is printed, and how
// one program becomes or calls the next. It is the only package under lib that prints, exits or looks at os.Args.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/peterbourgon/ff/v3"
	"github.com/rkt-toolkit/rkt/lib/config"
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

	debug bool
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
	fmt.Fprintf(p.Stderr, "%s: %s%s\n", p.Name, oneLine(err.Error()), hint)
}

// oneLine keeps an error on one line whatever a file name or an image put into it, and keeps control characters off the
// terminal.
func oneLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r == 0x7f:
			return '?'
		}
		return r
	}, s)
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
	fs := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
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

// Parse reads the flags from args, then from RKT_* variables, then from rkt.conf in the administrator's configuration
// folder (one "flag value" a line; flags of other programs in it are passed over); the data directory last of all from rkt's paths.d. Parsing
// stops at the first operand. It returns flag.ErrHelp for --help.
func (p *Process) Parse(fs *flag.FlagSet, g *Global, args []string) error {
	if err := ff.Parse(fs, args, ff.WithEnvVarPrefix("RKT")); err != nil {
		if m := regexp.MustCompile(wrongValue).FindStringSubmatch(strings.TrimPrefix(err.Error(), parsing)); m != nil {
			if v, ok := fs.Lookup(m[2]).Value.(flag.Getter); ok {
				if _, ok := v.Get().(time.Duration); ok {
					return fmt.Errorf("--%s=%s: not a time such as 30m or 24h", m[2], m[1])
				}
			}
		}
		return FlagError(err)
	}
	conf := filepath.Join(g.LocalConfig, "rkt.conf") // known only now; what is set already is left alone
	err := ff.Parse(fs, append([]string{"--"}, fs.Args()...), ff.WithConfigFile(conf), ff.WithAllowMissingConfigFile(true),
		ff.WithConfigFileParser(ff.PlainParser), ff.WithIgnoreUndefined(true))
	if err != nil {
		return fmt.Errorf("%s: %w", conf, err)
	}
	p.debug = g.Debug
	if p.debug {
		defer func() {
			p.Log().Debug("runs", "dir", g.Dir, "configuration", g.LocalConfig, "insecure", g.Insecure.String())
		}()
	}
	given := false
	fs.Visit(func(f *flag.Flag) { given = given || f.Name == "dir" })
	if given {
		return nil
	}
	paths, err := config.ReadPaths(g.SystemConfig, g.LocalConfig, g.UserConfig)
	if err == nil && paths.Data != "" {
		g.Dir = paths.Data
	}
	return err
}

// ParseAnywhere is Parse for programs whose flags may also stand behind operands, up to a "--": those of rkt 1.30 that took them so.
// What follows the operands of the others is another program's, or an image's.
func (p *Process) ParseAnywhere(fs *flag.FlagSet, g *Global, args []string) error {
	var flags, operands []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			operands = append(operands, args...)
			break
		}
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			operands = append(operands, arg)
			continue
		}
		flags = append(flags, arg)
		if takesNext(fs, arg) {
			if len(args) == 0 {
				return fmt.Errorf("flag --%s needs a value", strings.TrimLeft(arg, "-"))
			}
			flags = append(flags, args[0])
			args = args[1:]
		}
	}
	return p.Parse(fs, g, append(append(flags, "--"), operands...))
}

// takesNext says whether the argument behind arg, which begins with a dash, is arg's value.
func takesNext(fs *flag.FlagSet, arg string) bool {
	name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	f := fs.Lookup(name)
	if f == nil { // unknown, or with its value behind a "="
		return false
	}
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return !ok || !b.IsBoolFlag()
}

// parsing is what ff puts before the errors of package flag.
const parsing = "error parsing commandline arguments: "

// wrongValue is what package flag says of a value that a flag does not take. No program compiles it at its start.
const wrongValue = `(?s)^invalid (?:boolean )?value (".*") for (?:flag )?-([^ :]+): (.*)$`

// UnknownFlag is the error for a flag of that name, without dashes, that a program does not take.
type UnknownFlag string

func (f UnknownFlag) Error() string {
	return fmt.Sprintf("unknown flag --%s (--help lists the flags)", string(f))
}

// FlagError rewords what package flag and ff say into one line in the house's form. flag.ErrHelp stays what it is.
func FlagError(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return flag.ErrHelp
	}
	s := strings.TrimPrefix(err.Error(), parsing)
	if name, ok := strings.CutPrefix(s, "flag provided but not defined: -"); ok {
		return UnknownFlag(strings.TrimLeft(name, "-"))
	}
	if name, ok := strings.CutPrefix(s, "flag needs an argument: -"); ok {
		return fmt.Errorf("flag --%s needs a value", strings.TrimLeft(name, "-"))
	}
	if m := regexp.MustCompile(wrongValue).FindStringSubmatch(s); m != nil {
		return fmt.Errorf("--%s=%s: %s", m[2], m[1], m[3])
	}
	return errors.New(s)
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
	return LookPath(name)
}

// LookPath finds a program in $PATH, and in the folders of system programs, which a unit's or a user's $PATH may lack.
func LookPath(name string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: not found in $PATH", name)
}

// Exec becomes the program at path. Descriptors that are to stay open must not be close-on-exec. It returns only on
// failure.
func Exec(path string, argv, env []string) error {
	if err := unix.Exec(path, argv, env); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
