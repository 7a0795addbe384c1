package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// MaxFile bounds a file of the pod's directory that is read as a whole, in bytes.
const MaxFile = 4 << 20

// noLinks resolves names of the pod's directory: a running pod's root may plant links below stage1/rootfs and overlay, and none of
// them is followed, wherever in the path it stands.
const noLinks = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// Reader is a pod's directory, opened: what it reads is of this pod, even if the directory loses its name meanwhile.
type Reader struct {
	pod *Pod
	fd  int
}

// Open opens the pod's directory for reading. It is ErrNotFound when there is none; a link is none.
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
	return &Reader{p, fd}, nil
}

// Close lets go of the directory.
func (r *Reader) Close() error { return unix.Close(r.fd) }

// State looks at the facts.
func (r *Reader) State() (State, error) {
	locked := false
	_, err := retry(func() (int, error) { return 0, unix.Flock(r.fd, unix.LOCK_SH|unix.LOCK_NB) })
	switch err {
	case nil:
		// At once: who wants to have the pod waits for readers, but not for long.
		err = unix.Flock(r.fd, unix.LOCK_UN)
	case unix.EWOULDBLOCK:
		locked, err = true, nil
	}
	if err != nil {
		return 0, fmt.Errorf("pod %s: flock: %w", r.pod.UUID, err)
	}
	return stateOf(locked, r.has(ManifestFile), r.has(StartedFile), r.has(GarbageFile)), nil
}

func (r *Reader) has(name string) bool { return !r.Time(name).IsZero() }

// Time is when one of the pod's own files was last written; zero if it is not there.
func (r *Reader) Time(name string) time.Time {
	var st unix.Stat_t
	if err := unix.Fstatat(r.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return time.Time{}
	}
	return time.Unix(st.Mtim.Unix())
}

// ReadFile reads a regular file of the pod's directory, of MaxFile bytes at most. No link is followed on the way to it, and no fifo or
// device is waited for.
func (r *Reader) ReadFile(name string) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, &fs.PathError{Op: "read", Path: r.pod.Path(name), Err: err}
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: noLinks}
	fd, err := retry(func() (int, error) { return unix.Openat2(r.fd, name, &how) })
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
		if n == 0 {
			return data, nil
		}
		if data = data[:len(data)+n]; len(data) > MaxFile {
			return fail(fmt.Errorf("longer than %d bytes", MaxFile))
		}
	}
}

// AppStatus is the exit status of an app that has ended; 128+n stands for death by signal n.
func (r *Reader) AppStatus(app string) (status int, ended bool) {
	text, err := r.ReadFile(filepath.Join(StatusDir, app))
	if err != nil {
		return 0, false
	}
	status, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return status, err == nil && 0 <= status && status <= 255
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

// AppStatus is Reader.AppStatus for one app.
func (p *Pod) AppStatus(app string) (status int, ended bool) {
	r, err := p.Open()
	if err != nil {
		return 0, false
	}
	defer r.Close()
	return r.AppStatus(app)
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
	state, err := r.State()
	if err == nil && state == AbortedPrepare {
		if _, gone := os.Lstat(p.Dir()); errors.Is(gone, fs.ErrNotExist) { // a removed directory has no files
			return Deleting, fmt.Errorf("pod %s: %w", p.UUID, ErrNotFound)
		}
	}
	return state, err
}

// Name is the pod's name, or "".
func (p *Pod) Name() string {
	name, _ := p.ReadFile(NameFile)
	return strings.TrimSuffix(string(name), "\n")
}
