package host

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSystemdVersion(t *testing.T) {
	for _, test := range []struct {
		program string
		version int
		err     bool
	}{
		{"\x7fELF\x00libsystemd-shared-252.so\x00libc.so.6\x00", 252, false},
		{"\x7fELF\x00libsystemd-shared-252-46.el9.so\x00", 252, false},
		{"\x7fELF\x00libsystemd-shared-262.so", 262, false},
		{"\x7fELF\x00libsystemd-shared-249.so\x00", 0, true},
		{"#!/bin/sh\necho 'systemd 258 (258.1-2)'\n", 258, false},
		{"#!/bin/sh\necho 'systemd 219'\n", 0, true},
		{"#!/bin/sh\necho nothing\n", 0, true},
		{"#!/bin/sh\nexit 1\n", 0, true},
	} {
		program := filepath.Join(t.TempDir(), "systemd-nspawn")
		if err := os.WriteFile(program, []byte(test.program), 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := systemdVersion(program)
		if got != test.version || (err != nil) != test.err {
			t.Errorf("%q: %d, %v; want %d", test.program, got, err, test.version)
		}
	}
}
