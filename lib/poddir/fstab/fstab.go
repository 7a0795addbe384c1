// Package fstab reads and writes the file "mounts" of a pod's directory: bind mounts, as lines of
// fstab(5) whose type is none.
package fstab

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Bind is a line.
type Bind struct {
	Source    string // absolute, or relative to the pod's directory
	Target    string // relative to the pod's directory
	Recursive bool   // rbind: with the mounts below the source
	ReadOnly  bool   // ro: so are those
	NoDev     bool   // nodev: device nodes do nothing
	Slave     bool   // rslave: what the host mounts below the source later arrives; otherwise rprivate
}

// Parse reads the file. An option that is not known is an error: one that asks for protection must
// not be passed over.
func Parse(text string) ([]Bind, error) {
	var binds []Bind
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 4 || f[2] != "none" {
			return nil, fmt.Errorf("line %q: not a bind mount", strings.TrimSpace(line))
		}
		b := Bind{Source: unescape(f[0]), Target: unescape(f[1])}
		options := strings.Split(f[3], ",")
		for _, option := range options {
			switch option {
			case "bind", "rprivate":
			case "rbind":
				b.Recursive = true
			case "ro":
				b.ReadOnly = true
			case "nodev":
				b.NoDev = true
			case "rslave":
				b.Slave = true
			default:
				return nil, fmt.Errorf("line %q: option %q is not one of bind, rbind, ro, nodev, rslave, rprivate",
					strings.TrimSpace(line), option)
			}
		}
		if !slices.Contains(options, "bind") && !b.Recursive {
			return nil, fmt.Errorf("line %q: not a bind mount", strings.TrimSpace(line))
		}
		if !filepath.IsAbs(b.Source) && !filepath.IsLocal(b.Source) || !filepath.IsLocal(b.Target) {
			return nil, fmt.Errorf("line %q: leaves the pod", strings.TrimSpace(line))
		}
		binds = append(binds, b)
	}
	return binds, nil
}

// String is the line, with its newline.
func (b Bind) String() string {
	options := "bind"
	if b.Recursive {
		options = "rbind"
	}
	for _, o := range []struct {
		set  bool
		name string
	}{{b.ReadOnly, "ro"}, {b.NoDev, "nodev"}, {b.Slave, "rslave"}} {
		if o.set {
			options += "," + o.name
		}
	}
	return escape(b.Source) + " " + escape(b.Target) + " none " + options + " 0 0\n"
}

// escape writes what ends a field, begins a comment or is no ASCII as fstab's octal.
func escape(field string) string {
	var out strings.Builder
	for _, c := range []byte(field) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '#' {
			fmt.Fprintf(&out, `\%03o`, c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

// unescape undoes fstab's \040 for a space.
func unescape(field string) string {
	parts := strings.Split(field, `\`)
	for i, part := range parts[1:] {
		if len(part) >= 3 {
			if c, err := strconv.ParseUint(part[:3], 8, 8); err == nil {
				parts[i+1] = string([]byte{byte(c)}) + part[3:]
				continue
			}
		}
		parts[i+1] = `\` + part
	}
	return strings.Join(parts, "")
}
