package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/pod"
)

// entry is what is known of one pod. Its JSON is rkt's (api/v1), the times in nanoseconds since 1970.
type entry struct {
	UUID            string            `json:"name"`
	PodName         string            `json:"pod_name,omitempty"` // not in rkt
	State           string            `json:"state"`
	Networks        []network.Network `json:"networks,omitempty"`
	AppNames        []string          `json:"app_names,omitempty"`
	Apps            []app             `json:"apps,omitempty"`
	CreatedAt       *int64            `json:"created_at,omitempty"`
	StartedAt       *int64            `json:"started_at,omitempty"`
	UserAnnotations map[string]string `json:"user_annotations,omitempty"`
	UserLabels      map[string]string `json:"user_labels,omitempty"`
}

type app struct {
	Name            string            `json:"name"`
	State           string            `json:"state"`
	ExitCode        *int              `json:"exit_code,omitempty"`
	ImageID         string            `json:"image_id"`
	ImageName       string            `json:"image_name,omitempty"` // not in rkt
	UserAnnotations map[string]string `json:"user_annotations,omitempty"`
	UserLabels      map[string]string `json:"user_labels,omitempty"`
}

// read looks at every pod, the oldest first. A pod that goes away meanwhile is left out.
func read(pods pod.Pods) ([]entry, error) {
	all, err := pods.All()
	if err != nil {
		return nil, err
	}
	entries := []entry{}
	for _, p := range all {
		e, err := readPod(p)
		if errors.Is(err, pod.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return int(min(max(value(a.CreatedAt)-value(b.CreatedAt), -1), 1)) })
	return entries, nil
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func readPod(p *pod.Pod) (entry, error) {
	state, err := p.State()
	if err != nil {
		return entry{}, err
	}
	e := entry{UUID: p.UUID, PodName: p.Name(), State: state.String(), CreatedAt: nanoseconds(p.Time(pod.ManifestFile)),
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
		a := app{Name: ra.Name.String(), State: state.String(), ImageID: ra.Image.ID.String()}
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

func writeJSON(w io.Writer, entries []entry, pretty bool) error {
	enc := json.NewEncoder(w)
	if pretty {
		enc.SetIndent("", "\t")
	}
	return enc.Encode(entries)
}

// table is rkt's table.
type table struct {
	full, noLegend bool
}

func (t table) write(w io.Writer, entries []entry) error {
	tw := tabwriter.NewWriter(w, 0, 8, 1, '\t', 0)
	if !t.noLegend {
		id := ""
		if t.full {
			id = "IMAGE ID\t"
		}
		fmt.Fprintf(tw, "UUID\tAPP\tIMAGE NAME\t%sSTATE\tCREATED\tSTARTED\tNETWORKS\n", id)
	}
	for _, e := range entries {
		uuid := e.UUID
		if !t.full {
			uuid = uuid[:8]
		}
		networks := []string{}
		for _, n := range e.Networks {
			networks = append(networks, n.String())
		}
		apps := e.Apps
		if len(apps) == 0 {
			apps = []app{{Name: "-", ImageName: "-", ImageID: "-"}}
		}
		tail := strings.Join([]string{e.State, t.time(e.CreatedAt), t.time(e.StartedAt), strings.Join(networks, ",")}, "\t")
		for _, a := range apps {
			id := ""
			if t.full {
				id = a.ImageID[:min(len(a.ImageID), len("sha512-")+12)] + "\t"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s%s\n", uuid, a.Name, a.ImageName, id, tail)
			uuid, tail = "", "\t\t\t" // the pod's own columns stand once
		}
	}
	return tw.Flush()
}

func (t table) time(n *int64) string {
	if n == nil {
		return ""
	}
	if t.full {
		return time.Unix(0, *n).Format("2006-01-02 15:04:05.999 -0700 MST")
	}
	return ago(time.Since(time.Unix(0, *n)))
}

// ago is a duration as rkt's table has it: "3 hours ago".
func ago(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{365 * 24 * time.Hour, "year"}, {30 * 24 * time.Hour, "month"}, {7 * 24 * time.Hour, "week"}, {24 * time.Hour, "day"},
		{time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int64(d / u.unit); n == 1 {
			return "1 " + u.name + " ago"
		} else if n > 1 {
			return strconv.FormatInt(n, 10) + " " + u.name + "s ago"
		}
	}
	return "now"
}
