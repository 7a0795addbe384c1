package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/image/member"
	"github.com/rkt-toolkit/rkt/lib/image/resolve"
	"github.com/rkt-toolkit/rkt/lib/image/store"
)

// entry is an image in the list, with rkt's names in JSON.
type entry struct {
	ID    string   `json:"id"`            // sha512-…
	Name  string   `json:"name"`          // in its manifest, with the version
	Names []string `json:"names"`         // all that mean the image now, as they can be typed
	Was   string   `json:"was,omitempty"` // the name in its manifest, if that means another image by now
	// bytes of its unpacked layers, those that other images have as well included
	Size     int64      `json:"size"`
	Imported int64      `json:"import_time"`    // nanoseconds since 1970
	LastUsed int64      `json:"last_used_time"` // nanoseconds since 1970
	Verified []verified `json:"verified"`       // for which names, as far as that counts today
}

type verified struct {
	Name string `json:"name"` // what it was verified for
	Key  string `json:"key"`  // the key's fingerprint
}

// signer says by whose key an image is verified.
func (e entry) signer(full bool) string {
	var keys []string
	for _, v := range e.Verified {
		key := v.Key
		if !full {
			key = key[:min(len(key), 16)]
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if keys == nil {
		return "no"
	}
	return "by " + strings.Join(keys, ",")
}

// fields are the columns, in rkt's order.
var fields = []struct {
	name, title string
	text        func(e entry, full bool) string
	compare     func(a, b entry) int
}{
	{"id", "ID", func(e entry, full bool) string {
		if full {
			return e.ID
		}
		return e.ID[:len("sha512-")+12]
	}, func(a, b entry) int { return cmp.Compare(a.ID, b.ID) }},
	{"name", "NAME", func(e entry, _ bool) string { return e.shown() },
		func(a, b entry) int { return cmp.Compare(a.Name, b.Name) }},
	{"size", "SIZE", func(e entry, full bool) string { return size(e.Size, full) },
		func(a, b entry) int { return cmp.Compare(a.Size, b.Size) }},
	{"importtime", "IMPORT TIME", func(e entry, full bool) string { return when(e.Imported, full) },
		func(a, b entry) int { return cmp.Compare(a.Imported, b.Imported) }},
	{"lastused", "LAST USED", func(e entry, full bool) string { return when(e.LastUsed, full) },
		func(a, b entry) int { return cmp.Compare(a.LastUsed, b.LastUsed) }},
	{"verified", "VERIFIED", entry.signer, func(a, b entry) int { return cmp.Compare(a.signer(true), b.signer(true)) }},
}

func field(name string) int {
	name = strings.ReplaceAll(strings.TrimSpace(name), " ", "")
	for i, f := range fields {
		if f.name == name {
			return i
		}
	}
	return -1
}

// listing is how images are listed.
type listing struct {
	show, by, order string
	format          cli.Format
	full, noLegend  bool
}

func setupList(fs *cli.Flags) cli.Run {
	var l listing
	fs.StringVar(&l.show, "fields", "id,name,size,importtime,lastused,verified",
		"LIST: id, name, size, importtime, lastused, verified "+
			"(all by default)")
	fs.StringVar(&l.by, "sort", "importtime", "LIST: by these of them")
	fs.StringVar(&l.order, "order", "asc", "asc|desc: which way")
	registerTable(fs, &l.format, []entry(nil), &l.full, &l.noLegend)
	return func(_ context.Context, p *cli.Process) error { return l.list(p, fs) }
}

func (l listing) list(p *cli.Process, fs *cli.Flags) error {
	g := fs.Global
	show, by, order, format, full, noLegend := l.show, l.by, l.order, l.format, l.full, l.noLegend
	if fs.NArg() > 0 {
		return fmt.Errorf("list: %q: takes no operands", fs.Arg(0))
	}
	if order != "asc" && order != "desc" {
		return fmt.Errorf("--order=%s: is neither asc nor desc", order)
	}
	for _, flag := range [][2]string{{"fields", show}, {"sort", by}} {
		for item := range strings.SplitSeq(flag[1], ",") {
			if field(item) < 0 {
				return fmt.Errorf("--%s=%s: %q is not one of id, name, size, importtime, lastused, verified", flag[0],
					flag[1], item)
			}
		}
	}
	if member.Needed(g.Dir) {
		return ask(p)
	}
	s, err := store.Open(g.Dir)
	if err != nil {
		return err
	}
	entries, unread := read(resolve.New(s, false, g.SystemConfig, g.LocalConfig, g.UserConfig))
	slices.SortStableFunc(entries, func(a, b entry) int {
		for item := range strings.SplitSeq(by, ",") {
			c := fields[field(item)].compare(a, b)
			if order == "desc" {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	if format.JSON() {
		if entries == nil {
			entries = []entry{}
		}
		return errors.Join(p.PrintFormat(entries, format), unread)
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 8, 1, '\t', 0)
	line := func(text func(i int) string) {
		var cells []string
		for item := range strings.SplitSeq(show, ",") {
			cells = append(cells, printable.Line(text(field(item))))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if !noLegend {
		line(func(i int) string { return fields[i].title })
	}
	for _, e := range entries {
		line(func(i int) string { return fields[i].text(e, full) })
	}
	return errors.Join(w.Flush(), unread)
}

// ask has the service for members of group rkt print the list.
func ask(p *cli.Process) error {
	r := member.Request{Command: "list", Flags: maps.Clone(p.Chosen)}
	for _, name := range []string{"debug", "insecure-options", "trust-keys-from-https"} { // list has no use for them
		delete(r.Flags, name)
	}
	status, err := member.Ask(member.Socket, r, nil, p.Stdout, p.Stderr)
	if err == nil && status != 0 {
		err = cli.ExitStatus(status)
	}
	return err
}

// read lists the images that can be read, and says what is wrong with the others.
func read(r resolve.Resolver) (entries []entry, err error) {
	s := r.Store
	ids, err := s.Images()
	if err != nil {
		return nil, err
	}
	all, err := namesIn(s)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, id := range ids {
		img, err := s.Image(id)
		if errors.Is(err, store.ErrNotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("image %s: %w", id, err))
			continue
		}
		e := entry{ID: id, Name: described(img), Names: []string{}, Verified: []verified{}}
		typed, was := all.of(s, img)
		e.Names, e.Was = append(e.Names, typed...), was
		for _, proof := range r.Verified(img) {
			e.Verified = append(e.Verified, verified{proof.Name, proof.Key})
		}
		for _, layer := range img.Layers {
			n, err := weigh(layer)
			errs = append(errs, err)
			e.Size += n
		}
		e.Imported, e.LastUsed = s.Times(id)
		entries = append(entries, e)
	}
	return entries, errors.Join(errs...)
}

// weigh is what the files of a directory hold, in bytes.
func weigh(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

func size(bytes int64, full bool) string {
	if full {
		return fmt.Sprintf("%d", bytes)
	}
	return printable.Size(bytes)
}

func when(nanoseconds int64, full bool) string {
	t := time.Unix(0, nanoseconds)
	if full {
		return t.Format("2006-01-02 15:04:05.999 -0700 MST")
	}
	switch d := time.Since(t); {
	case d < time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}
