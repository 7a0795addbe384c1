package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/member"
	"golang.org/x/sys/unix"
)

// serve answers one member of group rkt, in the service that rkt-fetch.socket starts for each
// connection.
func serve(ctx context.Context, p *cli.Process) error {
	if len(activation.Names(p.Getenv, p.PID)) != 1 {
		return errors.New("--member: only rkt-fetch.socket starts it so")
	}
	unix.CloseOnExec(activation.First)
	return member.Service{Look: cli.Sibling, Log: p.Say}.Serve(ctx, activation.First)
}

// ask has the service fetch the images.
func (c *config) ask(p *cli.Process) error {
	for _, img := range c.images {
		status, err := c.askFor(p, img)
		if err != nil {
			return err
		}
		if status != 0 {
			return cli.ExitStatus(status)
		}
	}
	return nil
}

func (c *config) askFor(p *cli.Process, img operand) (int, error) {
	r := member.Request{Command: "fetch", Image: img.name, Flags: maps.Clone(p.Chosen)}
	delete(r.Flags, "signature")
	delete(r.Flags, "debug")
	f, err := c.opened(p, img.name)
	if err != nil {
		return 0, fmt.Errorf("image %q: %w", img.name, err)
	}
	var files []*os.File
	if f != nil {
		defer f.Close()
		files, r.File, r.Image = []*os.File{f}, true, ""
		for _, policy := range []string{"pull-policy", "store-only", "no-store"} { // a file is read whatever it is
			delete(r.Flags, policy)
		}
	}
	signature := img.signature
	if signature == "" && f != nil && img.name != "-" {
		signature = f.Name() + ".asc"
	}
	if signature != "" {
		r.Signature, err = os.ReadFile(signature)
		if img.signature == "" && errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			return 0, fmt.Errorf("image %q: its signature: %w", img.name, err)
		}
	}
	return member.Ask(member.Socket, r, files, p.Stdout, p.Stderr)
}

// opened opens an image that is a file or standard input, of which the service gets a descriptor.
// It returns nil for others.
func (c *config) opened(p *cli.Process, name string) (*os.File, error) {
	if name == "-" {
		stdin, ok := p.Stdin.(*os.File)
		if !ok {
			return nil, errors.New("standard input is no file")
		}
		fd, err := unix.FcntlInt(stdin.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	ref, err := image.ParseReference(name)
	if err != nil || ref.Kind != image.File {
		return nil, err
	}
	return os.Open(ref.Path)
}
