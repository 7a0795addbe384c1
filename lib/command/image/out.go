package image

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

// setupOutput is what the verbs have in common that write an image somewhere.
func setupOutput(verb string, directory bool,
	write func(context.Context, *cli.Process, *output) error) func(*cli.Flags) cli.Run {
	return func(fs *cli.Flags) cli.Run {
		o := &output{}
		fs.BoolVar(&o.overwrite, "overwrite", false, "replace what is there")
		if directory {
			fs.BoolVar(&o.rootfsOnly, "rootfs-only", false, "no manifest, and DIR is the root")
		}
		return func(ctx context.Context, p *cli.Process) error {
			if err := o.find(fs, verb); err != nil {
				return err
			}
			ctx, stop := cli.Interruptible(ctx)
			defer stop()
			return o.fail(write(ctx, p, o))
		}
	}
}

// find finds the image.
func (o *output) find(fs *cli.Flags, verb string) (err error) {
	if fs.NArg() != 2 || fs.Arg(1) == "" {
		return fmt.Errorf("%s: an image and where it is to go, please (--help shows how)", verb)
	}
	o.to = fs.Arg(1)
	if o.store, err = store.Open(fs.Global.Dir); err != nil {
		return err
	}
	o.image, err = open(o.store, fs.Arg(0))
	return err
}

// fail says of which image an error is.
func (o *output) fail(err error) error {
	if err != nil {
		return fmt.Errorf("image %s: %w", o.image.ID[:len("sha512-")+12], err)
	}
	return nil
}

func exportACI(ctx context.Context, p *cli.Process, o *output) error {
	write := func(w io.Writer) error { return export.ACI(ctx, o.store, o.image, w) }
	if o.to == "-" {
		return write(p.Stdout)
	}
	return export.File(o.to, o.overwrite, write)
}

func extract(ctx context.Context, _ *cli.Process, o *output) error {
	return export.Directory(o.to, o.rootfsOnly, o.overwrite, func(w io.Writer) error {
		return export.ACI(ctx, o.store, o.image, w)
	})
}

func render(ctx context.Context, _ *cli.Process, o *output) error {
	return export.Directory(o.to, o.rootfsOnly, o.overwrite, func(w io.Writer) error {
		return export.Rendered(ctx, o.store, o.image, w)
	})
}

func setupVerify(fs *cli.Flags) cli.Run {
	return func(ctx context.Context, p *cli.Process) error { return verifyImages(ctx, p, fs) }
}

func verifyImages(ctx context.Context, p *cli.Process, fs *cli.Flags) error {
	if fs.NArg() == 0 {
		return errors.New("verify: no image given (--help shows how)")
	}
	s, err := store.Open(fs.Global.Dir)
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
			errs = append(errs, fmt.Errorf("image %q: damaged (remove it and fetch it again: rkt image rm, rkt fetch)",
				name))
		default:
			if err := p.PrintLine("successfully verified checksum for image: %q (%q)", name, img.ID); err != nil {
				// rkt's words
				return err
			}
		}
	}
	return errors.Join(errs...)
}
