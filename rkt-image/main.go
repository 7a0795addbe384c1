// Rkt-image looks after the images in the store.
//
//	rkt-image list [--fields=FIELD,…] [--sort=FIELD,…] [--order=asc|desc] [--full] [--no-legend] [--format=json]
//	rkt-image df [--full] [--no-legend] [--format=json]
//	rkt-image cat-manifest [--pretty-print] IMAGE
//	rkt-image export [--overwrite] IMAGE FILE|-
//	rkt-image extract [--rootfs-only] [--overwrite] IMAGE DIR
//	rkt-image render [--rootfs-only] [--overwrite] IMAGE DIR
//	rkt-image verify IMAGE…
//	rkt-image import FILE|- [--signature=FILE]
//	rkt-image rm [--uuid-file=FILE] IMAGE…
//	rkt-image gc [--grace-period=DURATION]
//	rkt-image reindex
//
// list shows all names by which an image can be called, and of one whose name means another image by now, which that was. df prints what the
// images take of the disk: a layer that several have is in the size of each, and once in the sum.
//
// export writes an ACI: the same bytes that the image was made of if it was one (uncompressed, so that its SHA-512 is the image's ID), else
// one of what an app of it sees. extract makes a folder of that one image, and render of the image and all that it depends on, as an app
// sees it; both make DIR/manifest and DIR/rootfs, or with --rootfs-only DIR itself is the root. What they write is there whole or not at
// all. verify looks whether each file of an image is what the image's ID says: contents, type, mode, owner, size, time, link target and attributes. import
// is rkt-fetch for what is on this machine: an ACI, or an archive of one image (docker-archive:FILE, oci-archive:FILE), or either of them
// on standard input, which gets no name in the store. It prints the image's ID.
//
// rm removes an image's names, and what the image has alone: layers that other images have too stay, and so do those that a pod uses, in
// whatever state the pod is, until gc finds no pod that does. gc removes the images that no pod uses and that none was made of for a while, and layers without an image. Both can be killed at any time, and run while images are fetched and pods are made.
//
// reindex makes the store's index of images and names anew where it is lost or damaged, from layers, configs and records, each of which it
// compares with its digest. It prints what it brings back. What the index has whole is left alone.
package main

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
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

const usage = `Usage: rkt-image list|df|cat-manifest|export|extract|render|verify|import|rm|gc|reindex [FLAGS] [IMAGE...]

  list             list the images in the store, with all names of each
  df               what they take of the disk, shared layers counted once
  cat-manifest     print an image's manifest
  export           write an image to a FILE, or -, as an ACI
  extract          make a folder DIR of an image, without what it depends on
  render           make a folder DIR of an image, as an app of it sees it
  verify           look whether every file of images is what their IDs say
  import           put an image from a FILE, or -, into the store
  rm               remove images; pods of them go on, with what they need of them
  gc               remove those that were not used for a while
  reindex          bring back images and names that the store's index has lost

list also works for members of group rkt, by rkt-fetch.socket.

IMAGE is an ID, also by its beginning, or a name that list shows.

Flags:
  --fields=LIST    list: id, name, size, importtime, lastused, verified
  --sort=LIST      list: by these of them (default importtime)
  --order=asc|desc list: which way (default asc)
  --full           list, df: whole IDs, sizes in bytes, times as dates
  --no-legend      list, df: omit the header line
  --format=FORMAT  list, df: text (default), json, or json-pretty
  --overwrite      export, extract, render: replace what is there
  --rootfs-only    extract, render: no manifest, and DIR is the root
  --pretty-print   cat-manifest: on several lines (default), or =false
  --grace-period=DURATION
                   gc: for how long (default 24h)
  --uuid-file=FILE rm: the image whose ID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-image", usage, run) }

func run(ctx context.Context, p *cli.Process) error {
	if len(p.Args) == 0 {
		return errors.New("list, df, cat-manifest, export, extract, render, verify, import, rm, gc or reindex? (--help tells more)")
	}
	flags, words, err := cli.Leading(cli.Known("", "rkt-image"), p.Args) // a verb may follow its flags
	if err != nil {
		return err
	}
	if len(words) > 0 {
		verb, ok := verbs()[words[0]]
		if !ok {
			return fmt.Errorf("%q is none of list, df, cat-manifest, export, extract, render, verify, import, rm, gc, reindex", words[0])
		}
		p.Args = slices.Concat(flags, words[1:])
		return verb(ctx, p)
	}
	fs, g := p.Flags()
	if err := p.ParseAnywhere(fs, g, flags); err != nil { // --help
		return err
	}
	return errors.New("list, df, cat-manifest, export, extract, render, verify, import, rm, gc or reindex? (--help tells more)")
}

func verbs() map[string]func(context.Context, *cli.Process) error {
	return map[string]func(context.Context, *cli.Process) error{"list": list, "df": df, "cat-manifest": catManifest, "export": exportACI,
		"extract": extract, "render": render, "verify": verifyImages, "import": importFile, "rm": remove, "gc": collect, "reindex": reindex}
}

// find is the ID of an image in the store, by ID, by the name that it was fetched by, or by the one that list shows.
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

func catManifest(_ context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	pretty := true
	fs.BoolVar(&pretty, "pretty-print", true, "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
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
var errOnlyRoot = errors.New("permission denied: only root removes images; members of group rkt fetch and list them (try it as root)")

func remove(ctx context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	var file string
	fs.StringVar(&file, "uuid-file", "", "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
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
		errs = append(errs, fmt.Errorf("rm: %d image(s) successfully removed, %d image(s) cannot be removed", removed, len(errs)))
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

func collect(ctx context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	var grace time.Duration
	fs.DurationVar(&grace, "grace-period", 24*time.Hour, "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
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
	removed, err := s.Collect(ctx, time.Now().Add(-grace), poddir.In(g.Dir).Layers)
	for _, id := range removed {
		if err := p.PrintLine("successfully removed aci for image: %q", id); err != nil {
			return err
		}
	}
	return err
}

func reindex(ctx context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
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
	err = index.Rebuild(ctx, s, func(r store.Ref) { say("image %s is back", r.ID) }, func(r store.Ref) { say("name %s is back: %s", r.Key, r.ID) })
	return errors.Join(append(lines, err)...)
}
