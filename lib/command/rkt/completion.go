package rkt

import (
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
)

// The scripts ask "rkt completion words" for what may follow, so that all shells offer the same.
var (
	//go:embed completion.bash
	bash string
	//go:embed completion.zsh
	zsh string
	//go:embed completion.fish
	fish string
)

// completion prints a script for a shell, or for such a script the words that may follow.
func completion(p *cli.Process, args []string) error {
	if len(args) > 1 && args[0] == "words" {
		words := args[1:]
		if words[0] == "--" {
			words = words[1:]
		}
		for _, word := range follow(p, words) {
			head, tail, _ := strings.Cut(word, "\t")
			if _, err := fmt.Fprintf(p.Stdout, "%s\t%s\n", printable.Line(head), printable.Line(tail)); err != nil {
				return err
			}
		}
		return nil
	}
	script, ok := map[string]string{"bash": bash, "zsh": zsh, "fish": fish}[strings.Join(args, " ")]
	if !ok {
		return errors.New("completion: the shells that are known are bash, zsh and fish (rkt completion bash)")
	}
	_, err := fmt.Fprint(p.Stdout, script)
	return err
}

// follow returns what the last word of a command line may be, each with a tab and what it means.
// The first word is rkt's first.
func follow(p *cli.Process, words []string) []string {
	if len(words) == 0 {
		return nil
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	if strings.Contains(last, "=") || len(before) > 0 && before[len(before)-1] == "=" { // a value, as bash splits words
		return nil
	}
	verb, operands := sortWords(before)
	if slices.Contains(before, "--") && verb != "" {
		return nil // an app's arguments
	}
	var all []string
	switch {
	case strings.HasPrefix(last, "-"):
		all = flagWords(verb, len(operands) > 0)
	case verb == "" || verb == "help":
		for _, v := range cli.InTable("rkt").Verbs {
			all = append(all, v.Name+"\t"+v.Summary)
		}
	case verb == "completion":
		all = []string{"bash", "zsh", "fish"}
	default:
		all = operandWords(p, verb, operands)
	}
	return slices.DeleteFunc(all, func(word string) bool { return !strings.HasPrefix(word, last) })
}

// sortWords finds the command and its operands among words that may be wrong.
func sortWords(words []string) (verb string, operands []string) {
	all := cli.Known(append(cli.Programs(), "", "app", "rkt run")...)
	for len(words) > 0 {
		n, err := cli.FlagWords(all, words)
		switch {
		case err != nil:
			n = 1
		case n == 0 && verb == "":
			verb, n = words[0], 1
		case n == 0:
			operands, n = append(operands, words[0]), 1
		}
		words = words[n:]
	}
	return verb, operands
}

// programOf is that of a command.
func programOf(verb string) cli.Program {
	if alias, ok := aliases[verb]; ok {
		verb = alias
	}
	return cli.InTable("rkt-" + verb)
}

// flagWords are the flags of a command. Those of an app stand after an image.
func flagWords(verb string, afterImage bool) (all []string) {
	programs := []string{""}
	switch verb {
	case "run", "unit", "run-prepared":
		return append(chained(verb, afterImage), flagWords("", false)...)
	case "prepare":
		programs = append(programs, "rkt-prepare")
		if afterImage {
			programs = append(programs, "app")
		}
	case "":
	default:
		programs = append(programs, programOf(verb).Name)
	}
	for _, name := range programs {
		for _, f := range cli.InTable(name).Flags {
			all = append(all, flagWord(f))
		}
	}
	slices.Sort(all)
	return slices.CompactFunc(append(all, "--help\tprint the usage text"), sameWord)
}

// chained are the flags of a command that passes them on.
func chained(verb string, afterImage bool) (all []string) {
	fs := cli.NewFlags("")
	switch verb {
	case "run-prepared":
		RunPrepared.Setup(fs)
	default:
		Run.Setup(fs)
	}
	for _, name := range []string{"rkt-prepare", "rkt-net", "rkt-run-prepared", "rkt run", "app"} {
		for _, f := range cli.InTable(name).Flags {
			if fs.Lookup(f.Name) != nil || name == "app" && afterImage && verb != "run-prepared" {
				all = append(all, flagWord(f))
			}
		}
	}
	if verb == "unit" {
		for _, f := range cli.InTable("rkt-unit").Flags {
			all = append(all, flagWord(f))
		}
		all = slices.DeleteFunc(all, func(word string) bool {
			name, _, _ := strings.Cut(word, "\t")
			return slices.Contains([]string{"--rm", "--detach", "-d", "--uuid="}, name)
		})
	}
	slices.Sort(all)
	return slices.CompactFunc(all, sameWord)
}

// sameWord reports whether two lines offer the same word.
func sameWord(a, b string) bool {
	a, _, _ = strings.Cut(a, "\t")
	b, _, _ = strings.Cut(b, "\t")
	return a == b
}

func flagWord(f cli.Flag) string {
	word := "--" + f.Name
	if len(f.Name) == 1 {
		word = "-" + f.Name
	} else if f.Value {
		word += "="
	}
	return word + "\t" + f.FirstLine()
}

// operandWords are what a command may be about.
func operandWords(p *cli.Process, verb string, operands []string) (all []string) {
	of := programOf(verb)
	operand := of.Operand
	switch {
	case verb == "run" || verb == "unit":
		operand = "IMAGE"
	case of.Verbs != nil && len(operands) == 0:
		for _, v := range of.Verbs {
			all = append(all, v.Name+"\t"+v.Summary)
		}
		return all
	case of.Verbs != nil:
		at := slices.IndexFunc(of.Verbs, func(v cli.Verbal) bool { return v.Name == operands[0] })
		if at < 0 {
			return nil
		}
		operand = of.Verbs[at].Operand
	}
	switch operand {
	case "POD":
		return output(p, "rkt-list", "--full", "--no-legend", "--fields=uuid,name,state")
	case "IMAGE":
		return output(p, "rkt-image", "list", "--full", "--no-legend", "--fields=name,id")
	case "VOLUME":
		return output(p, "rkt-volume", "list", "--no-legend")
	}
	return nil
}

// output returns the first word of each line that a program prints, with the rest of the line after
// a tab.
func output(p *cli.Process, name string, args ...string) (all []string) {
	file, err := cli.Sibling(name)
	if err != nil {
		return nil
	}
	cmd := exec.Command(file, args...)
	cmd.Env = p.Environ()
	out, _ := cmd.Output() // without a complaint: somebody types
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) > 0 && strings.IndexAny(line, " \t") != 0 {
			all = append(all, strings.TrimSuffix(fields[0]+"\t"+strings.Join(fields[1:], " "), "\t"))
		}
	}
	return all
}
