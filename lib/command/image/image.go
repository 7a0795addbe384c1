// Package image is the program rkt-image.
package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/index"
	"github.com/rkt-toolkit/rkt/lib/image/member"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/pod/update"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Command is rkt-image.
var Command = &cli.Command{
	Name:    "rkt-image",
	Summary: "list, show, export, verify and remove images",
	Synopsis: []string{
		"list [FLAGS]", "df [FLAGS]", "cat-manifest [FLAGS] IMAGE", "export [FLAGS] IMAGE FILE|-",
		"extract [FLAGS] IMAGE DIR", "render [FLAGS] IMAGE DIR", "verify IMAGE...", "import [FLAGS] FILE|-",
		"rm [FLAGS] IMAGE...", "gc [FLAGS]", "reindex",
	},
	Text: `
Works on the images in the store. IMAGE is an ID, also by its beginning, or a name
that list shows. list also works for members of group rkt, by rkt-fetch.socket.`,
	Details: `
list shows all names by which an image can be called, and of one whose name means
another image by now, which that was. df counts a layer that several images share
in the size of each, and once in the sum.

export writes an ACI: the same bytes that the image was made of if it was one
(uncompressed, so that its SHA-512 is the image's ID), else one of what an app of
it sees. extract makes a directory of that one image, and render of the image and
all that it depends on, as an app sees it; both make DIR/manifest and DIR/rootfs,
or with --rootfs-only DIR itself is the root. What they write is there whole or not
at all. verify compares each file of an image with what the image's ID says:
contents, type, mode, owner, size, time, link target and attributes. import is
rkt-fetch for what is on this machine: an ACI, or an archive of one image
(docker-archive:FILE, oci-archive:FILE), or either of them on standard input, which
gets no name in the store. It prints the image's ID.

rm removes an image's names, and what no other image shares: layers that other
images have too stay, and so do those that a pod uses, in whatever state the pod
is, until gc finds no pod that does. gc removes the images that no pod uses and
from which none was made for a while, and layers without an image. Both can be
killed at any time, and run while images are fetched and pods are prepared.

reindex restores the store's index of images and names where it is lost or
damaged, from layers, configs and records, each of which it compares with its
digest. It prints what it restores, and leaves what is whole alone.`,
	Examples: []cli.Example{
		{Line: "rkt image list --fields=id,name --no-legend", Text: "List IDs and names, for a script."},
		{Line: "rkt image render docker://redis redis-root --rootfs-only",
			Text: "Write the files of an image into a directory."},
		{Line: "rkt image gc --grace-period=0", Text: "Remove all images that no pod uses."},
	},
	Files:   []cli.File{{Path: "/var/lib/rkt/cas", Text: "the image store"}},
	SeeAlso: []string{"rkt-fetch", "rkt-export", "rkt-gc"},
	Verbs: []cli.Verb{
		{Name: "list", Summary: "list the images in the store, with all names of each", Setup: setupList},
		{Name: "df", Summary: "show how much disk space they take, shared layers counted once", Setup: setupDf},
		{Name: "cat-manifest", Summary: "print an image's manifest", Setup: setupManifest},
		{Name: "export", Summary: "write an image to a FILE, or -, as an ACI",
			Setup: setupOutput("export", false, exportACI)},
		{Name: "extract", Summary: "write an image into a directory DIR, without what it depends on",
			Setup: setupOutput("extract", true, extract)},
		{Name: "render", Summary: "write an image into a directory DIR, as an app of it sees it",
			Setup: setupOutput("render", true, render)},
		{Name: "verify", Summary: "check that every file of images is what their IDs say", Setup: setupVerify},
		{Name: "import", Summary: "put an image from a FILE, or -, into the store", Setup: setupImport},
		{Name: "rm", Summary: "remove images; pods made from them go on", Setup: setupRemove},
		{Name: "gc", Summary: "remove those that were not used for a while", Setup: setupCollect},
		{Name: "reindex", Summary: "restore images and names that the store's index has lost", Setup: setupReindex},
	},
}

// find is the ID of an image in the store, by ID, by the name that it was fetched by, or by the one
// that list shows.
func find(s *store.Store, name string) (string, error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return "", err
	}
	id, err := s.Lookup(ref)
	if errors.Is(err, store.ErrNotFound) && ref.Kind == image.Appc {
		return s.Find(ref)
	}
	return id, err
}

// about says which image an error is about, in rkt's words if the store has none of that name.
func about(name string, err error) error {
	ref, parseErr := image.ParseReference(name)
	switch {
	case parseErr != nil || !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("image %q: %w", name, err)
	case ref.Kind == image.ID:
		return fmt.Errorf("cannot resolve image ID %q: no image IDs found: %w", name, err)
	default:
		return fmt.Errorf("cannot find image %q: %w", name, err)
	}
}

// open finds an image in the store.
func open(s *store.Store, name string) (*store.Image, error) {
	id, err := find(s, name)
	if err == nil {
		var img *store.Image
		if img, err = s.Image(id); err == nil {
			return img, nil
		}
	}
	return nil, about(name, err)
}

func setupManifest(fs *cli.Flags) cli.Run {
	var pretty bool
	fs.BoolVar(&pretty, "pretty-print", true, "=false: print the JSON on one line")
	return func(_ context.Context, p *cli.Process) error { return catManifest(p, fs, pretty) }
}

func catManifest(p *cli.Process, fs *cli.Flags, pretty bool) error {
	g := fs.Global
	if fs.NArg() != 1 {
		return errors.New("cat-manifest: one image, please")
	}
	s, err := store.Open(g.Dir)
	if err != nil {
		return err
	}
	img, err := open(s, fs.Arg(0))
	if err != nil {
		return err
	}
	return p.PrintJSON(img.Manifest, pretty)
}

// errOnlyRoot is for members of group rkt, who could remove images in rkt 1.30.
var errOnlyRoot = errors.New("permission denied: only root removes images; members of group rkt fetch and list them " +
	"(try it as root)")

func setupRemove(fs *cli.Flags) cli.Run {
	var file string
	fs.StringVar(&file, "uuid-file", "", "FILE: the image whose ID is in FILE")
	return func(ctx context.Context, p *cli.Process) error { return remove(ctx, p, fs, file) }
}

func remove(ctx context.Context, p *cli.Process, fs *cli.Flags, file string) error {
	g := fs.Global
	names := fs.Args()
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		names = append(names, strings.TrimSpace(string(text)))
	}
	if len(names) == 0 {
		return errors.New("rm: must provide at least one image ID (--help shows how)")
	}
	if member.Needed(g.Dir) {
		return errOnlyRoot
	}
	s, err := store.Open(g.Dir)
	if err != nil {
		return err
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	removed := 0
	ids, errs := findAll(s, names)
	for _, id := range ids {
		if err := s.Remove(ctx, id, poddir.In(g.Dir).Layers); err != nil {
			errs = append(errs, about(id, err))
			continue
		}
		if err := p.PrintLine("successfully removed aci for image: %q", id); err != nil { // rkt's words, for scripts
			return err
		}
		removed++
	}
	if len(errs) > 0 {
		errs = append(errs, fmt.Errorf("rm: %d image(s) successfully removed, %d image(s) cannot be removed",
			removed, len(errs)))
		return errors.Join(errs...)
	}
	p.Say("rm: %d image(s) successfully removed", removed) // rkt's last line
	return nil
}

// findAll finds images by their names, each once.
func findAll(s *store.Store, names []string) (ids []string, errs []error) {
	for _, name := range names {
		id, err := find(s, name)
		switch {
		case err != nil:
			errs = append(errs, about(name, err))
		case !slices.Contains(ids, id):
			ids = append(ids, id)
		}
	}
	return ids, errs
}

func setupCollect(fs *cli.Flags) cli.Run {
	var grace time.Duration
	fs.DurationVar(&grace, "grace-period", 24*time.Hour, "TIME: for how long")
	return func(ctx context.Context, p *cli.Process) error { return collect(ctx, p, fs, grace) }
}

func collect(ctx context.Context, p *cli.Process, fs *cli.Flags, grace time.Duration) error {
	g := fs.Global
	if fs.NArg() > 0 {
		return fmt.Errorf("gc: %q: takes no operands", fs.Arg(0))
	}
	if member.Needed(g.Dir) {
		return errOnlyRoot
	}
	s, err := store.Open(g.Dir)
	if err != nil {
		return err
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	users, err := update.Users(poddir.In(g.Dir), s)
	if err != nil {
		return err
	}
	removed, err := s.Collect(ctx, time.Now().Add(-grace), users)
	for _, id := range removed {
		if err := p.PrintLine("successfully removed aci for image: %q", id); err != nil {
			return err
		}
	}
	return err
}

func setupReindex(fs *cli.Flags) cli.Run {
	return func(ctx context.Context, p *cli.Process) error { return reindex(ctx, p, fs) }
}

func reindex(ctx context.Context, p *cli.Process, fs *cli.Flags) error {
	g := fs.Global
	if fs.NArg() > 0 {
		return fmt.Errorf("reindex: %q: takes no operands", fs.Arg(0))
	}
	s, err := store.Open(g.Dir)
	if err != nil {
		return err
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	var lines []error
	say := func(format string, args ...any) { lines = append(lines, p.PrintLine(format, args...)) }
	err = index.Rebuild(ctx, s, func(r store.Ref) { say("image %s is back", r.ID) },
		func(r store.Ref) { say("name %s is back: %s", r.Key, r.ID) })
	return errors.Join(append(lines, err)...)
}
