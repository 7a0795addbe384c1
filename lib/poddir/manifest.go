package poddir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// Manifest is a pod's manifest, appc's PodManifest, as far as more than one program reads it.
// schema.PodManifest of appc's library checks all of it, which takes ten times as long, and its
// package costs milliseconds at the start of a program.
type Manifest struct {
	Kind            string            `json:"acKind"`
	Apps            []ManifestApp     `json:"apps"`
	Volumes         []ManifestVolume  `json:"volumes"`
	Ports           []ExposedPort     `json:"ports"`
	UserAnnotations map[string]string `json:"userAnnotations"`
	UserLabels      map[string]string `json:"userLabels"`
}

// ManifestApp is an app of a manifest. Its name is a name of files, too.
type ManifestApp struct {
	Name        string      `json:"name"`
	Image       AppImage    `json:"image"`
	App         *AppSection `json:"app"`
	Mounts      []AppMount  `json:"mounts"`
	Annotations []NameValue `json:"annotations"`
}

// AppImage is the image of an app.
type AppImage struct {
	ID     string      `json:"id"`
	Name   string      `json:"name"`
	Labels []NameValue `json:"labels"`
}

// AppSection is an app as it will be run.
type AppSection struct {
	WorkingDirectory string            `json:"workingDirectory"`
	Environment      []NameValue       `json:"environment"`
	Ports            []AppPort         `json:"ports"`
	UserAnnotations  map[string]string `json:"userAnnotations"`
	UserLabels       map[string]string `json:"userLabels"`
}

// AppMount is where an app has a volume: one of the pod, or its own.
type AppMount struct {
	Volume    string          `json:"volume"`
	Path      string          `json:"path"`
	AppVolume *ManifestVolume `json:"appVolume"`
}

// ManifestVolume is a volume; an empty one has no source.
type ManifestVolume struct {
	Name     string `json:"name"`
	Source   string `json:"source"`
	ReadOnly bool   `json:"readOnly"`
}

// AppPort is a port that an app declares.
type AppPort struct {
	Name      string `json:"name"`
	Protocol  string `json:"protocol"`
	Port      int    `json:"port"`
	Count     int    `json:"count"`
	Activated bool   `json:"socketActivated"`
}

// ExposedPort is a port of the host that is one of an app's, by its name, or of the pod's own.
type ExposedPort struct {
	Name     string   `json:"name"`
	HostPort int      `json:"hostPort"`
	HostIP   string   `json:"hostIP"`
	PodPort  *AppPort `json:"podPort"`
}

// NameValue is one of appc's pairs.
type NameValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Annotation is the value of an annotation of the app, "" if it has none of that name.
func (a ManifestApp) Annotation(name string) string {
	for _, n := range a.Annotations {
		if n.Name == name {
			return n.Value
		}
	}
	return ""
}

// AppNames are the names of the apps, in their order.
func (m *Manifest) AppNames() (names []string) {
	for _, a := range m.Apps {
		names = append(names, a.Name)
	}
	return names
}

// ParseManifest reads a manifest, and checks the names of its apps.
func ParseManifest(text []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, err
	}
	for _, app := range m.Apps {
		if !validAppName(app.Name) {
			return nil, fmt.Errorf("%q: not the name of an app", app.Name)
		}
	}
	return m, nil
}

// Manifest reads the pod's manifest.
func (p *Pod) Manifest() (*Manifest, error) {
	text, err := p.ReadFile(ManifestFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pod %s: has no manifest; it was never prepared to the end", p.UUID)
	}
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("pod %s: manifest: %w", p.UUID, err)
	}
	return m, nil
}
