// Package chain owns how the command line of "rkt run" is split into those of the programs that do the work.
package chain

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

// Steps are the command lines of "rkt run": rkt-prepare, rkt-net add and rkt-run-prepared.
type Steps struct {
	Prepare, Net, Run []string // flags of each program
	Operands          []string // images, their flags and arguments
	UUID              string
}

// step is the program that takes a flag. Those without one here are rkt-prepare's.
func (s *Steps) step(flag string) *[]string {
	switch flag {
	case "net", "cni-path", "dns", "dns-search", "dns-opt", "dns-domain", "hosts-entry":
		return &s.Net
	case "hostname", "interactive", "ipc", "mds-register":
		return &s.Run
	}
	return &s.Prepare
}

// Parse tells the flags of "rkt run" apart by the program that takes them.
func Parse(fs *flag.FlagSet, args []string) (*Steps, error) {
	s := &Steps{}
	value := func(name string) {
		fs.Func(name, "", func(v string) error {
			list := s.step(name)
			*list = append(*list, "--"+name+"="+v)
			return nil
		})
	}
	fs.BoolFunc("net", "", func(v string) error {
		s.Net = append(s.Net, "--net="+v)
		return nil
	})
	for _, name := range []string{"cni-path", "dns", "dns-search", "dns-opt", "dns-domain", "hosts-entry", "hostname", "ipc",
		"port", "set-env", "set-env-file", "volume", "mount", "pull-policy", "pod-manifest", "pod-name", "uuid-file-save", "signature",
		"stage1-url", "stage1-path", "stage1-name", "stage1-hash", "stage1-from-dir"} {
		value(name)
	}
	fs.StringVar(&s.UUID, "uuid", "", "")
	fs.BoolFunc("strict-isolators", "", func(v string) error {
		s.Prepare, s.Run = append(s.Prepare, "--strict-isolators="+v), append(s.Run, "--strict-isolators="+v)
		return nil
	})
	for _, name := range []string{"interactive", "mds-register", "no-overlay", "private-users", "inherit-env", "store-only", "no-store"} {
		fs.BoolFunc(name, "", func(v string) error {
			list := s.step(name)
			*list = append(*list, "--"+name+"="+v)
			return nil
		})
	}
	if err := fs.Parse(joinNet(args)); err != nil {
		return nil, Misplaced(cli.FlagError(err))
	}
	s.Operands = fs.Args()
	return s, nil
}

// AppFlags are the flags that stand behind an image and are that app's.
var AppFlags = strings.Fields(`name exec working-dir user group supplementary-gids readonly-rootfs no-healthcheck stdin stdout stderr environment
	memory cpu cpu-shares oom-score-adj oom-score-adjust seccomp caps-retain cap-retain caps-remove cap-remove annotation user-annotation label
	user-label volume mount signature`)

// Misplaced says of an error that is a flag of an app before the image where the flag has its place.
func Misplaced(err error) error {
	if flag, ok := errors.AsType[cli.UnknownFlag](err); ok && slices.Contains(AppFlags, string(flag)) {
		return fmt.Errorf("--%s: is a flag of an app, and has its place behind the image: IMAGE --%[1]s", string(flag))
	}
	return err
}

// appToo are flags of the pod that an app has, too: behind an image they are the app's.
var appToo = []string{"name", "volume", "mount", "signature"}

// Gather takes the flags of fs that stand behind an image as if they stood before the first, for a command line on which people write
// them so. Flags that an app has as well stay the app's, and what follows "--" is the app's up to the next "---".
func (s *Steps) Gather(fs *flag.FlagSet) error {
	var operands, flags []string
	for i := 0; i < len(s.Operands); i++ {
		word := s.Operands[i]
		if word == "--" {
			end := len(s.Operands)
			if n := slices.Index(s.Operands[i:], "---"); n >= 0 {
				end = i + n
			}
			operands = append(operands, s.Operands[i:end]...)
			i = end - 1
			continue
		}
		name, _, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
		f := fs.Lookup(name)
		if !strings.HasPrefix(word, "-") || f == nil || slices.Contains(appToo, name) {
			operands = append(operands, word)
			continue
		}
		flags = append(flags, word)
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); (!ok || !b.IsBoolFlag()) && !joined && i+1 < len(s.Operands) {
			i++
			flags = append(flags, s.Operands[i])
		}
	}
	s.Operands = operands
	if err := fs.Parse(flags); err != nil {
		return cli.FlagError(err)
	}
	return nil
}

// joinNet lets --net stand alone, as rkt had it, and before a word that no image is called by.
func joinNet(args []string) []string {
	var joined []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" || args[i] == "---" {
			return append(joined, args[i:]...)
		}
		joined = append(joined, args[i])
		if args[i] == "--net" && i+1 < len(args) && slices.Contains([]string{"host", "none", "all", "default", "default-restricted"}, args[i+1]) {
			i++
			joined[len(joined)-1] += "=" + args[i]
		}
	}
	return joined
}
