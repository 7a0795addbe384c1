package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

const (
	bombBytes = 10_000_000_000
	bombPiece = 10_000_384 // bytes, whole blocks of tar
)

// pack compresses data.
func pack(compression string, data []byte) ([]byte, error) {
	var b bytes.Buffer
	switch compression {
	case "gzip":
		w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err == nil {
			_, err = w.Write(data)
			err = errors.Join(err, w.Close())
		}
		return b.Bytes(), err
	case "zstd":
		w, err := zstd.NewWriter(nil)
		if err != nil {
			return nil, err
		}
		return w.EncodeAll(data, nil), w.Close()
	}
	cmd := exec.Command(compression, "-9") // bzip2, xz
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(data), &b, os.Stderr
	err := cmd.Run()
	return b.Bytes(), err
}

// mkbomb FILE COMPRESSION[,COMPRESSION…] KIND writes an archive of 10 GB of zeros, whose compressed
// form is a fraction of a thousandth: all of these compressions let files be put one after the
// other, so that a piece has to be compressed once. KIND is one (a file of that size), many (files
// of 10 MB), same (files of 10 MB of one name) or tail (what follows the end of a good ACI).
func mkbomb(args []string) error {
	kinds := strings.Split(args[1], ",")
	header := func(h tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h.Typeflag, h.Mode = tar.TypeReg, 0o644
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		return b.Bytes()
	}
	var good bytes.Buffer
	manifest := `manifest={"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/bomb"}`
	if err := tarStream(&good, []string{manifest, "rootfs/", "rootfs/f=x"}); err != nil {
		return err
	}
	zeros, err := pack(kinds[0], make([]byte, bombPiece))
	if err != nil {
		return err
	}
	start := good.Bytes()[:good.Len()-1024] // without the end of the archive
	if args[2] == "tail" {
		start = good.Bytes()
	}
	if args[2] == "one" {
		start = append(start, header(tar.Header{Name: "rootfs/zeros", Size: bombBytes / bombPiece * bombPiece})...)
	}
	out, err := pack(kinds[0], start)
	for n := range bombBytes / bombPiece {
		var name []byte
		switch args[2] {
		case "many":
			name, err = pack(kinds[0], header(tar.Header{Name: fmt.Sprintf("rootfs/zeros-%d", n), Size: bombPiece}))
		case "same":
			name, err = pack(kinds[0], header(tar.Header{Name: "rootfs/zeros", Size: bombPiece}))
		}
		if err != nil {
			return err
		}
		out = append(append(out, name...), zeros...)
	}
	for _, kind := range kinds[1:] {
		if out, err = pack(kind, out); err != nil {
			return err
		}
	}
	if len(out) > 10_000_000 {
		return fmt.Errorf("%d bytes: more than 10 MB", len(out))
	}
	return os.WriteFile(args[0], out, 0o644)
}

// wrap DIR FILE makes an OCI layout of an image with one layer, which is FILE.
func wrap(args []string) error {
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(data, types.OCILayer))
	if err != nil {
		return err
	}
	return writeLayout(args[0], img)
}

// peak MEGABYTES COMMAND… runs a command, and complains if it used more memory.
func peak(args []string) error {
	limit, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return err
	}
	if used := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024; used > limit {
		return errors.Join(err, fmt.Errorf("%d MB of memory were used", used))
	}
	if err != nil {
		os.Exit(cmd.ProcessState.ExitCode())
	}
	return nil
}
