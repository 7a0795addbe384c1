// Package poddir is the pod directory: the names of its files, the states that follow from them,
// its lock, and how a pod is named on a command line. docs/pod-directory.md describes it for people
// and for other programs.
package poddir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/tree"
	"golang.org/x/sys/unix"
)

// Names in a pod's directory.
const (
	// a link to nothing, whose text is the format of the directory, see Format
	VersionFile  = "version"
	ManifestFile = "pod"     // appc PodManifest, JSON; its presence says that the pod is prepared
	StartedFile  = "started" // its presence says that the pod was run
	// rkt-gc saw the pod after its end; the grace period counts from its modification time
	GarbageFile = "garbage"
	NameFile    = "name" // the pod's name, if it has one
	// of a pod with a name: the service that prepared it, and the ID of that start of the service
	UnitFile = "unit"
	// cgroups that were made for the pod where systemd makes none, a directory a line
	CgroupFile  = "subcgroup"
	MachineFile = "machine"               // its name as a machine, where that is not rkt-UUID
	PIDFile     = "ppid"                  // process ID of what runs the pod, the parent of its PID 1
	MountsFile  = "mounts"                // what rkt-run-prepared mounts, as fstab(5)
	Stage1Dir   = "stage1"                // what the flavor of the pod has there
	FlavorFile  = "stage1/flavor"         // the word that says which flavor of pod it is, see package stage1
	HostNetFile = "stage1/host-network"   // there for a pod whose flavor gives it no network of its own
	LimitsFile  = "stage1/limits.json"    // limits of CPU, memory and the like, of all apps together and of each
	OptionsFile = "stage1/nspawn-options" // flavor host: further arguments of its program, one a line
	ConfigDir   = "stage1/apps"           // a directory for each app: what its process is and may do
	FilterFile  = "stage1/seccomp.bpf"    // the seccomp filter of all processes of the pod
	// the same if the pod has a user namespace of its own
	OwnFilter = "stage1/seccomp-users.bpf"
	// a link to the copy of the host's systemd that the pod runs, see package systree
	SystemdLink = "stage1/systemd"
	// the range of user IDs that the pod may have for itself, and what was asked for, see Reserved
	ReservedFile = "users-reserved"
	// the range of user IDs of a pod with a user namespace of its own, BASE:COUNT
	UsersFile  = "users"
	LabelsFile = "selinux" // the pod's own SELinux contexts, see Labels
	// what the pod is to the metadata service: the URL for its apps, with a secret token
	MetadataFile = "metadata"
	NetDir       = "net"                      // what rkt-net did
	NetnsFile    = NetDir + "/" + NetnsName   // the pod's network namespace: a path, or the word host
	RootDir      = "stage1/rootfs"            // root of the pod's systemd
	StatusDir    = "stage1/rootfs/rkt/status" // a file per app that has ended: its exit status
	AppsDir      = "stage1/rootfs/opt/stage2"
	ReadyFile    = "stage1/rootfs/rkt/ready"   // the pod's apps have been ready
	StoppedFile  = "stage1/rootfs/rkt/stopped" // the pod was asked to stop, and did
	OverlayDir   = "overlay"                   // what each app's root is made of, a directory each, see AppOverlay
	VolumesDir   = "sharedVolumes"             // empty volumes, a directory each (rkt's name)
)

// Names in NetDir. docs/networking.md describes them.
const (
	NetnsName      = "netns"  // the word host, or the path of the pod's namespace; written last
	NetPathFile    = "path"   // directories of plugins, one a line
	NetConfigFile  = "config" // in a directory per interface: the CNI configuration list as used
	NetArgsFile    = "args"   // in a directory per interface: CNI_ARGS
	NetResultFile  = "result" // in a directory per interface: the CNI result
	NetPortsFile   = "ports"  // in the directory of the interface whose network forwards the pod's ports
	ResolvFile     = "resolv.conf"
	HostsFile      = "hosts"
	HostResolvFile = "host-resolv.conf"
	HostHostsFile  = "host-hosts"
	ImageHostsFile = "image-hosts" // empty; apps keep their image's hosts(5)
)

// Names in NetDir of the names by which pods find each other, see package peers.
const (
	NamesFile    = NetDir + "/names" // those of the pod on its networks
	NetAppsDir   = NetDir + "/apps"  // a directory for each app, see AppNames
	OwnHostsFile = "own"             // what an app's hosts(5) starts with, whatever other pods there are
	AppHostsDir  = "etc"             // what is mounted for the app: in it, as HostsFile, its hosts(5)
)

// AppNames is a file of an app in NetAppsDir.
func AppNames(app, name string) string { return NetAppsDir + "/" + app + "/" + name }

// Names in a directory of ConfigDir.
const (
	PreparedConfigFile = "prepared.json" // the app's OCI runtime configuration as rkt-prepare knows it
	ConfigFile         = "config.json"   // the final one, of rkt-run-prepared
	AppFilterFile      = "seccomp.bpf"   // the app's own seccomp filter, if it has one
	PodFilterFile      = "pod.bpf"       // the pod's, if its PID 1 does not have that
)

// AppConfig is a file of an app in ConfigDir.
func AppConfig(app, name string) string { return ConfigDir + "/" + app + "/" + name }

// AppOverlay is the directory of what an app's root is made of (package overlay).
func AppOverlay(app string) string { return OverlayDir + "/" + app }

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("no such pod")
	ErrExists   = errors.New("a pod of this UUID exists already")
)

// Registrations has a link for each pod that is registered with the metadata service, by its UUID,
// to the data directory that the pod is in: the service is one, and pods may be in several.
const Registrations = "/run/rkt/metadata"

// Format is the format of a pod's directory that this package writes. It reads all from firstFormat
// on, and the files of a pod show what an earlier format lacks: in format 1 VersionFile is a file,
// or not there at all; in format 2 ConfigDir is a file; in format 3 there is neither FlavorFile nor
// LimitsFile. The text of a link is read by one call, for each pod that is listed, and after a loss
// of power it is whole or not there.
const Format, firstFormat = "4", "1"

// Pods is the directory of pods in a data directory.
type Pods struct {
	data string
}

// In gives the pods of a data directory (rkt's --dir).
func In(data string) Pods { return Pods{data} }

// DataDir is the data directory.
func (p Pods) DataDir() string { return p.data }

// Path is the directory that holds the pods.
func (p Pods) Path() string { return filepath.Join(p.data, "pods") }

// garbage holds pods that are being deleted: out of sight of every other program.
func (p Pods) garbage() string { return filepath.Join(p.data, "garbage") }

// tmp holds new pod directories until they are locked.
func (p Pods) tmp() string { return filepath.Join(p.data, "tmp") }

// Pod is one pod's directory.
type Pod struct {
	UUID string
	pods Pods
}

// DataDir is rkt's --dir, where the pod and the images are.
func (p *Pod) DataDir() string { return p.pods.data }

// Pods are those of its data directory.
func (p *Pod) Pods() Pods { return p.pods }

// Dir is the pod's directory.
func (p *Pod) Dir() string { return filepath.Join(p.pods.Path(), p.UUID) }

// Path is a file in the pod's directory.
func (p *Pod) Path(name string) string { return filepath.Join(p.Dir(), name) }

// Create makes the directory of a new pod and returns it locked; the lock is let go of when lock is
// closed. It returns ErrExists if the UUID is taken.
func (p Pods) Create(uuid string) (pod *Pod, lock *os.File, err error) {
	return p.CreateNamed(uuid, Claim{})
}

// CreateNamed is Create for a pod with a name, which it refuses if another pod that has not exited
// has the name. A prepared pod that an earlier start of the same service has left loses it: a start
// that failed must not keep the next one from starting.
func (p Pods) CreateNamed(uuid string, claim Claim) (pod *Pod, lock *os.File, err error) {
	if err := errors.Join(os.MkdirAll(p.Path(), 0o750), os.MkdirAll(p.tmp(), 0o700)); err != nil {
		return nil, nil, err
	}
	// Locked before it gets its name, so that rkt-gc never sees an unlocked directory without a
	// manifest that is alive; and Sweep stays out of tmp for the instant in which the new one is
	// not locked.
	stay, err := p.reserve(claim)
	if err != nil {
		return nil, nil, err
	}
	defer stay.Close()
	tmp, err := os.MkdirTemp(p.tmp(), "pod-")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	if err := p.share(tmp); err != nil {
		return nil, nil, err
	}
	lock, err = durable.Lock(tmp, 0)
	if err != nil {
		return nil, nil, err
	}
	pod = &Pod{uuid, p}
	if err = os.Symlink(Format, filepath.Join(tmp, VersionFile)); err == nil {
		err = p.claim(tmp, claim)
	}
	if err == nil {
		err = pod.place(tmp)
	}
	if err != nil {
		lock.Close()
		return nil, nil, err
	}
	return pod, lock, nil
}

// place gives the directory of a new pod its name.
func (p *Pod) place(tmp string) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, p.Dir(), unix.RENAME_NOREPLACE)
	if err == unix.EEXIST {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return nil
}

// share gives a new pod's directory the group of pods/, as tmpfiles.d has it (rkt), which may list
// pods; what is made in it is of that group.
func (p Pods) share(dir string) error {
	info, err := os.Stat(p.Path())
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSetgid == 0 {
		return os.Chmod(dir, 0o750)
	}
	if err := os.Chown(dir, -1, int(info.Sys().(*syscall.Stat_t).Gid)); err != nil {
		return err
	}
	return os.Chmod(dir, 0o750|os.ModeSetgid)
}

// Mkdir makes a directory of a new pod with root's group and not that of the pod's directory;
// neither has what is made in it.
func Mkdir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := os.Chown(path, os.Geteuid(), os.Getegid()); err != nil {
		return err
	}
	return os.Chmod(path, mode) // and without the set-group-ID bit
}

// All lists the pods, in no order of time.
func (p Pods) All() ([]*Pod, error) {
	entries, err := os.ReadDir(p.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w (root may, and who is in its group, rkt)", err)
	}
	var pods []*Pod
	for _, e := range entries {
		if e.IsDir() && ValidUUID(e.Name()) {
			pods = append(pods, &Pod{e.Name(), p})
		}
	}
	return pods, err
}

// StateHeld is State for the holder of the pod's lock: what the pod's state was when the lock was
// taken.
func (p *Pod) StateHeld() State {
	return stateOf(false, p.has(ManifestFile), p.has(StartedFile), p.has(GarbageFile))
}

func (p *Pod) has(name string) bool {
	_, err := os.Lstat(p.Path(name))
	return err == nil
}

// lockTimeout outlasts the readers, who hold the lock of a pod that has ended for the time of some
// system calls.
const lockTimeout = 200 * time.Millisecond

// Lock takes the pod's lock: durable.ErrLocked when the pod is being prepared, runs, or another
// program works on it. The lock is of the directory that has the pod's name now.
func (p *Pod) Lock() (*os.File, error) {
	lock, err := durable.Lock(p.Dir(), lockTimeout)
	if err == nil {
		var held, named unix.Stat_t
		if err = unix.Fstat(int(lock.Fd()), &held); err == nil {
			err = unix.Lstat(p.Dir(), &named)
		}
		if err == nil && held.Ino != named.Ino { // renamed away between open and flock
			err = fs.ErrNotExist
		}
		if err == nil {
			err = (&Reader{p, int(lock.Fd())}).known()
		}
		if err != nil {
			lock.Close()
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return lock, nil
}

// Wait blocks until the pod is not locked: for a running pod, until it has ended.
func (p *Pod) Wait() error { return durable.WaitUnlocked(p.Dir()) }

// Delete takes a pod away; the caller holds its lock. The directory leaves pods/ with one rename,
// so that no other program sees half of it; what a kill leaves behind is removed by Sweep. It
// returns how many bytes of the disk are free then.
func (p *Pod) Delete() (freed int64, err error) {
	if err := os.MkdirAll(p.pods.garbage(), 0o700); err != nil {
		return 0, err
	}
	stay, err := durable.Share(p.pods.garbage()) // Sweep would take the grave while it is empty
	if err != nil {
		return 0, err
	}
	defer stay.Close()
	grave, err := os.MkdirTemp(p.pods.garbage(), p.UUID+"-")
	if err != nil {
		return 0, err
	}
	if err := os.Rename(p.Dir(), filepath.Join(grave, p.UUID)); err != nil {
		os.Remove(grave)
		return 0, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	stay.Close()
	return removeAll(grave)
}

// Sweep removes what killed programs left half made or half deleted.
func (p Pods) Sweep() error {
	var errs []error
	for _, dir := range []string{p.garbage(), p.tmp()} {
		errs = append(errs, sweep(dir))
	}
	return errors.Join(errs...)
}

// sweep removes what is in a directory and not locked.
func sweep(dir string) error {
	lock, err := durable.Lock(dir, lockTimeout)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrLocked) { // the next call will find it
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if locked, err := durable.Locked(path); err == nil && !locked {
			_, err := removeAll(path)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeAll removes a tree that the last processes of a killed pod may still write to for an
// instant.
func removeAll(path string) (freed int64, err error) {
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		var more int64
		more, err = tree.RemoveCounted(path)
		if freed += more; err == nil {
			break
		}
		time.Sleep(wait)
	}
	return freed, err
}

// Time is when one of the pod's files was made or last written; zero if it is not there.
func (p *Pod) Time(name string) time.Time {
	info, err := os.Lstat(p.Path(name))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// NewUUID makes a random UUID (RFC 9562, version 4).
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return dashed(fmt.Sprintf("%x", b))
}

// Invocation is the UUID form of the ID of the running start of the systemd service that the
// process belongs to, or "". See $INVOCATION_ID in systemd.exec(5).
func Invocation(getenv func(string) string) string {
	id := getenv("INVOCATION_ID")
	if len(id) != 32 || !ValidUUID(dashed(id)) {
		return ""
	}
	return dashed(id)
}

// Self is the UUID of the pod that belongs to the running start of a service: Invocation, if
// systemd started this very process ($SYSTEMD_EXEC_PID is pid) and not some parent of it, else "".
func Self(getenv func(string) string, pid int) string {
	if getenv("SYSTEMD_EXEC_PID") != strconv.Itoa(pid) {
		return ""
	}
	return Invocation(getenv)
}

func dashed(hex string) string {
	return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]
}

// ValidName reports whether a pod may be given that name: a unit may have it, too
// (systemd.unit(5)), and no operand means something else.
func ValidName(s string) bool {
	if s == "" || len(s) > 255 || s == "self" || ValidUUID(strings.ToLower(s)) {
		return false
	}
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || strings.IndexByte(`:_.@\-`, c) < 0) {
			return false
		}
	}
	return true
}

// ValidUUID reports whether s is a UUID in its canonical form: lower case, with dashes.
func ValidUUID(s string) bool { return len(s) == 36 && validPrefix(s) }

// validPrefix reports whether s can be the start of a UUID.
func validPrefix(s string) bool {
	if s == "" || len(s) > 36 {
		return false
	}
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := '0' <= s[i] && s[i] <= '9' || 'a' <= s[i] && s[i] <= 'f'
		if dash && s[i] != '-' || !dash && !hex {
			return false
		}
	}
	return true
}
