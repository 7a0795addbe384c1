package poddir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"golang.org/x/sys/unix"
)

// MaxFile bounds a file of the pod's directory that is read as a whole, in bytes.
const MaxFile = 4 << 20

// Reader is a pod's directory, opened: what it reads is of this pod, even if the directory loses
// its name meanwhile.
type Reader struct {
	pod *Pod
	fd  int
}

// Open opens the pod's directory for reading. It is ErrNotFound when there is none; a link is none.
// One of another Format is refused.
func (p *Pod) Open() (*Reader, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(p.Dir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err == unix.ENOENT {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	r := &Reader{p, fd}
	if err := r.known(); err != nil {
		r.Close()
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return r, nil
}

// known tells why the directory is not one that this package can read.
func (r *Reader) known() error {
	var space [32]byte // enough to tell, and to say what it is
	n, err := retry(func() (int, error) { return unix.Readlinkat(r.fd, VersionFile, space[:]) })
	var got string
	switch err {
	case nil:
		got = string(space[:n])
	case unix.ENOENT:
		return nil
	case unix.EINVAL: // no link, but a file, as in format 1
		text, err := r.ReadFile(VersionFile)
		if err != nil {
			return err
		}
		// An empty one, or one of zeros, is of a prepare that a power cut has aborted: a file may
		// get its length on the disk before its content.
		if durable.Lost(text) {
			return nil
		}
		got = strings.TrimSuffix(string(text[:min(len(text), len(space))]), "\n")
	default:
		return &fs.PathError{Op: "read", Path: r.pod.Path(VersionFile), Err: err}
	}
	if len(got) != 1 || got < firstFormat || got > Format {
		return fmt.Errorf("its directory is of format %q, and this program knows only %q to %q: use the program that "+
			"made it",
			got, firstFormat, Format)
	}
	return nil
}

// Close lets go of the directory, and of the shared lock that Look may have taken.
func (r *Reader) Close() error { return unix.Close(r.fd) }

// Facts are a pod's state and times of the files that it follows from: of their last change, zero
// for one that is not there.
type Facts struct {
	State             State
	Manifest, Started time.Time
}

// Has reports whether the directory has an entry of a name.
func (r *Reader) Has(name string) bool { return !r.time(name).IsZero() }

// Manifest reads the manifest. The time of its last change is told also where it cannot be read,
// and zero where there is none.
func (r *Reader) Manifest() ([]byte, time.Time, error) {
	text, at, err := r.read(ManifestFile)
	if err != nil {
		at = r.time(ManifestFile)
	}
	return text, at, err
}

// Look looks at the facts of a pod whose manifest is of a time, zero for none. It asks for the lock
// last, and only where it counts: who runs a pod takes the lock before it writes started, so one
// that is started and not locked, or locked by another program than it was started by, has ended.
// That of a pod which nobody has is then the reader's, shared, until Close: who wants to have the
// pod waits for it, but not for long.
func (r *Reader) Look(manifest time.Time) (Facts, error) {
	f := Facts{Manifest: manifest, Started: r.time(StartedFile)}
	has, started := !f.Manifest.IsZero(), !f.Started.IsZero()
	garbage := started && r.Has(GarbageFile)
	locked := false
	if !has || started && !garbage {
		var err error
		if locked, err = r.locked(); err != nil {
			return Facts{}, fmt.Errorf("pod %s: flock: %w", r.pod.UUID, err)
		}
		if has && locked && r.pod.ended() {
			locked = false
		}
	}
	if !has && !locked {
		if manifest = r.time(ManifestFile); !manifest.IsZero() { // it was prepared meanwhile
			return r.Look(manifest)
		}
	}
	f.State = stateOf(locked, has, started, garbage)
	return f, nil
}

// locked reports whether somebody has the pod's lock, and shares it if nobody has.
func (r *Reader) locked() (bool, error) {
	_, err := retry(func() (int, error) { return 0, unix.Flock(r.fd, unix.LOCK_SH|unix.LOCK_NB) })
	if err == unix.EWOULDBLOCK {
		return true, nil
	}
	return false, err
}

func (r *Reader) time(name string) time.Time {
	var st unix.Stat_t
	if err := unix.Fstatat(r.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return time.Time{}
	}
	return time.Unix(st.Mtim.Unix())
}

// ReadFile reads a regular file of the pod's directory, of MaxFile bytes at most. No link is
// followed on the way to it, and no fifo or device is waited for.
func (r *Reader) ReadFile(name string) ([]byte, error) {
	text, _, err := r.read(name)
	return text, err
}

func (r *Reader) read(name string) ([]byte, time.Time, error) {
	return readBelow(r.fd, name, func() string { return r.pod.Path(name) })
}

// ReadBelow is Reader.ReadFile in any directory, for packages that know a pod by its directory
// only.
func ReadBelow(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text, _, err := readBelow(fd, name, func() string { return path })
	return text, err
}

// readBelow reads a file below an opened directory, and tells when it was last changed; path is
// what errors call it.
func readBelow(in int, name string, path func() string) ([]byte, time.Time, error) {
	fail := func(err error) ([]byte, time.Time, error) {
		return nil, time.Time{}, &fs.PathError{Op: "read", Path: path(), Err: err}
	}
	fd, err := open(in, name)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(errors.New("not a regular file"))
	}
	if st.Size > MaxFile {
		return fail(fmt.Errorf("longer than %d bytes", MaxFile))
	}
	data := make([]byte, 0, st.Size+1)
	for {
		if len(data) == cap(data) { // it grew
			data = append(data, 0)[:len(data)]
		}
		n, err := retry(func() (int, error) { return unix.Read(fd, data[len(data):cap(data)]) })
		if err != nil {
			return fail(err)
		}
		if data = data[:len(data)+n]; len(data) > MaxFile {
			return fail(fmt.Errorf("longer than %d bytes", MaxFile))
		}
		if n == 0 || int64(len(data)) == st.Size && len(data) < cap(data) {
			// less than asked for, and all that there was
			return data, time.Unix(st.Mtim.Unix()), nil
		}
	}
}

// open opens a file for reading. A running pod's root may plant links below stage1/rootfs and
// overlay, and none of them is followed, wherever in the path it stands. openat2(2) would do it at
// once, but RestrictSUIDSGID= of a unit forbids it.
func open(in int, name string) (int, error) {
	dir := in
	for more := true; more; {
		var part string
		part, name, more = strings.Cut(name, "/")
		if part == "" || part == "." || part == ".." {
			return -1, unix.EINVAL
		}
		flags := unix.O_PATH | unix.O_DIRECTORY
		if !more {
			flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
		}
		fd, err := retry(func() (int, error) { return unix.Openat(dir, part, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) })
		if dir != in {
			unix.Close(dir)
		}
		if err != nil {
			return -1, err
		}
		dir = fd
	}
	return dir, nil
}

// CheckDirectory reports whether name is a directory of the pod's directory, without a link on the
// way to it, for those who must use its path.
func (p *Pod) CheckDirectory(name string) error {
	r, err := p.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	fd, err := open(r.fd, name)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Path(name), err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s: not a directory", p.Path(name))
	}
	return nil
}

// Marked reports whether the pod's systemd has made a file, such as ReadyFile.
func (r *Reader) Marked(name string) bool {
	_, err := r.ReadFile(name)
	return err == nil
}

// AppStatus is Pod.AppStatus, and when the app has ended.
func (r *Reader) AppStatus(app string) (status int, at time.Time, ended bool) {
	text, at, err := r.read(filepath.Join(StatusDir, app))
	if err != nil {
		return 0, time.Time{}, false
	}
	status, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return status, at, err == nil && 0 <= status && status <= 255
}

// retry calls again what a signal has interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

// ReadFile is Reader.ReadFile for one file.
func (p *Pod) ReadFile(name string) ([]byte, error) {
	r, err := p.Open()
	if errors.Is(err, ErrNotFound) {
		return nil, &fs.PathError{Op: "read", Path: p.Path(name), Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.ReadFile(name)
}

// AppStatus is the exit status of an app that has ended; 128+n stands for death by signal n.
func (p *Pod) AppStatus(app string) (status int, ended bool) {
	r, err := p.Open()
	if err != nil {
		return 0, false
	}
	defer r.Close()
	status, _, ended = r.AppStatus(app)
	return status, ended
}

// State looks at the facts. A pod that is not there any more is ErrNotFound.
func (p *Pod) State() (State, error) {
	r, err := p.Open()
	if errors.Is(err, ErrNotFound) {
		return Deleting, err
	}
	if err != nil {
		return 0, err
	}
	defer r.Close()
	f, err := r.Look(r.time(ManifestFile))
	if err == nil && f.State == AbortedPrepare {
		if _, gone := os.Lstat(p.Dir()); errors.Is(gone, fs.ErrNotExist) { // a removed directory has no files
			return Deleting, fmt.Errorf("pod %s: %w", p.UUID, ErrNotFound)
		}
	}
	return f.State, err
}

// Name is the pod's name, or "".
func (p *Pod) Name() string {
	name, _ := p.ReadFile(NameFile)
	return strings.TrimSuffix(string(name), "\n")
}
