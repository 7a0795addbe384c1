package pod

import (
	"fmt"
	"slices"
	"strings"
)

// ChooseApp is the index, in the names of the pod's apps, of the one that --app names; without --app that of the only one.
func (p *Pod) ChooseApp(names []string, name string) (int, error) {
	if name == "" && len(names) == 1 {
		return 0, nil
	}
	if name == "" {
		return 0, fmt.Errorf("pod %s: has the apps %s; choose one with --app", p.UUID, strings.Join(names, ", "))
	}
	i := slices.Index(names, name)
	if i < 0 {
		return 0, fmt.Errorf("pod %s: has no app %q, but %s", p.UUID, name, strings.Join(names, ", "))
	}
	return i, nil
}
