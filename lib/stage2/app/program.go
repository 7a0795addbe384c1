package app

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/confine"
	"golang.org/x/sys/unix"
)

// findProgram returns the path of a program, found as execvp(3) does in the app's root, with the
// app's $PATH, and what its file is if the kernel may not know how to execute that. It is an error,
// which names the cause, if the program, its interpreter or its loader is not there or can't be
// executed by anyone.
func findProgram(name string, env []string) (file, format string, err error) {
	if file, err = confine.LookPath(name, bytesOf(env)); err != nil {
		return "", "", err
	}
	format, err = executable(file, 0)
	return file, format, err
}

// maxInterpreters is how many interpreters of interpreters the kernel follows (fs/exec.c).
const maxInterpreters = 5

// executable says why the kernel would not execute a file, and what the file is if the kernel may
// not know that.
func executable(file string, depth int) (format string, err error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", fmt.Errorf("%s: not a file", file)
	case st.Mode&0o111 == 0:
		return "", fmt.Errorf("%s: not executable: nobody has the right to execute it (chmod +x)", file)
	case depth > maxInterpreters:
		return "", fmt.Errorf("%s: too many interpreters of interpreters", file)
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", nil // it may be executed and not read
	}
	defer f.Close()
	head := make([]byte, 256) // BINPRM_BUF_SIZE
	n, _ := io.ReadFull(f, head)
	head = head[:n]
	switch {
	case n == 0:
		return "is empty", nil
	case bytes.HasPrefix(head, []byte("#!")):
		return script(file, head, depth)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return loadable(file, f)
	}
	return "neither a program nor a script whose first line names an interpreter (#!/bin/sh)", nil
}

// script looks at the first line of a script.
func script(file string, head []byte, depth int) (format string, err error) {
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	interpreter, _, _ := strings.Cut(strings.Trim(string(line), " \t"), " ")
	interpreter, _, _ = strings.Cut(interpreter, "\t")
	if interpreter == "" {
		return "its first line names no interpreter", nil
	}
	format, err = executable(interpreter, depth+1)
	if strings.HasSuffix(interpreter, "\r") && errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("%s: its lines end with CR LF, as on Windows: there is no interpreter %q",
			file, interpreter)
	}
	if err != nil {
		return "", fmt.Errorf("%s: its interpreter %w", file, err)
	}
	return format, nil
}

// machines are the ELF machines of a GOARCH, and of what its kernel can run besides.
var machines = map[string][]elf.Machine{
	"amd64": {elf.EM_X86_64, elf.EM_386}, "386": {elf.EM_386},
	"arm64": {elf.EM_AARCH64, elf.EM_ARM}, "arm": {elf.EM_ARM}, "riscv64": {elf.EM_RISCV},
}

// loadable looks at an ELF file's machine and loader. One of another machine may still be executed,
// by an emulator of the host's (binfmt_misc).
func loadable(file string, f *os.File) (format string, err error) {
	e, err := elf.NewFile(f)
	if err != nil {
		return "a damaged ELF file", nil
	}
	if !slices.Contains(machines[runtime.GOARCH], e.Machine) {
		return fmt.Sprintf("a program for another kind of machine (%s; this is %s)", e.Machine, runtime.GOARCH), nil
	}
	for _, p := range e.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, min(p.Filesz, unix.PathMax))
		if _, err := p.ReadAt(text, 0); err != nil {
			return "a damaged ELF file", nil
		}
		loader := string(bytes.TrimRight(text, "\x00"))
		if err := unix.Access(loader, unix.F_OK); err != nil {
			return "",
				fmt.Errorf("%s: its loader %s: %w: the image lacks the C library that the program was linked for",
					file, loader, err)
		}
	}
	return "", nil
}
