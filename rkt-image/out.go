package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/verify"
	"github.com/rkt-toolkit/rkt/lib/pod/export"
)

// output is what the verbs have in common that write an image somewhere.
type output struct {
	rootfsOnly, overwrite bool
	store                 *store.Store
	image                 *store.Image
	to                    string
}

func parseOutput(p *cli.Process, verb string, folder bool) (*output, error) {
	fs, g := p.Flags()
	o := &output{}
	fs.BoolVar(&o.overwrite, "overwrite", false, "")
	if folder {
		fs.BoolVar(&o.rootfsOnly, "rootfs-only", false, "")
	}
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return nil, err
	}
	if fs.NArg() != 2 || fs.Arg(1) == "" {
		return nil, fmt.Errorf("%s: an image and where it is to go, please (--help shows how)", verb)
	}
	o.to = fs.Arg(1)
	var err error
	if o.store, err = store.Open(g.Dir); err != nil {
		return nil, err
	}
	o.image, err = open(o.store, fs.Arg(0))
	return o, err
}

// fail says of which image an error is.
func (o *output) fail(err error) error {
	if err != nil {
		return fmt.Errorf("image %s: %w", o.image.ID[:len("sha512-")+12], err)
	}
	return nil
}

func exportACI(ctx context.Context, p *cli.Process) error {
	o, err := parseOutput(p, "export", false)
	if err != nil {
		return err
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	write := func(w io.Writer) error { return export.ACI(ctx, o.store, o.image, w) }
	if o.to == "-" {
		return o.fail(write(p.Stdout))
	}
	return o.fail(export.File(o.to, o.overwrite, write))
}

func extract(ctx context.Context, p *cli.Process) error { return folder(ctx, p, "extract", export.ACI) }
func render(ctx context.Context, p *cli.Process) error {
	return folder(ctx, p, "render", export.Rendered)
}

func folder(ctx context.Context, p *cli.Process, verb string, write func(context.Context, *store.Store, *store.Image, io.Writer) error) error {
	o, err := parseOutput(p, verb, true)
	if err != nil {
		return err
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	return o.fail(export.Folder(o.to, o.rootfsOnly, o.overwrite, func(w io.Writer) error { return write(ctx, o.store, o.image, w) }))
}

func verifyImages(ctx context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("verify: no image given (--help shows how)")
	}
	s, err := store.Open(g.Dir)
	if err != nil {
		return err
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	name := ""
	var errs []error
	v := verify.New(s, func(problem string) { errs = append(errs, fmt.Errorf("image %q: %s", name, problem)) })
	for _, name = range fs.Args() {
		img, err := open(s, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		whole, err := v.Image(ctx, img)
		switch {
		case err != nil:
			errs = append(errs, about(name, err))
		case !whole:
			errs = append(errs, fmt.Errorf("image %q: damaged (remove it and fetch it again: rkt image rm, rkt fetch)", name))
		default:
			if err := p.PrintLine("successfully verified checksum for image: %q (%q)", name, img.ID); err != nil { // rkt's words
				return err
			}
		}
	}
	return errors.Join(errs...)
}
