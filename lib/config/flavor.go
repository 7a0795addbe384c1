package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// isolated are the stage1 images of rkt's that run a pod as it is run here: under a systemd, in
// systemd-nspawn.
var isolated = []string{"coreos", "host", "src"}

var stage1Name = regexp.MustCompile(`^stage1-([a-z0-9]+)`)

// CheckStage1 reports whether a pod is run here as it would be by a stage1 image: an error for
// rkt's other ones, fly and kvm, whose pods are of another kind, and for an image that is not
// known. The image is the value of a flag --stage1-… or of a file in stage1.d: a name, with or
// without a version, a path, a URL or a hash.
func CheckStage1(image string) error {
	base := path.Base(strings.TrimRight(image, "/"))
	if m := stage1Name.FindStringSubmatch(base); m != nil {
		if slices.Contains(isolated, m[1]) {
			return nil
		}
		return fmt.Errorf("%s: no pods of the kind %q are made here", image, m[1])
	}
	return fmt.Errorf("%s: an unknown stage1 image", image)
}

// Check is CheckStage1 for what the configuration chooses; nothing is what is made here.
func (s Stage1) Check() error {
	switch {
	case s.Name != "":
		return CheckStage1(s.Name)
	case s.Location != "":
		return CheckStage1(s.Location)
	}
	return nil
}
