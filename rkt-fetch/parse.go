package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/fetch"
)

// config is one call of the program.
type config struct {
	global  *cli.Global
	options fetch.Options
	full    bool
	quiet   bool
	images  []string
}

func parse(p *cli.Process) (*config, error) {
	fs, g := p.Flags()
	c := &config{global: g}
	var policy, signature string
	var storeOnly, noStore bool
	fs.StringVar(&policy, "pull-policy", string(fetch.Update), "")
	fs.BoolVar(&storeOnly, "store-only", false, "") // rkt's older names of never and update
	fs.BoolVar(&noStore, "no-store", false, "")
	fs.BoolVar(&c.full, "full", false, "")
	fs.BoolVar(&c.quiet, "quiet", false, "")
	fs.StringVar(&signature, "signature", "", "")
	if err := p.Parse(fs, g, p.Args); err != nil {
		return nil, err
	}
	switch {
	case signature != "":
		return nil, errors.New("--signature: checking signatures is not supported yet")
	case storeOnly && noStore:
		return nil, errors.New("--store-only and --no-store exclude each other")
	case storeOnly:
		policy = string(fetch.Never)
	case noStore:
		policy = string(fetch.Update)
	}
	switch c.options.PullPolicy = fetch.PullPolicy(policy); c.options.PullPolicy {
	case fetch.Never, fetch.New, fetch.Update:
	default:
		return nil, fmt.Errorf("--pull-policy=%s: is none of never, new, update", policy)
	}
	c.options.InsecureImage, c.options.InsecureTLS, c.options.InsecureHTTP = g.Insecure.Image, g.Insecure.TLS, g.Insecure.HTTP
	c.images = fs.Args()
	if len(c.images) == 0 {
		return nil, errors.New("no image given (--help shows how)")
	}
	for _, name := range c.images {
		if strings.HasPrefix(name, "--signature") {
			return nil, errors.New("--signature: checking signatures is not supported yet")
		}
		if strings.HasPrefix(name, "-") {
			return nil, fmt.Errorf("%s: flags come before the first image", name)
		}
	}
	return c, nil
}
