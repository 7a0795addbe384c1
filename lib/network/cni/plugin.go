package cni

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
	"golang.org/x/sys/unix"
)

// Call is one call of a plugin, for the one who measures.
type Call struct {
	Plugin, Command string
	Took            time.Duration
}

// plugins calls the plugins of one pod. It is libcni's invoke.Exec.
//
// A plugin starts further programs (an IPAM plugin, iptables), and those live on when somebody
// kills rkt-net. Each of them inherits a lock on the pod's net/, so that the next call of a plugin,
// maybe from the rkt-net that cleans up, waits until the last of them has ended instead of racing
// it.
type plugins struct {
	version.PluginDecoder
	uuid   string
	netDir string // "" when nothing that the plugin does can last
	dirs   []string
	stderr io.Writer
	called func(Call)
	warn   func(string) // told of what was left undone without an error; may be nil
	held   *os.File     // the lock on netDir, of one who holds it for longer than one call
	guard  *os.File     // the lock of netfilter.Guard, for a plugin that needs it
}

// lockTimeout outlasts a plugin that was left behind.
const lockTimeout = 30 * time.Second

// FindInPath finds a plugin's program.
func (p *plugins) FindInPath(plugin string, dirs []string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, plugin)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	err := fmt.Errorf("no such program in %s", strings.Join(dirs, ", "))
	if slices.Contains(debianPlugins, plugin) {
		err = fmt.Errorf("%w (Debian package containernetworking-plugins)", err)
	}
	if plugin == flannel {
		err = fmt.Errorf("%w (make cni builds it)", err)
	}
	return "", err
}

var debianPlugins = []string{"bandwidth", "bridge", "dhcp", "firewall", "host-device", "host-local",
	"ipvlan", "loopback", "macvlan", "portmap", "ptp", "sbr", "static", "tuning", "vlan", "vrf"}

// ExecPlugin runs a plugin and returns what it prints.
func (p *plugins) ExecPlugin(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = withSystemPath(env)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) } // with the programs it has started
	// one may have left the group, and hold the pipes
	cmd.WaitDelay = 10 * time.Second
	if p.held != nil {
		cmd.ExtraFiles = []*os.File{p.held}
	} else if p.netDir != "" {
		lock, err := durable.Lock(p.netDir, lockTimeout)
		if err != nil {
			return nil, fmt.Errorf("waiting for the plugin called before: %w", err)
		}
		defer lock.Close()
		cmd.ExtraFiles = []*os.File{lock}
	}
	if p.guard != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, p.guard)
	}
	start := time.Now()
	err := cmd.Run()
	if p.called != nil {
		p.called(Call{filepath.Base(path), command(env), time.Since(start)})
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, pluginError(err, stdout.Bytes(), stderr.Bytes())
	}
	if p.stderr != nil {
		p.stderr.Write(stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

// pluginError is what a failed plugin says (CNI specification, section 5), else what it wrote to
// stderr.
func pluginError(err error, stdout, stderr []byte) error {
	var said types.Error
	if json.Unmarshal(stdout, &said) == nil && said.Msg != "" {
		if said.Details != "" {
			return fmt.Errorf("%s (%s)", said.Msg, said.Details)
		}
		return errors.New(said.Msg)
	}
	if text := strings.TrimSpace(string(stderr)); text != "" {
		return fmt.Errorf("%w: %s", err, text[:min(len(text), 1000)])
	}
	return err
}

func command(env []string) string {
	for _, kv := range env {
		if c, ok := strings.CutPrefix(kv, "CNI_COMMAND="); ok {
			return c
		}
	}
	return ""
}

// withSystemPath has a plugin find iptables and its like, which a user's or a unit's $PATH may
// lack, and none in the working directory.
func withSystemPath(env []string) []string {
	path := ""
	env = slices.DeleteFunc(env, func(kv string) bool {
		value, ok := strings.CutPrefix(kv, "PATH=")
		if ok {
			path = value
		}
		return ok
	})
	return append(env, "PATH="+program.Path(path))
}

// call runs one plugin of an attachment's list for one command.
func (p *plugins) call(ctx context.Context, command string, plugin *libcni.PluginConfig, a *attachment,
	previous types.Result) (types.Result, error) {
	inject := map[string]any{"name": a.list.Name, "cniVersion": a.list.CNIVersion}
	if len(a.Ports) > 0 && plugin.Network.Capabilities[capability] {
		inject["runtimeConfig"] = map[string]any{capability: a.Ports}
	}
	if previous != nil {
		inject["prevResult"] = previous
	}
	config, err := libcni.InjectConf(plugin, inject)
	if err != nil {
		return nil, err
	}
	path, err := p.FindInPath(plugin.Network.Type, p.dirs)
	if err != nil {
		return nil, err
	}
	args := &invoke.Args{
		Command: command, ContainerID: p.uuid, IfName: a.Interface, PluginArgsStr: cniArgs(a.Args),
		Path: strings.Join(p.dirs, string(filepath.ListSeparator)),
	}
	if command == "ADD" || netns.Pinned(p.uuid) {
		args.NetNS = netns.Path(p.uuid)
	}
	if command == "ADD" {
		if plugin.Network.Type == "bridge" {
			if err := mendBridge(optionsOf(plugin).Bridge); err != nil {
				return nil, err
			}
		}
		if len(a.Ports) > 0 && plugin.Network.Capabilities[capability] { // it may set route_localnet
			guard, err := netfilter.Guard(ctx)
			if err != nil {
				return nil, err
			}
			defer guard.Close()
			p.guard = guard
			defer func() { p.guard = nil }()
		}
		return invoke.ExecPluginWithResult(ctx, path, config.Bytes, args, p)
	}
	return nil, invoke.ExecPluginWithoutResult(ctx, path, config.Bytes, args, p)
}

// cniArgs are what plugins get of a user's arguments. An argument is meant for one plugin of
// several, and the others, which know only their own, are told not to mind (CNI's CONVENTIONS.md).
func cniArgs(args string) string {
	if args == "" || strings.Contains(args, "IgnoreUnknown=") {
		return args
	}
	return args + ";IgnoreUnknown=1"
}

// attachment is an attachment with its configuration and result in libcni's form.
type attachment struct {
	network.Attachment
	list   *libcni.NetworkConfigList
	result types.Result
	label  string // names it in an error

	aliases []string // of the pod on this network alone
}

func newAttachment(a network.Attachment) (*attachment, error) {
	list, err := libcni.NetworkConfFromBytes(a.Config)
	if err != nil {
		return nil, err
	}
	return &attachment{Attachment: a, list: list}, nil
}

// speaks reports whether the configuration is of CNI version v or later.
func (a *attachment) speaks(v string) bool {
	ok, err := version.GreaterThanOrEqualTo(a.list.CNIVersion, v)
	return err == nil && ok
}

// options are what of a plugin's configuration is looked at here.
type options struct {
	Masquerade        bool   `json:"ipMasq"`
	MasqueradeBackend string `json:"ipMasqBackend"`
	Backend           string `json:"backend"`
	SNAT              *bool  `json:"snat"`
	Bridge            string `json:"bridge"`
	Gateway           bool   `json:"isGateway"`
	DefaultGateway    bool   `json:"isDefaultGateway"`
	Delegate          struct {
		Type           string `json:"type"`
		DefaultGateway bool   `json:"isDefaultGateway"`
	} `json:"delegate"`
	IPAM struct {
		ipRange
		Type    string      `json:"type"`
		DataDir string      `json:"dataDir"`
		Socket  string      `json:"daemonSocketPath"`
		Ranges  [][]ipRange `json:"ranges"`
		Routes  []struct {
			Dst string `json:"dst"`
		} `json:"routes"`
	} `json:"ipam"`
}

// ipRange is a range of host-local's.
type ipRange struct {
	Subnet  string `json:"subnet"`
	Gateway string `json:"gateway"`
}

func optionsOf(plugin *libcni.PluginConfig) (o options) {
	json.Unmarshal(plugin.Bytes, &o) // a value of another type is the plugin's to refuse
	return o
}

// flannel is the plugin that has another one do its work, in the subnet that flanneld has for the
// host. It keeps what it has told the other in a file in flannelDir, by the pod's UUID.
const flannel, flannelDir = "flannel", "/var/lib/cni/flannel"

// dhcp is the IPAM plugin with a daemon, which listens on dhcpSocket.
const dhcp, dhcpSocket = "dhcp", "/run/cni/dhcp.sock"

// daemon reports whether the daemon that the IPAM plugin needs is missing.
func (o options) daemon() error {
	if o.IPAM.Type != dhcp {
		return nil
	}
	socket := o.socket()
	if err := unix.Access(socket, unix.W_OK); err != nil {
		return fmt.Errorf("plugin dhcp: its daemon's socket %s: %w (start it: %s)", socket, err,
			`"dhcp daemon", in the directory of the plugins`)
	}
	return nil
}

// daemonGone reports whether nobody answers at the socket of the daemon that the IPAM plugin needs.
// Its leases are gone with it.
func (o options) daemonGone() bool {
	if o.IPAM.Type != dhcp {
		return false
	}
	connection, err := net.Dial("unix", o.socket())
	if err == nil {
		connection.Close()
	}
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
}

func (o options) socket() string {
	if o.IPAM.Socket == "" {
		return dhcpSocket
	}
	return o.IPAM.Socket
}

// programs are the programs that an attachment needs: the plugins and their IPAM plugins.
func (a *attachment) programs() []string {
	var types []string
	for _, plugin := range a.list.Plugins {
		o := optionsOf(plugin)
		types = append(types, plugin.Network.Type)
		if o.IPAM.Type != "" {
			types = append(types, o.IPAM.Type)
		}
		if plugin.Network.Type == flannel {
			types = append(types, cmp.Or(o.Delegate.Type, "bridge"), cmp.Or(o.IPAM.Type, "host-local"))
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// settleVersion gives a configuration without cniVersion, as rkt's have none, the newest version
// that all its plugins and libcni speak. By the specification it would be 0.1.0, which has no CHECK
// and tells DEL less. A plugin that does not say what it speaks is of a time when there was no
// VERSION.
func (p *plugins) settleVersion(ctx context.Context, a *attachment) error {
	if a.list.CNIVersion != "" {
		return nil
	}
	programs := a.programs()
	common, err := p.commonVersions(ctx, programs)
	if err != nil {
		return err
	}
	if len(common) == 0 {
		return fmt.Errorf("the plugins %s have no version of CNI in common", strings.Join(programs, ", "))
	}
	newest := slices.MaxFunc(common, func(v, w string) int {
		if greater, _ := version.GreaterThan(v, w); greater {
			return 1
		}
		return -1
	})
	var list map[string]any
	if err := json.Unmarshal(a.Config, &list); err != nil {
		return err
	}
	list["cniVersion"] = newest
	config, err := json.Marshal(list)
	if err != nil {
		return err
	}
	a.Config, a.list.CNIVersion = config, newest
	if len(a.Ports) > 0 && !a.speaks("0.3.0") {
		return fmt.Errorf("not all of the plugins %s speak CNI 0.3.0 or later, which forwarding ports needs",
			strings.Join(programs, ", "))
	}
	return nil
}

// commonVersions lists the versions of CNI that all of the plugins, which are asked at once, and
// libcni speak.
func (p *plugins) commonVersions(ctx context.Context, programs []string) ([]string, error) {
	type answer struct {
		info version.PluginInfo
		err  error
	}
	answers := make(chan answer)
	for _, program := range programs {
		go func() {
			path, err := p.FindInPath(program, p.dirs)
			var info version.PluginInfo
			if err == nil {
				info, err = invoke.GetVersionInfo(ctx, path, p)
				if err != nil && ctx.Err() == nil {
					info, err = version.PluginSupports("0.1.0", "0.2.0"), nil
				}
			}
			if err != nil {
				err = fmt.Errorf("plugin %s: %w", program, err)
			}
			answers <- answer{info, err}
		}()
	}
	common := version.All.SupportedVersions()
	var errs []error
	for range programs {
		answer := <-answers
		errs = append(errs, answer.err)
		if answer.err == nil {
			speaks := answer.info.SupportedVersions()
			common = slices.DeleteFunc(slices.Clone(common), func(v string) bool { return !slices.Contains(speaks, v) })
		}
	}
	return common, errors.Join(errs...)
}
