package fetch

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/image/fetch"
	"golang.org/x/sys/unix"
)

const (
	redraw   = 100 * time.Millisecond // between two pictures on a terminal
	interim  = 10 * time.Second       // between two lines about one layer elsewhere
	barWidth = 24
)

// display shows how far the fetch of one image has come. On a terminal each layer has a line: those
// that are on their way are drawn again and again below those that are there. Elsewhere a layer
// that is downloaded gets a line when it is there, and one every ten seconds until then.
type display struct {
	p       *cli.Process
	name    string
	local   bool       // the image is on this machine: no download
	columns func() int // of the terminal; nil if there is none
	now     func() time.Time

	mu     sync.Mutex
	titled bool
	bars   []*bar
	drawn  int // lines that are to be drawn over
	last   time.Time
}

// bar is a layer that is on its way.
type bar struct {
	fetch.Progress
	begun, told time.Time
}

func newDisplay(p *cli.Process, name string, local, debug bool) *display {
	d := &display{p: p, name: name, local: local, now: time.Now}
	f, ok := p.Stderr.(*os.File)
	if term := p.Getenv("TERM"); !ok || debug || term == "" || term == "dumb" {
		return d
	}
	columns := func() int {
		size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			return 0
		}
		return int(size.Col)
	}
	if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
		d.columns = columns
	}
	return d
}

func (d *display) update(now fetch.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.now()
	var b *bar
	place := len(d.bars)
	for i, old := range d.bars {
		if old.Blob == now.Blob {
			b, place = old, i
		}
	}
	if b == nil {
		d.p.Debugf("%s: get %s, %d bytes", d.name, now.Blob, now.Size)
		b = &bar{begun: at, told: at}
		d.bars = append(d.bars, b)
	}
	b.Progress = now
	done := now.Got == now.Size
	if done {
		d.p.Debugf("%s: got %s", d.name, now.Blob)
		d.bars = append(d.bars[:place], d.bars[place+1:]...)
	}
	switch {
	case d.columns != nil:
		d.draw(at, b, done)
	case d.local && !strings.Contains(now.Blob, "://"):
	case done:
		d.line(b, fmt.Sprintf("%s in %s", size(now.Got), seconds(at.Sub(b.begun))))
	case at.Sub(b.told) >= interim:
		b.told = at
		d.line(b, b.soFar())
	}
}

// line writes a plain line about a layer.
func (d *display) line(b *bar, text string) {
	name := label(d.name)
	if layer := label(b.Blob); layer != name {
		name += ": " + layer
	}
	d.p.Say("%s: %s", name, text)
}

// draw draws the layers that are on their way, and a layer that is there above them for the last
// time.
func (d *display) draw(at time.Time, b *bar, done bool) {
	if !done && at.Sub(d.last) < redraw {
		return
	}
	d.last = at
	width := d.columns() - 1
	if width <= 0 {
		width = 79
	}
	var s strings.Builder
	s.WriteString(d.erase())
	if name := label(d.name); !d.titled && label(b.Blob) != name {
		s.WriteString(cut(name, width) + "\n")
	}
	d.titled = true
	if done {
		s.WriteString(cut(fmt.Sprintf("%-12s  %s in %s", label(b.Blob), size(b.Got), seconds(at.Sub(b.begun))), width) +
			"\n")
	}
	for i, b := range d.bars {
		if i > 0 {
			s.WriteString("\n")
		}
		s.WriteString(cut(fmt.Sprintf("%-12s  %s%s", label(b.Blob), b.picture(), b.soFar()), width))
	}
	d.drawn = len(d.bars)
	_, _ = io.WriteString(d.p.Stderr, s.String())
}

// erase takes back what was drawn for now.
func (d *display) erase() string {
	if d.drawn == 0 {
		return ""
	}
	up := strings.Repeat("\x1b[A", d.drawn-1)
	d.drawn = 0
	return "\r" + up + "\x1b[J"
}

// clear takes the layers that are on their way off the terminal.
func (d *display) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = io.WriteString(d.p.Stderr, d.erase())
}

// Write writes what else is to be said, above the layers that are on their way.
func (d *display) Write(p []byte) (int, error) {
	d.clear()
	return d.p.Stderr.Write(p)
}

func (b *bar) picture() string {
	if b.Size <= 0 {
		return ""
	}
	full := int(min(b.Got, b.Size) * barWidth / b.Size)
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] "
}

func (b *bar) soFar() string {
	if b.Size < 0 {
		return size(b.Got)
	}
	return size(b.Got) + " of " + size(b.Size)
}

// label is what a layer or an image is called: the beginning of a digest, a URL without what may be
// a secret in it.
func label(name string) string {
	if digest, ok := strings.CutPrefix(name, "sha256:"); ok {
		return digest[:min(12, len(digest))]
	}
	if strings.Contains(name, "://") {
		name, _, _ = strings.Cut(name, "?")
	}
	return printable.Line(name)
}

// cut makes a line fit, so that the terminal does not break it.
func cut(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:width])
	}
	return line
}

func size(n int64) string {
	switch {
	case n < 1e3:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
