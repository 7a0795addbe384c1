package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/status"
)

// read looks at every pod, the oldest first. A pod that goes away meanwhile is left out.
func read(pods pod.Pods) ([]status.Pod, error) {
	all, err := pods.All()
	if err != nil {
		return nil, err
	}
	entries, errs := []status.Pod{}, []error(nil)
	for _, p := range all {
		e, err := status.Read(p)
		if errors.Is(err, pod.ErrNotFound) {
			continue
		}
		if err != nil { // of one pod, which is no reason to hide the others
			errs = append(errs, err)
		}
		entries = append(entries, e)
	}
	slices.SortStableFunc(entries, func(a, b status.Pod) int { return int(min(max(value(a.CreatedAt)-value(b.CreatedAt), -1), 1)) })
	return entries, errors.Join(errs...)
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func writeJSON(w io.Writer, entries []status.Pod, pretty bool) error {
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

func (t table) write(w io.Writer, entries []status.Pod) error {
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
		apps := e.Apps
		if len(apps) == 0 {
			apps = []status.App{{Name: "-", ImageName: "-", ImageID: "-"}}
		}
		tail := strings.Join([]string{e.State, t.time(e.CreatedAt), t.time(e.StartedAt), e.Addresses()}, "\t")
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
		return status.Time(n)
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
