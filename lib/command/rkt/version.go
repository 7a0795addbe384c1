package rkt

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

// Version is set by the build: a release, or the next one with "-devel+" and the commit.
var Version = "2.0.0-devel"

// version prints rkt's version, in the words of rkt 1.30, and to root what rkt-doctor says of the
// host's.
func version(ctx context.Context, p *cli.Process) error {
	for _, line := range []string{"rkt Version: " + Version, "appc Version: " + appcVersion,
		"Go Version: " + runtime.Version(), "Go OS/Arch: " + runtime.GOOS + "/" + runtime.GOARCH,
		"Features: -TPM +SDJOURNAL"} {
		if err := p.PrintLine("%s", line); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return nil
	}
	doctor, err := cli.Sibling("rkt-doctor")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, doctor, "systemd", "kernel", "users", "cgroups", "apparmor", "selinux")
	cmd.Stdout, cmd.Stderr, cmd.Env = p.Stdout, p.Stderr, p.Environ()
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		// the status tells how well the host does
		return err
	}
	return nil
}
