// Mkimage makes the images that the tests and the demo run, out of programs of the machine, and
// pushes them.
//
//	mkimage busybox DIR          an OCI layout: a static busybox, two layers
//	mkimage redis DIR            an OCI layout: redis-server with the libraries that ldd names
//	mkimage redis-shell DIR      the same with a shell, as the one of Docker Hub has
//	mkimage etcd DIR             an OCI layout: etcd, likewise
//	mkimage program DIR FILE [LABEL=VALUE|CONFIG=JSON|PORT/PROTOCOL|ARG]...
//	                             an OCI layout: busybox and a static program, /app, which is its
//	                             entry point
//	mkimage aci DIR FILE [NAME:VERSION [WHAT]...]
//	                             an ACI of what is in an OCI layout; WHAT is
//	                             PORT=NUMBER/PROTOCOL[/activated], ISOLATOR, APP=JSON or
//	                             ANNOTATIONS=JSON: an isolator is JSON, and so is what else its
//	                             manifest says of the app, and its annotations
//	mkimage push DIR HOST/NAME:TAG
//	mkimage big DIR BYTES        busybox and a file of that size
//	mkimage files DIR FILES BYTES LAYERS
//	                             so many files of so many bytes in all, of sizes as a system's
//	                             are, with what is in the machine's own, in so many layers
//
// The same input makes the same digests, on one machine.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch {
	case verb == "busybox" && len(args) == 2:
		return write(args[1], busyboxConfig, busybox, motd)
	case verb == "redis" && len(args) == 2:
		return write(args[1], redisConfig, libraries("redis-server", "redis-cli"), redis)
	case verb == "redis-shell" && len(args) == 2:
		return write(args[1], redisConfig, libraries("redis-server", "redis-cli"), busybox, redis)
	case verb == "big" && len(args) == 3:
		size, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return err
		}
		return write(args[1], busyboxConfig, busybox, big(size))
	case verb == "files" && len(args) == 5:
		var numbers [3]int
		for i, arg := range args[2:] {
			n, err := strconv.Atoi(arg)
			if err != nil {
				return err
			}
			numbers[i] = n
		}
		return write(args[1], busyboxConfig, files(numbers[0], numbers[1], numbers[2])...)
	case verb == "etcd" && len(args) == 2:
		return write(args[1], etcdConfig, etcd)
	case verb == "program" && len(args) >= 3:
		return program(args[1], args[2], args[3:])
	case verb == "aci" && len(args) >= 3:
		return aci(args[1], args[2], args[3:])
	case verb == "push" && len(args) == 3:
		return push(args[1], args[2])
	}
	return fmt.Errorf("%q: is no command line of this program; see its source", args)
}

// write makes an image of the layers and puts it into a new OCI layout.
func write(dir string, config v1.Config, contents ...func(*tree) error) error {
	img := v1.Image(empty.Image)
	for _, content := range contents {
		t := &tree{}
		if err := content(t); err != nil {
			return err
		}
		layer, err := t.layer()
		if err != nil {
			return err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", goarch, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(img,
		layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"}))
}

// read is the one image of a layout.
func read(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s: has %d images", dir, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

func push(dir, to string) error {
	img, err := read(dir)
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(to, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(ref, img)
}
