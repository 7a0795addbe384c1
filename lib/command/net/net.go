// Package net is the program rkt-net.
package net

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/cni"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Command is rkt-net.
var Command = &cli.Command{
	Name:     "rkt-net",
	Summary:  "set up, check and remove the network of a pod",
	Synopsis: []string{"add [FLAGS] POD", "del [FLAGS] POD", "check [FLAGS] POD"},
	Text: `
Sets up the network of a prepared pod, removes it, or checks it.

` + cli.PodOperand,
	Details: `
add makes a network namespace, pins it at /run/rkt/netns/UUID, and calls the CNI
plugins of each network of --net in turn. The ports of the host that rkt-prepare
--port has put into the pod's manifest are forwarded by the first network that
masquerades, else by the last one. What it is about to do is recorded in the pod's
net/ before it does it; net/netns, which rkt-run-prepared reads, is written last.
An add that fails undoes what it did; one that was killed is undone by del, by
rkt-gc, or by the next add.

del works from net/ alone: no file in net.d is read, and the namespace may be gone.
It does what it can, says what is left, and can be run again. A pod or a network
that does not exist is success, so that an ExecStopPost= line does not fail a unit.
It refuses a running pod. What can't be undone is kept for the next del; --force
says what is left, and forgets it, as rkt-gc does.

check asks the plugins whether the network of a pod, running or not, is still
whole. --repair first restores rules of the host that somebody has removed, by
"nft flush ruleset" or the reload of a firewall.`,
	Examples: []cli.Example{
		{Line: "rkt-net add --net=default --dns=9.9.9.9 web", Text: "Set up the built-in network, and name servers."},
		{Line: "ExecStartPre=/usr/bin/rkt-net add --net=host self",
			Text: "Share the host's network, as a line of a service's unit."},
		{Line: "rkt-net check --repair web", Text: "Restore the host's rules after a firewall was reloaded."},
	},
	Files: []cli.File{
		{Path: "/etc/rkt/net.d, /usr/lib/rkt/net.d", Text: "networks, as CNI has them"},
		{Path: "/run/rkt/netns/UUID", Text: "a pod's network namespace"},
	},
	SeeAlso: []string{"rkt-prepare", "rkt-run-prepared", "ip-netns"},
	Verbs: []cli.Verb{
		{Name: "add", Summary: "set up the network", Setup: verb("add")},
		{Name: "del", Summary: "remove it", Setup: verb("del")},
		{Name: "check", Summary: "check that it is whole", Setup: verb("check")},
	},
}

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

// verb is what registers the flags of a verb.
func verb(name string) func(*cli.Flags) cli.Run {
	return func(fs *cli.Flags) cli.Run {
		complete := register(name, fs)
		return func(ctx context.Context, p *cli.Process) error {
			c, err := complete()
			if err != nil {
				return err
			}
			return c.run(ctx, p)
		}
	}
}

// register registers the flags of a verb, and returns what makes a call of them.
func register(name string, fs *cli.Flags) func() (*config, error) {
	c := &config{verb: name}
	var path, format string
	switch name {
	case "add":
		fs.Var(&c.nets, "net", "=NETWORKS: host, none, all, default (when not given), default-restricted, or names "+
			"from net.d, such as n1,n2:IP=10.1.2.3;KEY=VALUE; may be repeated")
		names := &c.options.Names
		fs.Func("dns", "ADDRESS,...: name servers of the apps; host: those of the host; none: the image's own file, "+
			"whatever the network says", names.SetServers)
		fs.Func("dns-search", "DOMAIN,...: domains that short names are looked up in (resolv.conf(5))", names.SetSearch)
		fs.Func("dns-opt", "OPTION,...: options of the resolver", names.SetOption)
		fs.Func("dns-domain", "DOMAIN: the local domain", names.SetDomain)
		fs.Func("hosts-entry", "ADDRESS=NAME,...: lines of the apps' hosts(5); host: the host's file; none: the "+
			"image's own, without names of other pods", names.SetHosts)
		fs.Func("net-alias", "NAME,...: what else other pods on its networks call the pod, besides its name and its "+
			"service's; for one network, --net=NETWORK:alias=NAME", names.SetAlias)
	case "check":
		fs.BoolVar(&c.repair, "repair", false, "first restore rules of the host that are gone, as after \"nft flush "+
			"ruleset\" or the reload of a firewall")
	case "del":
		fs.BoolVar(&c.options.Force, "force", false, "forget what can't be undone, and say what is left")
	}
	fs.StringVar(&path, "cni-path", "", "DIRS: directories to look for plugins in first, with : between them")
	if name != "del" {
		fs.StringVar(&format, "format", "", "json: print the CNI results, one network a line")
	}
	fs.UUIDFile(&c.uuidFile)
	return func() (*config, error) { return c, c.complete(fs, path, format) }
}

func (c *config) run(ctx context.Context, p *cli.Process) error {
	c.options.Stderr = p.Stderr
	log := p.Log()
	c.options.Called = func(call cni.Call) { log.Debug(fmt.Sprintf("%s %s: %s", call.Plugin, call.Command, call.Took)) }
	c.options.Warn = func(line string) { p.Say("%s", strings.Join(strings.Fields(line), " ")) }
	found, err := p.OnePod(poddir.In(c.dir), c.operands, c.uuidFile)
	if c.verb == "del" && (errors.Is(err, poddir.ErrNotFound) || errors.Is(err, fs.ErrNotExist)) {
		return c.releaseAbsent(ctx, poddir.Self(p.Getenv, p.PID))
	}
	if c.verb == "add" && errors.Is(err, poddir.ErrNotFound) {
		return fmt.Errorf("%w; rkt-prepare makes one, and prints its UUID", err)
	}
	if err != nil {
		return err
	}
	log = log.With("pod", found.UUID)
	log.Debug("network " + c.verb)
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	attacher := cni.New(found, c.options)
	var results []json.RawMessage
	switch c.verb {
	case "add":
		results, err = attacher.Add(ctx, c.nets)
	case "del":
		err = attacher.Del(ctx)
		// In an ExecStop= or ExecStopPost= line ($SERVICE_RESULT, systemd.exec(5)) a failure would
		// keep the lines after it from being run, rkt-gc among them, which then gives the network
		// up.
		if err != nil && p.Getenv("SERVICE_RESULT") != "" {
			p.Say("%v", err)
			err = nil
		}
	case "check":
		look := attacher.Check
		if c.repair {
			look = attacher.Repair
		}
		results, err = look(ctx)
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

// releaseAbsent takes away what is left of the network of a pod that is gone, if the command line
// tells which one it was.
func (c *config) releaseAbsent(ctx context.Context, self string) error {
	operand := "@" + c.uuidFile
	if c.uuidFile == "" {
		operand = c.operands[0]
	}
	uuid, err := poddir.UUIDOf(operand, self)
	if errors.Is(err, fs.ErrNotExist) || uuid == "" && err == nil {
		return nil
	}
	if err != nil {
		return err
	}
	return cni.Forget(ctx, uuid)
}

// complete checks what was given.
func (c *config) complete(fs *cli.Flags, path, format string) error {
	global := fs.Global
	if format != "" && format != "json" {
		return fmt.Errorf("--format=%s: only json is known", format)
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
			return err
		}
		c.options.PluginDirs = append(c.options.PluginDirs, abs)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	c.options.PluginDirs = append(c.options.PluginDirs, network.PluginDirs(filepath.Dir(program))...)
	// rkt's users put some there
	c.options.PluginDirs = append(c.options.PluginDirs, filepath.Join(global.LocalConfig, "net.d"))
	return nil
}
