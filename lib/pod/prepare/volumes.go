package prepare

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/poddir/volume"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// Volumes are the volumes and mounts that the command line asks for, of a pod or of one app. Mode,
// UID and GID of an empty volume are nil where they were not given.
type Volumes struct {
	Volumes []types.Volume
	Slaves  []types.ACName // those of Volumes in which what the host mounts later appears
	Relabel map[types.ACName]relabel
	Mounts  []schema.Mount
	Binds   []Bind
}

// Bind is a volume and its mount in one, the short form SOURCE:TARGET[:OPTION,…].
type Bind struct {
	Source, Target string // a source without a slash is the name of a volume below the data directory
	ReadOnly       bool
	Slave          bool // what the host mounts later appears
	Relabel        relabel
}

// AddVolume reads a flag in one of rkt's forms, or in the short form, in which SOURCE is a path of
// the host or the name of a volume, and OPTION ro, rw, private, slave, z or Z:
//
//	NAME,kind=host,source=PATH[,readOnly=BOOL][,recursive=BOOL][,propagation=private|slave]
//	        [,relabel=shared|private]
//	NAME,kind=empty[,mode=OCTAL][,uid=N][,gid=N][,readOnly=BOOL]
//	NAME,kind=named[,source=VOLUME][,readOnly=BOOL][,relabel=shared|private]
//	SOURCE:TARGET[:OPTION,…]
func (v *Volumes) AddVolume(s string) error {
	name, rest, long := strings.Cut(s, ",")
	if strings.Contains(name, ":") || strings.HasPrefix(s, "/") || !long {
		return v.addBind(s)
	}
	ac, err := types.NewACName(name)
	if err != nil {
		return fmt.Errorf("volume name %q: %w", name, err)
	}
	volume, how := types.Volume{Name: *ac}, volumeHow{}
	if err := eachSetting(rest, func(key, value string) error { return how.set(&volume, key, value) }); err != nil {
		return err
	}
	if err := checkVolume(&volume); err != nil {
		return err
	}
	if err := v.setRelabel(volume, how.relabel); err != nil {
		return err
	}
	if err := v.setPropagation(volume, how.propagation); err != nil {
		return err
	}
	v.Volumes = append(v.Volumes, volume)
	return nil
}

// volumeHow is what the long form says of a volume besides what appc knows.
type volumeHow struct {
	propagation string
	relabel     relabel
}

// set takes one KEY=VALUE of the long form.
func (h *volumeHow) set(volume *types.Volume, key, value string) (err error) {
	switch key {
	case "kind":
		volume.Kind = value
	case "source":
		volume.Source = value
	case "readOnly":
		volume.ReadOnly, err = boolean(value)
	case "recursive":
		volume.Recursive, err = boolean(value)
	case "propagation":
		if h.propagation = value; value != "private" && value != "slave" {
			return fmt.Errorf("volume %q: propagation=%s is not one of private, slave", volume.Name, value)
		}
	case "relabel":
		if h.relabel = relabel(value); h.relabel != relabelShared && h.relabel != relabelPrivate {
			return fmt.Errorf("volume %q: relabel=%s is not one of shared, private", volume.Name, value)
		}
	case "mode":
		var mode uint64
		if mode, err = strconv.ParseUint(value, 8, 32); err == nil && mode > 0o7777 {
			err = strconv.ErrRange
		}
		volume.Mode = &value
	case "uid":
		volume.UID, err = id(value)
	case "gid":
		volume.GID, err = id(value)
	default:
		return fmt.Errorf("volume %q: %q is not one of kind, source, readOnly, recursive, propagation, relabel, "+
			"mode, uid, gid", volume.Name, key)
	}
	if err != nil {
		return fmt.Errorf("volume %q: %s=%s: not a valid value", volume.Name, key, value)
	}
	return nil
}

// setRelabel notes whom the files of a volume are to be labelled for; "" is nobody.
func (v *Volumes) setRelabel(volume types.Volume, label relabel) error {
	if label == "" {
		return nil
	}
	if volume.Kind == "empty" {
		return fmt.Errorf("volume %q: relabel is for kind=host and kind=named; an empty volume is the pod's already",
			volume.Name)
	}
	if v.Relabel == nil {
		v.Relabel = map[types.ACName]relabel{}
	}
	v.Relabel[volume.Name] = label
	return nil
}

// setPropagation notes whether what the host mounts later appears in a volume; "" is private.
func (v *Volumes) setPropagation(volume types.Volume, propagation string) error {
	switch {
	case propagation != "" && volume.Kind != "host":
		return fmt.Errorf("volume %q: propagation is for kind=host", volume.Name)
	case propagation == "slave" && volume.Recursive != nil && !*volume.Recursive:
		return fmt.Errorf("volume %q: propagation=slave is for mounts below its source, and recursive=false is "+
			"without these; leave out one of them", volume.Name)
	case propagation == "slave":
		v.Slaves = append(v.Slaves, volume.Name)
	}
	return nil
}

// checkVolume tells what is wrong with a volume, and cleans the path of its source.
func checkVolume(volume *types.Volume) (err error) {
	name := volume.Name
	switch {
	case volume.Kind == "host" && (volume.Mode != nil || volume.UID != nil || volume.GID != nil):
		return fmt.Errorf("volume %q: mode, uid and gid are for kind=empty; those of a host volume are its source's",
			name)
	case volume.Kind == "host":
		if volume.Source, err = source(volume.Source); err != nil {
			return fmt.Errorf("volume %q: %w", name, err)
		}
	case volume.Kind == kindNamed:
		return checkNamed(volume)
	case volume.Kind != "empty":
		return fmt.Errorf("volume %q: kind=%s is not one of host, empty, named", name, volume.Kind)
	case volume.Source != "" || volume.Recursive != nil:
		return fmt.Errorf("volume %q: source and recursive are for kind=host", name)
	}
	return nil
}

// kindNamed is the kind, on the command line, of a volume below the data directory, whose name is
// its source. A pod's manifest has it as kind host.
const kindNamed = "named"

func checkNamed(v *types.Volume) error {
	if v.Source == "" {
		v.Source = v.Name.String()
	}
	switch {
	case v.Mode != nil || v.UID != nil || v.GID != nil || v.Recursive != nil:
		return fmt.Errorf("volume %q: kind=named takes source and readOnly; its owner and mode are those of the "+
			"image's directory", v.Name)
	case !volume.ValidName(v.Source):
		return fmt.Errorf("volume %q: source=%s: not the name of a volume: lower-case letters, digits and dashes in "+
			"between", v.Name, v.Source)
	}
	return nil
}

func (v *Volumes) addBind(s string) error {
	f := strings.Split(s, ":")
	if len(f) < 2 || len(f) > 3 {
		return errors.New("none of NAME,kind=host,source=PATH, NAME,kind=empty, NAME,kind=named and SOURCE:TARGET[:ro]")
	}
	b := Bind{}
	if len(f) == 3 {
		for option := range strings.SplitSeq(f[2], ",") {
			switch option {
			case "ro":
				b.ReadOnly = true
			case "slave", "rslave": // Podman's and Docker's words
				b.Slave = true
			case "rw", "private", "rprivate":
			case "z":
				b.Relabel = relabelShared
			case "Z":
				b.Relabel = relabelPrivate
			default:
				return fmt.Errorf("option %q is not one of ro, rw, private, slave, z, Z", option)
			}
		}
	}
	var err error
	if named := f[0] != "" && !strings.Contains(f[0], "/"); !named {
		b.Source, err = source(f[0])
	} else if b.Slave {
		err = fmt.Errorf("volume %q: propagation is for a directory of the host, which begins with /", f[0])
	} else if b.Source = f[0]; !volume.ValidName(b.Source) {
		err = fmt.Errorf("%q: neither a path of the host, which begins with /, nor the name of a volume: "+
			"lower-case letters, digits and dashes in between", b.Source)
	}
	if err == nil {
		b.Target, err = target(f[1])
	}
	v.Binds = append(v.Binds, b)
	return err
}

// AddMount reads volume=NAME,target=PATH. For a line of Docker's, type=bind,source=PATH,target=PATH
// and the like, the error says what to write instead.
func (v *Volumes) AddMount(s string) error {
	if here := dockersMount(s); here != "" {
		return fmt.Errorf("type= is Docker's; write %s", here)
	}
	var m schema.Mount
	if err := eachSetting(s, func(key, value string) error {
		switch key {
		case "volume":
			name, err := types.NewACName(value)
			if err != nil {
				return fmt.Errorf("volume name %q: %w", value, err)
			}
			m.Volume = *name
			return nil
		case "target":
			var err error
			m.Path, err = target(value)
			return err
		}
		return fmt.Errorf("%q is not one of volume, target", key)
	}); err != nil {
		return err
	}
	if m.Volume == "" || m.Path == "" {
		return errors.New("not volume=NAME,target=PATH")
	}
	v.Mounts = append(v.Mounts, m)
	return nil
}

// dockersMount is what to write for a --mount= of Docker's; "" if it is none.
func dockersMount(s string) string {
	settings := map[string]string{}
	for f := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(f, "=")
		settings[key] = value
	}
	source := cmp.Or(settings["source"], settings["src"])
	target := cmp.Or(settings["target"], settings["dst"], settings["destination"], "TARGET")
	readOnly := ""
	for _, key := range []string{"readonly", "ro"} {
		if value, there := settings[key]; there && value != "false" {
			readOnly = ":ro"
		}
	}
	switch settings["type"] {
	case "bind":
		return "--volume=" + cmp.Or(source, "SOURCE") + ":" + target + readOnly
	case "volume":
		return "--volume=" + cmp.Or(source, "NAME") + ":" + target + readOnly
	case "tmpfs":
		return "--tmpfs=" + target + " after the image"
	}
	return ""
}

// eachSetting calls set for each of KEY=VALUE,…; no key may be there twice.
func eachSetting(s string, set func(key, value string) error) error {
	seen := map[string]bool{}
	for f := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return fmt.Errorf("%q is not KEY=VALUE", f)
		}
		if seen[key] {
			return fmt.Errorf("%s= is there twice", key)
		}
		seen[key] = true
		if err := set(key, value); err != nil {
			return err
		}
	}
	return nil
}

func boolean(s string) (*bool, error) {
	b, err := strconv.ParseBool(s)
	return &b, err
}

func id(s string) (*int, error) {
	n, err := parseID(s)
	i := int(n)
	return &i, err
}

func source(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("has no source=")
	case strings.ContainsRune(s, 0):
		return "", fmt.Errorf("source %q: has a NUL byte", s)
	case !path.IsAbs(s):
		return "", fmt.Errorf("source %q: not absolute: write a path from / on", s)
	}
	return path.Clean(s), nil
}

// target is a path in an app at which a volume can be mounted, without "..". One that is relative
// is so to the app's root.
func target(s string) (string, error) {
	clean := path.Clean("/" + s)
	switch {
	case s == "":
		return "", errors.New("has no target=")
	case strings.ContainsRune(s, 0):
		return "", fmt.Errorf("target %q: has a NUL byte in it", s)
	case clean == "/":
		return "", errors.New(`target "/": is the app's root`)
	}
	if strings.HasPrefix(clean, "/sys/") { // as rkt had it, for cadvisor and the like; /sys itself, too
		if _, err := os.Stat(clean); errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("target %q: the kernel has no such path, and nothing can be made below /sys", s)
		}
	}
	for _, own := range []string{"/proc", "/dev/console", "/dev/pts", "/dev/shm", "/dev/mqueue"} {
		if clean == own || strings.HasPrefix(clean, own+"/") || clean == "/dev" {
			return "", fmt.Errorf("target %q: every app has the pod's own there", s)
		}
	}
	return clean, nil
}

// storage is the volumes of a pod while it is made.
type storage struct {
	dir     string // the pod's
	named   volume.Volumes
	held    []*os.File // named volumes, which nobody removes meanwhile
	volumes []types.Volume
	slaves  []types.ACName        // those in which what the host mounts later appears
	used    map[types.ACName]bool // has a mount
	lines   string                // of the file "mounts"
	labels  *labels               // the pod's SELinux contexts; nil for none
	relabel map[string]relabel    // sources that are to get one of them
	warn    func(string)
}

// newStorage collects the volumes of a pod, whose directory is dir in the data directory data, and
// of its apps, and gives those of the short form names. Sources must be there.
func newStorage(dir, data string, o *Options) (*storage, error) {
	s := &storage{dir: dir, named: volume.In(data), used: map[types.ACName]bool{}, relabel: map[string]relabel{},
		warn: o.Warn}
	all := []*Volumes{&o.Volumes}
	for i := range o.Apps {
		all = append(all, &o.Apps[i].Volumes)
	}
	for _, v := range all {
		for _, volume := range v.Volumes {
			if s.find(volume.Name) != nil {
				return nil, fmt.Errorf("volume %q: two volumes of one name", volume.Name)
			}
			if volume.Kind == kindNamed {
				volume.Kind, volume.Source = "host", s.named.Path(volume.Source)
			}
			if label, ok := v.Relabel[volume.Name]; ok {
				s.relabel[volume.Source] = label
			}
			s.volumes = append(s.volumes, volume)
		}
		s.slaves = append(s.slaves, v.Slaves...)
	}
	typed, err := s.placeMounts(all, o)
	if err != nil {
		return nil, err
	}
	return s, s.checkSources(typed, o.Users == poddir.UsersOwn)
}

// placeMounts gives the mounts of the pod and of its apps to o, those of the short form included.
// It returns what was typed for each of the latter.
func (s *storage) placeMounts(all []*Volumes, o *Options) (map[types.ACName]string, error) {
	typed := map[types.ACName]string{} // the short form, in which no name was given
	for i, v := range all {
		mounts := slices.Clone(v.Mounts)
		for _, m := range mounts {
			if s.find(m.Volume) == nil {
				return nil, fmt.Errorf("mount on %s: there is no volume %q", m.Path, m.Volume)
			}
		}
		for _, b := range v.Binds {
			name, err := s.short(b)
			if err != nil {
				return nil, fmt.Errorf("volume %s:%s: %w", b.Source, b.Target, err)
			}
			typed[name] = b.Source + ":" + b.Target
			mounts = append(mounts, schema.Mount{Volume: name, Path: b.Target})
		}
		if i == 0 {
			o.mounts = mounts
		} else {
			o.Apps[i-1].mounts = mounts
		}
	}
	return typed, nil
}

// checkSources returns an error if a source of the host is not there, or can't be mounted as it is
// asked for.
func (s *storage) checkSources(typed map[types.ACName]string, ownUsers bool) error {
	for _, volume := range s.volumes {
		if volume.Kind != "host" || s.isNamed(volume) {
			continue
		}
		info, err := os.Stat(volume.Source)
		if short, ok := typed[volume.Name]; ok && err != nil {
			return fmt.Errorf("volume %s: %w", short, err)
		}
		if err != nil {
			return fmt.Errorf("volume %q: its source: %w", volume.Name, err)
		}
		if err := s.checkSlave(volume, info, ownUsers); err != nil {
			return fmt.Errorf("volume %q: propagation=slave: %w", volume.Name, err)
		}
	}
	return nil
}

// checkSlave tells why what the host mounts later can't appear in a volume that is to have it.
func (s *storage) checkSlave(v types.Volume, source os.FileInfo, ownUsers bool) error {
	switch {
	case !slices.Contains(s.slaves, v.Name):
	case ownUsers:
		return errors.New("what the host mounts later would have the host's users, and the pod has its own; " +
			"leave out --private-users, or mount it before the pod starts")
	case !source.IsDir():
		return fmt.Errorf("%s is no directory, and nothing can be mounted below it", v.Source)
	}
	return nil
}

// short adds the volume of a short form, and returns its name. A named volume that is mounted in
// several places is one.
func (s *storage) short(b Bind) (types.ACName, error) {
	from, source := "volume"+b.Target, b.Source
	if !path.IsAbs(b.Source) {
		from, source = b.Source, s.named.Path(b.Source)
	}
	if b.Relabel != "" {
		s.relabel[source] = b.Relabel
	}
	if !path.IsAbs(b.Source) {
		for _, v := range s.volumes {
			if v.Source == source && v.ReadOnly != nil && *v.ReadOnly == b.ReadOnly {
				return v.Name, nil
			}
		}
	}
	name, err := s.name(from)
	if err != nil {
		return "", err
	}
	s.volumes = append(s.volumes, types.Volume{Name: name, Kind: "host", Source: source, ReadOnly: &b.ReadOnly})
	if b.Slave {
		s.slaves = append(s.slaves, name)
	}
	return name, nil
}

// isNamed reports whether a volume is a named one, which is made if it is not there.
func (s *storage) isNamed(v types.Volume) bool {
	return v.Kind == "host" && volume.ValidName(path.Base(v.Source)) && v.Source == s.named.Path(path.Base(v.Source))
}

// close lets go of the named volumes.
func (s *storage) close() {
	for _, f := range s.held {
		f.Close()
	}
}

func (s *storage) find(name types.ACName) *types.Volume {
	if i := slices.IndexFunc(s.volumes, func(v types.Volume) bool { return v.Name == name }); i >= 0 {
		return &s.volumes[i]
	}
	return nil
}

// name makes the name of a volume that no other has.
func (s *storage) name(from string) (types.ACName, error) {
	base, err := types.SanitizeACName(from)
	if err != nil {
		return "", err
	}
	name := types.ACName(base)
	for n := 2; s.find(name) != nil; n++ {
		name = types.ACName(base + "-" + strconv.Itoa(n))
	}
	return name, nil
}

// mounts are those of an app: the command line's for it, then for all apps, then what its image's
// mount points ask for: the volume of that name, or as in rkt, an empty one of its own. Of several
// at one path the first is taken.
func (s *storage) mounts(name string, own, all []schema.Mount, points []types.MountPoint) ([]schema.Mount, error) {
	candidates := slices.Concat(own, all)
	var mounts []schema.Mount
	for i, m := range candidates {
		first := slices.IndexFunc(candidates[:i], func(o schema.Mount) bool { return o.Path == m.Path })
		if first < 0 {
			mounts = append(mounts, m)
			continue
		}
		isOverridden := first < len(own) && i >= len(own) // the app's takes precedence over the pod's
		if o := candidates[first]; o.Volume != m.Volume && !isOverridden {
			s.warn(fmt.Sprintf("app %q: two mounts on %s: of volume %q, which is mounted, and of volume %q", name,
				m.Path, o.Volume, m.Volume))
			s.used[m.Volume] = true
		}
	}
	for _, point := range points {
		at := path.Join("/", point.Path)
		if slices.ContainsFunc(mounts, func(m schema.Mount) bool { return m.Path == at }) {
			continue
		}
		at, err := target(at)
		if err != nil {
			return nil, fmt.Errorf("mount point %q of the image: %w", point.Name, err)
		}
		volume := point.Name
		if s.find(volume) == nil {
			if volume, err = s.name(name + "-" + point.Name.String()); err != nil {
				return nil, fmt.Errorf("mount point %q of the image: %w", point.Name, err)
			}
			s.volumes = append(s.volumes, types.Volume{Name: volume, Kind: "empty"})
			s.warn(fmt.Sprintf("app %q: no volume for mount point %q (%s): it gets an empty one, which is removed "+
				"with the pod; --volume=DIRECTORY:%[3]s keeps its data", name, point.Name, at))
		}
		mounts = append(mounts, schema.Mount{Volume: volume, Path: at})
	}
	// a directory before what is in it
	slices.SortStableFunc(mounts, func(a, b schema.Mount) int { return strings.Compare(a.Path, b.Path) })
	return mounts, nil
}

// add makes the mount points of an app in its root, fills empty volumes with what the image has
// there, and notes the mounts.
func (s *storage) add(root *os.File, app string, mounts []schema.Mount, points []types.MountPoint) error {
	top, err := overlay.Stat(root, "/")
	if err != nil {
		return err
	}
	fresh := make([]bool, len(mounts)) // the image has nothing there
	seen := map[uint64]string{}
	for i, m := range mounts {
		if fresh[i], err = s.place(root, top.Ino, seen, m); err != nil {
			return err
		}
	}
	for i, m := range mounts {
		if err := s.note(root, app, mounts[:i], m, points, fresh[i]); err != nil {
			return err
		}
	}
	return nil
}

// place makes what a volume is to be mounted on, and reports whether the image had nothing there.
// seen has the mount points of the app's other volumes, by their inodes.
func (s *storage) place(root *os.File, top uint64, seen map[uint64]string, m schema.Mount) (fresh bool, err error) {
	volume := s.find(m.Volume)
	directory := true
	if volume.Kind == "host" && !s.isNamed(*volume) {
		info, err := os.Stat(volume.Source)
		if err != nil {
			return false, fmt.Errorf("volume %q: its source: %w", volume.Name, err)
		}
		directory = info.IsDir()
	}
	if strings.HasPrefix(m.Path, "/dev/") { // made when the pod starts
		return false, nil
	}
	st, err := overlay.Stat(root, m.Path)
	if errors.Is(err, os.ErrNotExist) {
		fresh = true
		st, err = makePoint(root, m.Path, directory)
	}
	if err != nil {
		return false, fmt.Errorf("mount point of volume %q: %w", m.Volume, err)
	}
	wrong := ""
	switch isDirectory := st.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case isDirectory && st.Ino == top:
		wrong = "is the app's root, by a link of the image"
	case isDirectory && !directory:
		wrong = "is a directory, and the volume is a file"
	case !isDirectory && directory:
		wrong = "is a file, and the volume is a directory"
	case isDirectory && seen[st.Ino] != "":
		return false, fmt.Errorf("two mounts on one directory: %s and %s are the same in the image",
			seen[st.Ino], m.Path)
	}
	if wrong != "" {
		return false, fmt.Errorf("mount point %s of volume %q: %s", m.Path, m.Volume, wrong)
	}
	seen[st.Ino] = m.Path
	return fresh, nil
}

// note makes a volume that is the pod's or named, and adds the line for its mount to the pod's file
// "mounts". before are the app's mounts that come before it.
func (s *storage) note(root *os.File, app string, before []schema.Mount, m schema.Mount, points []types.MountPoint,
	fresh bool) error {
	volume := s.find(m.Volume)
	s.used[m.Volume] = true
	if s.isNamed(*volume) {
		held, err := s.named.Ensure(path.Base(volume.Source), func(dir *os.File) error {
			return errors.Join(fillNew(root, dir, m.Path, fresh), s.labels.labelShared(dir.Name()))
		})
		if err != nil {
			return fmt.Errorf("volume %q: %w", volume.Name, err)
		}
		s.held = append(s.held, held)
	}
	if err := s.nest(before, m); err != nil {
		return err
	}
	if m.Path == "/sys" {
		s.warn(fmt.Sprintf("app %q: volume %q is its /sys, without the parts that are hidden or read-only otherwise",
			app, m.Volume))
	} else if stage1.InSys(m.Path) {
		s.warn(fmt.Sprintf("app %q: volume %q is its %s, in the place of the pod's", app, m.Volume, m.Path))
	}
	b := fstab.Bind{Target: strings.TrimPrefix(poddir.RootDir+stage1.AppRoot(app)+m.Path, "/"), NoDev: true}
	b.ReadOnly = slices.ContainsFunc(points, func(p types.MountPoint) bool {
		return p.ReadOnly && path.Join("/", p.Path) == m.Path
	})
	if volume.ReadOnly != nil { // takes precedence over the image's
		b.ReadOnly = *volume.ReadOnly
	}
	if volume.Kind == "empty" {
		b.Source = poddir.VolumesDir + "/" + volume.Name.String()
		if err := s.fill(root, volume, m.Path, fresh); err != nil {
			return fmt.Errorf("volume %q: %w", volume.Name, err)
		}
	} else {
		b.Source = volume.Source
		b.Recursive = volume.Recursive == nil || *volume.Recursive
		b.Slave = slices.Contains(s.slaves, volume.Name)
		info, err := os.Stat(volume.Source)
		if err != nil {
			return fmt.Errorf("volume %q: its source: %w", volume.Name, err)
		}
		b.NoDev = info.Mode()&os.ModeDevice == 0 // a device that is named is wanted
	}
	s.lines += b.String()
	return nil
}

// makePoint makes what a volume is to be mounted on, at the end of all links of the image.
func makePoint(root *os.File, at string, directory bool) (st unix.Stat_t, err error) {
	at, err = overlay.Follow(root, at)
	if err == nil && directory {
		err = overlay.MkdirAll(root, at, 0o755)
	} else if err == nil {
		err = overlay.WriteFile(root, at, nil, 0o644)
	}
	if err != nil {
		return st, err
	}
	return overlay.Stat(root, at)
}

// nest makes the mount point of a mount that is inside another volume, of those mounted before,
// unless it is there.
func (s *storage) nest(before []schema.Mount, m schema.Mount) error {
	outer := -1
	for i, o := range before { // they are in order: the last one is the innermost
		if strings.HasPrefix(m.Path, o.Path+"/") {
			outer = i
		}
	}
	if outer < 0 || strings.HasPrefix(m.Path, "/dev/") || stage1.InSys(m.Path) {
		return nil
	}
	above, directory := s.find(before[outer].Volume), true
	dir := above.Source
	if above.Kind == "empty" {
		dir = filepath.Join(s.dir, poddir.VolumesDir, above.Name.String())
	}
	if own := s.find(m.Volume); own.Kind == "host" {
		info, err := os.Stat(own.Source)
		if err != nil {
			return fmt.Errorf("volume %q: its source: %w", own.Name, err)
		}
		directory = info.IsDir()
	}
	inside := strings.TrimPrefix(m.Path, before[outer].Path)
	top, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("volume %q: its source: %w", above.Name, err)
	}
	defer top.Close()
	_, err = overlay.Stat(top, inside)
	if errors.Is(err, os.ErrNotExist) {
		if above.ReadOnly != nil && *above.ReadOnly {
			return fmt.Errorf("mount point %s of volume %q: is not in volume %q, which is read-only; make %s there",
				m.Path, m.Volume, above.Name, inside)
		}
		_, err = makePoint(top, inside, directory)
	}
	if err != nil {
		return fmt.Errorf("mount point %s of volume %q, in volume %q: %w", m.Path, m.Volume, above.Name, err)
	}
	return nil
}

// fillNew gives a new directory what the image has at a path, and the owner, mode and attributes of
// that; 0755 and root, if the image has nothing there.
func fillNew(root, to *os.File, at string, fresh bool) error {
	if err := to.Chmod(0o755); err != nil { // without the umask
		return err
	}
	if fresh {
		return nil
	}
	from, err := overlay.Open(root, at, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == nil {
		err = copyTree(from, to)
		from.Close()
	}
	if errors.Is(err, os.ErrNotExist) { // below /dev
		err = nil
	}
	return err
}

// fill makes an empty volume at its first mount: as the directory of the image, with all that is in
// it, is; what the command line says of mode and owner counts.
func (s *storage) fill(root *os.File, volume *types.Volume, at string, fresh bool) error {
	dir := filepath.Join(s.dir, poddir.VolumesDir, volume.Name.String())
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	if err := poddir.Mkdir(filepath.Dir(dir), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	to, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := fillNew(root, to, at, fresh); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(to.Fd()), &st); err != nil {
		return err
	}
	if volume.UID == nil {
		uid := int(st.Uid)
		volume.UID = &uid
	}
	if volume.GID == nil {
		gid := int(st.Gid)
		volume.GID = &gid
	}
	if volume.Mode == nil {
		mode := fmt.Sprintf("%04o", st.Mode&0o7777)
		volume.Mode = &mode
	}
	mode, err := strconv.ParseUint(*volume.Mode, 8, 32)
	if err != nil {
		return err
	}
	return errors.Join(to.Chown(*volume.UID, *volume.GID), unix.Fchmod(int(to.Fd()), uint32(mode)))
}

// finish gives an empty volume that nothing mounts rkt's mode and owner, which appc wants to be in
// the manifest, and warns of each that nothing mounts unless it may be there for other pods: its
// name in a flag or an image may be misspelt.
func (s *storage) finish(isManifest bool) {
	mode, root := "0755", 0
	for i := range s.volumes {
		v := &s.volumes[i]
		if v.Kind == "empty" {
			v.Mode, v.UID, v.GID = cmp.Or(v.Mode, &mode), cmp.Or(v.UID, &root), cmp.Or(v.GID, &root)
		}
		if !s.used[v.Name] && !isManifest {
			s.warn(fmt.Sprintf("volume %q: no app mounts it; say where with --mount volume=%[1]s,target=PATH",
				v.Name.String()))
		}
	}
}
