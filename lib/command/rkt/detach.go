package rkt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/cli/chain"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/pod/podunit"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// detach is rkt run --detach: the pod is prepared here, where errors are seen, and run by a
// transient service. systemd-run returns when the apps have been started.
func detach(ctx context.Context, p *cli.Process, dir string, s *chain.Steps) error {
	if !systemd.Booted() {
		return errors.New("run: --detach: systemd does not run here; use & of the shell: rkt run … &")
	}
	systemdRun, err := program.Look("systemd-run")
	if err != nil {
		return fmt.Errorf("run: --detach: %w", err)
	}
	unit, argv, err := transient(p, s)
	if err != nil {
		return err
	}
	interruptible, stop := cli.Interruptible(ctx)
	defer stop()
	if _, err := step(interruptible, p, "rkt-prepare", append(append(s.Prepare, "--uuid="+s.UUID),
		s.Operands...)...); err != nil {
		return errors.Join(err, chain.TakeBack(chain.Undo["pod"], dir, s.UUID, p.Stderr))
	}
	if err = stop(); err == nil { // from here on the pod is the service's
		cmd := exec.Command(systemdRun, argv...)
		cmd.Stderr = p.Stderr
		p.Debugf("run %q", cmd.Args)
		err = cmd.Run()
	}
	if err == nil {
		return p.PrintLine("%s", unit)
	}
	if found, unknown := poddir.In(dir).Find(s.UUID, ""); unknown == nil {
		if state, _ := found.State(); state == poddir.Prepared { // it has never run
			err = errors.Join(err, chain.TakeBack(chain.Undo["pod"], dir, s.UUID, p.Stderr))
		}
	}
	return fmt.Errorf("run: --detach: %s has failed (%w); journalctl -u %[1]s says why", unit, err)
}

// transient decides the pod's UUID and the name of its service, and is the command line of
// systemd-run that starts it.
func transient(p *cli.Process, s *chain.Steps) (unit string, argv []string, err error) {
	if s.UUID == "" {
		s.UUID = poddir.NewUUID()
	}
	unit = "rkt-" + s.UUID + ".service"
	if name := strings.TrimSuffix(s.Name(), ".service"); podunit.ValidName("rkt-" + name) {
		unit = "rkt-" + name + ".service"
	}
	if s.Name() == "" {
		unit = "rkt-" + s.UUID + ".service"
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	gc, err := cli.Sibling("rkt-gc")
	if err != nil {
		return "", nil, err
	}
	argv = []string{"--quiet", "--collect", "--same-dir", "--unit=" + unit, "--slice=machine.slice",
		"--description=Pod " + s.UUID, "--property=Type=notify", "--property=Delegate=yes", "--property=KillMode=mixed",
		"--property=TimeoutStartSec=10min"}
	if s.Remove {
		argv = append(argv, "--property=ExecStopPost="+gc+" "+s.UUID)
	}
	for _, name := range globals {
		if value := p.Getenv(variable(name)); value != "" {
			argv = append(argv, "--setenv="+variable(name)+"="+value)
		}
	}
	argv = append(argv, "--", self, "run-prepared")
	for _, word := range slices.Concat(s.Net, s.Run, []string{s.UUID}) {
		argv = append(argv, strings.ReplaceAll(word, "$", "$$")) // systemd expands variables
	}
	return unit, argv, nil
}
