// Package unpack makes a directory of a tar stream that nobody vouches for.
//
// Whatever the stream says, nothing outside the directory is written, linked or changed. A name
// with ".." in it ends the unpacking with an error that names the entry. Each parent directory is
// resolved by openat2(2) with RESOLVE_IN_ROOT: links in it are followed as a process would whose
// root the directory is, because archives that were put together from packages have such ("lib ->
// usr/lib", "lib/x"; "var/run -> /run", "var/run/app/"), and where such a link leads to nothing,
// directories are made. The last part of a name is never followed: an entry takes the place of an
// earlier one of the same name, and of a link rather than of what it points to. A symbolic link's
// own text may be anything: only a pod resolves it, inside its root.
//
// It needs root, for owners, devices and trusted attributes; the directory should be one that only
// root can reach.
package unpack

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/tree"
	"github.com/rkt-toolkit/rkt/lib/image/recipe"
	"golang.org/x/sys/unix"
)

// ErrArchive says that the stream itself could not be read or is no tar archive, in contrast to an
// entry that is refused or a file that could not be made.
var ErrArchive = errors.New("bad archive")

// Options say what an archive may hold. A limit of 0 is none.
type Options struct {
	// Whiteouts takes the entries by which an OCI layer hides what is below it (image-spec,
	// layer.md) and makes of them what overlayfs has for it: a character device 0:0, and
	// trusted.overlay.opaque. A directory that a whiteout hides and the same archive implies is
	// new.
	Whiteouts bool

	// Subtree is the name of a top directory, "rootfs" of an ACI. Only what is in it is unpacked,
	// without the directory's name. Every other entry is handed to Outside, which refuses it or
	// reads what it wants of it.
	Subtree string
	Outside func(name string, h *tar.Header, r io.Reader) error

	// MarkImplied gives each directory that is needed but not in the archive the attribute
	// overlay.Implied, and the root as well if there are any. With Whiteouts, the root's also tells
	// of whiteouts, and of a root that is not in the archive itself.
	MarkImplied bool

	// EndMarker refuses an archive that just stops, which some writers (umoci 0.4) leave it at.
	// Without it only the digest of the stream tells that one was cut between two entries, or in
	// the padding after a file.
	EndMarker bool

	// Recipe, if not nil, gets what is needed to put the stream together again. What an entry takes
	// the place of is then moved into the directory Aside, on the same file system, for
	// recipe.Complete, if it may hold contents.
	Recipe *recipe.Writer
	Aside  *os.File

	// Skeleton makes files of the right size that hold nothing.
	Skeleton bool

	MaxBytes   int64        // of the stream, and of the files in it, whose holes a stream need not have
	Growing    func() int64 // what MaxBytes is by now, if it depends on a size that only the end tells; else nil
	MaxEntries int64        // and of directories that the archive only implies
}

func (o *Options) maxBytes() int64 {
	if o.Growing != nil {
		return o.Growing()
	}
	return o.MaxBytes
}

// Tar unpacks the stream r into root and reads it to its end. On an error the directory holds a
// part of the archive.
//
// It keeps contents, hard links, symbolic links, devices, fifos, numeric owners, modes with
// set-user-ID, set-group-ID and sticky bits, modification times, and the extended attributes
// security.capability and user.*. Attributes that direct overlayfs (trusted.*, user.overlay.*) are
// refused; other attributes (security.selinux, system.posix_acl_*, …) are about the machine that
// wrote the archive and are left out, as Docker does. Directories that are needed but not in the
// archive get mode 0755 and the time 0, and belong to root.
func Tar(root *os.File, r io.Reader, o Options) (err error) {
	u := &unpacker{
		top: root, root: int(root.Fd()), parentFD: -1, options: o,
		buffer: make([]byte, 256<<10), directories: map[string]time.Time{"": noTime}, implied: map[string]bool{},
	}
	defer u.forget()
	in := &stream{r: r, max: o.maxBytes, recipe: o.Recipe}
	u.in = in
	path, err := where(u.root)
	if err != nil {
		return err
	}
	u.above = len(path)
	archive := tar.NewReader(in)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) && in.ended && o.EndMarker { // Go's reader is content with that
			err = io.ErrUnexpectedEOF
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are checked here, in every build
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if err := u.count(); err != nil {
			return err
		}
		if err := u.entry(h, archive); err != nil {
			return fmt.Errorf("entry %q: %w", short(h.Name), err)
		}
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, u.buffer); err != nil { // the padding
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if o.Subtree != "" && !u.inside {
		return fmt.Errorf("no %s in it", o.Subtree)
	}
	return u.finish()
}

// TooLarge is the error of what would unpack to more than that, bytes.
func TooLarge(limit int64) error {
	return fmt.Errorf("larger than %d bytes (--unpack-limit=SIZE allows more)", limit)
}

// stream counts what is read, and fails where there is too much.
type stream struct {
	r     io.Reader
	bytes int64
	max   func() int64
	ended bool // somebody asked for more than there is

	recipe  *recipe.Writer
	content bool // what is read now need not be in it
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.bytes += int64(n)
	if limit := s.max(); limit > 0 && s.bytes > limit {
		return 0, TooLarge(limit)
	}
	s.ended = s.ended || n == 0 && err == io.EOF
	if s.recipe != nil && !s.content {
		s.recipe.Raw(p[:n])
	}
	return n, err
}

type unpacker struct {
	top     *os.File
	root    int // its descriptor
	above   int // length of the root's path
	in      *stream
	options Options
	entries int64 // so far
	aside   int   // how many were moved aside
	bytes   int64 // sizes of all files so far
	inside  bool  // there was an entry in the subtree
	buffer  []byte
	// by their place; to be set at the end: every file that is made in a directory changes the
	// directory's
	directories map[string]time.Time
	implied     map[string]bool // directories that no entry was of, yet
	rooted      bool            // an entry was of the root
	hidden      []string        // places of whiteouts, some of which may have been replaced

	parent     string // the directory of the entry before, or "" if there is none
	parentFD   int    // its O_PATH descriptor, or -1
	parentReal string // its path from the root through no link, with a slash at its end unless it is ""
}

const whiteout = ".wh."

// noTime is that of a directory that no entry is of, so that one archive always makes the same
// tree.
var noTime = time.Unix(0, 0)

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if u.options.Subtree != "" {
		inside, ok := under(u.options.Subtree, name)
		if !ok {
			return u.options.Outside(name, h, r)
		}
		name, u.inside = inside, true
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if u.options.Whiteouts && strings.Contains(name, whiteout) {
		if done, err := u.whiteout(dir, base); done || err != nil {
			return err
		}
	}
	if base == "" {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root is not a directory")
		}
		return u.directory(h, "", u.root, ".")
	}
	at, err := u.open(dir)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(h, name, at, base)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(h, r, at, base)
	case tar.TypeLink:
		return u.link(h, name, at, base)
	case tar.TypeSymlink:
		if err := u.make(at, base, func() error { return unix.Symlinkat(h.Linkname, at, base) }); err != nil {
			return fmt.Errorf("symbolic link: %w", err)
		}
		return u.describe(h, at, base, false)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.node(h, at, base)
	}
	return fmt.Errorf("type %q is unknown", h.Typeflag)
}

// clean is a name of the archive relative to its root, "" for the root itself. A leading slash
// means that root, as for every tar.
func clean(name string) (string, error) {
	if name == "" || strings.ContainsRune(name, 0) {
		return "", errors.New("not a name")
	}
	if strings.Contains(name, "..") {
		for part := range strings.SplitSeq(name, "/") {
			if part == ".." {
				return "", errors.New(".. in the name")
			}
		}
	}
	return path.Clean("/" + name)[1:], nil
}

// short is a name for an error; names of archives can be a megabyte long.
func short(name string) string {
	if len(name) > 300 {
		return name[:140] + "…" + name[len(name)-140:]
	}
	return name
}

// under cuts the directory's name off a name.
func under(directory, name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, directory)
	if ok && rest != "" {
		rest, ok = strings.CutPrefix(rest, "/")
	}
	return rest, ok
}

// open gives a descriptor of a directory of the tree, made if it is not there. It is good until the
// next call.
func (u *unpacker) open(dir string) (int, error) {
	fd, err := u.walk(dir)
	if err != nil {
		return -1, fmt.Errorf("directory %q: %w", short(dir), err)
	}
	return fd, nil
}

func (u *unpacker) walk(dir string) (int, error) {
	if dir == "" {
		return u.root, nil
	}
	if dir == u.parent {
		return u.parentFD, nil
	}
	fd, err := u.beneath(dir)
	if errors.Is(err, unix.ENOTDIR) && u.options.Whiteouts {
		if err = u.unhide(dir); err == nil {
			fd, err = u.beneath(dir)
		}
	}
	if errors.Is(err, unix.ENOENT) {
		fd, err = u.mkdir(dir)
	}
	if err != nil {
		return -1, err
	}
	u.forget()
	u.parent, u.parentFD = dir, fd
	real, err := where(fd)
	if err == nil && len(real)-u.above > maxPath {
		err = errTooDeep
	}
	if err != nil {
		return -1, err
	}
	u.parentReal = strings.TrimPrefix(real[u.above:]+"/", "/")
	return fd, nil
}

// mkdir makes a directory and those above it, or where a link of the name leads, and opens it.
func (u *unpacker) mkdir(dir string) (int, error) {
	above, base := path.Split(dir)
	at, err := u.walk(strings.TrimSuffix(above, "/"))
	if err != nil {
		return -1, err
	}
	if err := u.count(); err != nil {
		return -1, err
	}
	err = unix.Mkdirat(at, base, 0o755)
	if err == unix.EEXIST { // a link to what is not there
		real, err := overlay.Follow(u.top, dir)
		if err != nil {
			return -1, err
		}
		return u.mkdir(real[1:])
	}
	if err == nil {
		err = errors.Join( // whatever the umask is, and the directory's set-group-ID bit
			unix.Fchownat(at, base, 0, 0, unix.AT_SYMLINK_NOFOLLOW), unix.Fchmodat(at, base, 0o755, 0))
	}
	if err != nil {
		return -1, err
	}
	place := u.place(at, base)
	u.directories[place] = noTime
	u.implied[place] = true
	return u.beneath(dir)
}

// underWhiteout gives the path of the whiteout through which a name leads, "" if there is none.
func (u *unpacker) underWhiteout(dir string) (string, error) {
	real, err := overlay.Follow(u.top, dir)
	if err != nil {
		return "", err
	}
	at := ""
	for part := range strings.SplitSeq(real[1:], "/") {
		at = path.Join(at, part)
		f, err := overlay.Open(u.top, at, unix.O_PATH|unix.O_NOFOLLOW)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		f.Close()
		if err != nil {
			return "", err
		}
		if isWhiteout(&st) {
			return at, nil
		}
	}
	return "", nil
}

// unhide puts a new directory, which hides what is below it, in the place of the whiteout through
// which a name leads.
func (u *unpacker) unhide(dir string) error {
	place, err := u.underWhiteout(dir)
	if err != nil {
		return err
	}
	if place == "" {
		return unix.ENOTDIR
	}
	above, base := path.Split(place)
	at, err := u.open(strings.TrimSuffix(above, "/"))
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(at, base, 0); err != nil {
		return err
	}
	made, err := u.mkdir(place)
	if err != nil {
		return err
	}
	unix.Close(made)
	delete(u.implied, place)
	return u.opaqueAt(at, base)
}

// maxPath is the most that a directory's path may be long, from the root, bytes. Links in an
// archive can be chained so that directories come to lie deeper than any program could name them by
// a path (PATH_MAX is 4096).
const maxPath = 3072

var errTooDeep = fmt.Errorf("its path is longer than %d bytes", maxPath)

// where is the path of an open directory.
func where(fd int) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf[:])
	if err == unix.ENAMETOOLONG {
		return "", errTooDeep
	}
	return string(buf[:max(n, 0)]), err
}

// count counts what is made.
func (u *unpacker) count() error {
	u.entries++
	if limit := u.options.MaxEntries; limit > 0 && u.entries > limit {
		return fmt.Errorf("more than %d entries", limit)
	}
	return nil
}

func (u *unpacker) beneath(dir string) (int, error) {
	return openat.FD(u.root, dir, unix.O_PATH|unix.O_DIRECTORY, openat.InRoot)
}

// forget drops the directory kept open, which may not be the one of its name any more.
func (u *unpacker) forget() {
	if u.parentFD >= 0 {
		unix.Close(u.parentFD)
	}
	u.parent, u.parentFD = "", -1
}

// make calls create, and once more when what is in its way is removed.
func (u *unpacker) make(at int, base string, create func() error) error {
	err := create()
	if err != unix.EEXIST {
		return err
	}
	if err := u.remove(at, base); err != nil {
		return err
	}
	return create()
}

// remove removes an entry and all that is in it. The name of the directory kept open may have led
// through it.
func (u *unpacker) remove(at int, base string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	var err error
	kind := st.Mode & unix.S_IFMT
	if u.options.Aside != nil && (kind == unix.S_IFDIR || kind == unix.S_IFREG && st.Size > 0) {
		u.aside++
		err = unix.Renameat(at, base, int(u.options.Aside.Fd()), strconv.Itoa(u.aside))
	} else if kind == unix.S_IFDIR {
		err = tree.Remove(fmt.Sprintf("/proc/self/fd/%d/%s", at, base))
	} else {
		err = unix.Unlinkat(at, base, 0)
	}
	if err != nil {
		return err
	}
	if kind == unix.S_IFDIR || kind == unix.S_IFLNK {
		u.parent = "\x00" // no entry's name; at may be the descriptor, so it lives until the next open
	}
	return nil
}

func (u *unpacker) directory(h *tar.Header, name string, at int, base string) error {
	hidden := false
	if name != "" {
		err := unix.Mkdirat(at, base, 0o700)
		var st unix.Stat_t
		if err == unix.EEXIST {
			err = unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW)
			if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
				hidden = isWhiteout(&st)
				err = u.make(at, base, func() error { return unix.Mkdirat(at, base, 0o700) })
			}
		}
		if err != nil {
			return err
		}
	}
	fd, err := openChild(at, base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if hidden && u.options.Whiteouts { // the layer hides a directory and has a new one of its name
		if err := opaque(fd); err != nil {
			return err
		}
	}
	if name != "" {
		name = u.place(at, base)
	}
	u.rooted = u.rooted || name == ""
	u.directories[name] = h.ModTime
	delete(u.implied, name)
	return u.own(h, fd)
}

func (u *unpacker) file(h *tar.Header, r io.Reader, at int, base string) error {
	u.bytes += h.Size
	if limit := u.options.maxBytes(); limit > 0 && (u.bytes > limit || u.bytes < 0) {
		return fmt.Errorf("with it the files are %w", TooLarge(limit))
	}
	fd := -1
	err := u.make(at, base, func() (err error) {
		fd, err = openChild(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	if err := u.content(fd, h, u.place(at, base), r); err != nil {
		unix.Close(fd)
		return err
	}
	if err := u.own(h, fd); err != nil {
		unix.Close(fd)
		return err
	}
	if err := unix.Close(fd); err != nil { // some file systems tell only now that the disk is full
		return err
	}
	return touch(at, base, h.ModTime)
}

// place is the path from the root, through no link, of what is in the directory that open gave. A
// later entry may replace a link.
func (u *unpacker) place(at int, base string) string {
	if at == u.root {
		return base
	}
	return u.parentReal + base
}

// content writes what is in a file, and leaves it to the recipe to find it there.
func (u *unpacker) content(fd int, h *tar.Header, place string, r io.Reader) error {
	if u.options.Skeleton {
		return unix.Ftruncate(fd, h.Size)
	}
	recipe := u.options.Recipe
	if recipe == nil || h.Size == 0 || sparse(h) {
		_, err := u.copy(fd, r, h.Size, false)
		return err
	}
	begin := u.in.bytes
	u.in.content = true
	checksum, err := u.copy(fd, r, h.Size, true)
	u.in.content = false
	if err == nil && u.in.bytes-begin != h.Size {
		err = fmt.Errorf("%d bytes of the archive make a file of %d", u.in.bytes-begin, h.Size)
	}
	recipe.File(place, h.Size, checksum)
	return err
}

// sparse reports whether a file has holes that the archive says in one of tar's ways, so that its
// bytes are not those of the archive.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// copy writes size bytes and returns their checksum, if it is wanted.
func (u *unpacker) copy(fd int, r io.Reader, size int64, sum bool) (checksum uint32, err error) {
	for size > 0 {
		p := u.buffer[:min(size, int64(len(u.buffer)))]
		if _, err := io.ReadFull(r, p); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		size -= int64(len(p))
		if sum {
			checksum = recipe.Checksum(checksum, p)
		}
		for len(p) > 0 {
			n, err := unix.Write(fd, p)
			if err != nil && err != unix.EINTR {
				return 0, err
			}
			p = p[max(n, 0):]
		}
	}
	return checksum, nil
}

// link makes a hard link. Like tar, it takes the target for a name of the archive, from its root.
func (u *unpacker) link(h *tar.Header, name string, at int, base string) error {
	target, err := clean(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", short(h.Linkname), err)
	}
	if u.options.Subtree != "" {
		inside, ok := under(u.options.Subtree, target)
		if !ok {
			return fmt.Errorf("hard link to %q: not in %s", h.Linkname, u.options.Subtree)
		}
		target = inside
	}
	if target == name {
		var st unix.Stat_t
		return unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	dir, targetBase := path.Split(target)
	from := u.root
	if dir != "" {
		if from, err = u.beneath(strings.TrimSuffix(dir, "/")); err != nil {
			return fmt.Errorf("hard link to %q: %w", short(h.Linkname), err)
		}
		defer unix.Close(from)
	}
	var st unix.Stat_t
	if err = unix.Fstatat(from, targetBase, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && u.options.Whiteouts &&
		isWhiteout(&st) {
		err = unix.ENOENT
	}
	if err == nil {
		// Only now may what is in the way go. A link to an inode of this name already is in its own
		// way.
		var there unix.Stat_t
		if unix.Fstatat(at, base, &there, unix.AT_SYMLINK_NOFOLLOW) == nil && there.Ino == st.Ino &&
			there.Dev == st.Dev {
			return nil
		}
		err = u.make(at, base, func() error { return unix.Linkat(from, targetBase, at, base, 0) })
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", short(h.Linkname), err)
	}
	return nil
}

func (u *unpacker) node(h *tar.Header, at int, base string) error {
	if h.Devmajor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor < 0 || h.Devminor > math.MaxUint32 {
		return fmt.Errorf("device %d:%d cannot be", h.Devmajor, h.Devminor)
	}
	mode, device := uint32(unix.S_IFIFO), 0
	switch h.Typeflag {
	case tar.TypeChar:
		mode, device = unix.S_IFCHR, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	case tar.TypeBlock:
		mode, device = unix.S_IFBLK, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	}
	if err := u.make(at, base, func() error { return unix.Mknodat(at, base, mode|0o600, device) }); err != nil {
		return err
	}
	return u.describe(h, at, base, true)
}

// whiteout makes what hides an entry of the layers below, and reports whether the entry was one of
// that kind. An entry of the same layer is not hidden, wherever in the archive it is.
func (u *unpacker) whiteout(dir, base string) (bool, error) {
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, whiteout+whiteout) {
			return true, nil // aufs's own, which old Docker let into archives
		}
		if strings.HasPrefix(part, whiteout) {
			return false, fmt.Errorf("%q hides a name and can hold nothing", part)
		}
	}
	hidden, ok := strings.CutPrefix(base, whiteout)
	if !ok {
		return false, nil
	}
	opq := base == whiteout+whiteout+".opq"
	switch {
	case opq:
	case strings.HasPrefix(hidden, whiteout):
		return true, nil // aufs again
	case hidden == "" || hidden == "." || hidden == "..":
		return false, errors.New("hides no name")
	}
	if fd, err := u.beneath(dir); err == nil {
		unix.Close(fd)
	} else if errors.Is(err, unix.ENOTDIR) {
		if place, err := u.underWhiteout(dir); place != "" || err != nil {
			return err == nil, err // all that is in it is hidden already
		}
	}
	at, err := u.open(dir)
	if err != nil {
		return false, err
	}
	if opq {
		return true, u.opaqueAt(at, ".")
	}
	var st unix.Stat_t
	err = unix.Fstatat(at, hidden, &st, unix.AT_SYMLINK_NOFOLLOW)
	place := u.place(at, hidden)
	switch {
	case err == unix.ENOENT:
		u.hidden = append(u.hidden, place)
		err := unix.Mknodat(at, hidden, unix.S_IFCHR, 0)
		return true, overlay.Explain(fmt.Sprintf("/proc/self/fd/%d", at), err)
	case err != nil:
		return false, err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR && u.holdsNothing(place):
		if err := u.remove(at, hidden); err != nil {
			return false, err
		}
		u.hidden = append(u.hidden, place)
		return true, unix.Mknodat(at, hidden, unix.S_IFCHR, 0)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		delete(u.implied, place)
		return true, u.opaqueAt(at, hidden)
	}
	return true, nil // a file hides what is below it by being there
}

// holdsNothing reports whether no entry was of a directory or of anything in it but whiteouts.
func (u *unpacker) holdsNothing(place string) bool {
	return u.implied[place] && HoldsNothing(filepath.Join(u.top.Name(), place),
		func(dir string) bool { return u.implied[dir[len(u.top.Name())+1:]] })
}

// HoldsNothing reports whether a directory, which implied says is not in the archive, holds only
// such and whiteouts, so that it is none unless a layer below has it.
func HoldsNothing(dir string, implied func(dir string) bool) bool {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || d.IsDir() && !implied(path) || !d.IsDir() && (unix.Lstat(path, &st) != nil ||
			!isWhiteout(&st)) {
			return fs.ErrExist
		}
		return nil
	}) == nil
}

func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// opaque has overlayfs not look below a directory.
func opaque(fd int) error {
	if err := unix.Fsetxattr(fd, overlay.Opaque, []byte("y"), 0); err != nil {
		return fmt.Errorf("%s: %w", overlay.Opaque, err)
	}
	return nil
}

// opaqueAt is opaque for a child of an open directory.
func (u *unpacker) opaqueAt(at int, base string) error {
	fd, err := openChild(at, base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return opaque(fd)
}

// own gives an open file or directory its owner, attributes and mode, in the order in which none
// undoes another: chown(2) takes capabilities and set-user-ID away.
func (u *unpacker) own(h *tar.Header, fd int) error {
	if err := checkOwner(h); err != nil {
		return err
	}
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return fmt.Errorf("owner %d:%d: %w", h.Uid, h.Gid, err)
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok {
			continue
		}
		keep, err := attribute(name)
		if err != nil {
			return err
		}
		if keep {
			if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
				return fmt.Errorf("attribute %s: %w", name, err)
			}
		}
	}
	return unix.Fchmod(fd, uint32(h.Mode)&0o7777)
}

// describe is own for what cannot be opened.
func (u *unpacker) describe(h *tar.Header, at int, base string, mode bool) error {
	if err := checkOwner(h); err != nil {
		return err
	}
	if err := unix.Fchownat(at, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("owner %d:%d: %w", h.Uid, h.Gid, err)
	}
	for key := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if keep, err := attribute(name); err != nil {
				return err
			} else if keep {
				return fmt.Errorf("attribute %s: only a file or a directory can have it", name)
			}
		}
	}
	if mode { // never of a link: the device or fifo was made a moment ago, by us
		if err := unix.Fchmodat(at, base, uint32(h.Mode)&0o7777, 0); err != nil {
			return err
		}
	}
	return touch(at, base, h.ModTime)
}

func checkOwner(h *tar.Header) error {
	if h.Uid < 0 || int64(h.Uid) >= math.MaxUint32 || h.Gid < 0 || int64(h.Gid) >= math.MaxUint32 {
		// the last is "leave as it is" to chown(2)
		return fmt.Errorf("owner %d:%d cannot be", h.Uid, h.Gid)
	}
	return nil
}

// attribute reports whether an extended attribute is kept; see Tar.
func attribute(name string) (keep bool, err error) {
	switch {
	case strings.HasPrefix(name, "trusted."), strings.HasPrefix(name, "user.overlay."):
		return false, fmt.Errorf("attribute %s: not from an archive", name)
	case name == "security.capability", strings.HasPrefix(name, "user."):
		return true, nil
	}
	return false, nil
}

// Attributes are the extended attributes of a file or directory that Tar would have kept, and those
// of the given names.
func Attributes(path string, more ...string) (map[string]string, error) {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(path, list)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: attributes: %w", path, err)
	}
	var all map[string]string
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if keep, err := attribute(name); (!keep || err != nil) && !slices.Contains(more, name) {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: attribute %s: %w", path, name, err)
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = string(value[:n])
	}
	return all, nil
}

func touch(at int, base string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err == nil {
		err = unix.UtimesNanoAt(at, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("time %v: %w", t, err)
	}
	return nil
}

// finish leaves out what hides nothing, marks the rest, and sets the directories' times. One that
// another entry has replaced since is passed over.
func (u *unpacker) finish() error {
	u.forget()
	whiteouts, err := u.needless()
	if err != nil {
		return err
	}
	marks := ""
	for name := range u.implied {
		if !u.options.MarkImplied {
			break
		}
		marked, err := u.at(name, func(fd int) error {
			return unix.Fsetxattr(fd, overlay.Implied, []byte{overlay.MarkDirectories}, 0)
		})
		if err == unix.EOPNOTSUPP {
			// a file system without such attributes; overlayfs does not take it for layers either
			break
		}
		if err != nil {
			return fmt.Errorf("directory %q: %s: %w", name, overlay.Implied, err)
		}
		if marked {
			marks = string(overlay.MarkDirectories)
		}
	}
	if u.options.MarkImplied && u.options.Whiteouts && !u.rooted {
		marks += string(overlay.MarkRoot)
	}
	if u.options.MarkImplied && whiteouts {
		marks += string(overlay.MarkWhiteouts)
	}
	if marks != "" {
		if err := unix.Fsetxattr(u.root, overlay.Implied, []byte(marks), 0); err != nil && err != unix.EOPNOTSUPP {
			return fmt.Errorf("%s: %w", overlay.Implied, err)
		}
	}
	for name, t := range u.directories {
		if _, err := u.at(name, func(fd int) error { return touch(fd, ".", t) }); err != nil {
			return fmt.Errorf("directory %q: %w", name, err)
		}
	}
	return nil
}

// needless removes the whiteouts in opaque directories, where they hide nothing, and overlayfs
// would list them. It reports whether there are others.
func (u *unpacker) needless() (others bool, err error) {
	for _, place := range u.hidden {
		dir, base := path.Split(place)
		_, err := u.at(strings.TrimSuffix(dir, "/"), func(fd int) error {
			var st unix.Stat_t
			if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || !isWhiteout(&st) {
				return nil // replaced
			}
			if n, err := unix.Fgetxattr(fd, overlay.Opaque, nil); err == nil && n > 0 {
				return unix.Unlinkat(fd, base, 0)
			}
			others = true
			return nil
		})
		if err != nil {
			return others, fmt.Errorf("whiteout of %q: %w", place, err)
		}
	}
	return others, nil
}

// at calls f with a directory of the tree, by its place, and reports whether it is still there.
func (u *unpacker) at(place string, f func(fd int) error) (bool, error) {
	fd, err := openat.FD(u.root, cmp.Or(place, "."), unix.O_RDONLY|unix.O_DIRECTORY, openat.NoLinks)
	switch err {
	case nil:
		err := f(fd)
		unix.Close(fd)
		return true, err
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return false, nil
	}
	return false, err
}

// openChild opens a child of a directory, never what a link of that name points to.
func openChild(at int, base string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(at, base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
