// Package selinux says whether the host has SELinux, which contexts its policy has for containers,
// and which pairs of categories there are to keep containers apart. See selinux(8) and mcs(8).
package selinux

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/host/bounded"
)

// selinuxfs is where the kernel tells of SELinux, if it is enabled.
const selinuxfs = "/sys/fs/selinux"

// Enabled reports whether the kernel has SELinux enabled, with a policy: only then there are
// classes. Where selinuxfs is read-only, as in containers of others, SELinux is not for this
// process to use (is_selinux_enabled(3)).
func Enabled() bool {
	if _, err := os.Stat(selinuxfs + "/class/process"); err != nil {
		return false
	}
	return !errors.Is(unix.Access(selinuxfs+"/context", unix.W_OK), unix.EROFS)
}

// OfPolicy returns the contexts that the host's policy has for containers, without categories.
func OfPolicy() (Containers, error) {
	c, err := ReadContainers("/")
	if err != nil {
		return Containers{}, err
	}
	text, err := os.ReadFile(selinuxfs + "/mls")
	if err != nil {
		return Containers{}, err
	}
	lowest := c.Process.Sensitivity()
	if strings.TrimSpace(string(text)) != "1" || lowest == "" {
		return Containers{}, errors.New("the policy has no categories")
	}
	c.Process.Level, c.File.Level, c.Image.Level = lowest, lowest, lowest
	for _, context := range []Context{c.Process, c.File, c.Image} {
		if err := Check(context); err != nil {
			return Containers{}, err
		}
	}
	return c, nil
}

// Check returns an error if the policy does not have a context.
func Check(c Context) error {
	err := os.WriteFile(selinuxfs+"/context", []byte(c.String()), 0)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("the policy has no context %s", c)
	}
	return err
}

// Context is a security context of SELinux.
type Context struct {
	User, Role, Type string
	Level            string // sensitivity and categories, or a range of these: s0:c1,c2; "" if the policy has none
}

// part is what a context's user, role and type are made of, level what a level is. All of it can
// stand in options of a mount, between quotes, and on a command line.
var (
	part  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	level = regexp.MustCompile(`^[A-Za-z0-9_]+(:[A-Za-z0-9_.,]+)?(-[A-Za-z0-9_]+(:[A-Za-z0-9_.,]+)?)?$`)
)

// Parse reads a context.
func Parse(s string) (c Context, err error) {
	fields := strings.SplitN(s, ":", 4)
	if len(fields) < 3 {
		return c, fmt.Errorf("%q: not USER:ROLE:TYPE:LEVEL", s)
	}
	c = Context{User: fields[0], Role: fields[1], Type: fields[2]}
	if len(fields) == 4 {
		c.Level = fields[3]
		if err := CheckLevel(c.Level); err != nil {
			return Context{}, err
		}
	}
	for _, name := range fields[:3] {
		if err := CheckName(name); err != nil {
			return Context{}, err
		}
	}
	return c, nil
}

// CheckName returns an error if a user, role or type can't be called so.
func CheckName(name string) error {
	if !part.MatchString(name) || len(name) > 200 {
		return fmt.Errorf("%q is no name in a context", name)
	}
	return nil
}

// CheckLevel returns an error for what is no level.
func CheckLevel(s string) error {
	if !level.MatchString(s) || len(s) > 1000 {
		return fmt.Errorf("%q is no level such as s0:c1,c2", s)
	}
	return nil
}

func (c Context) String() string {
	s := c.User + ":" + c.Role + ":" + c.Type
	if c.Level != "" {
		s += ":" + c.Level
	}
	return s
}

// Sensitivity is the lowest of the context's level, without categories: s0.
func (c Context) Sensitivity() string {
	end := strings.IndexAny(c.Level, ":-")
	if end < 0 {
		return c.Level
	}
	return c.Level[:end]
}

// Containers are the contexts that a policy has for containers.
type Containers struct {
	Process Context
	File    Context // of files that containers may write to
	Image   Context // of those of images, which they may read; as File, if the policy has no other
}

// maxFile is the size of the longest file of a policy that is read.
const maxFile = 1 << 20

// ReadContainers reads the contexts from the policy's files below root: those that
// container-selinux installs for all container runtimes, or else those for LXC of the policy that
// /etc/selinux/config names.
func ReadContainers(root string) (Containers, error) {
	file := filepath.Join(root, "/usr/share/containers/selinux/contexts")
	text, err := read(file)
	if errors.Is(err, fs.ErrNotExist) {
		file = filepath.Join(root, "/etc/selinux", policyType(root), "contexts/lxc_contexts")
		text, err = read(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Containers{}, fmt.Errorf("the policy has no contexts for containers (%s)", file)
	}
	if err != nil {
		return Containers{}, err
	}
	c, err := parseContainers(string(text))
	if err != nil {
		return Containers{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded.File(f, maxFile)
}

// policyType is the name of the policy in use (selinux_config(5)), or libselinux's default.
func policyType(root string) string {
	name := "targeted"
	text, err := read(filepath.Join(root, "/etc/selinux/config"))
	if err != nil {
		return name
	}
	for line := range bytes.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "SELINUXTYPE=")
		value = strings.TrimSpace(value)
		if ok && value != "" && value != "." && value != ".." && !strings.ContainsAny(value, "/\x00") {
			name = value
		}
	}
	return name
}

// parseContainers reads lines of the form NAME = "CONTEXT"; other names than these three are for
// others.
func parseContainers(text string) (c Containers, err error) {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.Trim(strings.TrimSpace(value), `"`)
		var to *Context
		switch name {
		case "process":
			to = &c.Process
		case "file":
			to = &c.File
		case "ro_file":
			to = &c.Image
		}
		if !ok || to == nil {
			continue
		}
		if *to, err = Parse(value); err != nil {
			return Containers{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	if c.Process == (Context{}) || c.File == (Context{}) {
		return Containers{}, errors.New("has no context for process, or none for file")
	}
	if c.Image == (Context{}) {
		c.Image = c.File
	}
	return c, nil
}

// categories is how many there are in policies: c0 to c1023.
const categories = 1024

// Pairs is the number of pairs of two categories.
const Pairs = categories * (categories - 1) / 2

// Pair returns one of the pairs, as a level has it: c1,c2, the lower category first.
func Pair(n int) string {
	high := 1
	for n >= high { // there are as many with this category as the higher one
		n -= high
		high++
	}
	return "c" + strconv.Itoa(n) + ",c" + strconv.Itoa(high)
}

// attribute is where a file's context is.
const attribute = "security.selinux"

// SetFile gives a file, which is not followed if it is a link, a context. A file system that keeps
// none is left alone.
func SetFile(name string, c Context) error { return set(unix.Lsetxattr, name, c) }

func set(by func(string, string, []byte, int) error, name string, c Context) error {
	err := by(name, attribute, []byte(c.String()), 0)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s: SELinux context %s: %w", name, c, err)
	}
	return nil
}

// EnsureTree is SetTree for what nobody else changes: where the directory has the context, so has
// all that is in it.
func EnsureTree(dir string, c Context) error {
	value := make([]byte, len(c.String())+2)
	n, err := unix.Lgetxattr(dir, attribute, value)
	if err == nil && string(bytes.TrimSuffix(value[:n], []byte{0})) == c.String() {
		return nil
	}
	return SetTree(dir, c)
}

// SetTree gives a file, or a directory and all that is in it, a context; the directory last.
// Whoever writes there meanwhile, as an app can in a volume, can't lead it elsewhere: no link is
// followed but one at the path itself.
func SetTree(path string, c Context) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return set(unix.Setxattr, path, c)
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	return setOpened(dir, c)
}

func setOpened(f *os.File, c Context) error {
	own := fmt.Sprintf("/proc/self/fd/%d/", f.Fd())
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			err = setBelow(f, e.Name(), c)
		} else {
			err = SetFile(own+e.Name(), c)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return err
		}
	}
	return SetFile(own+".", c)
}

func setBelow(parent *os.File, name string, c Context) error {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) { // another file by now
		return SetFile(fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), name), c)
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	dir := os.NewFile(uintptr(fd), filepath.Join(parent.Name(), name))
	defer dir.Close()
	return setOpened(dir, c)
}
