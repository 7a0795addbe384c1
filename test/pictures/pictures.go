// Package pictures draws the pictures of the documentation, as SVG. They use no font and no color
// that a browser does not have, and are read on a dark page as well.
package pictures

import (
	"encoding/xml"
	"fmt"
	"strings"
)

const (
	lineHeight = 18
	charWidth  = 7.3 // of the monospaced font, in pixels
	padding    = 10
)

// Box is a frame with lines of text in it, of which the first is bold.
type Box struct {
	X, Y, Width int // in pixels, its left upper corner
	Lines       []string
	Program     bool // a program: with a thick frame; else a file or a thing of the kernel's
}

// height is in pixels.
func (b Box) height() int { return len(b.Lines)*lineHeight + padding }

// Arrow leads from a point to another one, in pixels, with a word beside it.
type Arrow struct {
	FromX, FromY, ToX, ToY int
	Word                   string
	Dashed                 bool
}

// Picture is a drawing.
type Picture struct {
	Title  string // which is read out
	Boxes  []Box
	Arrows []Arrow
}

// SVG is the file.
func (p Picture) SVG() []byte {
	width, height := 0, 0
	for _, b := range p.Boxes {
		width, height = max(width, b.X+b.Width), max(height, b.Y+b.height())
	}
	var s strings.Builder
	width, height = width+padding, height+padding
	begin(&s, p.Title, width, height)
	s.WriteString(`<style>
text { font: 12px monospace; fill: #1a1a1a } .name { font-weight: bold } .word { fill: #555 }
rect { fill: #f6f6f4; stroke: #888 } .program { fill: #e8f0fa; stroke: #2a5a9a; stroke-width: 2 }
path { stroke: #555; fill: none; marker-end: url(#head) } .dashed { stroke-dasharray: 4 3 }
.page { fill: #fff; stroke: none }
</style>
<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">
<path d="M0,0 L8,4 L0,8 z" style="fill:#555;stroke:none;marker-end:none"/></marker></defs>
`)
	fmt.Fprintf(&s, "<rect class=\"page\" width=\"%d\" height=\"%d\"/>\n", width, height)
	for _, b := range p.Boxes {
		b.draw(&s)
	}
	for _, a := range p.Arrows {
		a.draw(&s)
	}
	s.WriteString("</svg>\n")
	return []byte(s.String())
}

// begin writes how a file begins.
func begin(s *strings.Builder, title string, width, height int) {
	fmt.Fprintf(s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" role="img">`+"\n",
		width, height, width)
	fmt.Fprintf(s, "<title>%s</title>\n", escape(title))
}

func (b Box) draw(s *strings.Builder) {
	class := ""
	if b.Program {
		class = ` class="program"`
	}
	fmt.Fprintf(s, "<rect%s x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"4\"/>\n",
		class, b.X, b.Y, b.Width, b.height())
	for i, line := range b.Lines {
		class := ""
		if i == 0 {
			class = ` class="name"`
		}
		fmt.Fprintf(s, "<text%s x=\"%d\" y=\"%d\">%s</text>\n",
			class, b.X+padding, b.Y+(i+1)*lineHeight, escape(line))
	}
}

func (a Arrow) draw(s *strings.Builder) {
	class := ""
	if a.Dashed {
		class = ` class="dashed"`
	}
	fmt.Fprintf(s, "<path%s d=\"M%d,%d L%d,%d\"/>\n", class, a.FromX, a.FromY, a.ToX, a.ToY)
	if a.Word != "" {
		x, y := a.FromX+lineHeight, a.FromY-4
		if a.FromX == a.ToX {
			x, y = a.FromX+6, (a.FromY+a.ToY)/2+4
		}
		fmt.Fprintf(s, "<text class=\"word\" x=\"%d\" y=\"%d\">%s</text>\n", x, y, escape(a.Word))
	}
}

// Overfull are the lines that are wider than their boxes.
func (p Picture) Overfull() (lines []string) {
	for _, b := range p.Boxes {
		for _, line := range b.Lines {
			if float64(len([]rune(line)))*charWidth > float64(b.Width-2*padding) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func escape(text string) string {
	var s strings.Builder
	_ = xml.EscapeText(&s, []byte(text))
	return s.String()
}

// Bar is a row of a chart; one without a value is a heading.
type Bar struct {
	Label            string
	Value, Low, High float64 // the median and the quartiles
}

// Chart draws bars, with their values, and a line from the lower to the upper quartile.
func Chart(title string, bars []Bar) []byte {
	const left, length, row = 230, 380, 22
	most := 0.0
	for _, b := range bars {
		most = max(most, b.High, b.Value)
	}
	width, height := left+length+90, (len(bars)+1)*row+padding
	var s strings.Builder
	begin(&s, title, width, height)
	s.WriteString(`<style>
text { font: 12px monospace; fill: #1a1a1a } .name { font-weight: bold } .page { fill: #fff }
rect { fill: #2a5a9a } .other { fill: #b8b8b0 } path { stroke: #1a1a1a; stroke-width: 2 }
</style>
`)
	fmt.Fprintf(&s, "<rect class=\"page\" width=\"%d\" height=\"%d\"/>\n", width, height)
	fmt.Fprintf(&s, "<text x=\"%d\" y=\"%d\">%s</text>\n", padding, row-6, escape(title))
	for i, b := range bars {
		y := (i + 1) * row
		if b.Value == 0 {
			fmt.Fprintf(&s, "<text class=\"name\" x=\"%d\" y=\"%d\">%s</text>\n", padding, y+row-7, escape(b.Label))
			continue
		}
		class := ` class="other"`
		if strings.HasPrefix(b.Label, "rkt") {
			class = ""
		}
		at := func(v float64) int { return int(v / most * length) }
		fmt.Fprintf(&s, "<text x=\"%d\" y=\"%d\">%s</text>\n", 2*padding, y+row-7, escape(b.Label))
		fmt.Fprintf(&s, "<rect%s x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n",
			class, left, y+4, at(b.Value), row-8)
		fmt.Fprintf(&s, "<path d=\"M%d,%d L%d,%d\"/>\n", left+at(b.Low), y+row/2, left+at(b.High), y+row/2)
		fmt.Fprintf(&s, "<text x=\"%d\" y=\"%d\">%.3g</text>\n", left+at(max(b.Value, b.High))+8, y+row-7, b.Value)
	}
	s.WriteString("</svg>\n")
	return []byte(s.String())
}
