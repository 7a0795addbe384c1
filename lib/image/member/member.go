// Package member lets members of group rkt fetch and list images. The store is root's alone, since
// it can hold set-user-ID files, so a member's rkt-fetch or rkt-image asks an instance of
// rkt-fetch@.service by a socket. This package owns what the two say.
//
// A connection is a SOCK_SEQPACKET socket and has one request: a packet of JSON (Request), with a
// descriptor of the image if that is a file. The answer is packets of one byte that says what the
// rest is: '1' and '2', what the program wrote to standard output and standard error; 'x', its exit
// status, the last one. A client that hangs up ends the program.
package member

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/image"
	"golang.org/x/sys/unix"
)

// Socket is where rkt-fetch.socket listens. It is not below /run/rkt, which only root may enter.
const Socket = "/run/rkt-fetch.sock"

const (
	maxRequest = 64 << 10 // bytes
	maxAnswer  = 16 << 10 // bytes of one packet
)

// Kinds of packets of the answer.
const (
	toStdout = '1'
	toStderr = '2'
	status   = 'x'
)

// Request is what a member asks for.
type Request struct {
	Command string            `json:"command"`         // fetch, or list
	Flags   map[string]string `json:"flags,omitempty"` // by name, without dashes; "true" for one without a value
	Image   string            `json:"image,omitempty"` // to fetch, unless File is set
	File    bool              `json:"file,omitempty"`  // the image is a file or pipe, of which a descriptor comes along
	// Signature is what the file with the image's signature holds, if there is one on this machine.
	Signature []byte `json:"signature,omitempty"`
}

// allowed are the flags that a member may choose, by command. All others are for root's
// configuration to say.
var allowed = map[string][]string{
	"fetch": {"full", "no-store", "platform", "pull-policy", "quiet", "store-only"},
	"list":  {"fields", "format", "full", "no-legend", "order", "sort"},
}

// Needed reports whether the process may not use the image store of a data directory itself.
func Needed(dir string) bool {
	if unix.Geteuid() == 0 {
		return false
	}
	for path := filepath.Join(dir, "cas"); ; path = filepath.Dir(path) {
		if err := unix.Access(path, unix.R_OK|unix.W_OK|unix.X_OK); err != unix.ENOENT || path == filepath.Dir(path) {
			return err == unix.EACCES
		}
	}
}

// check returns an error if a request asks for what members may not have.
func (r Request) check() error {
	flags, ok := allowed[r.Command]
	if !ok {
		return fmt.Errorf("%q: only root may do this (try it as root)", r.Command)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Flags)) {
		if !slices.Contains(flags, name) {
			return fmt.Errorf("--%s: only root may choose this; members of group rkt use the host's configuration",
				name)
		}
	}
	switch {
	case r.Command == "list" && (r.Image != "" || r.File || r.Signature != nil):
		return errors.New("list: takes no image")
	case r.Command == "list":
		return nil
	case r.File && r.Image != "":
		return errors.New("an image is a file or has a name, not both")
	case r.File:
		return nil
	}
	ref, err := image.ParseReference(r.Image)
	if err != nil {
		return fmt.Errorf("image %q: %w", r.Image, err)
	}
	if ref.Local() || strings.HasPrefix(r.Image, "-") {
		return fmt.Errorf("image %q: the service opens no files; pass an archive by: rkt fetch - <FILE", r.Image)
	}
	return nil
}

// parse reads a request that came with so many descriptors.
func parse(packet []byte, descriptors int) (Request, error) {
	var r Request
	decoder := json.NewDecoder(bytes.NewReader(packet))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("not a request: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Request{}, errors.New("not a request: more follows it")
	}
	if r.File != (descriptors == 1) || descriptors > 1 {
		return Request{}, fmt.Errorf("not a request: it comes with %d descriptors", descriptors)
	}
	return r, r.check()
}

// signatureFile is where the program finds the signature: its first descriptor after standard
// error.
const signatureFile = "/proc/self/fd/3"

// program returns the program that does what a checked request asks for, and its arguments.
func (r Request) program() (name string, args []string) {
	for _, flag := range slices.Sorted(maps.Keys(r.Flags)) {
		args = append(args, "--"+flag+"="+r.Flags[flag])
	}
	if r.Command == "list" {
		return "rkt-image", append([]string{"list"}, args...)
	}
	image := r.Image
	if r.File {
		image = "-"
	}
	args = append(args, "--", image)
	if r.Signature != nil {
		args = append(args, "--signature="+signatureFile)
	}
	return "rkt-fetch", args
}
