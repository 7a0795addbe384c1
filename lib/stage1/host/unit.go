package host

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/unitfile"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// unit is a unit file of the pod's systemd in the making. No value in it is a string of an image,
// except names that are safe in a unit, such as an app's.
type unit struct{ unitfile.File }

// section begins a unit with lines NAME=VALUE of a section.
func section(name string, lines ...string) *unit { return (&unit{}).with(name, lines...) }

// with adds lines of a section.
func (u *unit) with(section string, lines ...string) *unit {
	u.add(section, lines...)
	return u
}

func (u *unit) add(section string, lines ...string) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		u.Add(section, name, value)
	}
}

func unitPath(p *poddir.Pod, name string) string {
	return p.Path(poddir.RootDir + UnitPath + "/" + name)
}

// write writes the unit as one of the pod's.
func (u *unit) write(p *poddir.Pod, name string) error {
	text, err := u.Bytes()
	if err != nil {
		return err
	}
	return os.WriteFile(unitPath(p, name), text, 0o600)
}

// dropIn writes a part of a unit of the pod's that is settled only when it starts.
func (u *unit) dropIn(p *poddir.Pod, of, name string) error {
	if err := os.MkdirAll(unitPath(p, of+".d"), 0o700); err != nil {
		return err
	}
	return u.write(p, filepath.Join(of+".d", name))
}
