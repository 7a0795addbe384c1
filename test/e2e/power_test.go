package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// TestPowerKilled cuts the power in the middle of work, again and again: the data directory is on
// an ext4 of its own, on a loop device whose file is copied at a random instant, at once as a
// reflink. What the copy lacks is what was in memory. Then the copy is mounted, which replays its
// journal: what a program had said was done is there, and the store verifies.
func TestPowerKilled(t *testing.T) {
	testkit.Require(t, "mke2fs", "mkfs.xfs", "busybox")
	overlay := installed(t)
	dir, err := os.MkdirTemp("/var/tmp", "rkt-power-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	rounds := 5
	if os.Getenv("RKT_TORTURE") != "" {
		rounds = 300
	}
	script, err := filepath.Abs("testdata/power-copies.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := limited(t, "unshare", "--mount", "--propagation=private", "bash", script, dir,
		filepath.Join(overlay, "usr/bin"), filepath.Join(overlay, "images"), strconv.Itoa(rounds))
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("WRONG")) ||
		!bytes.Contains(out, []byte("cut the power "+strconv.Itoa(rounds)+" times")) {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// TestPowerLossKilled kills a virtual machine in the middle of work, again and again, and boots it
// over the same disk, which has lost some of what was written since the last flush, in any order.
// In the long form the same is done with a disk for whose flushes nothing happens: it has to be
// seen there that what was done is lost.
func TestPowerLossKilled(t *testing.T) {
	testkit.Require(t, "qemu-system-x86_64", "mke2fs", "busybox")
	rounds, torture := 2, os.Getenv("RKT_TORTURE") != ""
	if torture {
		rounds = 50
	}
	from := installed(t)
	overlay := t.TempDir() // with no more than is needed: each boot copies it
	command(t, "sh", "-ec", `mkdir -p $2/usr/bin $2/images; cp -a $1/usr/bin/rkt* $2/usr/bin; cp -a `+
		`$1/images/busybox $1/images/busybox.aci $2/images`, "sh", from, overlay)
	if wrong := losePower(t, overlay, false, rounds); wrong != nil {
		t.Error(strings.Join(wrong, "\n"))
	}
	if torture && losePower(t, overlay, true, 10) == nil {
		t.Error("nothing is lost on a disk that never writes what is to be flushed: this test sees nothing")
	}
}

// losePower gives what is wrong after the cuts, and ends at the first cut after which something is.
func losePower(t *testing.T, overlay string, lies bool, rounds int) (wrong []string) {
	dir, err := os.MkdirTemp("/var/tmp", "rkt-power-vm-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	image, socket, sure := filepath.Join(dir, "image"), filepath.Join(dir, "disk.sock"), filepath.Join(dir, "sure")
	command(t, "sh", "-ec", `truncate -s 192M "$1"; mke2fs -q -t ext4 "$1"; : >"$2"`, "sh", image, sure)
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	disk := &fickleDisk{file: file, lies: lies}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	script, err := filepath.Abs("testdata/power-vm.sh")
	if err != nil {
		t.Fatal(err)
	}
	var images, pods, done, lost int
	for n := range rounds + 1 { // the last only looks
		served := make(chan error, 1)
		go func() {
			conn, err := listener.Accept()
			if err == nil {
				err = disk.serve(conn)
			}
			served <- err
		}()
		ctx, cut := context.WithTimeout(context.Background(), 10*time.Minute)
		var out output
		steps := rand.IntN(12) // after so many things done, and a moment, whatever the machine's speed
		out.seen = func(text string) {
			if strings.Contains(text, "at work\n") && strings.Count(text, "did ") >= steps {
				out.seen = nil
				time.AfterFunc(time.Duration(rand.Int64N(int64(2*time.Second))), cut)
			}
		}
		machine := testkit.VM{
			Dir: filepath.Join(dir, fmt.Sprint("boot", n)), Kernel: "../../bin/vm", Overlay: []string{overlay},
			Bare: true, Disk: "nbd:unix:" + socket, Memory: 1024,
			Args: []string{"bash", "/machine" + script, strconv.Itoa(n), "/machine" + sure}, WorkDir: "/", Stdout: &out,
			Stderr: &out,
		}
		if err := os.Mkdir(machine.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := machine.Run(ctx)
		cut()
		if out.seen != nil {
			t.Fatalf("boot %d: did not come to work: %v\n%s", n, err, &out)
		}
		<-served
		dropped, err := disk.cut()
		if err != nil {
			t.Fatal(err)
		}
		lost += dropped
		var list []string
		atWork := false
		for line := range strings.Lines(out.String()) {
			var i, p, d int
			if what, ok := strings.CutPrefix(line, "did "); ok && what == "taken\n" {
				list = nil
			} else if ok {
				list = append(list, what)
			} else if c, _ := fmt.Sscanf(line, "seen %d %d %d", &i, &p, &d); c == 3 {
				images, pods, done = images+i, pods+p, done+d
			} else if line == "at work\n" {
				atWork = true
			} else if strings.Contains(line, "WRONG") || atWork {
				wrong = append(wrong, fmt.Sprintf("boot %d: %s", n, line))
			}
		}
		if wrong != nil {
			break
		}
		if err := os.WriteFile(sure, []byte(strings.Join(list, "")), 0o644); err != nil {
			t.Fatal(err)
		}
		os.RemoveAll(machine.Dir)
	}
	t.Logf("cut the power %d times (a disk that lies: %v): %d writes lost in whole or in part; %d images, %d pods "+
		"found, %d things that had been done; wrong: %q",
		rounds, lies, lost, images, pods, done, wrong)
	return wrong
}

// output keeps what is written to it and shows it to seen.
type output struct {
	strings.Builder
	seen func(string)
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Builder.Write(p)
	if o.seen != nil {
		o.seen(o.String())
	}
	return n, err
}
