// Mkman writes the manual pages: of each program its package comment, and what it prints for --help.
//
//	go run ./docs/mkman BIN DIR
//
// BIN has the built programs; the pages go to DIR as PROGRAM.1.
package main

import (
	"errors"
	"fmt"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkman:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: mkman BIN DIR")
	}
	mains, err := filepath.Glob("rkt*/main.go")
	if err != nil || len(mains) == 0 {
		return fmt.Errorf("no programs here: %v", err)
	}
	if err := os.MkdirAll(args[1], 0o755); err != nil {
		return err
	}
	for _, main := range mains {
		name := filepath.Base(filepath.Dir(main))
		help, err := exec.Command(filepath.Join(args[0], name), "--help").Output()
		if err != nil {
			return fmt.Errorf("%s --help: %w", name, err)
		}
		page, err := page(name, main, string(help))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(args[1], name+".1"), []byte(page), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// page is a manual page in man(7)'s language.
func page(name, main, help string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), main, nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		return "", err
	}
	comment := file.Doc.Text()
	if comment == "" {
		return "", fmt.Errorf("%s: no package comment", main)
	}
	summary := strings.TrimSuffix(new(doc.Package).Synopsis(comment), ".")
	_, summary, _ = strings.Cut(summary, " ") // without the program's name
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" rkt\n.SH NAME\n%s \\- %s\n.SH DESCRIPTION\n", strings.ToUpper(name), name, escape(summary))
	for paragraph := range strings.SplitSeq(strings.TrimSpace(comment), "\n\n") {
		if strings.HasPrefix(paragraph, "\t") {
			b.WriteString(literal(strings.ReplaceAll(paragraph, "\t", "")))
			continue
		}
		b.WriteString(".PP\n" + escape(paragraph) + "\n")
	}
	b.WriteString(".SH USAGE\n" + literal(strings.TrimRight(help, "\n")))
	b.WriteString(".SH EXIT STATUS\n0, a pod's or a command's own status, or 254 for an error of rkt's own.\n")
	b.WriteString(".SH FILES\n/var/lib/rkt, /etc/rkt, /usr/lib/rkt, /run/rkt\n")
	return b.String(), nil
}

func literal(text string) string { return ".PP\n.nf\n" + escape(text) + "\n.fi\n" }

// escape keeps lines from being taken for requests, and writes what is not ASCII in roff's way.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r > 0x7e:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	text = b.String()
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
