package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// smallTree makes the root file system $1 of a host that has BusyBox, the toolkit, two images, and
// nothing else.
const smallTree = `
cd "$1"
mkdir -p bin dev etc images proc root run sbin sys tmp usr/bin usr/sbin var/lib/rkt var/tmp
cp /bin/busybox bin
for applet in $(busybox --list-full); do test -e $applet || ln -s /bin/busybox $applet; done
echo root:x:0:0:root:/root:/bin/sh >etc/passwd
echo root:x:0: >etc/group
ln -s /tmp/resolv.conf etc/resolv.conf
`

// TestSmallHost boots a virtual machine with a kernel, BusyBox and the toolkit, and nothing else,
// whose files are those of docs/embedded.md. What it does besides the page is in
// testdata/small/etc/test.
func TestSmallHost(t *testing.T) {
	testkit.Require(t, "busybox", "mksquashfs", "mke2fs", "qemu-system-x86_64")
	page, err := os.ReadFile("../../docs/embedded.md")
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	command(t, "sh", "-euc", smallTree, "sh", tree)
	command(t, "make", "-C", "../..", "toolkit")
	command(t, "sh", "-c", `cp -P ../../bin/toolkit/* "$1/usr/bin" && cp -r testdata/small/. "$1"`, "sh", tree)
	testapp := filepath.Join(t.TempDir(), "testapp")
	command(t, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-ldflags=-s -w", "-o", testapp, "../testapp")
	command(t, "go", "run", "../mkimage", "busybox", tree+"/images/busybox")
	command(t, "go", "run", "../mkimage", "program", tree+"/images/web", testapp, "web")
	for path, content := range files(string(page)) {
		if path == "/etc/inittab" {
			content += "::once:/etc/test\n"
		}
		if err := writeFile(tree+path, content); err != nil {
			t.Fatal(err)
		}
	}
	first, rest, _ := strings.Cut(consoleOf(string(page)), "&\n")
	if err := errors.Join(writeFile(tree+"/etc/page-1", first+"&\n"),
		writeFile(tree+"/etc/page-2", strings.ReplaceAll(strings.TrimSpace(rest), "\n", " &&\n")+"\n")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	console, size, err := testkit.Small{Dir: t.TempDir(), Kernel: "../../bin/vm", Tree: tree, Memory: 96, Data: 32,
		Modules: []string{"virtio_pci", "virtio_blk", "squashfs", "overlay"}}.Run(ctx)
	t.Logf("kernel and files have %.1f MB\n%s", float64(size)/1e6, console)
	if err != nil || !strings.Contains(console, "\nend of the test\n") || strings.Contains(console, "\nfailed: ") {
		t.Errorf("the host's test did not pass: %v", err)
	}
	if size >= 40e6 {
		t.Errorf("kernel and files have %d bytes", size)
	}
	memory := regexp.MustCompile(`MemTotal: +(\d+) kB`).FindStringSubmatch(console)
	if memory == nil {
		t.Fatal("the host did not say how much memory it has")
	}
	if kB, err := strconv.Atoi(memory[1]); err != nil || kB >= 64000 {
		t.Errorf("the host has %d kB of memory: %v", kB, err)
	}
}

// consoleOf are the commands of a page.
func consoleOf(page string) string {
	var script strings.Builder
	for _, block := range strings.Split(page, "```console\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		script.WriteString(strings.TrimPrefix(strings.ReplaceAll("\n"+block, "\n# ", "\n"), "\n"))
	}
	return script.String()
}

// TestOtherInits has runit and OpenRC run the services of docs/embedded.md, on a host without
// systemd.
func TestOtherInits(t *testing.T) {
	inits, err := filepath.Abs("../../bin/_inits")
	if err == nil {
		_, err = os.Stat(inits)
	}
	if err != nil {
		t.Fatalf("no runit and OpenRC: %v (make deps)", err)
	}
	play(t, "", []string{installed(t), inits}, "testdata/inits/services.txtar")
}
