package prepare

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/config"
	"github.com/rkt-toolkit/rkt/lib/pod/choose"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
)

// flavorHelp is the help of each of them.
func flavorHelp() string {
	var names []string
	for _, f := range flavor.All() {
		names = append(names, f.Name())
	}
	return "IMAGE: the flavor of the pod, " + strings.Join(names, ", ") + ", or a stage1 image of rkt 1.30 " +
		"that stands for one: stage1-coreos, -host and -src for host, -fly for fly; others are refused"
}

// choice is a flavor that one of these flags names.
type choice struct {
	flag   string
	flavor stage1.Flavor
}

func registerFlavor(fs *cli.Flags, choices *[]choice) {
	for _, name := range choose.Flags {
		fs.Func(name, flavorHelp(), func(image string) error {
			f, err := choose.Flavor(image)
			*choices = append(*choices, choice{name, f})
			return err
		})
	}
}

// chosenFlavor is that of the flags on the command line, else of the environment, else of rkt.conf,
// else of stage1.d.
func chosenFlavor(p *cli.Process, fs *cli.Flags, choices []choice) (stage1.Flavor, error) {
	typed := func(c choice) bool {
		return slices.ContainsFunc(fs.Words, func(word string) bool {
			name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
			return strings.HasPrefix(word, "-") && name == c.flag
		})
	}
	said := func(c choice) bool { _, ok := p.Chosen[c.flag]; return ok }
	for _, from := range []func(choice) bool{typed, said, func(choice) bool { return true }} {
		var these []choice
		var flags []string
		for _, c := range choices {
			if from(c) {
				these, flags = append(these, c), append(flags, "--"+c.flag)
			}
		}
		switch len(these) {
		case 0:
		case 1:
			return these[0].flavor, nil
		default:
			return nil, fmt.Errorf("%s: only one stage1 image can be chosen", strings.Join(flags, ", "))
		}
	}
	g := fs.Global
	configured, err := config.ReadStage1(g.SystemConfig, g.LocalConfig, g.UserConfig)
	image := configured.Image()
	if err == nil && image == "" {
		return flavor.All().Named(stage1.Default)
	}
	if err == nil {
		var f stage1.Flavor
		if f, err = choose.Flavor(image); err == nil {
			return f, nil
		}
	}
	return nil, fmt.Errorf("stage1.d: %w", err)
}
