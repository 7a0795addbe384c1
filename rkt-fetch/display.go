package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/fetch"
	"golang.org/x/sys/unix"
)

// display shows how far the fetch of one image has come: one line that changes on a terminal, and with --debug a line for each
// layer that begins or ends.
type display struct {
	p        *cli.Process
	name     string
	terminal bool

	mu    sync.Mutex
	blobs map[string]fetch.Progress
	shown time.Time
}

func newDisplay(p *cli.Process, name string, debug bool) *display {
	d := &display{p: p, name: name, blobs: map[string]fetch.Progress{}}
	if f, ok := p.Stderr.(*os.File); ok && !debug {
		_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		d.terminal = err == nil
	}
	return d
}

func (d *display) update(now fetch.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.blobs[now.Blob]; !known {
		d.p.Debugf("%s: get %s, %d bytes", d.name, now.Blob, now.Size)
	}
	if now.Got == now.Size {
		d.p.Debugf("%s: got %s", d.name, now.Blob)
	}
	d.blobs[now.Blob] = now
	if !d.terminal || time.Since(d.shown) < 100*time.Millisecond {
		return
	}
	d.shown = time.Now()
	var got, size int64
	done := 0
	for _, b := range d.blobs {
		got, size = got+b.Got, size+max(b.Got, b.Size)
		if b.Got == b.Size {
			done++
		}
	}
	fmt.Fprintf(d.p.Stderr, "\r\x1b[K%s: %.1f of %.1f MB, %d of %d layers", d.name, float64(got)/1e6, float64(size)/1e6, done, len(d.blobs))
}

// clear takes the line off the terminal.
func (d *display) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.terminal && !d.shown.IsZero() {
		fmt.Fprint(d.p.Stderr, "\r\x1b[K")
	}
}
