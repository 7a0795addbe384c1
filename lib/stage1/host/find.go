package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/systree"
)

// nspawn is the systemd-nspawn of a pod.
type nspawn struct {
	file      string   // the program, to be read
	command   []string // what starts it, in the pod's directory and when the pod's mounts are there
	libraries string   // $LD_LIBRARY_PATH; "" for the host's own
}

// findNspawn finds the systemd-nspawn of a pod, which is started from the pod's own copy of the
// host's systemd by that copy's loader. A pod that an older version of rkt prepared has no copy,
// and the host's.
func findNspawn(p *poddir.Pod) (nspawn, error) {
	if _, err := os.Lstat(p.Path(poddir.SystemdLink)); errors.Is(err, fs.ErrNotExist) {
		host, err := Nspawn()
		return nspawn{file: host, command: []string{host}}, err
	}
	loader, libraries, err := systree.Loader(p.Path(poddir.SystemdLink))
	if errors.Is(err, fs.ErrNotExist) {
		return nspawn{}, fmt.Errorf("pod %s: the copy of systemd that it was prepared with is gone; prepare a new one",
			p.UUID)
	}
	if err != nil {
		return nspawn{}, err
	}
	n := nspawn{file: p.Path(poddir.SystemdLink + NspawnFile), command: []string{poddir.RootDir + NspawnFile}}
	if loader == "" {
		return n, nil
	}
	n.command = append([]string{poddir.RootDir + "/" + loader}, n.command...)
	root := p.Path(poddir.RootDir)
	if strings.ContainsAny(root, ":;$") { // which no path in that variable can have
		root = poddir.RootDir
	}
	for i, dir := range libraries {
		libraries[i] = root + "/" + dir
	}
	n.libraries = strings.Join(libraries, ":")
	return n, nil
}

// environment is an environment with what the loader needs to take the copy's libraries before the
// host's. What systemd-nspawn starts does not inherit it.
func (n nspawn) environment(env []string) []string {
	if n.libraries == "" {
		return env
	}
	const name = "LD_LIBRARY_PATH="
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, name) })
	return append(env, name+n.libraries)
}

// Nspawn finds the host's systemd-nspawn. An error tells what of systemd the host lacks.
func Nspawn() (string, error) {
	nspawn, err := program.Look("systemd-nspawn")
	if err != nil {
		return "", fmt.Errorf("%w; install it (Debian's package systemd-container)", err)
	}
	if _, err := os.Stat("/usr/lib/systemd/systemd"); err != nil {
		return "", fmt.Errorf("%w; the pod's init is the host's systemd, and there is none", err)
	}
	return nspawn, nil
}
