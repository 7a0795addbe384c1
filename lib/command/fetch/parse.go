package fetch

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image/fetch"
)

// config is one call of the program.
type config struct {
	global  *cli.Global
	options fetch.Options
	full    bool
	quiet   bool
	serve   bool // one member of group rkt, on the descriptor that systemd has passed
	images  []operand
}

// operand is an image, and the file of its signature if one was given.
type operand struct{ name, signature string }

// register registers the flags, and returns what makes a call of them.
func register(fs *cli.Flags) func() (*config, error) {
	c := &config{global: fs.Global}
	var policy, signature string
	var storeOnly, noStore bool
	fs.StringVar(&policy, "pull-policy", string(fetch.Update), "POLICY: never: only look into the store; new: fetch "+
		"what is not there; update: ask the source each time (default). An ACI file is read whatever the policy is")
	fs.BoolVar(&c.full, "full", false, "print whole IDs")
	fs.BoolVar(&c.quiet, "quiet", false, "show no progress (on a terminal a line for each layer that moves; "+
		"elsewhere one when it is there)")
	fs.Func("platform", "linux/ARCH[/VARIANT]: the image for another kind of machine; the store has it by its ID alone",
		func(s string) (err error) {
			c.options.Platform, err = fetch.ParsePlatform(s)
			return err
		})
	fs.Func("unpack-limit", "SIZE: what a layer or an ACI may unpack to: bytes, or K, M, G, T (default: 1G and 200 "+
		"times its size, at most 64G)",
		func(s string) (err error) {
			c.options.MaxBytes, err = parseSize(s)
			c.options.AnyRatio = true
			return err
		})
	fs.StringVar(&signature, "signature", "", "FILE: the signature of an ACI, if it is not beside it; after its name "+
		"if there are several images")
	fs.BoolVar(&storeOnly, "store-only", false, "rkt's older name of --pull-policy=never")
	fs.BoolVar(&noStore, "no-store", false, "rkt's older name of --pull-policy=update")
	fs.BoolVar(&c.serve, "member", false, "used by rkt-fetch.socket: fetch for a member of group rkt")
	fs.Sort = func(_ *cli.Process, args []string) (flags, operands []string, err error) {
		return split(fs.FlagSet, args)
	}
	return func() (*config, error) { return c.complete(fs, policy, signature, storeOnly, noStore) }
}

// complete checks what was given.
func (c *config) complete(fs *cli.Flags, policy, signature string, storeOnly, noStore bool) (_ *config, err error) {
	g := fs.Global
	if policy, err = cli.PullPolicy(fs.Words, policy, storeOnly, noStore); err != nil {
		return nil, err
	}
	c.options.PullPolicy = fetch.PullPolicy(policy)
	c.options.InsecureImage, c.options.InsecureTLS, c.options.InsecureHTTP = g.Insecure.Image, g.Insecure.TLS,
		g.Insecure.HTTP
	if c.serve {
		return c, nil
	}
	if c.images, err = operands(fs.Args(), signature); err != nil {
		return nil, err
	}
	return c, nil
}

// parseSize reads bytes, or a number followed by K, M, G or T: powers of 1024, as systemd has
// them.
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

// split sorts a command line into flags, which may also follow images, and images, each with the
// --signature that follows it.
func split(fs *flag.FlagSet, args []string) (flags, images []string, err error) {
	for len(args) > 0 {
		if args[0] == "--" {
			return flags, append(images, args[1:]...), nil
		}
		n, err := cli.FlagWords(fs, args)
		if err != nil {
			return nil, nil, err
		}
		name, _, _ := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
		switch {
		case n == 0:
			images, args = append(images, args[0]), args[1:]
		case name == "signature" && len(images) > 0:
			images = append(images, "--"+strings.TrimLeft(strings.Join(args[:n], "="), "-"))
			args = args[n:]
		default:
			flags, args = append(flags, args[:n]...), args[n:]
		}
	}
	return flags, images, nil
}

// operands reads IMAGE [--signature=FILE] …: like rkt, a signature belongs to the image before it.
// One before all images is that of the only one.
func operands(args []string, signature string) ([]operand, error) {
	var all []operand
	for _, arg := range args {
		value, isSignature := strings.CutPrefix(arg, "--signature=")
		switch {
		case isSignature && len(all) > 0 && all[len(all)-1].signature == "" && value != "":
			all[len(all)-1].signature = value
		case isSignature:
			return nil, fmt.Errorf("--signature=%s: one file for each image", value)
		case strings.HasPrefix(arg, "-") && arg != "-":
			return nil, fmt.Errorf("%s: not an image; flags stand before --", arg)
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
		return nil, errors.New("must provide at least one image (--help shows how)")
	case signature != "" && (len(all) > 1 || all[0].signature != ""):
		return nil, fmt.Errorf("--signature=%s: of which image? Put it after one of them", signature)
	case signature != "":
		all[0].signature = signature
	}
	return all, nil
}
