package store

import (
	"crypto/sha512"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// TestCheck changes an image in every way that Check sees, and in one that it does not.
func TestCheck(t *testing.T) {
	for _, c := range []struct{ change, want string }{
		{``, ``},
		{`sed -i s,app,bpp, image/*/manifest`, `damaged: manifest ... not what it was ... rkt image verify`},
		{`sed -n 1p image/*/layers >x; cat x >$(ls image/*/layers)`, `damaged: layers ... not what it was`},
		{`printf ' ' >>$(ls image/*/config)`, `damaged: config ... not what it was`},
		{`rm image/*/config`, `not what it was`},
		{`printf ' ' >>$(ls image/*/config); sed -i "s/^config .*/config sha512-$(sha512sum <$(ls image/*/config) | ` +
			`cut -d" " -f1)/" image/*/sum`,
			`damaged: config ... the ID says`},
		{`rm image/*/sum`, `no such file`},
		{`: >$(ls image/*/sum)`, `not what it was`},
		{`touch $(ls -d layer/*1)/root/new`,
			`damaged: sha256-0000000000000000000000000000000000000000000000000000000000000001 ... not what it was`},
		{`rm layer/*2/root/file`, `0002 ... not what it was`},
		{`chmod 700 layer/*1/root`, `not what it was`},
		{`chown 1 layer/*1/root`, `not what it was`},
		{`echo other >$(ls layer/*1/root/file)`, ``}, // as the page about images says
		{`cp -a . ../copy && rm -r ./* && cp -a ../copy/. .`, ``},
	} {
		s := open(t)
		config := []byte(`{"os":"linux"}`)
		id := fmt.Sprintf("sha512-%x", sha512.Sum512(config))
		if err := s.AddImage(t.Context(), id, blank("example.com/app"), []string{addLayer(t, s, 1), addLayer(t, s, 2)},
			config); err != nil {
			t.Fatal(err)
		}
		before, err := s.Image(id)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-ec", c.change)
		cmd.Dir = s.cas
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c.change, err, out)
		}
		img, err := s.Image(id) // as it is now, or, where that can't be read, as it was
		if err != nil {
			img = before
		}
		err = s.Check(img)
		if !testkit.Says(err, c.want) {
			t.Errorf("%s: %v, want %s", c.change, err, c.want)
		}
		// What is damaged is written anew with the image, whatever became of its layers.
		if err := s.AddImage(t.Context(), id, blank("example.com/app"), []string{layerName(1), layerName(2)},
			config); err != nil {
			t.Fatal(err)
		}
		if img, err = s.Image(id); err == nil {
			err = s.Check(img)
		}
		if err != nil {
			t.Errorf("%s: after it was added again: %v", c.change, err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	s := open(b)
	config := []byte(strings.Repeat(" ", 10000))
	id := fmt.Sprintf("sha512-%x", sha512.Sum512(config))
	var layers []string
	for n := range 10 {
		layers = append(layers, addLayer(b, s, n))
	}
	if err := s.AddImage(b.Context(), id, blank("example.com/app"), layers, config); err != nil {
		b.Fatal(err)
	}
	img, err := s.Image(id)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Check(img); err != nil {
			b.Fatal(err)
		}
	}
}
