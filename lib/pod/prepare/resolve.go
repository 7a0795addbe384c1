package prepare

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// resolving is an app on its way from what its image and the command line say to what is run.
type resolving struct {
	root *os.File // the app's root, as it is before any volume is mounted
	name string
	app  App
	img  *schema.ImageManifest
	o    Options

	exec      []string
	id        identity
	effective types.App  // for the pod's manifest
	out       stage1.App // for the flavor and rkt-stage2
}

// resolve settles an app: the image's manifest, changed by the command line, with every name looked
// up in the image itself. The order matters: a program is searched for in the working directory and
// by $PATH, which the user's home may be in, and capabilities follow from isolators.
func resolve(root *os.File, name string, a App, img *schema.ImageManifest, o Options) (stage1.App, *types.App, error) {
	r := &resolving{root: root, name: name, app: a, img: img, o: o,
		effective: types.App{User: "0", Group: "0"}, out: stage1.App{Name: name}}
	if section := a.section(img); section != nil {
		r.effective = *section
	}
	var err error
	if r.exec, err = command(a, r.effective.Exec, img); err != nil {
		return r.out, nil, err
	}
	for _, step := range []func() error{r.user, r.groups, r.isolate, r.environment, r.directories, r.programs,
		r.lifecycle, r.annotations} {
		if err := step(); err != nil {
			return r.out, nil, err
		}
	}
	if err := checkSize(r.out); err != nil {
		return r.out, nil, err
	}
	r.effective.Exec = r.out.Exec
	r.effective.Environment, _ = image.Environment(assignments(r.out))
	r.effective.WorkingDirectory = r.out.WorkingDir
	r.effective.UserAnnotations = merge(r.effective.UserAnnotations, a.UserAnnotations)
	r.effective.UserLabels = merge(r.effective.UserLabels, a.UserLabels)
	return r.out, &r.effective, nil
}

// user looks the user and the group up.
func (r *resolving) user() (err error) {
	a, img := r.app, r.img
	user, group := image.UserGroup(img)
	if _, says := img.Annotations.Get(image.AnnotationUser); isDocker(img) && !says {
		group = "" // root's own, as with Docker
	}
	if a.Section != nil {
		user, group = r.effective.User, r.effective.Group
	}
	if a.User != "" {
		if isDocker(img) && !namesGroup(img) {
			group = "" // the user's own, as with Docker
		}
		if user, group, err = splitUser(a.User, group); err != nil {
			return err
		}
	}
	if r.id, err = lookUp(r.root, user, cmp.Or(a.Group, group)); err != nil {
		return err
	}
	if _, _, both := strings.Cut(a.User, ":"); both && a.User[0] != '/' && a.Group != "" {
		if named, err := lookUp(r.root, user, group); err != nil || named.gid != r.id.gid {
			return fmt.Errorf("--user=%s and --group=%s: name one group", a.User, a.Group)
		}
	}
	r.effective.User = strconv.FormatUint(uint64(r.id.uid), 10)
	r.effective.Group = strconv.FormatUint(uint64(r.id.gid), 10)
	r.out.UID, r.out.GID = r.id.uid, r.id.gid
	return nil
}

// groups settles the supplementary groups.
func (r *resolving) groups() error {
	a := r.app
	r.out.SupplementaryGIDs = a.SupplementaryGIDs
	for _, gid := range a.SupplementaryGIDs {
		if _, err := parseID(strconv.FormatUint(uint64(gid), 10)); err != nil {
			return fmt.Errorf("--supplementary-gids: %d: %w", gid, err)
		}
	}
	asOther := a.User != "" || a.Group != ""
	switch {
	case a.SupplementaryGIDs != nil:
	case asOther && len(r.effective.SupplementaryGIDs) > 0:
		// The command line takes the place of who the image wants to be, and an image's manifest
		// adds no groups to that.
		r.o.Warn(fmt.Sprintf("app %q: without the supplementary groups of its image, since --user or --group is "+
			"given; --supplementary-gids after the image gives it some", r.name))
	case len(r.effective.SupplementaryGIDs) > 0:
		for _, gid := range r.effective.SupplementaryGIDs {
			id, err := parseID(strconv.Itoa(gid))
			if err != nil {
				return fmt.Errorf("supplementary group %d: %w", gid, err)
			}
			r.out.SupplementaryGIDs = append(r.out.SupplementaryGIDs, id)
		}
	default:
		r.out.SupplementaryGIDs = r.id.groups
	}
	r.effective.SupplementaryGIDs = nil
	for _, gid := range r.out.SupplementaryGIDs {
		r.effective.SupplementaryGIDs = append(r.effective.SupplementaryGIDs, int(gid))
	}
	return nil
}

// isolate settles the isolators, and what follows from them.
func (r *resolving) isolate() (err error) {
	a, isolators := r.app, r.effective.Isolators
	if a.Section == nil {
		if isolators, err = reduce(r.name, isolators, a, r.o); err != nil {
			return err
		}
	}
	if isolators, err = a.isolators(isolators); err != nil {
		return err
	}
	if r.out.Capabilities, err = capabilities(a, isolators, r.o.AllCaps); err != nil {
		return err
	}
	if err := isolate(&r.out, a, isolators, r.o); err != nil {
		return err
	}
	r.effective.Isolators, err = recordCapabilities(isolators, r.out.Capabilities)
	r.out.AllPaths, r.out.ReadOnly, r.out.Sysctl = r.o.AllPaths, a.ReadOnly, r.o.Sysctl
	return err
}

// environment settles the variables.
func (r *resolving) environment() (err error) {
	var odd []string // what appc's manifest has no place for
	if r.app.Section == nil {
		if odd, err = list(r.img, image.AnnotationEnvironment); err != nil {
			return err
		}
	}
	r.out.Environment, err = environment(r.name, r.id, r.o, r.app, r.effective.Environment, odd)
	return err
}

// directories settles the working directory, and makes it and those that appc's executor promises.
func (r *resolving) directories() error {
	for _, m := range r.app.mounts {
		r.out.Volumes = append(r.out.Volumes, m.Path)
	}
	r.out.WorkingDir = cmp.Or(r.app.WorkingDir, r.effective.WorkingDirectory, "/")
	switch {
	case !path.IsAbs(r.out.WorkingDir):
		return fmt.Errorf("working directory: %q: not absolute", r.out.WorkingDir)
	case !utf8.ValidString(r.out.WorkingDir):
		return fmt.Errorf("working directory: %q: is not UTF-8", r.out.WorkingDir)
	}
	if err := overlay.MkdirAll(r.root, r.out.WorkingDir, 0o755); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := overlay.MkdirAll(r.root, dir, 0o755); err != nil {
			return err
		}
	}
	if _, err := overlay.Stat(r.root, "/tmp"); errors.Is(err, os.ErrNotExist) {
		return overlay.MkdirAll(r.root, "/tmp", 0o1777)
	}
	return nil
}

// programs finds the app's program, and those of its event handlers.
func (r *resolving) programs() (err error) {
	if r.out.Exec, err = findProgram(r.root, r.exec, r.out.WorkingDir, r.out.Environment); err != nil {
		inVolume := func(m schema.Mount) bool { return r.exec[0] == m.Path || strings.HasPrefix(r.exec[0], m.Path+"/") }
		if !slices.ContainsFunc(r.app.mounts, inVolume) {
			return err
		}
		r.out.Exec = r.exec // it is looked for when the pod starts
	}
	for _, handler := range r.effective.EventHandlers {
		if len(handler.Exec) == 0 {
			return fmt.Errorf("event handler %s: names no program", handler.Name)
		}
		argv, err := findProgram(r.root, handler.Exec, r.out.WorkingDir, r.out.Environment)
		if err != nil {
			return fmt.Errorf("event handler %s: %w", handler.Name, err)
		}
		switch handler.Name {
		case "pre-start":
			r.out.PreStart = argv
		case "post-stop":
			r.out.PostStop = argv
		default:
			return fmt.Errorf("event handler %q: neither pre-start nor post-stop", handler.Name)
		}
	}
	return nil
}

// lifecycle settles how the app is started, watched and asked to stop.
func (r *resolving) lifecycle() (err error) {
	if signal, ok := r.img.Annotations.Get(image.AnnotationStopSignal); ok {
		if r.out.StopSignal, err = signalName(signal); err != nil {
			return err
		}
	}
	if err := stopping(&r.out, r.app.Annotations); err != nil {
		return err
	}
	for _, mark := range []struct {
		name types.ACIdentifier
		to   *bool
	}{
		{image.AnnotationNotify, &r.out.Notify},
		{image.AnnotationPID1, &r.out.PID1},
		{image.AnnotationInit, &r.out.Init},
	} {
		for _, annotations := range []types.Annotations{r.img.Annotations, r.app.Annotations} {
			if v, ok := annotations.Get(string(mark.name)); ok {
				*mark.to = v == "true"
			}
		}
	}
	r.out.Health, err = health(r.root, r.app, r.img, r.out, r.o)
	return err
}

// annotations settles what the command line has put into annotations of the app.
func (r *resolving) annotations() (err error) {
	given := r.app.Annotations
	tmpfs, _ := given.Get(stage1.TmpfsAnnotation)
	if r.out.Tmpfs, err = stage1.ParseTmpfsList(tmpfs); err != nil {
		return err
	}
	if err := checkTmpfs(r.out, r.app.mounts); err != nil {
		return err
	}
	r.out.Devices, _ = given.Get(stage1.DevicesAnnotation)
	if r.out.Secrets, err = secrets(given); err != nil {
		return err
	}
	if r.out.Rlimits, err = rlimits(given); err != nil {
		return err
	}
	if err := streams(&r.out, given); err != nil {
		return err
	}
	if v, ok := given.Get(stage1.HandlersAnnotation); ok {
		if r.out.HandlersAsApp = v == stage1.HandlersAsApp; !r.out.HandlersAsApp {
			return fmt.Errorf("annotation %s: %q: is not %s", stage1.HandlersAnnotation, v, stage1.HandlersAsApp)
		}
	}
	return nil
}
