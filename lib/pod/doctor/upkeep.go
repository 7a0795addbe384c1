package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/inotify"
	"golang.org/x/sys/unix"
)

// checkOverlay mounts an overlay on the data directory, where nobody sees it, or says what keeps
// the kernel from it.
func checkOverlay(_ context.Context, h Host) []Finding {
	dir, err := os.MkdirTemp(existing(h.Data), ".rkt-doctor-")
	if err != nil {
		return bad(Fault, "nothing can be made in the data directory: %v | choose another one (--dir, rkt.conf)", err)
	}
	defer os.RemoveAll(dir)
	layer, app, at := filepath.Join(dir, "layer"), filepath.Join(dir, "app"), filepath.Join(dir, "at")
	for _, d := range []string{layer, app, at} {
		err = errors.Join(err, os.Mkdir(d, 0o755))
	}
	if err == nil {
		err = overlay.Make(app, []string{layer})
	}
	if err == nil {
		err = overlay.View(app, at, func(*os.File) error { return nil })
	}
	if err != nil {
		return bad(Fault, "no app can have a root on %s: %v | enable CONFIG_OVERLAY_FS, or put the data directory on "+
			"ext4, xfs or btrfs (--dir, rkt.conf)",
			existing(h.Data), strings.ReplaceAll(err.Error(), dir, "…"))
	}
	return ok("apps can have their root on %s", existing(h.Data))
}

// wantedPlugins are those that the default network and --net=NAME of most configurations need.
var wantedPlugins = []string{"bridge", "host-local", "loopback", "portmap", "ptp"}

func checkPlugins(_ context.Context, h Host) []Finding {
	var missing []string
	for _, name := range wantedPlugins {
		found := false
		for _, dir := range h.Plugins {
			info, err := os.Stat(filepath.Join(dir, name))
			found = found || err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
		}
		if !found {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return bad(Warning, "no CNI plugins %s: pods have no network but --net=host and --net=none | apt install "+
			"containernetworking-plugins, or make cni", strings.Join(missing, ", "))
	}
	return ok("CNI plugins are there")
}

func checkFirewall(ctx context.Context, _ Host) []Finding {
	backend, err := netfilter.Backend()
	if err != nil {
		return bad(Warning, "%v: no masquerading and no forwarded ports | apt install iptables", err)
	}
	if state, _ := program.Command(ctx, "systemctl", "is-active",
		"firewalld.service").Output(); strings.TrimSpace(string(state)) == "active" {
		return bad(Warning, "firewalld runs: a reload of it removes the rules of running pods | rkt-net check "+
			"--repair POD puts them back; docs/networking.md has the lines by which a unit does so")
	}
	return ok("rules are made by %s", backend)
}

// lowSpace is the share of a file system, in percent, that should be free.
const lowSpace = 10

func checkSpace(_ context.Context, h Host) []Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(existing(h.Data), &st); err != nil {
		return bad(Warning, "%s: %v", existing(h.Data), err)
	}
	for _, what := range []struct {
		name      string
		free, all uint64
	}{{"space", st.Bavail, st.Blocks}, {"inodes", st.Ffree, st.Files}} {
		if what.all > 0 && what.free*100/what.all < lowSpace {
			return bad(Warning, "%s: %d %% of its %s are free | rkt gc; rkt image gc; rkt image df shows what is used",
				existing(h.Data), what.free*100/what.all, what.name)
		}
	}
	return ok("%d MiB are free below %s", st.Bavail*uint64(st.Bsize)>>20, existing(h.Data))
}

// private are directories of the data directory that only root may enter, since they have files of
// images with the set-user-ID bit.
var private = []string{"cas", "tmp", "garbage", "systemd", "volumes"}

func checkPermissions(_ context.Context, h Host) (found []Finding) {
	for _, name := range append([]string{"", "pods"}, private...) {
		path := filepath.Join(h.Data, name)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			found = append(found, bad(Warning, "%s: %v", path, err)...)
			continue
		}
		forbidden := uint32(0o027) // others nothing, the group no writing
		if slices.Contains(private, name) {
			forbidden = 0o077
		}
		switch {
		case st.Uid != 0:
			found = append(found, bad(Fault, "%s belongs to user %d, who can change what pods run | chown root %s",
				path, st.Uid, path)...)
		case st.Mode&forbidden != 0:
			found = append(found, bad(Fault, "%s has mode %04o: users can get at set-user-ID programs of images, or "+
				"change pods | chmod %04o %s",
				path, st.Mode&0o7777, st.Mode&0o7777&^forbidden, path)...)
		}
	}
	if found == nil {
		return ok("only root can change %s", h.Data)
	}
	return found
}

func checkJournal(context.Context, Host) []Finding {
	if !systemd.Booted() {
		return ok("not looked at without systemd as PID 1")
	}
	if _, err := os.Stat("/var/log/journal"); err != nil {
		return bad(Warning, "the journal is not kept over a reboot, and journalctl -M finds no pod's | mkdir "+
			"/var/log/journal && journalctl --flush")
	}
	return ok("the journal is kept in /var/log/journal")
}

// fewInstances is so low a limit that some dozens of pods use it up.
const fewInstances = 512

func checkInotify(context.Context, Host) []Finding {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	if err != nil {
		return bad(Fault, "the kernel has no inotify, which a pod's systemd needs | enable CONFIG_INOTIFY_USER")
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return bad(Warning, "fs.inotify.max_user_instances: %v", err)
	}
	if limit < fewInstances {
		return bad(Warning, "fs.inotify.max_user_instances is %d, enough for %d pods | sysctl "+
			"fs.inotify.max_user_instances=8192 (sysctl.d/10-rkt.conf)",
			limit, limit/inotify.PerPod)
	}
	return ok("%d instances, enough for %d pods", limit, limit/inotify.PerPod)
}

func checkTimer(ctx context.Context, _ Host) []Finding {
	if !systemd.Booted() {
		return ok("not looked at without systemd as PID 1")
	}
	const timer = "rkt-gc.timer"
	if program.Command(ctx, "systemctl", "is-active", "--quiet", timer).Run() != nil {
		return bad(Warning, "%s does not run: pods of rkt run stay when they have exited | systemctl enable --now %s",
			timer, timer)
	}
	if program.Command(ctx, "systemctl", "is-enabled", "--quiet", timer).Run() != nil {
		return bad(Warning, "%s runs, but not after the next boot | systemctl enable %s", timer, timer)
	}
	return ok("%s runs", timer)
}

func checkLeftovers(_ context.Context, h Host) []Finding {
	pods, err := poddir.In(h.Data).All()
	if err != nil {
		return bad(Warning, "%v", err)
	}
	known, exited := map[string]bool{}, 0
	var found []Finding
	for _, p := range pods {
		known[p.UUID] = true
		state, err := p.State()
		switch {
		case errors.Is(err, poddir.ErrNotFound):
		case err != nil:
			found = append(found, bad(Warning, "%v | rkt gc says more", err)...)
		case state.Ended() || state == poddir.AbortedPrepare:
			exited++
		}
	}
	pinned, err := netns.UUIDs()
	if err != nil {
		found = append(found, bad(Warning, "%v", err)...)
	}
	orphans := 0
	for _, uuid := range pinned {
		if owner := netns.Owner(uuid); !known[uuid] && (owner == "" || owner == h.Data) {
			orphans++
		}
	}
	if orphans > 0 {
		found = append(found, bad(Warning, "%s without a pod | rkt gc", count(orphans, "network namespace"))...)
	}
	if found == nil {
		return ok("%s, %d of them exited", count(len(pods), "pod"), exited)
	}
	return found
}

// count is a number of things: "1 pod", "2 pods".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
