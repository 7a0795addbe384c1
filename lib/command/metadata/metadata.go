// Package metadata is the program rkt-metadata.
package metadata

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/metadata"
	"github.com/rkt-toolkit/rkt/lib/poddir/mds"
)

// Command is rkt-metadata.
var Command = &cli.Command{
	Name:     "rkt-metadata",
	Summary:  "serve appc's metadata to apps over HTTP",
	Synopsis: []string{"[FLAGS]"},
	Text: `
Serves appc's metadata to the apps of pods that were started with --mds-register.
Meant to be started by rkt-metadata.socket; by hand it listens itself.`,
	Details: `
An app finds the service by $AC_METADATA_URL, which it has if its pod was started
with --mds-register. The service exits after it has not been asked for a while:
it reads everything from the pods' directories and the image store, so nothing is
lost.`,
	Examples: []cli.Example{
		{Line: "systemctl enable --now rkt-metadata.socket", Text: "Have systemd start the service when an app asks."},
		{Line: "rkt run --mds-register docker://redis", Text: "Start a pod whose app can ask."},
	},
	Files: []cli.File{
		{Path: "/run/rkt/metadata-svc.sock", Text: "where pods are registered"},
	},
	SeeAlso: []string{"rkt-run-prepared", "systemd.socket"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	port, idle := uint(mds.Port), 30*time.Second
	fs.UintVar(&port, "listen-port", port, "PORT: where to listen if systemd has passed no socket")
	fs.DurationVar(&idle, "idle", idle, "TIME: exit after so long without a request, if started by a socket")
	return func(ctx context.Context, p *cli.Process) error { return serve(ctx, p, fs, port, idle) }
}

func serve(ctx context.Context, p *cli.Process, fs *cli.Flags, port uint, idle time.Duration) error {
	g := fs.Global
	if fs.NArg() > 0 {
		return fmt.Errorf("%q: takes no operands", fs.Arg(0))
	}
	handler, err := metadata.New(g.Dir, func(line string) { p.Say("%s", line) })
	if err != nil {
		return err
	}
	listeners, err := activation.Listeners()
	if err != nil {
		return fmt.Errorf("socket activation: %w", err)
	}
	if len(listeners) == 0 {
		idle = 0
		if listeners, err = listen(port); err != nil {
			return err
		}
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	return run(ctx, handler, listeners, idle)
}

// listen makes the sockets that systemd would have passed.
func listen(port uint) ([]net.Listener, error) {
	tcp, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/run/rkt", 0o700); err != nil {
		return nil, err
	}
	os.Remove(mds.Socket) // of one that was killed; a second one would have failed at the port
	unix, err := net.Listen("unix", mds.Socket)
	if err != nil {
		return nil, err
	}
	return []net.Listener{tcp, unix}, os.Chmod(mds.Socket, 0o600)
}

// run serves until the context ends, or until there was no connection for as long as idle; 0 is for
// ever.
func run(ctx context.Context, handler http.Handler, listeners []net.Listener, idle time.Duration) error {
	ctx, done := context.WithCancel(ctx)
	defer done()
	watch := &watch{idle: idle, done: done}
	server := &http.Server{Handler: handler, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout:    10 * time.Second,
		MaxHeaderBytes: 16 << 10, ConnState: watch.change}
	watch.start()
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- server.Serve(l) }()
	}
	select {
	case <-ctx.Done():
	case err := <-failed:
		return err
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(end); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return server.Close()
}

// watch ends the service when it has no connection for a while.
type watch struct {
	idle  time.Duration
	done  func()
	mutex sync.Mutex
	open  int
	timer *time.Timer
}

func (w *watch) start() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.idle > 0 && w.open == 0 {
		w.timer = time.AfterFunc(w.idle, w.done)
	}
}

func (w *watch) change(_ net.Conn, state http.ConnState) {
	w.mutex.Lock()
	switch state {
	case http.StateNew:
		w.open++
		if w.timer != nil {
			w.timer.Stop()
		}
	case http.StateClosed, http.StateHijacked:
		w.open--
	}
	w.mutex.Unlock()
	if state == http.StateClosed {
		w.start()
	}
}
