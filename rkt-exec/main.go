// Rkt-exec sets environment variables and becomes a program, as env(1) does.
//
//	rkt-exec NAME=VALUE… -- PROGRAM [ARG…]
//
// It is no program for a command line: the pod's systemd starts an app by it whose environment has names that systemd does not pass on, such
// as FOO.BAR of Java's images. It is seen in such an app as /dev/rkt-exec. PROGRAM is a path.
package main

import (
	"os"
	"slices"
	"strings"
	"syscall"
)

const usage = `Usage: rkt-exec NAME=VALUE... -- PROGRAM [ARG...]

Sets environment variables and becomes a program. The pod's systemd starts an app
by it whose environment has names that systemd does not pass on.
`

// It runs under the app's filter of system calls, so it makes as few as it can.
func main() {
	args, env := os.Args, syscall.Environ()
	if len(args) == 2 && (args[1] == "--help" || args[1] == "-h") {
		syscall.Write(1, []byte(usage))
		return
	}
	end := slices.Index(args, "--")
	if end < 1 || end+1 == len(args) {
		fail("not NAME=VALUE... -- PROGRAM [ARG...]")
	}
	for _, v := range args[1:end] {
		name, _, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			fail(v + ": not NAME=VALUE")
		}
		env = append(slices.DeleteFunc(env, func(s string) bool { return strings.HasPrefix(s, name+"=") }), v)
	}
	argv := args[end+1:]
	fail(argv[0] + ": " + syscall.Exec(argv[0], argv, env).Error())
}

func fail(why string) {
	syscall.Write(2, []byte("rkt-exec: "+why+"\n"))
	syscall.Exit(254)
}
