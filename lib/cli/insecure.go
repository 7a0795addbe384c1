package cli

import (
	"fmt"
	"slices"
	"strings"
)

// Insecure is the value of --insecure-options: the checks to leave out, by rkt's names. It is a
// flag.Value.
type Insecure struct {
	Image, TLS, HTTP, Pubkey, OnDisk bool // while fetching
	Capabilities, Paths, Seccomp     bool // while running
}

var insecureOptions = map[string]func(*Insecure){
	"none":         func(i *Insecure) { *i = Insecure{} },
	"image":        func(i *Insecure) { i.Image = true },
	"tls":          func(i *Insecure) { i.TLS = true },
	"http":         func(i *Insecure) { i.HTTP = true },
	"pubkey":       func(i *Insecure) { i.Pubkey = true },
	"ondisk":       func(i *Insecure) { i.OnDisk = true },
	"capabilities": func(i *Insecure) { i.Capabilities = true },
	"paths":        func(i *Insecure) { i.Paths = true },
	"seccomp":      func(i *Insecure) { i.Seccomp = true },
	"all-fetch":    func(i *Insecure) { i.Image, i.TLS, i.HTTP, i.Pubkey, i.OnDisk = true, true, true, true, true },
	"all-run":      func(i *Insecure) { i.Capabilities, i.Paths, i.Seccomp = true, true, true },
	"all": func(i *Insecure) {
		*i = Insecure{Image: true, TLS: true, HTTP: true, Pubkey: true, OnDisk: true, Capabilities: true, Paths: true,
			Seccomp: true}
	},
}

// Set takes a comma list of names and replaces what was set before.
func (i *Insecure) Set(list string) error {
	var set Insecure
	for name := range strings.SplitSeq(list, ",") {
		option, ok := insecureOptions[name]
		if !ok {
			names := []string{}
			for n := range insecureOptions {
				names = append(names, n)
			}
			slices.Sort(names)
			return fmt.Errorf("%q is not one of %s", name, strings.Join(names, ", "))
		}
		option(&set)
	}
	*i = set
	return nil
}

func (i *Insecure) String() string {
	if i == nil {
		return "none"
	}
	var names []string
	for _, f := range []struct {
		on   bool
		name string
	}{{i.Image, "image"}, {i.TLS, "tls"}, {i.HTTP, "http"}, {i.Pubkey, "pubkey"}, {i.OnDisk, "ondisk"},
		{i.Capabilities, "capabilities"}, {i.Paths, "paths"}, {i.Seccomp, "seccomp"}} {
		if f.on {
			names = append(names, f.name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ",")
}
