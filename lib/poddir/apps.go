package poddir

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// ChooseApp is the index, in the names of the pod's apps, of the one that --app names; without
// --app that of the only one.
func (p *Pod) ChooseApp(names []string, name string) (int, error) {
	if name == "" && len(names) == 1 {
		return 0, nil
	}
	if name == "" {
		return 0, fmt.Errorf("pod %s: has the apps %s; choose one with --app", p.UUID, strings.Join(names, ", "))
	}
	i := slices.Index(names, name)
	if i < 0 {
		return 0, fmt.Errorf("pod %s: has no app %q; it has %s", p.UUID, name, strings.Join(names, ", "))
	}
	return i, nil
}

// Apps are the names of the pod's apps, as the manifest has them. Each is a name of a file, too.
func (p *Pod) Apps() ([]string, error) {
	m, err := p.Manifest()
	if err != nil {
		return nil, err
	}
	return m.AppNames(), nil
}

// validAppName reports whether a name is one of appc's AC Names.
func validAppName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != ""
}

// InApp tells the app in whose root a target of the file "mounts" lies, and the path that the app
// has for it.
func InApp(target string) (app, inside string, ok bool) {
	rest, ok := strings.CutPrefix(path.Clean(target), AppsDir+"/")
	if !ok {
		return "", "", false
	}
	app, rest, ok = strings.Cut(rest, "/")
	inside, found := strings.CutPrefix(rest, "rootfs/")
	return app, "/" + inside, ok && found
}
