// Package choose finds the flavor of pods that a stage1 image stands for, as users name them.
package choose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/config"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
)

// Flags are rkt's flags for a stage1 image.
var Flags = []string{"stage1-url", "stage1-path", "stage1-name", "stage1-hash", "stage1-from-dir"}

// Flavor is the flavor that a stage1 image stands for. A name that no flavor has is an
// error.
func Flavor(image string) (stage1.Flavor, error) {
	word, err := config.Flavor(image)
	if err != nil {
		return nil, err
	}
	f, err := flavor.All().Named(word)
	if err != nil {
		return nil, fmt.Errorf("%s: no pods of the kind %q are made here", image, word)
	}
	return f, nil
}

// Check refuses words --FLAG=IMAGE of a command line that choose a flavor which is not there.
func Check(words []string) error {
	for _, word := range words {
		name, image, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		if !slices.Contains(Flags, name) {
			continue
		}
		if _, err := Flavor(image); err != nil {
			return fmt.Errorf("--%s: %w", name, err)
		}
	}
	return nil
}
