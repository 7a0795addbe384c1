// Package peers keeps the names by which pods of one network find each other: each pod notes its
// own in its net/, and the hosts(5) file of each app that runs is put together from all of them.
package peers

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// lockDir is locked while files are put together. Who has noted or removed names does so
// afterwards, so that the last one sees all of them.
const lockDir = "/run/rkt/names"

// lockTimeout outlasts some hundred other programs that do the same.
const lockTimeout = 30 * time.Second

// head is the first line of what is kept in step.
const head = "# pods of the same networks; rkt keeps these lines in step\n"

// Entry is an address of a pod on a network, and the pod's names there.
type Entry struct {
	Network string
	Address netip.Addr
	Names   []string
}

func (e Entry) line() string { return e.Address.String() + " " + strings.Join(e.Names, " ") + "\n" }

// PodNames are the names that a pod has on each of its networks: its own, that of the service which
// made it, and aliases.
func PodNames(p *poddir.Pod, aliases []string) []string {
	names := []string{hostName(p.Name())}
	if unit, err := p.ReadFile(poddir.UnitFile); err == nil {
		unit, _, _ := strings.Cut(strings.TrimSuffix(string(unit), "\n"), " ")
		names = append(names, hostName(unit))
	}
	var once []string
	for _, name := range append(names, aliases...) {
		if name != "" && !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once
}

// hostName is a pod's name as one that a resolver takes: web@1.service is web-1.
func hostName(name string) string {
	name = strings.Map(func(r rune) rune {
		if network.ValidHost("a" + string(r)) {
			return r
		}
		return '-'
	}, strings.TrimSuffix(name, ".service"))
	if !network.ValidHost(name) {
		return ""
	}
	return name
}

// Note writes down the names of a pod, whose lock is held, on the networks that have answered. They
// are of no use after the next boot, which the first line tells.
func Note(p *poddir.Pod, entries []Entry) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(boot + "\n")
	for _, e := range entries {
		text.WriteString(e.Network + " " + e.line())
	}
	return durable.WriteForNow(p.Path(poddir.NamesFile), []byte(text.String()), 0o644)
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// read returns what Note wrote; none if the pod has no network, or had it before this boot.
func read(p *poddir.Pod, boot string) (entries []Entry, err error) {
	if where, err := network.Namespace(p.Dir()); where == "" || err != nil {
		return nil, err
	}
	text, err := p.ReadFile(poddir.NamesFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && durable.Lost(text) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	if first != boot {
		return nil, nil
	}
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return nil, fmt.Errorf("%s: %q is not NETWORK ADDRESS NAME…", p.Path(poddir.NamesFile), line)
		}
		address, err := netip.ParseAddr(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path(poddir.NamesFile), err)
		}
		entries = append(entries, Entry{fields[0], address, fields[2:]})
	}
	return entries, nil
}

// Own makes, or makes anew, the directory that an app has with its hosts(5) file, which own stands
// at the start of. Update adds the names of others. It returns the directory.
func Own(p *poddir.Pod, app string, own []byte) (string, error) {
	dir := p.Path(poddir.AppNames(app, poddir.AppHostsDir))
	for _, d := range []string{p.Path(poddir.NetAppsDir), path.Dir(dir), dir} {
		mode := os.FileMode(0o755)
		if d == p.Path(poddir.NetAppsDir) { // which apps need not pass
			mode = 0o700
		}
		if err := poddir.Mkdir(d, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	if err := durable.WriteForNow(p.Path(poddir.AppNames(app, poddir.OwnHostsFile)), own, 0o644); err != nil {
		return "", err
	}
	return dir, durable.WriteForNow(path.Join(dir, poddir.HostsFile), own, 0o644)
}

// Update puts together the hosts(5) files of all apps of the pods anew, and writes those that
// change. It goes on after a failure.
func Update(pods poddir.Pods) error {
	lock, err := take()
	if err != nil {
		return err
	}
	defer lock.Close()
	return update(pods)
}

// Leave takes the names of a pod, whose lock is held and which has no NetnsFile any more, away from
// all others, before its addresses are given back. A pod without names is success.
func Leave(p *poddir.Pod) error {
	_, err := os.Lstat(p.Path(poddir.NamesFile))
	_, errApps := os.Lstat(p.Path(poddir.NetAppsDir))
	if errors.Is(err, fs.ErrNotExist) && errors.Is(errApps, fs.ErrNotExist) {
		return nil
	}
	lock, err := take()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := os.RemoveAll(p.Path(poddir.NetAppsDir)); err != nil { // into which nobody writes now
		return err
	}
	text, err := p.ReadFile(poddir.NamesFile)
	if err == nil && named(string(text)) {
		err = update(p.Pods())
	}
	if err == nil {
		err = os.Remove(p.Path(poddir.NamesFile))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// named reports whether what Note wrote has a name that others may have.
func named(text string) bool {
	for line := range strings.Lines(text) {
		if len(strings.Fields(line)) > 2 {
			return true
		}
	}
	return false
}

func take() (*os.File, error) {
	if err := os.MkdirAll(lockDir, 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.Lock(lockDir, lockTimeout)
	if err != nil {
		return nil, fmt.Errorf("names of pods: %w", err)
	}
	return lock, nil
}

// update is Update for the holder of the lock.
func update(pods poddir.Pods) error {
	all, err := pods.All()
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	var errs []error
	alive := map[*poddir.Pod][]Entry{}
	on := map[string][]Entry{}
	for _, p := range all {
		state, err := p.State()
		if err != nil || state != poddir.Running && state != poddir.Prepared {
			continue
		}
		entries, err := read(p, boot)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		alive[p] = entries
		for _, e := range entries {
			if len(e.Names) > 0 {
				on[e.Network] = append(on[e.Network], e)
			}
		}
	}
	blocks := map[string]string{}
	for p, entries := range alive {
		errs = append(errs, write(p, block(entries, on, blocks)))
	}
	return errors.Join(errs...)
}

// block are the lines for a pod with these entries: the names of all pods on its networks, in the
// order of its interfaces. made has those that are made already.
func block(own []Entry, on map[string][]Entry, made map[string]string) string {
	var networks []string
	for _, e := range own {
		if !slices.Contains(networks, e.Network) {
			networks = append(networks, e.Network)
		}
	}
	key := strings.Join(networks, " ")
	if text, ok := made[key]; ok {
		return text
	}
	text := ""
	for _, name := range networks {
		entries := slices.Clone(on[name])
		slices.SortFunc(entries, func(a, b Entry) int { return a.Address.Compare(b.Address) })
		for _, e := range entries {
			text += e.line()
		}
	}
	if text != "" {
		text = head + text
	}
	made[key] = text
	return text
}

// write writes the files of a pod's apps. Apps that are gone meanwhile are success.
func write(p *poddir.Pod, block string) error {
	apps, err := os.ReadDir(p.Path(poddir.NetAppsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, app := range apps {
		own, err := p.ReadFile(poddir.AppNames(app.Name(), poddir.OwnHostsFile))
		if err == nil {
			name := poddir.AppNames(app.Name(), poddir.AppHostsDir+"/"+poddir.HostsFile)
			err = writeChanged(p, name, string(own)+block)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func writeChanged(p *poddir.Pod, name, text string) error {
	if is, err := p.ReadFile(name); err == nil && string(is) == text {
		return nil
	}
	return durable.WriteForNow(p.Path(name), []byte(text), 0o644)
}
