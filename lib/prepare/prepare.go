// Package prepare makes a pod out of images: the pod's directory with everything in it that does not depend on the moment it
// is started. Its cost does not depend on the size of the images, but for what
// they have in the place of an empty volume.
package prepare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/durable"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/overlay"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/store"
)

// App is an app as the command line describes it. What is empty is as the image says.
type App struct {
	Image             string // as the user named it
	Signature         string // file that its signature is in; "" if it is at its usual place
	Name              string
	Exec              string // replaces the image's program and its arguments
	Args              []string
	WorkingDir        string
	User, Group       string // a number, a name, or the path of a file in the image whose owner is meant
	SupplementaryGIDs []uint32
	Environment       []stage1.Variable
	CapsRetain        []string
	CapsRemove        []string
	Limits            Limits
	Annotations       types.Annotations
	UserAnnotations   types.UserAnnotations
	UserLabels        types.UserLabels
	Volumes           Volumes // mounts are this app's; a volume is the pod's
	ReadOnly          bool    // the root file system, but for volumes
	NoHealth          bool    // without the image's health check
	Stdout, Stderr    stage1.Output

	mounts []schema.Mount
}

// Options is a pod as the command line describes it.
type Options struct {
	UUID        string
	Name        string // of the pod, may be ""
	Apps        []App
	Ports       []types.ExposedPort
	Inherit     []stage1.Variable // the caller's environment, if the apps are to inherit it
	Environment []stage1.Variable // for every app
	Volumes     Volumes           // mounted into every app
	AllCaps     bool              // --insecure-options=capabilities
	AllCalls    bool              // --insecure-options=seccomp
	AnyImage    bool              // --insecure-options=ondisk: what is in the store is not checked
	AllPaths    bool              // --insecure-options=paths
	OwnUsers    bool              // a user namespace of its own

	Strict bool              // an isolator that is not honoured is an error
	Warn   func(line string) // told of it otherwise

	// Image finds the image that an App names, fetching it if the pull policy says so, and returns its ID.
	Image func(ctx context.Context, app App) (id string, err error)

	mounts []schema.Mount
}

// Pod makes a pod and returns it in state prepared. On failure nothing of it is left, and when the program is killed, what is
// left is an aborted prepare, which rkt-gc collects.
func Pod(ctx context.Context, pods pod.Pods, images *store.Store, o Options) (*pod.Pod, error) {
	if len(o.Apps) == 0 {
		return nil, errors.New("no image given")
	}
	found := make([]*store.Image, len(o.Apps))
	for i, app := range o.Apps { // before the pod is made: this may take as long as a download
		id, err := o.Image(ctx, app)
		if err != nil {
			return nil, err
		}
		if found[i], err = images.Image(id); err != nil {
			return nil, fmt.Errorf("image %q: %w", app.Image, err)
		}
		if o.AnyImage {
			continue
		}
		if err := images.Check(found[i]); err != nil {
			return nil, fmt.Errorf("image %q: %w", app.Image, err)
		}
	}
	if err := checkPorts(o.Ports, found); err != nil {
		return nil, err
	}
	p, lock, err := pods.Create(o.UUID)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	err = fill(p, pods, o, found, func() error { // who removes an image sees by now that this pod uses it, or has removed it already
		for i, image := range found {
			if _, err := images.Image(image.ID); err != nil {
				return fmt.Errorf("image %q: %w", o.Apps[i].Image, err)
			}
			if err := images.Used(image.ID); err != nil {
				return fmt.Errorf("image %q: %w", o.Apps[i].Image, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, p.Delete())
	}
	return p, nil
}

// fill writes everything below the pod's directory, the manifest last. check is called when the pod can be seen to use its images.
func fill(p *pod.Pod, pods pod.Pods, o Options, images []*store.Image, check func() error) error {
	manifest := schema.BlankPodManifest()
	manifest.Ports = o.Ports
	volumes, err := newStorage(p.Dir(), &o)
	if err != nil {
		return err
	}
	var apps []stage1.App
	for i := range o.Apps {
		name, err := appName(o.Apps[i], images[i])
		if err != nil {
			return err
		}
		if manifest.Apps.Get(name) != nil {
			return fmt.Errorf("app %q: two apps of one name; give one another with --name", name)
		}
		dir, target := p.Path("overlay/"+name.String()), p.Path(pod.RootDir+stage1.AppRoot(name.String()))
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := overlay.Make(dir, images[i].Layers); err != nil {
			return fmt.Errorf("image %q: %w", o.Apps[i].Image, err)
		}
		var app stage1.App
		var effective *types.App
		var points []types.MountPoint
		if images[i].Manifest.App != nil {
			points = images[i].Manifest.App.MountPoints
		}
		mounts, err := volumes.mounts(name.String(), o.Apps[i].mounts, o.mounts, points)
		if err != nil {
			return fmt.Errorf("app %q: %w", name, err)
		}
		o.Apps[i].mounts = mounts
		err = overlay.View(dir, target, func(root *os.File) (err error) {
			if app, effective, err = resolve(root, name.String(), o.Apps[i], images[i].Manifest, o); err != nil {
				return err
			}
			return volumes.add(root, name.String(), mounts, points)
		})
		if err == nil && o.Apps[i].ReadOnly {
			err = overlay.SetReadOnly(dir)
		}
		if err != nil {
			return fmt.Errorf("app %q: %w", name, err)
		}
		apps = append(apps, app)
		hash, err := types.NewHash(images[i].ID)
		if err != nil {
			return fmt.Errorf("image %q: %w", images[i].ID, err)
		}
		manifest.Apps = append(manifest.Apps, schema.RuntimeApp{
			Name:   name,
			Image:  schema.RuntimeImage{Name: &images[i].Manifest.Name, ID: *hash, Labels: images[i].Manifest.Labels},
			App:    effective,
			Mounts: mounts,

			ReadOnlyRootFS: o.Apps[i].ReadOnly,
			Annotations:    o.Apps[i].Annotations,
		})
	}
	if err := volumes.unused(); err != nil {
		return err
	}
	if o.OwnUsers {
		if err := giveUsers(p, pods); err != nil {
			return err
		}
	}
	if err := check(); err != nil {
		return err
	}
	manifest.Volumes = volumes.volumes
	if err := writeRoot(p, apps, volumes.lines); err != nil {
		return err
	}
	if o.Name != "" {
		if err := os.WriteFile(p.Path(pod.NameFile), []byte(o.Name+"\n"), 0o640); err != nil {
			return err
		}
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("pod manifest: %w", err)
	}
	if _, err := network.PodPorts(text); err != nil { // what rkt-net would say
		return err
	}
	for _, dir := range []string{"stage1", "overlay", pod.VolumesDir} {
		if err := durable.SyncTree(p.Path(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return durable.WriteFile(p.Path(pod.ManifestFile), append(text, '\n'), 0o640)
}

// writeRoot makes the root of the pod's systemd and notes what is to be mounted into it; the lines for volumes come last.
func writeRoot(p *pod.Pod, apps []stage1.App, volumes string) error {
	root := p.Path(pod.RootDir)
	for _, dir := range []string{"usr", "proc", "sys", "dev", "run", "tmp", "root", "var/tmp", "var/log/journal", "rkt/status"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	mounts := "/usr " + pod.RootDir + "/usr none rbind,ro 0 0\n"
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} { // as the host has them
		target, err := os.Readlink("/" + name)
		switch {
		case err == nil:
			err = os.Symlink(target, filepath.Join(root, name))
		case errors.Is(err, os.ErrNotExist):
			err = nil
		default: // a folder of its own, on hosts without a merged /usr
			mounts += "/" + name + " " + pod.RootDir + "/" + name + " none rbind,ro 0 0\n"
			err = os.Mkdir(filepath.Join(root, name), 0o755)
		}
		if err != nil {
			return err
		}
	}
	files, err := stage1.Files(p.UUID, apps)
	if err != nil {
		return err
	}
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	options := ""
	for _, option := range stage1.Options(apps) {
		options += option + "\n"
	}
	if err := os.WriteFile(p.Path(pod.OptionsFile), []byte(options), 0o640); err != nil {
		return err
	}
	return os.WriteFile(p.Path(pod.MountsFile), []byte(mounts+volumes), 0o640)
}

// checkPorts refuses a --port that no image of the pod has.
func checkPorts(ports []types.ExposedPort, images []*store.Image) error {
	var declared []string
	for _, image := range images {
		if image.Manifest.App == nil {
			continue
		}
		for _, port := range image.Manifest.App.Ports {
			declared = append(declared, port.Name.String())
		}
	}
	for _, exposed := range ports {
		if exposed.PodPort == nil && !slices.Contains(declared, exposed.Name.String()) {
			return fmt.Errorf("port %q: no image of the pod declares it (declared: %v)", exposed.Name, declared)
		}
	}
	return nil
}
