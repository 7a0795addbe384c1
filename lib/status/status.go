// Package status is what rkt-list and rkt-status tell of a pod, put together from the files of its directory.
package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/pod"
)

// Time is a point in time as rkt prints it in full; n is in nanoseconds since 1970, and nil is "".
func Time(n *int64) string {
	if n == nil {
		return ""
	}
	return time.Unix(0, *n).Format("2006-01-02 15:04:05.999 -0700 MST")
}

// Addresses is rkt's form of a pod's networks: NAME:ip4=ADDRESS,…
func (p Pod) Addresses() string {
	var all []string
	for _, n := range p.Networks {
		all = append(all, n.String())
	}
	return strings.Join(all, ",")
}

// Pod is what is known of one pod. Its JSON is rkt's (api/v1), the times in nanoseconds since 1970.
type Pod struct {
	UUID            string            `json:"name"`
	PodName         string            `json:"pod_name,omitempty"` // not in rkt
	State           string            `json:"state"`
	Networks        []network.Network `json:"networks,omitempty"`
	AppNames        []string          `json:"app_names,omitempty"`
	Apps            []App             `json:"apps,omitempty"`
	CreatedAt       *int64            `json:"created_at,omitempty"`
	StartedAt       *int64            `json:"started_at,omitempty"`
	UserAnnotations map[string]string `json:"user_annotations,omitempty"`
	UserLabels      map[string]string `json:"user_labels,omitempty"`
}

// App is what is known of one app.
type App struct {
	Name            string            `json:"name"`
	State           string            `json:"state"`
	ExitCode        *int              `json:"exit_code,omitempty"`
	ImageID         string            `json:"image_id"`
	ImageName       string            `json:"image_name,omitempty"` // not in rkt
	UserAnnotations map[string]string `json:"user_annotations,omitempty"`
	UserLabels      map[string]string `json:"user_labels,omitempty"`
}

// Read looks at a pod. It is pod.ErrNotFound when the pod goes away meanwhile.
func Read(p *pod.Pod) (Pod, error) {
	state, err := p.State()
	if err != nil {
		return Pod{}, err
	}
	e := Pod{UUID: p.UUID, PodName: p.Name(), State: state.String(), CreatedAt: nanoseconds(p.Time(pod.ManifestFile)),
		StartedAt: nanoseconds(p.Time(pod.StartedFile))}
	text, err := os.ReadFile(p.Path(pod.ManifestFile))
	if errors.Is(err, os.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return e, err
	}
	var m schema.PodManifest
	if err := json.Unmarshal(text, &m); err != nil {
		return e, fmt.Errorf("pod %s: manifest: %w", p.UUID, err)
	}
	if e.Networks, err = network.Read(p.Dir()); err != nil {
		return e, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	e.UserAnnotations, e.UserLabels = m.UserAnnotations, m.UserLabels
	for _, ra := range m.Apps {
		a := App{Name: ra.Name.String(), State: state.String(), ImageID: ra.Image.ID.String()}
		if ra.Image.Name != nil {
			a.ImageName = ra.Image.Name.String()
		}
		if v, ok := ra.Image.Labels.Get("version"); ok {
			a.ImageName += ":" + v
		}
		if ra.App != nil {
			a.UserAnnotations, a.UserLabels = ra.App.UserAnnotations, ra.App.UserLabels
		}
		if code, ok := p.AppStatus(a.Name); ok {
			a.ExitCode = &code
			a.State = pod.Exited.String()
		}
		e.AppNames = append(e.AppNames, a.Name)
		e.Apps = append(e.Apps, a)
	}
	return e, nil
}

func nanoseconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.UnixNano()
	return &n
}
