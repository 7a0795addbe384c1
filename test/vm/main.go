// Vm runs a command in a virtual machine that boots Debian's kernel and systemd with the machine's
// own files.
//
//	go run ./test/vm [--kernel=DIR] [--root=DIR] [--overlay=DIR] [--memory=MIB] \
//		[--options=WORDS] -- COMMAND [ARG …]
//
// It is slower than test/host, by a boot of a whole machine, and has all of a machine: control
// groups with every controller, and a kernel with ipvlan. The exit status is the command's. The
// same program is the init of the virtual machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func main() {
	testkit.Guest()
	status, err := run(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		status = 254
	}
	os.Exit(status)
}

func run(ctx context.Context) (status int, err error) {
	v := testkit.VM{Stdout: os.Stdout, Stderr: os.Stderr}
	flag.StringVar(&v.Kernel, "kernel", "bin/vm", "the unpacked kernel package")
	flag.StringVar(&v.Root, "root", "", "a tree with the files of another release")
	flag.Func("overlay", "a directory that lies over the machine's root",
		func(s string) error { v.Overlay = append(v.Overlay, s); return nil })
	flag.StringVar(&v.Options, "options", "", "further words of the kernel's command line")
	flag.IntVar(&v.Memory, "memory", 0, "MiB")
	flag.Parse()
	if flag.NArg() == 0 {
		return 0, errors.New("no command given")
	}
	v.Args = flag.Args()
	if v.WorkDir, err = os.Getwd(); err != nil {
		return 0, err
	}
	if v.Dir, err = os.MkdirTemp("/var/tmp", "rkt-testvm-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(v.Dir)) }()
	return v.Run(ctx)
}
