package host

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
)

// Name is stage1.Default.
func (Flavor) Name() string { return stage1.Default }

// Features are all there are.
func (Flavor) Features() stage1.Features {
	return stage1.Features{Apps: true, Users: true, Network: true, Attach: true, Health: true, Limits: true, Log: true}
}

// Usable tells what of systemd the host lacks.
func (Flavor) Usable() error {
	_, err := Nspawn()
	return err
}

// rootDirs are those of the root of the pod's systemd, with modes that say who may pass: units name
// tokens, and say more of an app than its manifest does. The others are mount points, and what
// systemd expects.
var rootDirs = []stage1.File{
	{Name: "etc", Mode: 0o700}, {Name: "root", Mode: 0o700}, {Name: "var", Mode: 0o700},
	{Name: "proc", Mode: 0o755}, {Name: "sys", Mode: 0o755}, {Name: "dev", Mode: 0o755}, {Name: "run", Mode: 0o755},
	{Name: "tmp", Mode: 0o755}, {Name: "var/tmp", Mode: 0o755}, {Name: "var/log", Mode: 0o755},
	{Name: "var/log/journal", Mode: 0o755},
	{Name: "etc/systemd", Mode: 0o700}, {Name: UnitPath[1:], Mode: 0o700}, {Name: stage1.DevDir[1:], Mode: 0o700},
}

// Prepare is the root of the pod's systemd, its units, and the arguments of systemd-nspawn that are
// known by now.
func (Flavor) Prepare(s stage1.Spec) (*stage1.Tree, error) {
	t := &stage1.Tree{Mounts: map[string][]specs.Mount{}}
	inRoot := func(name string) string { return path.Join(poddir.RootDir, name) }
	for _, dir := range rootDirs {
		t.Dirs = append(t.Dirs, stage1.File{Name: inRoot(dir.Name), Mode: dir.Mode})
	}
	for _, a := range wrap(s.Apps) {
		t.Dirs = append(t.Dirs, stage1.File{Name: inRoot(stage1.DevDir + "/" + a.Name), Mode: 0o700})
		t.Mounts[a.Name] = a.mounts()
	}
	if err := place.GiveHelpers(t, s); err != nil {
		return nil, err
	}
	files, err := Files(s.UUID, s.Limits.Resources, s.Apps)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		t.Files = append(t.Files, stage1.File{Name: inRoot(name), Mode: 0o600, Text: files[name]})
	}
	var options []string
	if s.Shm > 0 {
		options = append(options, fmt.Sprintf("--tmpfs=/dev/shm:mode=1777,nosuid,size=%d", s.Shm))
	}
	options = append(options, capabilityOptions(s.Apps)...)
	text := strings.Join(options, "\n")
	if text != "" {
		text += "\n"
	}
	t.Files = append(t.Files, stage1.File{Name: poddir.OptionsFile, Mode: 0o600, Text: []byte(text)})
	return t, nil
}
