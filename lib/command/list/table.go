package list

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/pod/status"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// columns are those that there are. One of a pod stands once, in the line of its first app; one of
// an app has no pod.
var columns = []struct {
	name, title string
	pod         func(t table, p status.Pod) string
	app         func(t table, a status.App) string
}{
	{"uuid", "UUID", func(t table, p status.Pod) string {
		if t.full {
			return p.UUID
		}
		return p.UUID[:8]
	}, nil},
	{"name", "NAME", func(_ table, p status.Pod) string { return p.PodName }, nil},
	{"app", "APP", nil, func(_ table, a status.App) string { return a.Name }},
	{"imagename", "IMAGE NAME", nil, func(_ table, a status.App) string { return a.ImageName }},
	{"imageid", "IMAGE ID", nil, func(_ table, a status.App) string {
		return a.ImageID[:min(len(a.ImageID), len("sha512-")+12)]
	}},
	{"exitstatus", "STATUS", nil, func(_ table, a status.App) string {
		if a.ExitCode == nil {
			return ""
		}
		return strconv.Itoa(*a.ExitCode)
	}},
	{"health", "HEALTH", nil, func(_ table, a status.App) string { return a.Health }},
	{"ports", "PORTS", func(_ table, p status.Pod) string { return strings.Join(p.Ports, ",") }, nil},
	{"state", "STATE", func(_ table, p status.Pod) string { return p.State }, nil},
	{"created", "CREATED", func(t table, p status.Pod) string { return t.time(p.CreatedAt) }, nil},
	{"started", "STARTED", func(t table, p status.Pod) string { return t.time(p.StartedAt) }, nil},
	{"networks", "NETWORKS", func(_ table, p status.Pod) string {
		if p.State == poddir.Exited.String() || p.State == poddir.ExitedGarbage.String() {
			// read where exit statuses are wanted
			return ""
		}
		return p.Addresses()
	}, nil},
}

// table is rkt's table.
type table struct {
	full, noLegend bool
	wide           bool
	columns        []int // indexes of columns
	now            time.Time
}

// choose sets the columns: a list of their names with commas between them, "" for those of rkt.
func (t *table) choose(list string) error {
	if t.wide && list != "" {
		return errors.New("--wide and --fields: use one of them")
	}
	if t.wide {
		list = "uuid,name,app,imagename,state,exitstatus,health,created,started,networks,ports"
	} else if list == "" {
		list = "uuid,app,imagename,state,created,started,networks"
		if t.full {
			list = "uuid,app,imagename,imageid,state,created,started,networks"
		}
	}
	for name := range strings.SplitSeq(list, ",") {
		var names []string
		found := -1
		for i, c := range columns {
			names = append(names, c.name)
			if c.name == strings.ReplaceAll(strings.TrimSpace(name), " ", "") {
				found = i
			}
		}
		if found < 0 {
			return fmt.Errorf("--fields=%s: %q is not one of %s", list, name, strings.Join(names, ", "))
		}
		t.columns = append(t.columns, found)
	}
	return nil
}

// has reports whether a column was chosen.
func (t table) has(name string) bool {
	return slices.ContainsFunc(t.columns, func(i int) bool { return columns[i].name == name })
}

// write writes the table in columns as rkt 1.30 had them, padded with tabs.
func (t table) write(w io.Writer, entries []status.Pod) error {
	tw := tabwriter.NewWriter(w, 0, 8, 1, '\t', 0)
	if !t.noLegend {
		t.row(tw, func(i int) string { return columns[i].title })
	}
	for _, e := range entries {
		apps := e.Apps
		if len(apps) == 0 {
			apps = []status.App{{Name: "-", ImageName: "-", ImageID: "-"}}
		}
		for n, a := range apps {
			t.row(tw, func(i int) string {
				switch {
				case columns[i].app != nil:
					return columns[i].app(t, a)
				case n == 0:
					return columns[i].pod(t, e)
				}
				return ""
			})
		}
	}
	return tw.Flush()
}

// row writes a cell of each column.
func (t table) row(tw *tabwriter.Writer, cell func(column int) string) {
	var cells []string
	for _, i := range t.columns {
		cells = append(cells, printable.Line(cell(i)))
	}
	fmt.Fprintln(tw, strings.Join(cells, "\t"))
}

func (t table) time(n *int64) string {
	if n == nil {
		return ""
	}
	if t.full {
		return status.Time(n)
	}
	return ago(t.now.Sub(time.Unix(0, *n)))
}

// ago is a duration as rkt's table has it: "3 hours ago".
func ago(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{365 * 24 * time.Hour, "year"}, {30 * 24 * time.Hour, "month"}, {7 * 24 * time.Hour, "week"},
		{24 * time.Hour, "day"},
		{time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int64(d / u.unit); n == 1 {
			return "1 " + u.name + " ago"
		} else if n > 1 {
			return strconv.FormatInt(n, 10) + " " + u.name + "s ago"
		}
	}
	return "now"
}
