package main

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// files are layers with count files of size bytes in all. Their sizes are as a system's are: many
// small ones and a few large ones (log-normal, of a median of a fifth of the mean). What is in them
// is what is in the machine's own files, so that it compresses as images do.
func files(count, size, layers int) []func(*tree) error {
	random := rand.New(rand.NewPCG(1, 2))
	weights, sum := make([]float64, count), 0.0
	for i := range weights {
		weights[i] = math.Exp(random.NormFloat64() * 1.8)
		sum += weights[i]
	}
	source, w := io.Pipe()
	go func() { w.CloseWithError(machine(w)) }()
	var all []func(*tree) error
	for layer := range layers {
		all = append(all, func(t *tree) error {
			for i := layer; i < count; i += layers {
				content := make([]byte, int(weights[i]/sum*float64(size)))
				if _, err := io.ReadFull(source, content); err != nil {
					return fmt.Errorf("content: %w", err)
				}
				t.file(fmt.Sprintf("data/%d/%d/%d", i%37, i/37%29, i), 0o644, content)
			}
			return nil
		})
	}
	return all
}

// machine writes the contents of the machine's files, in the order of their names.
func machine(w io.Writer) error {
	for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/share"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(w, io.LimitReader(f, 256<<10)) // no single file is a large part of it
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
