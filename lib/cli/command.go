package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/spelling"
)

// Command is a program of the toolkit as a value: how it is called, what its flags are, and what it
// does. Its usage text, its manual page, its completion and its part of the table of flags are made
// from it. Any main can run it, by Main.
type Command struct {
	Name     string   // of the program, or of a command of rkt's own: "rkt run"
	Summary  string   // what it does, in a few words
	Synopsis []string // what follows the name on the command line, a line for each form
	Text     string   // what it does, in lines of 80 columns: an indented line stays as it is in the manual page, too
	Details  string   // what only the manual page says besides
	Notes    string   // what the usage text says after the flags
	Examples []Example
	Exit     string // exit statuses, if they are not those of every program
	Files    []File // besides those of every program
	SeeAlso  []string

	Front bool // its usage text has the flags of every program in full

	// Setup registers the flags, and returns what the program does after the command line has been
	// parsed.
	Setup func(*Flags) Run
	// Verbs are what a program does that has several things to do, each named by the first operand;
	// Setup is nil then.
	Verbs []Verb
	// First, if there is one, is called before the command line is parsed; it reports whether that
	// was all.
	First func(context.Context, *Process) (done bool, err error)
}

// Run is what a program does.
type Run func(context.Context, *Process) error

// Verb is one of several things that a program does.
type Verb struct {
	Name    string
	Summary string
	Setup   func(*Flags) Run
}

// Example is a command line, and what it does.
type Example struct{ Line, Text string }

// File is a file or directory that a program uses, and for what.
type File struct{ Path, Text string }

// PodOperand is what every usage text says of POD.
const PodOperand = `POD is a UUID, the unique start of one, @FILE, a pod's name, or self.`

// Main runs a program and exits. The exit status is 0, that of an ExitStatus, or ExitFailure after
// one line on standard error.
func Main(c *Command) { os.Exit(c.Execute(context.Background(), process(c.Name, os.Args))) }

// MainOf runs and exits as the one of several programs by whose name the process was called, by its
// file's name or by the first argument, as BusyBox does.
func MainOf(programs []*Command) {
	argv, file := os.Args, filepath.Base(os.Args[0])
	if !slices.ContainsFunc(programs, func(c *Command) bool { return c.Name == file }) && len(argv) > 1 {
		argv = argv[1:]
	}
	for _, c := range programs {
		if c.Name == filepath.Base(argv[0]) {
			os.Exit(c.Execute(context.Background(), process(c.Name, argv)))
		}
	}
	var names []string
	for _, c := range programs {
		names = append(names, c.Name)
	}
	os.Exit(process(file, os.Args).report(nil, fmt.Errorf("this file is several programs; call it by the name of one: "+
		"a link to it, or its first argument (%s)", strings.Join(names, ", "))))
}

// process is this process as a program of this name, called so.
func process(name string, argv []string) *Process {
	return &Process{
		Name: name, Invoked: argv[0], Args: argv[1:],
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, PID: os.Getpid(),
	}
}

// Execute runs the program, and returns its exit status after it has printed its error.
func (c *Command) Execute(ctx context.Context, p *Process) int {
	return p.report(c.Usage, c.Start(ctx, p))
}

// Start parses the command line and runs the program.
func (c *Command) Start(ctx context.Context, p *Process) error {
	if c.First != nil {
		if done, err := c.First(ctx, p); done || err != nil {
			return err
		}
	}
	setup, verb := c.Setup, ""
	if c.Verbs != nil {
		var err error
		if verb, p.Args, err = c.findVerb(p.Args); err != nil {
			return err
		}
		setup = c.Verbs[slices.Index(c.verbs(), verb)].Setup
	}
	fs := NewFlags(c.Name)
	run := setup(fs)
	if err := p.Parse(fs); err != nil {
		return c.ofOtherVerb(verb, err)
	}
	return run(ctx, p)
}

// verbs are the names of the verbs.
func (c *Command) verbs() (names []string) {
	for _, v := range c.Verbs {
		names = append(names, v.Name)
	}
	return names
}

// findVerb finds the verb, which may follow its flags, and returns the command line without it.
func (c *Command) findVerb(args []string) (verb string, rest []string, err error) {
	all := NewFlags(c.Name)
	for _, v := range c.Verbs {
		verb := NewFlags(c.Name)
		v.Setup(verb)
		verb.VisitAll(func(f *flag.Flag) {
			if all.Lookup(f.Name) == nil {
				all.Var(f.Value, f.Name, "")
			}
		})
	}
	flags, words, err := Leading(all.FlagSet, args)
	if err != nil {
		return "", nil, err
	}
	names := c.verbs()
	if len(words) > 0 && words[0] == "--" {
		flags, words = append(slices.Clone(flags), "--"), words[1:]
		if len(words) > 0 && slices.Contains(names, words[0]) {
			return words[0], slices.Concat(flags, words[1:]), nil
		}
	}
	switch {
	case len(words) > 0 && slices.Contains(names, words[0]):
		return words[0], slices.Concat(flags, words[1:]), nil
	case len(words) > 0:
		near := ""
		if n := spelling.Near(words[0], slices.Clone(names)); n != "" {
			near = "; did you mean " + n + "?"
		}
		return "", nil, fmt.Errorf("unknown subcommand %q; use %s%s", words[0], strings.Join(names, ", "), near)
	}
	if err := ParseFlags(all.FlagSet, flags); err != nil { // --help
		return "", nil, err
	}
	last := len(names) - 1
	return "", nil, fmt.Errorf("%s or %s? (--help tells more)", strings.Join(names[:last], ", "), names[last])
}

// ofOtherVerb completes the error for a flag of another verb.
func (c *Command) ofOtherVerb(verb string, err error) error {
	unknown, ok := errors.AsType[UnknownFlag](err)
	if !ok || verb == "" {
		return err
	}
	var of []string
	name := strings.TrimLeft(unknown.Typed, "-")
	for _, v := range c.Verbs {
		fs := NewFlags(c.Name)
		v.Setup(fs)
		if fs.Lookup(name) != nil {
			of = append(of, v.Name)
		}
	}
	if of == nil {
		return err
	}
	return fmt.Errorf("--%s is for %s, not for %s", name, strings.Join(of, " and "), verb)
}
