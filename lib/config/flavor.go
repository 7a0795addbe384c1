package config

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// isolated are the stage1 images of rkt's that run a pod as flavor host does.
var isolated = []string{"coreos", "host", "src"}

var (
	stage1Name = regexp.MustCompile(`^stage1-([a-z0-9]+)`)
	flavorName = regexp.MustCompile(`^([a-z]+)(:[A-Za-z0-9._+-]+)?$`)
)

// Flavor is the word for the flavor of pods that a stage1 image stands for, whether there is such a
// flavor here or not: "host" for those of rkt's that run a pod as that does. The image is the value
// of a flag --stage1-… or of a file in stage1.d: a name, with or without a version, a path, a URL
// or a hash; or the word itself. It is an error for an image that is not rkt's.
func Flavor(image string) (string, error) {
	if m := flavorName.FindStringSubmatch(image); m != nil {
		return m[1], nil
	}
	base := path.Base(strings.TrimRight(image, "/"))
	m := stage1Name.FindStringSubmatch(base)
	if m == nil {
		return "", fmt.Errorf("%s: an unknown stage1 image", image)
	}
	if slices.Contains(isolated, m[1]) {
		return "host", nil
	}
	return m[1], nil
}

// Image is the stage1 image that the configuration chooses; "" is none.
func (s Stage1) Image() string { return cmp.Or(s.Name, s.Location) }
