package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/image/store"
)

// diskUsage is what the store takes of its disk, in bytes, each file counted once.
type diskUsage struct {
	Images []imageUsage `json:"images"` // each image
	Unused int64        `json:"unused"` // layers that no image needs
	Index  int64        `json:"index"`  // of names and images
	Work   int64        `json:"work"`   // what is being fetched or unpacked
	Total  int64        `json:"total"`  // all of it
}

type imageUsage struct {
	ID     string   `json:"id"`     // sha512-…
	Names  []string `json:"names"`  // all that mean the image now
	Size   int64    `json:"size"`   // all that it needs
	Shared int64    `json:"shared"` // of it, in layers that other images have, too
	Own    int64    `json:"own"`    // of it, what goes with the image

	shown string
}

func setupDf(fs *cli.Flags) cli.Run {
	fs.Root = true
	var format cli.Format
	var full, noLegend bool
	registerTable(fs, &format, diskUsage{}, &full, &noLegend)
	return func(_ context.Context, p *cli.Process) error { return df(p, fs, format, full, noLegend) }
}

// registerTable registers the flags of the verbs that print a table, or as JSON a value of the type
// of prints.
func registerTable(fs *cli.Flags, format *cli.Format, prints any, full, noLegend *bool) {
	fs.BoolVar(full, "full", false, "whole IDs, sizes in bytes, times as dates")
	fs.BoolVar(noLegend, "no-legend", false, "omit the header line")
	fs.FormatVar(format, prints)
}

// df prints how much of its disk the store takes.
func df(p *cli.Process, fs *cli.Flags, format cli.Format, full, noLegend bool) error {
	if fs.NArg() > 0 {
		return fmt.Errorf("df: %q: takes no operands", fs.Arg(0))
	}
	s, err := store.Open(fs.Global.Dir)
	if err != nil {
		return err
	}
	all, err := sizes(s)
	if err != nil {
		return err
	}
	if format.JSON() {
		return p.PrintFormat(all, format)
	}
	return all.print(p, full, noLegend)
}

// sizes adds up what each image takes.
func sizes(s *store.Store) (diskUsage, error) {
	u, err := s.Usage()
	if err != nil {
		return diskUsage{}, err
	}
	called, err := namesIn(s)
	if err != nil {
		return diskUsage{}, err
	}
	images := map[string]int{} // of each layer
	for _, layers := range u.Needs {
		for _, layer := range layers {
			images[layer]++
		}
	}
	all := diskUsage{Images: []imageUsage{}, Index: u.Index, Work: u.Work, Total: u.Index + u.Work}
	for layer, size := range u.Layers {
		if all.Total += size; images[layer] == 0 {
			all.Unused += size
		}
	}
	for id, layers := range u.Needs {
		i := imageUsage{ID: id, Names: []string{}, shown: "-"}
		if img, err := s.Image(id); err == nil {
			typed, was := called.of(s, img)
			i.Names = append(i.Names, typed...)
			i.shown = entry{Names: typed, Was: was}.shown()
		}
		for _, layer := range layers {
			if i.Size += u.Layers[layer]; images[layer] > 1 {
				i.Shared += u.Layers[layer]
			}
		}
		i.Own = i.Size - i.Shared
		all.Images = append(all.Images, i)
	}
	slices.SortFunc(all.Images, func(a, b imageUsage) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// print prints a line for each image, the largest first, and one for each of the rest.
func (d diskUsage) print(p *cli.Process, full, noLegend bool) error {
	w := tabwriter.NewWriter(p.Stdout, 0, 8, 1, '\t', 0)
	if !noLegend {
		fmt.Fprintln(w, "ID\tNAME\tSIZE\tSHARED\tOWN")
	}
	for _, i := range d.Images {
		id := i.ID
		if !full {
			id = id[:len("sha512-")+12]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", id, printable.Line(i.shown), size(i.Size, full), size(i.Shared, full),
			size(i.Own, full))
	}
	errs := []error{w.Flush()}
	for _, line := range []struct {
		what string
		size int64
	}{
		{"layers that no image needs (rkt image gc removes those that no pod needs)", d.Unused},
		{"names, manifests and records", d.Index},
		{"fetches that go on or were interrupted", d.Work},
		{"in all, each file counted once", d.Total},
	} {
		if line.size > 0 {
			errs = append(errs, p.PrintLine("%s %s", size(line.size, full), line.what))
		}
	}
	return errors.Join(errs...)
}
