// Rkt-net gives a prepared pod its network, takes it away again, and checks it.
//
//	rkt-net add   [--net=NETWORKS]… [--dns=SERVERS]… [--cni-path=DIRS] [--format=json] POD
//	rkt-net del   [--force] [--cni-path=DIRS] POD
//	rkt-net check [--repair] [--cni-path=DIRS] [--format=json] POD
//
// add makes a network namespace, pins it at /run/rkt/netns/UUID, and calls the CNI plugins of each network of --net in turn.
// The ports of the host that rkt-prepare --port has put into the pod's manifest are forwarded by the first network that
// masquerades, else by the last one. What it is about to do is in the pod's net/ before it does it; net/netns, which
// rkt-run-prepared reads, is written last. An add that fails takes back what it did; one that was killed is taken back by del,
// by rkt-gc, or by the next add.
//
// del works from net/ alone: no file in net.d is read, and the namespace may be gone. It does what it can, says what is left,
// and can be run again. A pod or a network that is not there is success, so that an ExecStopPost= line does not fail a unit.
// It refuses a pod that runs. What can't be undone is kept for the next del; --force says what is left, and forgets it, as
// rkt-gc has it do.
//
// check asks the plugins whether the network of a pod, running or not, is still whole. --repair first puts back rules of the host
// that somebody has removed, by "nft flush ruleset" or the reload of a firewall.
//
// docs/networking.md describes networks, --net, and the files.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/cni"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

const usage = `usage: rkt-net add|del|check [FLAGS] POD

Gives a prepared pod its network, takes it away, or checks it. POD is a UUID or
the start of one, @FILE, a pod's name, or self.

  --net=NETWORKS      add: host, none, all, default (when not given),
                      default-restricted, or names from net.d, as in
                      n1,n2:IP=10.1.2.3;KEY=VALUE; may be repeated
  --dns=ADDRESS,...   add: name servers of the apps; host: those of the host;
                      none: the image's own file, whatever the network says
  --dns-search=DOMAIN,..., --dns-opt=OPTION,..., --dns-domain=DOMAIN
                      add: the rest of their resolv.conf(5)
  --hosts-entry=ADDRESS=NAME,...
                      add: lines of their hosts(5); host: the host's file
  --cni-path=DIRS     folders to look for plugins in first, with : between them
  --repair            check: put back rules of the host that are gone, as after
                      "nft flush ruleset" or the reload of a firewall
  --force             del: give up what can't be undone, and say what is left
  --format=json       add, check: print the CNI results, one network a line
  --uuid-file=FILE    the pod whose UUID is in FILE

  --dir=DIR           data directory (/var/lib/rkt)
  --local-config=DIR  the administrator's configuration (/etc/rkt); networks are
                      in its net.d
  --system-config=DIR, --user-config=DIR
                      the vendor's configuration (/usr/lib/rkt), and one that
                      wins over both (none)
  --debug             print each call of a plugin and the time it took
`

func main() { cli.Main("rkt-net", usage, run) }

// config is one invocation.
type config struct {
	verb     string
	operands []string
	uuidFile string
	dir      string
	json     bool
	repair   bool
	nets     network.Selection
	options  cni.Options
}

func run(ctx context.Context, p *cli.Process) error {
	c, err := parse(p)
	if err != nil {
		return err
	}
	c.options.Stderr = p.Stderr
	log := p.Log()
	c.options.Called = func(call cni.Call) { log.Debug(fmt.Sprintf("%s %s: %s", call.Plugin, call.Command, call.Took)) }
	c.options.Warn = func(line string) { p.Say("%s", strings.Join(strings.Fields(line), " ")) }
	c.options.Force = c.options.Force && c.verb == "del"
	found, err := p.OnePod(poddir.In(c.dir), c.operands, c.uuidFile)
	if c.verb == "del" && (errors.Is(err, poddir.ErrNotFound) || errors.Is(err, fs.ErrNotExist)) {
		return c.releaseAbsent(ctx, poddir.Self(p.Getenv, p.PID))
	}
	if err != nil {
		return err
	}
	log = log.With("pod", found.UUID)
	log.Debug("network " + c.verb)
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	var results []json.RawMessage
	switch c.verb {
	case "add":
		results, err = cni.Add(ctx, found, c.nets, c.options)
	case "del":
		err = cni.Del(ctx, found, c.options)
		// In an ExecStop= or ExecStopPost= line ($SERVICE_RESULT, systemd.exec(5)) a failure would keep the lines after
		// it from being run, rkt-gc among them, which then gives the network up.
		if err != nil && p.Getenv("SERVICE_RESULT") != "" {
			p.Say("%v", err)
			err = nil
		}
	case "check":
		look := cni.Check
		if c.repair {
			look = cni.Repair
		}
		results, err = look(ctx, found, c.options)
	}
	if err != nil || !c.json {
		return err
	}
	for _, result := range results {
		if err := p.PrintJSON(result, false); err != nil {
			return err
		}
	}
	return nil
}

// releaseAbsent takes away what is left of the network of a pod that is gone, if the command line tells which one it was.
func (c config) releaseAbsent(ctx context.Context, self string) error {
	operand, file := "", c.uuidFile
	if file == "" {
		operand = c.operands[0]
	}
	if after, ok := strings.CutPrefix(operand, "@"); ok {
		file = after
	}
	if operand == "self" {
		operand = self
	}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		operand = strings.TrimSpace(string(data))
	}
	uuid := strings.ToLower(operand)
	if !poddir.ValidUUID(uuid) {
		return nil
	}
	return cni.Forget(ctx, uuid)
}

// parse reads the verb, which may stand before or after flags, then the flags. A flag that the verb has no use for is refused,
// but not its environment variable.
func parse(p *cli.Process) (config, error) {
	var c config
	var path, format string
	fs, global := p.Flags()
	fs.Var(&c.nets, "net", "")
	for name, set := range map[string]func(string) error{
		"dns": c.options.Names.SetServers, "dns-search": c.options.Names.SetSearch, "dns-opt": c.options.Names.SetOption,
		"dns-domain": c.options.Names.SetDomain, "hosts-entry": c.options.Names.SetHosts,
	} {
		fs.Func(name, "", set)
	}
	fs.BoolVar(&c.repair, "repair", false, "")
	fs.BoolVar(&c.options.Force, "force", false, "")
	fs.StringVar(&path, "cni-path", "", "")
	fs.StringVar(&format, "format", "", "")
	fs.StringVar(&c.uuidFile, "uuid-file", "", "")
	flags, operands, err := cli.Anywhere(fs, p.Args)
	if err == nil {
		err = cli.ParseFlags(fs, flags)
	}
	if err != nil {
		return c, err
	}
	if len(operands) == 0 {
		return c, errors.New("add, del or check? (--help tells more)")
	}
	c.verb = operands[0]
	if !slices.Contains([]string{"add", "del", "check"}, c.verb) {
		return c, fmt.Errorf("%q is none of add, del, check", c.verb)
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, verb := range map[string]string{"net": "add", "dns": "add", "dns-search": "add", "dns-opt": "add", "dns-domain": "add",
		"hosts-entry": "add", "repair": "check", "force": "del"} {
		if given[name] && c.verb != verb {
			return c, fmt.Errorf("--%s is for %s, not for %s", name, verb, c.verb)
		}
	}
	if given["format"] && c.verb == "del" {
		return c, errors.New("--format is for add and check: del prints nothing")
	}
	if err := p.ParseSorted(fs, global, nil, operands[1:]); err != nil {
		return c, err
	}
	if format != "" && format != "json" {
		return c, fmt.Errorf("--format=%s: only json is known", format)
	}
	c.json = format == "json"
	c.operands = fs.Args()
	c.dir = global.Dir
	for _, dir := range []string{global.UserConfig, global.LocalConfig, global.SystemConfig} {
		if dir != "" {
			c.options.ConfigDirs = append(c.options.ConfigDirs, filepath.Join(dir, "net.d"))
		}
	}
	for _, dir := range filepath.SplitList(path) {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return c, err
		}
		c.options.PluginDirs = append(c.options.PluginDirs, abs)
	}
	program, err := os.Executable()
	if err != nil {
		return c, err
	}
	c.options.PluginDirs = append(c.options.PluginDirs, cni.PluginDirs(filepath.Dir(program))...)
	c.options.PluginDirs = append(c.options.PluginDirs, filepath.Join(global.LocalConfig, "net.d")) // rkt's users put some there
	return c, nil
}
