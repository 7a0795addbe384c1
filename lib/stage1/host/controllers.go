package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
)

// limitTasks has the host's systemd limit the tasks of the pod where the pod's own can't, for lack
// of a controller: in the scope that systemd-nspawn asks for, whose options it returns, or in the
// unit that the pod runs in. A unit that has a limit of its own keeps it. It reports whether the
// host's systemd enforces the limit.
func (s *starting) limitTasks() (options []string, enforced bool, err error) {
	all, err := s.limits()
	if err != nil {
		return nil, false, err
	}
	limit := ""
	for _, l := range all {
		for _, line := range l.Lines {
			if l.Unit == place.AppsSlice && strings.HasPrefix(line, "TasksMax=") {
				limit = line
			}
		}
	}
	switch {
	case limit == "" || !systemd.Booted():
		return nil, false, nil
	case !place.KeepUnit():
		return []string{"--property=" + limit}, false, nil
	case slices.Contains(place.OwnControllers(), "pids"):
		return nil, false, nil
	}
	return nil, place.LimitUnit(limit), nil
}

// limits are those of the pod: of all apps together, and of each, in the order of their units.
func (s *starting) limits() ([]place.Limit, error) {
	all := []place.Limit{{Unit: place.AppsSlice, Of: "all apps"}}
	for _, a := range s.Apps {
		all = append(all, place.Limit{Unit: a.Name + ".service", Of: fmt.Sprintf("app %q", a.Name)})
	}
	noted, err := stage1.ReadLimits(s.Pod)
	if err != nil {
		return nil, err
	}
	if noted == nil {
		err = s.formerLimits(all)
	} else {
		all[0].Lines = place.Settings(noted.Pod)
		for i, a := range s.Apps {
			all[1+i].Lines = place.Settings(noted.Apps[a.Name])
		}
	}
	slices.SortFunc(all, func(a, b place.Limit) int { return strings.Compare(a.Unit, b.Unit) })
	return all, err
}

// formerLimits finds those of a pod of format 3 or before, which has them in its units only.
func (s *starting) formerLimits(all []place.Limit) error {
	for i, l := range all {
		text, err := os.ReadFile(unitPath(s.Pod, l.Unit))
		if errors.Is(err, fs.ErrNotExist) && l.Unit == place.AppsSlice {
			continue
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if name, _, _ := strings.Cut(line, "="); place.Controllers[name] != "" {
				all[i].Lines = append(all[i].Lines, strings.TrimSpace(line))
			}
		}
	}
	return nil
}

// strictly refuses a pod some of whose limits would not hold, or tells of them. tasks says that the
// limit of tasks is enforced elsewhere.
func (s *starting) strictly(tasks bool) error {
	all, err := s.limits()
	if err != nil {
		return err
	}
	return place.Strictly(s.Start, place.Unenforced(all, tasks, place.OwnControllers))
}
