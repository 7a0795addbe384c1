package prepare

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image/isolator"
)

// SetManifest has a pod be what an appc pod manifest (pods.md) says, rkt's --pod-manifest. Images
// are those of the store that it names by their IDs. An app section takes the place of the image's
// as a whole.
func (o *Options) SetManifest(text []byte) error {
	if name := isolator.Unknown(text); name != "" {
		return fmt.Errorf("unknown isolator %s", name)
	}
	m := new(schema.PodManifest)
	if err := json.Unmarshal(text, m); err != nil {
		return err
	}
	if err := checkFields(text); err != nil {
		return err
	}
	if len(m.Apps) == 0 {
		return errors.New("has no apps")
	}
	o.Manifest, o.Ports, o.Volumes.Volumes = m, m.Ports, m.Volumes
	for i := range o.Volumes.Volumes {
		if err := checkVolume(&o.Volumes.Volumes[i]); err != nil {
			return err
		}
	}
	for _, ra := range m.Apps {
		if ra.Image.ID.Empty() {
			return fmt.Errorf("app %q: has no image.id, the ID of its image in the store (rkt image list --full "+
				"shows IDs)", ra.Name)
		}
		app := App{Image: ra.Image.ID.String(), Name: ra.Name.String(), Section: ra.App, ReadOnly: ra.ReadOnlyRootFS,
			Annotations: ra.Annotations}
		for _, mount := range ra.Mounts {
			if err := app.addMount(mount); err != nil {
				return fmt.Errorf("app %q: %w", ra.Name, err)
			}
		}
		o.Apps = append(o.Apps, app)
	}
	return nil
}

// addMount adds one of a manifest's mounts, which may have a volume of its own.
func (a *App) addMount(m schema.Mount) (err error) {
	if m.Path, err = target(m.Path); err != nil {
		return fmt.Errorf("mount of volume %q: %w", m.Volume, err)
	}
	if own := m.AppVolume; own != nil {
		volume := *own
		volume.Name, m.AppVolume = m.Volume, nil
		if err := checkVolume(&volume); err != nil {
			return err
		}
		a.Volumes.Volumes = append(a.Volumes.Volumes, volume)
	}
	a.Volumes.Mounts = append(a.Volumes.Mounts, m)
	return nil
}

// section is what an app is described by: a pod manifest's, or the image's, or nothing.
func (a App) section(img *schema.ImageManifest) *types.App {
	if a.Section != nil {
		return a.Section
	}
	return img.App
}
