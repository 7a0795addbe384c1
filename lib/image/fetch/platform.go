package fetch

import (
	"fmt"
	"regexp"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Platform is the kind of machine that an image is for, in the words of OCI's image-spec. The zero
// value is this machine.
type Platform struct{ OS, Arch, Variant string }

var platformPattern = regexp.MustCompile(`^linux/([a-z0-9_]+)(?:/([a-z0-9._]+))?$`)

// ParsePlatform reads linux/ARCH[/VARIANT].
func ParsePlatform(s string) (Platform, error) {
	m := platformPattern.FindStringSubmatch(s)
	if m == nil {
		return Platform{}, fmt.Errorf("%q is not linux/ARCH or linux/ARCH/VARIANT", s)
	}
	return Platform{"linux", m[1], m[2]}, nil
}

func thisMachine() Platform { return Platform{OS: "linux", Arch: runtime.GOARCH} }

func (p Platform) orThis() Platform {
	if p == (Platform{}) {
		return thisMachine()
	}
	return p
}

// foreign reports whether images for it are not what the names in the store mean.
func (p Platform) foreign() bool { return p.orThis() != thisMachine() }

func (p Platform) String() string {
	p = p.orThis()
	if p.Variant != "" {
		return p.OS + "/" + p.Arch + "/" + p.Variant
	}
	return p.OS + "/" + p.Arch
}

func (p Platform) v1() v1.Platform {
	p = p.orThis()
	return v1.Platform{OS: p.OS, Architecture: p.Arch, Variant: p.Variant}
}

// check refuses an image for another kind of machine. What an image does not say is taken to fit.
func (p Platform) check(os, arch, variant string) error {
	p = p.orThis()
	if os != "" && os != p.OS || arch != "" && arch != p.Arch || variant != "" && p.Variant != "" &&
		variant != p.Variant {
		is := Platform{os, arch, variant}
		if p == thisMachine() {
			return fmt.Errorf("it is for %s, and this machine is %s", is, p)
		}
		return fmt.Errorf("it is for %s, and not for %s", is, p)
	}
	return nil
}

func (p Platform) notForACIs() error {
	return fmt.Errorf("--platform=%s: it is for images of registries, layouts and archives", p)
}
