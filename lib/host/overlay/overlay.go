// Package overlay is the root file system of an app: the image's layers, read-only, under a
// directory that takes what the app writes. In a pod's directory that is overlay/APP/, with
//
//	lower/0 lower/1 …   links to the layers in the image store, lowest first
//	upper               what was written
//	work                overlayfs's own
//
// The links keep the mount's options short: mount(2) takes one page of them, and an image may have
// 127 layers.
package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Opaque is overlayfs's attribute of a directory that hides the one below it.
const Opaque = "trusted.overlay.opaque"

// Implied is an attribute of rkt's, which no archive can have and no app sees: on a directory of a
// layer that its archive did not have, but something in it. The value on a layer's root is of
// Marks.
const Implied = "trusted.rkt.implied"

// Marks of a layer's root, each a letter of its Implied attribute.
const (
	MarkDirectories = 'y' // directories in it are only implied
	MarkRoot        = 'r' // the root is not in the archive itself
	MarkWhiteouts   = 'w' // there are whiteouts in it
)

// Marks returns the Implied attribute of a directory, "" if there is none.
func Marks(dir string) string {
	value := make([]byte, 8)
	n, err := unix.Lgetxattr(dir, Implied, value)
	if err != nil {
		return ""
	}
	return string(value[:n])
}

// rootOf gives the layer, of several (lowest first), whose root says what the app's root is like:
// the topmost that has one in its archive.
func rootOf(layers []string) string {
	for _, layer := range slices.Backward(layers) {
		if !strings.ContainsRune(Marks(layer), MarkRoot) {
			return layer
		}
	}
	return layers[len(layers)-1]
}

// Names in such a directory.
const (
	lowerDir = "lower"
	upperDir = "upper"
	workDir  = "work"
)

// Upper is the directory of what was written, in one that Make laid out.
func Upper(dir string) string { return dir + "/" + upperDir }

// Layers are the layers that Make was given: absolute paths if dir is one. It ends before a link
// that is not there, as when the directory is removed meanwhile.
func Layers(dir string) (layers []string, err error) {
	lower := filepath.Join(dir, lowerDir)
	for i := 0; ; i++ {
		layer, err := os.Readlink(filepath.Join(lower, strconv.Itoa(i)))
		if errors.Is(err, fs.ErrNotExist) {
			return layers, nil
		}
		if err != nil {
			return nil, err
		}
		if !filepath.IsAbs(layer) {
			layer = filepath.Join(lower, layer)
		}
		layers = append(layers, layer)
	}
}

// Make lays out dir for the given layers (lowest first; any path) and gives the app's root the mode
// and owner of the root of the topmost layer that says one.
func Make(dir string, layers []string) error {
	for _, sub := range []string{lowerDir, upperDir, workDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	lower, err := filepath.Abs(filepath.Join(dir, lowerDir))
	if err != nil {
		return err
	}
	for i, layer := range layers {
		target, err := filepath.Rel(lower, layer) // so that the data directory can be moved
		if err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(lower, strconv.Itoa(i))); err != nil {
			return err
		}
	}
	if len(layers) == 0 {
		return nil
	}
	var top unix.Stat_t
	like := rootOf(layers)
	if err := unix.Stat(like, &top); err != nil {
		return fmt.Errorf("%s: %w", like, err)
	}
	upper := Upper(dir)
	if err := os.Chmod(upper, os.FileMode(top.Mode&0o777)); err != nil {
		return err
	}
	return os.Chown(upper, int(top.Uid), int(top.Gid))
}

// Mount mounts what Make laid out in dir on target, both absolute. It must run on a locked thread
// that shares its working directory with no other (see Private). Device nodes of the image do
// nothing: an app gets its devices from the pod's own /dev. context is the SELinux context that all
// files have there; "" is their own.
func Mount(dir, target, context string) error {
	links, err := os.ReadDir(filepath.Join(dir, lowerDir))
	if err != nil {
		return err
	}
	lower := make([]string, len(links)) // overlayfs wants the topmost first
	for i := range links {
		lower[len(links)-1-i] = lowerDir + "/" + strconv.Itoa(i)
	}
	options := "upperdir=" + upperDir + ",workdir=" + workDir + ",redirect_dir=off,metacopy=off,index=off,lowerdir=" +
		strings.Join(lower, ":")
	if context != "" { // whose commas are no separators between quotes
		options += `,context="` + context + `"`
	}
	if len(links) == 0 {
		return fmt.Errorf("%s: no layer in it", dir)
	}
	if err := unix.Chdir(dir); err != nil { // the options name relative paths
		return fmt.Errorf("%s: %w", dir, err)
	}
	return mount(target, unix.MS_NODEV, options)
}

// mount mounts an overlay file system.
func mount(target string, flags uintptr, options string) error {
	err := unix.Mount("overlay", target, "overlay", flags, options)
	if errors.Is(err, unix.ENODEV) {
		return errors.New("the kernel has no overlay file system; pods need Linux 5.12 or newer, with " +
			"CONFIG_OVERLAY_FS")
	}
	if err != nil {
		return fmt.Errorf("overlay on %s: %w", target, Explain(".", err))
	}
	return nil
}

// Explain completes an error of an operation below a directory, if it is that the directory is
// itself on an overlay file system: that has no whiteouts and no upper directories of another one.
func Explain(dir string, err error) error {
	var st unix.Statfs_t
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) || unix.Statfs(dir, &st) != nil ||
		st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return err
	}
	return fmt.Errorf("%w: the data directory is on an overlay file system; take one on ext4, xfs or btrfs "+
		"(--dir=DIR)", err)
}

// readOnlyFile is in dir when the app may not write, in a pod that an older rkt prepared.
const readOnlyFile = "readonly"

// Protect makes what Mount has mounted on target read-only, without what is mounted below it, if
// that was asked for.
func Protect(dir, target string) error {
	if _, err := os.Lstat(filepath.Join(dir, readOnlyFile)); err != nil {
		return nil
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, 0,
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("%s: read-only: %w", target, err)
	}
	return nil
}

// Private puts the calling thread, which the caller has locked, into a mount namespace of its own,
// from which no mount reaches the host. Mounts of the host still arrive.
func Private() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount propagation of /: %w", err)
	}
	return nil
}

// Show calls f with the path of a directory in which the calling goroutine sees layers (lowest
// first, absolute paths) one upon the other, as an app does, and cannot write. at is any directory,
// over which this is mounted in a mount namespace of its own.
func Show(layers []string, at string, f func(root string) error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // see View
		done <- func() error {
			if err := Private(); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=0700"); err != nil {
				return fmt.Errorf("tmpfs on %s: %w", at, err)
			}
			if err := unix.Chdir(at); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			lower := "empty" // overlayfs wants two at least
			for i, layer := range layers {
				if err := os.Symlink(layer, filepath.Join(at, strconv.Itoa(i))); err != nil {
					return err
				}
				lower = strconv.Itoa(i) + ":" + lower
			}
			if len(layers) > 0 && rootOf(layers) != layers[len(layers)-1] { // overlayfs takes what is on top
				if err := likeRoot(filepath.Join(at, "top"), rootOf(layers)); err != nil {
					return err
				}
				lower = "top:" + lower
			}
			root := filepath.Join(at, "root")
			if err := errors.Join(os.Mkdir(root, 0o700), os.Mkdir(filepath.Join(at, "empty"), 0o755)); err != nil {
				return err
			}
			options := "redirect_dir=off,metacopy=off,index=off,lowerdir=" + lower
			if err := mount(root, unix.MS_RDONLY|unix.MS_NODEV, options); err != nil {
				return err
			}
			return f(root)
		}()
	}()
	return <-done
}

// likeRoot makes an empty directory with owner, mode and time of another.
func likeRoot(dir, like string) error {
	var st unix.Stat_t
	if err := unix.Lstat(like, &st); err != nil {
		return fmt.Errorf("%s: %w", like, err)
	}
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = errors.Join(unix.Lchown(dir, int(st.Uid), int(st.Gid)), unix.Chmod(dir, st.Mode&0o7777),
			unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

// View calls f with the root of the file system that an app will see, and its writes land in dir's
// upper directory. f may open files below root with openat2(2) and RESOLVE_IN_ROOT; the mount is
// gone when it returns.
func View(dir, target string, f func(root *os.File) error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its mounts with the thread
		done <- func() error {
			if err := Private(); err != nil {
				return err
			}
			if err := Mount(dir, target, ""); err != nil {
				return err
			}
			root, err := os.Open(target)
			if err != nil {
				return err
			}
			defer root.Close()
			return f(root)
		}()
	}()
	return <-done
}
