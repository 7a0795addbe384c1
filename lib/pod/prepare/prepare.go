// Package prepare makes a pod out of images: the pod's directory with everything in it that does
// not depend on the moment it is started. Its cost does not depend on the size of the images, but
// for what they have in the place of an empty volume.
package prepare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// App is an app as the command line describes it. What is empty is as the image says.
type App struct {
	Image             string     // as the user named it
	Bare              bool       // it follows another image, without a "---" between them
	Section           *types.App // of a pod manifest, in the place of the image's
	Signature         string     // file that its signature is in; "" if it is at its usual place
	Name              string
	Exec              string // replaces the image's program and its arguments
	Args              []string
	WorkingDir        string
	User, Group       string // a number, a name, or the path of a file in the image whose owner is meant
	SupplementaryGIDs []uint32
	Environment       []stage1.Variable
	EnvironmentFile   []stage1.Variable // of --env-file, until the flags have been read
	CapsRetain        []string
	CapsRemove        []string
	CapAdd, CapDrop   []string
	NoNewPrivileges   bool
	AppArmor          string // a profile that is loaded on the host, "" for the default
	Limits            Limits
	Annotations       types.Annotations
	UserAnnotations   types.UserAnnotations
	UserLabels        types.UserLabels
	Volumes           Volumes // mounts are this app's; a volume is the pod's
	ReadOnly          bool    // the root file system, except for volumes
	NoHealth          bool    // without the image's health check

	mounts []schema.Mount
}

// Options is a pod as the command line describes it.
type Options struct {
	UUID        string
	Claim       poddir.Claim // the pod's name, if it is to have one
	Apps        []App
	Ports       []types.ExposedPort
	Inherit     []stage1.Variable // the caller's environment, if the apps are to inherit it
	Environment []stage1.Variable // for every app
	Volumes     Volumes           // mounted into every app
	AllCaps     bool              // --insecure-options=capabilities
	AllCalls    bool              // --insecure-options=seccomp
	AnyImage    bool              // --insecure-options=ondisk: what is in the store is not checked
	AllPaths    bool              // --insecure-options=paths
	AnyPlatform bool              // --any-platform
	OOMScore    int               // the caller's oom_score_adj: that of the unit in which the pod is to run
	Users       poddir.UsersMode  // whether it gets a user namespace of its own
	SELinux     SELinux           // whether it gets SELinux contexts of its own
	Sysctl      map[string]string // kernel parameters of the pod's namespaces, by their names in sysctl(8)
	Shm         string            // size of /dev/shm, see ParseSize; "" is the manifest's, or the flavor's own
	// processes and threads that all apps may have together, see ParseTasks; "" is the manifest's,
	// or DefaultTasks
	Tasks    string
	Manifest *schema.PodManifest // what the pod was described by, if it was (see SetManifest)

	Stage2   string // path of rkt-stage2, which runs beside apps and starts some of them
	Attacher string // path of rkt-attach, for apps that it can attach to; "" if there is none

	Flavor stage1.Flavor     // how the pod is to be run
	Strict bool              // an isolator that is not honoured is an error
	Warn   func(line string) // told of it otherwise

	// Image finds the image that an App names, fetching it if the pull policy says so.
	Image func(ctx context.Context, app App) (*store.Image, error)

	mounts []schema.Mount
	shm    uint64 // Shm, in bytes; 0 for none
}

// Pod makes a pod and returns it in state prepared. On failure nothing of it is left, and when the
// program is killed, what is left is an aborted prepare, which rkt-gc collects.
func Pod(ctx context.Context, pods poddir.Pods, images *store.Store, o Options) (*poddir.Pod, error) {
	if len(o.Apps) == 0 {
		return nil, errors.New("no image given")
	}
	found := make([]*store.Image, len(o.Apps))
	for i, app := range o.Apps { // before the pod is made: this may take as long as a download
		var err error
		if found[i], err = o.Image(ctx, app); err != nil {
			return nil, err
		}
		if !o.AnyPlatform {
			if err := saysPlatform(found[i]); err != nil {
				return nil, fmt.Errorf("image %q: %w", app.Image, err)
			}
		}
		if o.AnyImage {
			continue
		}
		if err := images.Check(found[i]); err != nil {
			return nil, fmt.Errorf("image %q: %w", app.Image, err)
		}
	}
	if err := checkPorts(o, found); err != nil {
		return nil, err
	}
	o.warnOfOOMScores()
	p, lock, err := pods.CreateNamed(o.UUID, o.Claim)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	err = fill(p, pods, o, found, func() error {
		// who removes an image sees by now that this pod uses it, or has removed it already
		for i, img := range found {
			if err := images.Still(img); err != nil {
				return fmt.Errorf("image %q: %w", o.Apps[i].Image, err)
			}
			if err := images.Used(img.ID); err != nil {
				return fmt.Errorf("image %q: %w", o.Apps[i].Image, err)
			}
		}
		return nil
	})
	if err != nil {
		_, undo := p.Delete()
		return nil, errors.Join(err, undo)
	}
	return p, nil
}

// directories are made first, since their modes say who may pass: the group that lists pods gets as
// far as rkt/status, and nowhere else. A flavor has more.
var directories = []struct {
	name string
	mode os.FileMode
}{
	{poddir.OverlayDir, 0o700},
	{poddir.Stage1Dir, 0o711},
	{poddir.RootDir, 0o711},
	{poddir.RootDir + "/opt", 0o700},
	{poddir.RootDir + "/rkt", 0o711},
	{poddir.RootDir + "/rkt/status", 0o755},
}

// fill writes everything below the pod's directory, the manifest last. check is called when the pod
// can be seen to use its images.
func fill(p *poddir.Pod, pods poddir.Pods, o Options, images []*store.Image, check func() error) error {
	manifest, limits, err := newManifest(&o)
	if err != nil {
		return err
	}
	for _, dir := range directories {
		if err := poddir.Mkdir(p.Path(dir.name), dir.mode); err != nil {
			return err
		}
	}
	volumes, err := newStorage(p.Dir(), p.DataDir(), &o)
	if err != nil {
		return err
	}
	if volumes.labels, err = labelPod(p, pods, o); err != nil {
		return err
	}
	defer volumes.close() // once the pod is prepared, its file mounts says which it has
	apps, err := fillApps(p, volumes, o, images, manifest)
	if err != nil {
		return err
	}
	if err := volumes.settle(p, images, o.Manifest != nil); err != nil {
		return err
	}
	if err := reserveUsers(p, pods, o); err != nil {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	manifest.Volumes = volumes.volumes
	if err := writeRoot(p, apps, limits, o, volumes.lines); err != nil {
		return err
	}
	return writeManifest(p, manifest)
}

// newManifest makes the manifest of a pod without its apps and volumes, and the limits of all apps
// together.
func newManifest(o *Options) (*schema.PodManifest, stage1.Isolation, error) {
	manifest := schema.BlankPodManifest()
	manifest.Ports = o.Ports
	var limits stage1.Isolation
	if o.Manifest != nil {
		manifest.Annotations, manifest.UserAnnotations, manifest.UserLabels = o.Manifest.Annotations,
			o.Manifest.UserAnnotations, o.Manifest.UserLabels
		manifest.Isolators = o.Manifest.Isolators
		var err error
		if limits, err = limitPod(*o); err != nil {
			return nil, limits, err
		}
	}
	var err error
	if limits.TasksMax, o.shm, err = setShared(*o, manifest); err != nil {
		return nil, limits, err
	}
	return manifest, limits, setSysctl(o, manifest)
}

// fillApps makes the apps, and puts them into the manifest.
func fillApps(p *poddir.Pod, volumes *storage, o Options, images []*store.Image,
	manifest *schema.PodManifest) (apps []stage1.App, err error) {
	for i := range o.Apps {
		name, err := appName(o.Apps[i], images[i])
		if err != nil {
			return nil, err
		}
		if manifest.Apps.Get(name) != nil {
			return nil, fmt.Errorf("app %q: multiple apps with name %s; give one another with --name", name, name)
		}
		app, runtime, err := fillApp(p, volumes, o, &o.Apps[i], name, images[i])
		if err != nil {
			return nil, err
		}
		apps = append(apps, app)
		manifest.Apps = append(manifest.Apps, runtime)
	}
	return apps, nil
}

// writeManifest writes the manifest after all other files are on the disk: a pod with one is
// prepared.
func writeManifest(p *poddir.Pod, manifest *schema.PodManifest) error {
	text, err := json.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("pod manifest: %w", err)
	}
	read, err := poddir.ParseManifest(text) // what other programs would say
	if err == nil {
		_, err = network.PodPorts(read)
	}
	if err != nil {
		return err
	}
	if err := durable.SyncTree(p.Dir()); err != nil {
		return err
	}
	return durable.WriteFile(p.Path(poddir.ManifestFile), append(text, '\n'), 0o640)
}

// fillApp gives the pod the root of one of its apps, and what the app has there. What it returns is
// for the flavor and rkt-stage2, and for the pod's manifest.
func fillApp(p *poddir.Pod, volumes *storage, o Options, given *App, name types.ACName, img *store.Image) (
	app stage1.App, runtime schema.RuntimeApp, err error) {
	dir, target := p.Path(poddir.AppOverlay(name.String())), p.Path(poddir.RootDir+stage1.AppRoot(name.String()))
	if err := os.MkdirAll(target, 0o755); err != nil {
		return app, runtime, err
	}
	if err := overlay.Make(dir, img.Layers); err != nil {
		return app, runtime, fmt.Errorf("image %q: %w", given.Image, err)
	}
	var points []types.MountPoint
	if section := given.section(img.Manifest); section != nil {
		if points, err = withoutTmpfs(section.MountPoints, given.Annotations); err != nil {
			return app, runtime, fmt.Errorf("app %q: %w", name, err)
		}
	}
	if given.mounts, err = volumes.mounts(name.String(), given.mounts, o.mounts, points); err != nil {
		return app, runtime, fmt.Errorf("app %q: %w", name, err)
	}
	var effective *types.App
	err = overlay.View(dir, target, func(root *os.File) (err error) {
		if app, effective, err = resolve(root, name.String(), *given, img.Manifest, o); err != nil {
			return err
		}
		return volumes.add(root, name.String(), given.mounts, points)
	})
	if err != nil {
		return app, runtime, fmt.Errorf("app %q: %w", name, err)
	}
	annotations, err := annotated(given.Annotations, app)
	if err != nil {
		return app, runtime, fmt.Errorf("app %q: %w", name, err)
	}
	hash, err := types.NewHash(img.ID)
	if err != nil {
		return app, runtime, fmt.Errorf("image %q: %w", img.ID, err)
	}
	return app, schema.RuntimeApp{
		Name:   name,
		Image:  schema.RuntimeImage{Name: &img.Manifest.Name, ID: *hash, Labels: img.Manifest.Labels},
		App:    effective,
		Mounts: given.mounts,

		ReadOnlyRootFS: given.ReadOnly,
		Annotations:    annotations,
	}, nil
}

// annotated are the annotations of an app, with variables that appc's environment can't have.
func annotated(given types.Annotations, app stage1.App) (types.Annotations, error) {
	_, odd := image.Environment(assignments(app))
	if len(odd) == 0 {
		return given, nil
	}
	text, err := json.Marshal(odd)
	if err != nil {
		return nil, err
	}
	annotations := slices.Clone(given)
	annotations.Set(image.AnnotationEnvironment, string(text))
	return annotations, nil
}

// settle finishes the volumes when those of all apps are known.
func (s *storage) settle(p *poddir.Pod, images []*store.Image, byManifest bool) error {
	s.finish(byManifest)
	if err := s.labels.labelFiles(p, images); err != nil {
		return err
	}
	return s.relabelVolumes()
}

// writeRoot writes what the flavor and rkt-stage2 need of the pod, and notes what is to be mounted
// into it; the lines for volumes come last.
func writeRoot(p *poddir.Pod, apps []stage1.App, limits stage1.Isolation, o Options, volumes string) error {
	if o.Stage2 == "" {
		return errors.New("rkt-stage2, which runs in each pod, is not installed")
	}
	spec := stage1.Spec{UUID: p.UUID, Apps: apps, Limits: limits, Shm: o.shm, Stage2: o.Stage2, Attacher: o.Attacher}
	if err := o.Flavor.Features().Check(o.Flavor.Name(), spec); err != nil {
		return err
	}
	tree, err := o.Flavor.Prepare(spec)
	if err != nil {
		return err
	}
	if err := writeTree(p, tree); err != nil {
		return err
	}
	binds, err := o.Flavor.Lay(p)
	if err != nil {
		return err
	}
	config, err := writeConfigs(p, apps, tree.Mounts)
	if err != nil {
		return err
	}
	text, err := json.Marshal(stage1.LimitsOf(spec))
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	mounts := ""
	for _, b := range append(append(binds, tree.Binds...), config) {
		mounts += b.String()
	}
	files := []stage1.File{
		{Name: poddir.FlavorFile, Mode: 0o644, Text: []byte(o.Flavor.Name() + "\n")},
		{Name: poddir.LimitsFile, Mode: 0o600, Text: append(text, '\n')},
		{Name: poddir.MountsFile, Mode: 0o600, Text: []byte(mounts + volumes)},
	}
	if !o.Flavor.Features().Network {
		files = append(files, stage1.File{Name: poddir.HostNetFile, Mode: 0o644})
	}
	if err := writeFilter(p, apps, o); err != nil {
		return err
	}
	return writeTree(p, &stage1.Tree{Files: files})
}

// writeTree writes what a flavor has.
func writeTree(p *poddir.Pod, tree *stage1.Tree) error {
	for _, dir := range tree.Dirs {
		if err := poddir.Mkdir(p.Path(dir.Name), dir.Mode); err != nil {
			return err
		}
	}
	for _, f := range tree.Files {
		if err := os.WriteFile(p.Path(f.Name), f.Text, f.Mode); err != nil {
			return err
		}
	}
	return nil
}

// numbered is the name of a port by its number and protocol, as an OCI image's ports have it.
var numbered = regexp.MustCompile(`^([1-9][0-9]{0,4})-(tcp|udp|sctp)$`)

// checkPorts refuses a --port that no image of the pod has. One that is named by its number and
// protocol needs no image to declare it.
func checkPorts(o Options, images []*store.Image) error {
	var declared []string
	for i, img := range images {
		section := o.Apps[i].section(img.Manifest)
		if section == nil {
			continue
		}
		for _, port := range section.Ports {
			declared = append(declared, port.Name.String())
		}
	}
	for i, exposed := range o.Ports {
		name := exposed.Name.String()
		if exposed.PodPort != nil || slices.Contains(declared, name) {
			continue
		}
		if m := numbered.FindStringSubmatch(name); m != nil {
			number, err := strconv.ParseUint(m[1], 10, 16)
			if err != nil {
				return fmt.Errorf("port %q: not a port's number", name)
			}
			o.Ports[i].PodPort = &types.Port{Name: exposed.Name, Protocol: m[2], Port: uint(number), Count: 1}
			continue
		}
		if declared == nil {
			return fmt.Errorf("port %q: no image of the pod declares it, nor any other port; write its "+
				"number and protocol, as in 80-tcp", name)
		}
		err := fmt.Errorf("port %q: no image of the pod declares it (declared: %s)", name, strings.Join(declared, ", "))
		if _, number := strconv.Atoi(name); number == nil { // Docker's HOST:CONTAINER
			err = fmt.Errorf("%w; the declared port comes first: --port=%s:%s", err, declared[0], name)
		}
		return err
	}
	return nil
}

// saysPlatform refuses an ACI that does not say for which operating system and architecture it is,
// as rkt did; what it says was checked when it was fetched.
func saysPlatform(img *store.Image) error {
	if _, err := os.Lstat(img.Config); err == nil { // an OCI image, which does; appc may have no name for it
		return nil
	}
	for _, name := range []string{"os", "arch"} {
		if _, ok := img.Manifest.Labels.Get(name); !ok {
			return fmt.Errorf("missing %s label in the image manifest; --any-platform takes it all the same", name)
		}
	}
	return nil
}
