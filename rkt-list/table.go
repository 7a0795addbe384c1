package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/rkt-toolkit/rkt/lib/status"
)

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
				id = strings.Map(printable, a.ImageID[:min(len(a.ImageID), len("sha512-")+12)]) + "\t"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s%s\n", uuid, a.Name, strings.Map(printable, a.ImageName), id, tail)
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

// printable keeps what an image says of itself from moving the terminal's cursor.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}
