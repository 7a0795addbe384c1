// Testapp is an app as the tests need it and Debian has none: it serves the sockets that it was
// activated with and speaks sd_notify(3).
//
//	testapp serve              answers every connection or packet with what sd_listen_fds(3)
//	                           says; ends with 3 if there is no socket
//	testapp web                shows its environment on port 80
//	testapp end STATUS         ends with that status
//	testapp notify DELAY TEXT  says READY=1 and STATUS=TEXT after DELAY, then WATCHDOG=1 in time;
//	                           SIGUSR1 hangs it
//	testapp notify-after FILE  says READY=1 as soon as the process whose number FILE has is gone,
//	                           and stays
//	testapp memory MB          takes that much memory and stays
//	testapp frame TO …         sends frames to each PROTOCOL:ADDRESS:PORT by eth0, and says which
//	                           are answered
//	testapp inspect [ARG …]    prints what it sees, as JSON
//	testapp escape [COMMAND]   tries to become the host's root, and says how far it came; with
//	                           COMMAND has the host's kernel run it
//	testapp elude              has processes that are about to make user namespaces of their own
//	testapp seize MARK         seizes every new process of the pod by ptrace, and says what it was
//	testapp peel MARK          takes away what lies at "/", and what lies below that, and says
//	                           what is there and whether the file MARK is
//	testapp calls              tries the system calls that no app has
//	testapp profile [CAP …]    tries each system call, and says how many are not as the default
//	                           profile has them for these capabilities
//	testapp bytes [ARG …]      prints its arguments, $V0 to $V9, variables whose value begins
//	                           with odd:, its directory, and $INSPECT_MOUNT if a file of the host
//	                           is there
package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rkt-toolkit/rkt/test/frame"
)

func main() {
	verb, args := "", os.Args[1:]
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch {
	case verb == "serve":
		serve()
	case verb == "web" && len(args) == 0:
		check(http.ListenAndServe(":80", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for _, kv := range os.Environ() {
				fmt.Fprintln(w, kv)
			}
		})))
	case verb == "end" && len(args) == 1:
		status, err := strconv.Atoi(args[0])
		check(err)
		fmt.Println("ends with", status)
		os.Exit(status)
	case verb == "notify" && len(args) == 2:
		beReady(args[0], args[1])
	case verb == "escape" && len(args) < 2:
		escape(strings.Join(args, ""))
	case verb == "escape-inside" && len(args) == 1:
		escapeInside(args[0])
	case verb == "profile":
		profile(args)
	case verb == "crash":
		syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case verb == "elude":
		elude()
	case verb == "seize" && len(args) == 1:
		seize(args[0])
	case verb == "peel" && len(args) == 1:
		peel(args[0])
	case verb == "calls":
		tryCalls()
	case verb == "frame" && len(args) > 0:
		sendFrames(args)
	case verb == "notify-after" && len(args) == 1:
		beReadyAfter(args[0])
	case verb == "bytes":
		showBytes()
	case verb == "inspect":
		inspect()
	case verb == "memory" && len(args) == 1:
		mb, err := strconv.Atoi(args[0])
		check(err)
		memory := make([]byte, mb<<20)
		for i := 0; i < len(memory); i += 4096 {
			memory[i] = 1
		}
		fmt.Println("took", mb, "MB")
		time.Sleep(time.Hour)
	default:
		fmt.Fprintln(os.Stderr, "testapp: see its source")
		os.Exit(2)
	}
}

// sendFrames goes past the routes of the pod's kernel, see package frame.
func sendFrames(targets []string) {
	for _, target := range targets {
		protocol, address, _ := strings.Cut(target, ":")
		to, err := netip.ParseAddrPort(address)
		check(err)
		answered, err := frame.Answered("eth0", protocol, netip.Addr{}, to)
		check(err)
		fmt.Println(target, map[bool]string{true: "answered", false: "silence"}[answered])
	}
}

// showBytes prints lines NAME HEX.
func showBytes() {
	for i, arg := range os.Args[2:] {
		fmt.Printf("%d x%x\n", i+2, arg)
	}
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(value, "odd:") {
			fmt.Printf("env:%x x%x\n", name, value)
		}
	}
	for i := range 10 {
		name := fmt.Sprintf("V%d", i)
		fmt.Printf("%s x%x\n", name, os.Getenv(name))
	}
	cwd, err := os.Getwd()
	check(err)
	fmt.Printf("cwd x%x\n", cwd)
	if at := os.Getenv("INSPECT_MOUNT"); at != "" {
		_, err := os.Stat(at + "/here")
		check(err)
		fmt.Printf("mount x%x\n", at)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "testapp:", err)
		os.Exit(1)
	}
}

func serve() {
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || n == 0 {
		fmt.Println("no socket was passed")
		os.Exit(3)
	}
	said := fmt.Sprintf("LISTEN_FDS=%d LISTEN_FDNAMES=%s\n", n, os.Getenv("LISTEN_FDNAMES"))
	fmt.Print(said)
	for fd := 3; fd < 3+n; fd++ {
		file := os.NewFile(uintptr(fd), "socket")
		if l, err := net.FileListener(file); err == nil {
			go func() {
				for {
					c, err := l.Accept()
					check(err)
					fmt.Fprintf(c, "fd=%d %s", fd, said)
					c.Close()
				}
			}()
			continue
		}
		c, err := net.FilePacketConn(file)
		check(err)
		go func() {
			for {
				var b [1500]byte
				_, from, err := c.ReadFrom(b[:])
				check(err)
				_, err = c.WriteTo([]byte(fmt.Sprintf("fd=%d %s", fd, said)), from)
				check(err)
			}
		}()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	fmt.Println("stopped in order")
}

func notify(text string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		check(fmt.Errorf("no NOTIFY_SOCKET for %q", text))
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	check(err)
	_, err = c.Write([]byte(text))
	check(err)
	c.Close()
}

func beReady(delay, status string) {
	d, err := time.ParseDuration(delay)
	check(err)
	hang, stop := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hang, syscall.SIGUSR1)
	signal.Notify(stop, syscall.SIGTERM)
	time.Sleep(d)
	notify("READY=1\nSTATUS=" + status)
	fmt.Println("ready, WATCHDOG_USEC=" + os.Getenv("WATCHDOG_USEC"))
	usec, _ := strconv.Atoi(os.Getenv("WATCHDOG_USEC"))
	tick := time.NewTicker(max(time.Duration(usec)*time.Microsecond/3, time.Millisecond*10))
	for {
		select {
		case <-hang:
			fmt.Println("hanging")
			tick.Stop()
		case <-stop:
			fmt.Println("stopped in order")
			return
		case <-tick.C:
			if usec > 0 {
				notify("WATCHDOG=1")
			}
		}
	}
}

func beReadyAfter(file string) {
	var pid int
	for ; pid == 0; time.Sleep(time.Millisecond) {
		if text, err := os.ReadFile(file); err == nil {
			pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
	}
	for syscall.Kill(pid, 0) == nil {
	}
	notify("READY=1")
	fmt.Println("ready after", pid)
	time.Sleep(time.Hour)
}
