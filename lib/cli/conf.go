package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/peterbourgon/ff/v3"
	"github.com/rkt-toolkit/rkt/lib/config"
	"github.com/rkt-toolkit/rkt/lib/host/spelling"
)

// confFile is in the administrator's configuration directory.
const confFile = "rkt.conf"

// foreign are variables that begin with RKT_ and set no flag: rkt's own, by name or, with a "_" at
// the end, by their beginning.
var foreign = []string{"RKT_POD", "RKT_VERSION", "RKT_LOCK_FD", "RKT_EXPERIMENT_", "RKT_STAGE1_"}

// variable is the environment variable that sets a flag.
func variable(name string) string {
	return "RKT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// given are the names of the flags that have been set.
func given(fs *flag.FlagSet) map[string]bool {
	names := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { names[f.Name] = true })
	return names
}

// warnOfVariables warns of misspelt RKT_* variables, and takes them out of the environment, so that
// the programs that this one starts do not warn again. One that is like no flag's may be somebody
// else's.
func (p *Process) warnOfVariables(fs *flag.FlagSet, environ []string) {
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		flagName, ours := strings.CutPrefix(name, "RKT_")
		if !ours || value == "" {
			continue
		}
		flagName = strings.ToLower(strings.ReplaceAll(flagName, "_", "-"))
		if fs.Lookup(flagName) != nil && variable(flagName) == name {
			continue
		}
		if why := p.noEffect(flagName); why != "" && variable(flagName) == name {
			p.Say("$%s has no effect on apps: %s", name, why)
		} else if why := unknownVariable(name, flagName); why != "" {
			p.Say("$%s has no effect: %s", name, why)
			os.Unsetenv(name)
		}
	}
}

// appPrograms are those that read the flags of apps, each after its image.
var appPrograms = []string{"rkt-prepare", "rkt-unit"}

// noEffect returns why a flag that is another program's too, such as --user of rkt-enter, says
// nothing of the apps that this program makes, though they have a flag of that name; or "" if it is
// not such a flag.
func (p *Process) noEffect(name string) string {
	programs := having(name)
	if !slices.Contains(appPrograms, p.Name) || !slices.Contains(programs, "app") || len(programs) < 2 ||
		slices.Contains(programs, p.Name) || slices.Contains(programs, "rkt-fetch") { // which it runs
		return ""
	}
	return fmt.Sprintf("--%s is an app flag; put it after the image", name)
}

// parseVariables sets the flags that were not given from RKT_* variables. The operands stay
// fs.Args.
func parseVariables(fs *flag.FlagSet, operands []string) error {
	checkValues(fs)
	err := ff.Parse(fs, append([]string{"--"}, operands...), ff.WithEnvVarPrefix("RKT"))
	if wrong, ok := errors.AsType[ValueError](err); ok {
		return fmt.Errorf("$%s=%q: %w", variable(wrong.Flag), wrong.Value, wrong.Cause)
	}
	return err
}

// unknownVariable returns why a variable has no effect, or "" if a program knows it or it seems to
// be meant for something else.
func unknownVariable(name, flagName string) string {
	programs := having(flagName)
	switch {
	case variable(flagName) == name && slices.Equal(programs, []string{"app"}):
		return fmt.Sprintf("--%s is an app flag; put it after the image", flagName)
	case variable(flagName) == name && len(programs) > 0:
		return ""
	case slices.ContainsFunc(foreign, func(s string) bool {
		return name == s || strings.HasSuffix(s, "_") && strings.HasPrefix(name, s)
	}):
		return ""
	}
	if near := didYouMean(flagName, variable); near != "" {
		return "no program has such a flag" + near
	}
	return ""
}

// didYouMean is the end of a sentence about a misspelt flag.
func didYouMean(name string, spell func(string) string) string {
	if near := spelling.Near(name, slices.Collect(maps.Keys(allFlags()))); near != "" {
		return "; did you mean " + spell(near) + "?"
	}
	return ""
}

// parseFile sets the flags that are not set yet from a configuration file: one flag a line, its
// value after a space or a "=". Lines for other programs are passed over; one that is for none is
// an error.
func (p *Process) parseFile(flags *flag.FlagSet, operands []string, path string) error {
	parse := func(file io.Reader, set func(name, value string) error) error {
		text, err := config.Read(file)
		if err != nil {
			return err
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			name, err := parseLine(flags, set, strings.TrimSpace(line))
			if err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
			if why := p.noEffect(name); why != "" {
				p.Say("%s: line %d: %s has no effect on apps: %s, on the command line", path, n, name, why)
			}
		}
		return nil
	}
	err := ff.Parse(flags, append([]string{"--"}, operands...), ff.WithConfigFile(path),
		ff.WithAllowMissingConfigFile(true),
		ff.WithConfigFileParser(parse), ff.WithIgnoreUndefined(true))
	if _, ok := errors.AsType[*fs.PathError](err); ok || err == nil {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// parseLine sets the flag that a line is for, and returns its name; "" for a comment.
func parseLine(flags *flag.FlagSet, set func(name, value string) error, line string) (name string, err error) {
	if line == "" || line[0] == '#' {
		return "", nil
	}
	name, value := line, ""
	end := strings.IndexAny(line, " \t=")
	if end >= 0 {
		name, value = line[:end], strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[end:]), "="))
	}
	if i := strings.Index(value, " #"); i >= 0 {
		value = strings.TrimSpace(value[:i])
	}
	programs := having(name)
	switch {
	case slices.Equal(programs, []string{"app"}):
		return name, fmt.Errorf("%s: --%s is an app flag; put it after the image, on the command line", name, name)
	case len(programs) == 0 && flags.Lookup(name) == nil:
		return name, fmt.Errorf("%q: no program has such a flag%s", name,
			didYouMean(name, func(s string) string { return s }))
	case value != "" && strings.ContainsAny(value[:1], `"'`):
		return name, fmt.Errorf("%s: write the value without quotes", name)
	case value == "" && end >= 0:
		return name, fmt.Errorf("%s: no value", name)
	case value == "" && allFlags()[name]:
		return name, fmt.Errorf("%s: no value; write %[1]s VALUE", name)
	case value == "":
		value = "true"
	}
	err = set(name, value)
	if wrong, ok := errors.AsType[ValueError](err); ok {
		return name, fmt.Errorf("%s %s: %w", name, value, wrong.Cause)
	}
	return name, err
}
