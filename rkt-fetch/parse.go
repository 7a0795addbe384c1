package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
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
	images  []operand
}

// operand is an image, and the file of its signature if one was given.
type operand struct{ name, signature string }

func parse(p *cli.Process) (*config, error) {
	fs, g := p.Flags()
	c := &config{global: g}
	var policy, signature string
	var storeOnly, noStore bool
	fs.Func("platform", "", func(s string) (err error) {
		c.options.Platform, err = fetch.ParsePlatform(s)
		return err
	})
	fs.Func("unpack-limit", "", func(s string) (err error) {
		c.options.MaxBytes, err = parseSize(s)
		c.options.AnyRatio = true
		return err
	})
	fs.StringVar(&policy, "pull-policy", string(fetch.Update), "")
	fs.BoolVar(&storeOnly, "store-only", false, "") // rkt's older names of never and update
	fs.BoolVar(&noStore, "no-store", false, "")
	fs.BoolVar(&c.full, "full", false, "")
	fs.BoolVar(&c.quiet, "quiet", false, "")
	fs.StringVar(&signature, "signature", "", "")
	err := p.Parse(fs, g, p.Args)
	if err != nil {
		return nil, err
	}
	switch {
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
	if c.images, err = operands(fs.Args(), signature); err != nil {
		return nil, err
	}
	return c, nil
}

// parseSize reads bytes, or a number with K, M, G or T behind it: powers of 1024, as systemd has them.
func parseSize(s string) (int64, error) {
	number, shift := s, 0
	if i := strings.IndexAny(s, "KMGT"); i >= 0 && i == len(s)-1 {
		number, shift = s[:i], 10*(1+strings.IndexByte("KMGT", s[i]))
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, errors.New("not a number of bytes, as in 100G")
	}
	return n << shift, nil
}

// operands reads IMAGE [--signature=FILE] …: like rkt, a signature belongs to the image before it. One before all images is that of the
// only one.
func operands(args []string, signature string) ([]operand, error) {
	var all []operand
	for i := 0; i < len(args); i++ {
		arg := args[i]
		value, isSignature := strings.CutPrefix(arg, "--signature=")
		if arg == "--signature" && i+1 < len(args) {
			i++
			value, isSignature = args[i], true
		}
		switch {
		case isSignature && len(all) > 0 && all[len(all)-1].signature == "" && value != "":
			all[len(all)-1].signature = value
		case isSignature:
			return nil, fmt.Errorf("--signature=%s: one file for each image", value)
		case strings.HasPrefix(arg, "-") && arg != "-":
			return nil, fmt.Errorf("%s: flags come before the first image", arg)
		default:
			all = append(all, operand{name: arg})
		}
	}
	isInput := func(o operand) bool { return o.name == "-" }
	if first := slices.IndexFunc(all, isInput); first >= 0 && slices.ContainsFunc(all[first+1:], isInput) {
		return nil, errors.New("-: standard input can be read once")
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("no image given (--help shows how)")
	case signature != "" && (len(all) > 1 || all[0].signature != ""):
		return nil, fmt.Errorf("--signature=%s: of which image? It comes behind one of several", signature)
	case signature != "":
		all[0].signature = signature
	}
	return all, nil
}
