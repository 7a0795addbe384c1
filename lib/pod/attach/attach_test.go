package attach

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

// serveVariable makes the test's program serve, as rkt-attach does, the directory that it names.
const serveVariable = "ATTACH_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveVariable); dir != "" {
		streams := map[string]stage1.Stream{}
		for _, arg := range os.Args[1:] {
			name, value, _ := strings.Cut(arg, "=")
			streams[name] = stage1.Stream(value)
		}
		getenv := func(name string) string {
			if name == "LISTEN_PID" { // a parent can't know it
				return strconv.Itoa(os.Getpid())
			}
			return os.Getenv(name)
		}
		if err := Serve(dir, streams, getenv, os.Getpid()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// manager stands for the pod's systemd: it starts the server, and keeps what that asks it to keep.
type manager struct {
	t       *testing.T
	dir     string
	streams []string
	socket  *net.UnixConn
	cmd     *exec.Cmd

	lock  sync.Mutex
	names []string
	files []*os.File
	ready chan bool
}

func start(t *testing.T, streams ...string) *manager {
	t.Helper()
	m := &manager{t: t, dir: t.TempDir(), streams: streams, ready: make(chan bool, 8)}
	var err error
	if m.socket, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"),
		Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	go m.listen()
	m.start()
	t.Cleanup(func() { m.cmd.Process.Kill(); m.cmd.Wait(); m.socket.Close() })
	return m
}

func (m *manager) listen() {
	text, control := make([]byte, 4096), make([]byte, 256)
	for {
		n, nc, _, _, err := m.socket.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		lines := strings.Split(string(text[:n]), "\n")
		name := ""
		for _, line := range lines {
			if value, ok := strings.CutPrefix(line, "FDNAME="); ok {
				name = value
			}
		}
		m.lock.Lock()
		switch {
		case lines[0] == "READY=1":
			m.ready <- true
		case lines[0] == "FDSTORE=1":
			parts, _ := unix.ParseSocketControlMessage(control[:nc])
			fds, _ := unix.ParseUnixRights(&parts[0])
			m.names, m.files = append(m.names, name), append(m.files, os.NewFile(uintptr(fds[0]), name))
		case lines[0] == "FDSTOREREMOVE=1":
			if i := slices.Index(m.names, name); i >= 0 {
				m.files[i].Close()
				m.names, m.files = slices.Delete(m.names, i, i+1), slices.Delete(m.files, i, i+1)
			}
		}
		m.lock.Unlock()
	}
}

func (m *manager) start() {
	m.t.Helper()
	m.lock.Lock()
	m.cmd = exec.Command(os.Args[0], m.streams...)
	m.cmd.Stderr, m.cmd.ExtraFiles = os.Stderr, slices.Clone(m.files)
	m.cmd.Env = append(os.Environ(), serveVariable+"="+m.dir, "NOTIFY_SOCKET="+m.socket.LocalAddr().String(),
		"LISTEN_FDS="+strconv.Itoa(len(m.files)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"))
	err := m.cmd.Start()
	m.lock.Unlock()
	if err != nil {
		m.t.Fatal(err)
	}
	select {
	case <-m.ready:
	case <-time.After(20 * time.Second):
		m.t.Fatal("the server is not ready")
	}
}

// kill kills the server and starts another.
func (m *manager) kill() {
	m.t.Helper()
	m.cmd.Process.Kill()
	m.cmd.Wait()
	m.start()
}

// stop is what the pod's systemd does when the app has ended.
func (m *manager) stop() {
	m.t.Helper()
	m.cmd.Process.Signal(unix.SIGTERM)
	if err := m.cmd.Wait(); err != nil {
		m.t.Errorf("the server: %v", err)
	}
}

// app opens a file of the app as the pod's systemd does.
func (m *manager) app(name string, flags int) *os.File {
	m.t.Helper()
	f, err := os.OpenFile(filepath.Join(m.dir, name), flags|unix.O_NOCTTY, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { f.Close() })
	return f
}

// attached is a client with pipes for its standard streams.
type attached struct {
	stdin          *os.File
	stdout, stderr *bytes.Buffer
	done           chan error
}

func (m *manager) attach(closeWith bool, wanted ...string) *attached {
	m.t.Helper()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(m.dir, stage1.AttachSocket),
		Net: "unixpacket"})
	if err != nil {
		m.t.Fatal(err)
	}
	if err := hello(conn, wanted); err != nil {
		m.t.Fatal(err)
	}
	var read, write [3]*os.File
	for i := range read {
		if read[i], write[i], err = os.Pipe(); err != nil {
			m.t.Fatal(err)
		}
	}
	c := Client{CloseWith: closeWith, Stdin: read[0], Stdout: write[1], Stderr: write[2],
		Log: slog.New(slog.DiscardHandler)}
	a := &attached{stdin: write[0], stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, done: make(chan error, 1)}
	var copies sync.WaitGroup
	copies.Go(func() { io.Copy(a.stdout, read[1]) })
	copies.Go(func() { io.Copy(a.stderr, read[2]) })
	listens := slices.ContainsFunc(wanted, func(e string) bool { return e != stdin && e != ttyIn })
	go c.send(conn, false, listens)
	go func() {
		err := c.receive(conn, listens)
		conn.Close()
		write[1].Close()
		write[2].Close()
		copies.Wait()
		a.done <- err
	}()
	return a
}

func (a *attached) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-a.done:
		return err
	case <-time.After(60 * time.Second):
		t.Fatal("the client does not end")
		return nil
	}
}

func noise(n int) []byte {
	random := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	random.Read(b)
	return b
}

// Bytes arrive as they are in both directions, at each of several clients, and the last of them
// before the end.
func TestStreams(t *testing.T) {
	m := start(t, "stdin=stream", "stdout=stream", "stderr=stream")
	appIn, appOut, appErr := m.app("stdin", os.O_RDONLY), m.app("stdout", os.O_WRONLY), m.app("stderr", os.O_WRONLY)
	one, two := m.attach(true, stdin, stdout, stderr), m.attach(false, stdout)
	data := noise(300_000)
	go func() {
		one.stdin.Write(data)
		one.stdin.Close()
	}()
	got, err := io.ReadAll(appIn)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("the app has read %d bytes, %v", len(got), err)
	}
	if _, err := appOut.Write(data); err != nil {
		t.Fatal(err)
	}
	io.WriteString(appErr, "an error")
	m.stop()
	if err := one.wait(t); err != nil || !bytes.Equal(one.stdout.Bytes(), data) || one.stderr.String() != "an error" {
		t.Errorf("first client: %v, %d bytes, %q", err, one.stdout.Len(), one.stderr)
	}
	if err := two.wait(t); err != nil || !bytes.Equal(two.stdout.Bytes(), data) || two.stderr.Len() > 0 {
		t.Errorf("second client: %v, %d bytes, %q", err, two.stdout.Len(), two.stderr)
	}
}

// Nobody is attached: the app neither waits nor dies, and what it says is lost. Input that is left
// unread does not cost any output.
func TestNobody(t *testing.T) {
	m := start(t, "stdin=stream", "stdout=stream")
	out := m.app("stdout", os.O_WRONLY)
	if _, err := out.Write(noise(1 << 20)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	c := m.attach(false, stdin, stdout)
	go c.stdin.Write(noise(1 << 20)) // the app does not read
	time.Sleep(50 * time.Millisecond)
	data := noise(200_000)
	if _, err := out.Write(data); err != nil {
		t.Fatal(err)
	}
	m.stop()
	if err := c.wait(t); err != nil || !bytes.HasSuffix(c.stdout.Bytes(), data) || c.stdout.Len() > len(data)+1<<17 {
		t.Errorf("%v, %d bytes", err, c.stdout.Len())
	}
}

// The end of a client is nothing to the app, nor to other clients; standard input stays open for
// the next one.
func TestNextClient(t *testing.T) {
	m := start(t, "stdin=stream")
	in := m.app("stdin", os.O_RDONLY)
	for _, word := range []string{"one\n", "two\n"} {
		c := m.attach(false, stdin)
		io.WriteString(c.stdin, word)
		c.stdin.Close()
		if err := c.wait(t); err != nil { // when it is all with the app
			t.Error(err)
		}
		got := make([]byte, 16)
		if n, err := in.Read(got); err != nil || string(got[:n]) != word {
			t.Errorf("%q, %v", got[:n], err)
		}
	}
	last, late := m.attach(true, stdin), m.attach(false, stdin)
	last.stdin.Close()
	if err := last.wait(t); err != nil {
		t.Error(err)
	}
	if n, err := in.Read(make([]byte, 16)); err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	// A program that is started later finds the end, too, and does not wait for somebody.
	if n, err := m.app("stdin", os.O_RDONLY).Read(make([]byte, 16)); err != io.EOF {
		t.Errorf("a second program: %d bytes, %v", n, err)
	}
	io.WriteString(late.stdin, "x")
	if err := late.wait(t); !testkit.Says(err, "input was closed") {
		t.Errorf("too late: %v", err)
	}
	m.kill()
	late = m.attach(false, stdin)
	io.WriteString(late.stdin, "x")
	if err := late.wait(t); !testkit.Says(err, "input was closed") {
		t.Errorf("after a kill: %v", err)
	}
}

// A server that is killed costs its clients, and not the app: pipes and terminal stay, and so does
// what waits in them.
func TestKilledServer(t *testing.T) {
	m := start(t, "stdin=stream", "stdout=stream", "stderr=tty")
	in, out, tty := m.app("stdin", os.O_RDONLY), m.app("stdout", os.O_WRONLY), m.app("tty", os.O_RDWR)
	for range 5 {
		c := m.attach(false, stdin, stdout, ttyOut)
		m.kill()
		if err := c.wait(t); err == nil {
			t.Error("the client does not say that it was cut off")
		}
	}
	m.cmd.Process.Kill()
	m.cmd.Wait()
	io.WriteString(out, "kept ")
	m.start()
	time.Sleep(50 * time.Millisecond) // nobody was there: dropped
	c := m.attach(false, stdin, stdout, ttyOut)
	io.WriteString(c.stdin, "to the app")
	got := make([]byte, 16)
	if n, err := in.Read(got); err != nil || string(got[:n]) != "to the app" {
		t.Errorf("%q, %v", got[:n], err)
	}
	if _, err := io.WriteString(out, "out\n"); err != nil {
		t.Error(err)
	}
	time.Sleep(50 * time.Millisecond)
	if _, err := io.WriteString(tty, "terminal\n"); err != nil {
		t.Error(err)
	}
	m.stop()
	if err := c.wait(t); err != nil || c.stdout.String() != "out\nterminal\r\n" {
		t.Errorf("%v, %q", err, c.stdout)
	}
}

// The terminal has a size, is a terminal, and takes keys.
func TestTerminal(t *testing.T) {
	m := start(t, "stdin=tty", "stdout=tty")
	tty := m.app("tty", os.O_RDWR)
	size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row != 24 || size.Col != 80 {
		t.Errorf("%+v, %v", size, err)
	}
	c := m.attach(false, ttyIn, ttyOut)
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(m.dir, stage1.AttachSocket),
		Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	if err := hello(conn, []string{ttyIn}); err != nil {
		t.Fatal(err)
	}
	for _, packet := range []string{"W", "W\x00", "Q?", "W\x00\x21\x00\x2c"} { // nonsense does no harm
		conn.Write([]byte(packet))
	}
	io.WriteString(c.stdin, "word\n")
	line := make([]byte, 16)
	if n, err := tty.Read(line); err != nil || string(line[:n]) != "word\n" {
		t.Errorf("%q, %v", line[:n], err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
		if err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %v", size, err)
		}
		if size.Row == 33 && size.Col == 44 {
			break
		}
	}
	m.stop()
	if err := c.wait(t); err != nil || !strings.Contains(c.stdout.String(), "word\r\n") { // the echo
		t.Errorf("%v, %q", err, c.stdout)
	}
}

// A client that takes nothing does not hold up the end of the pod, nor another client's output.
func TestStuckClient(t *testing.T) {
	m := start(t, "stdout=stream")
	out := m.app("stdout", os.O_WRONLY)
	stuck, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(m.dir, stage1.AttachSocket),
		Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if err := hello(stuck, []string{stdout}); err != nil {
		t.Fatal(err)
	}
	c := m.attach(false, stdout)
	fd := int(out.Fd())
	unix.SetNonblock(fd, true)
	for begin := time.Now(); time.Since(begin) < 300*time.Millisecond; { // until nothing goes any more
		if n, _ := unix.Write(fd, make([]byte, 4096)); n > 0 {
			begin = time.Now()
		}
	}
	begin := time.Now()
	m.stop()
	if took := time.Since(begin); took > outputTimeout/2 {
		t.Errorf("the end took %v", took)
	}
	if err := c.wait(t); err != nil {
		t.Error(err)
	}
}

// Who asks for what there is not, or does not ask, gets nothing.
func TestRefused(t *testing.T) {
	m := start(t, "stdout=stream")
	for _, first := range []string{"Astdin", "Astdout tty-in", "A../x"} {
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(m.dir, stage1.AttachSocket),
			Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		if err := hello(conn, strings.Fields(first[1:])); err == nil || !strings.HasPrefix(err.Error(), "has no ") {
			t.Errorf("%s: %v", first, err)
		}
	}
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(m.dir, stage1.AttachSocket),
		Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("Ix"))
	if n, err := conn.Read(make([]byte, 16)); err == nil {
		t.Errorf("%d bytes for who did not ask", n)
	}
}

// A pod that does not answer, or answers nonsense, does not keep the client.
func TestHostileServer(t *testing.T) {
	for _, answer := range []string{"", "?", "Q", "O\x1b]0;evil\a", "none"} {
		name := filepath.Join(t.TempDir(), "socket")
		listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: name, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := listener.AcceptUnix()
			if err != nil || answer == "none" {
				return
			}
			if answer == "" {
				conn.Close()
				return
			}
			conn.Write([]byte(answer))
		}()
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		if err := hello(conn, []string{stdout}); err == nil || !strings.HasPrefix(err.Error(),
			"no answer from the pod") {
			t.Errorf("%q: %v", answer, err)
		}
		conn.Close()
		listener.Close()
	}
}

func TestChoose(t *testing.T) {
	all := []string{ttyIn, ttyOut}
	streams := []string{stdin, stdout, stderr}
	for _, c := range []struct {
		mode  string
		found []string
		want  string // endpoints, or the error
	}{
		{"auto", all, "tty-in tty-out"},
		{"", streams, "stdin stdout stderr"},
		{"tty", all, "tty-in tty-out"},
		{"tty-in", all, "tty-in"},
		{"tty-out", all, "tty-out"},
		{"stdin,stderr", streams, "stdin stderr"},
		{"stderr,stdin", streams, "stderr stdin"},
		{"auto", nil, "can't be attached to ... --stdin, --stdout or --stderr"},
		{"tty", nil, "can't be attached to ... --stdin, --stdout or --stderr"},
		{"tty", streams, "has no tty-in ... --stdin=tty"},
		{"tty", all[:1], "has no tty-out ... --stdout=tty"},
		{"stdin", all, "has no stdin ... --stdin=stream"},
		{"stdin,stdout", streams[:1], "has no stdout ... --stdout=stream"},
		{"stdin,stdin", streams, "--mode=stdin,stdin: ... auto, list, tty, tty-in ... stdin,stdout,stderr"},
		{"stdin,", streams, "--mode=stdin,: ... auto, list, tty, tty-in ... stdin,stdout,stderr"},
		{"stdin,auto", streams, "--mode=stdin,auto: ... auto, list, tty, tty-in ... stdin,stdout,stderr"},
		{"log", streams, "--mode=log: ... auto, list, tty, tty-in ... stdin,stdout,stderr"},
	} {
		got, err := choose(c.mode, c.found)
		text := strings.Join(got, " ")
		if !testkit.Gives(text, err, c.want) {
			t.Errorf("--mode=%q of %v: %s\nwant %s", c.mode, c.found, text, c.want)
		}
	}
}

func TestList(t *testing.T) {
	pods := poddir.In(t.TempDir())
	for _, c := range []struct{ manifest, app, want string }{
		{`{"apps":[{"name":"a","annotations":[{"name":"coreos.com/rkt/stage2/stdin","value":"tty"},` +
			`{"name":"coreos.com/rkt/stage2/stderr","value":"tty"}]}]}`, "", "tty"},
		{`{"apps":[{"name":"a","annotations":[{"name":"coreos.com/rkt/stage2/stdin","value":"tty"}]}]}`, "a", "tty-in"},
		{`{"apps":[{"name":"a","annotations":[{"name":"coreos.com/rkt/stage2/stdin","value":"stream"},` +
			`{"name":"coreos.com/rkt/stage2/stdout","value":"tty"}]}]}`, "a", "tty-out stdin"},
		{`{"apps":[{"name":"a"},{"name":"b"}]}`, "", "apps a, b; ... --app"},
		{`{"apps":[{"name":"a"},{"name":"b"}]}`, "c", `no app "c"; ... a, b`},
		{`{"apps":[{"name":"a"}]}`, "", `app "a": can't be attached to ... --stdin, --stdout or --stderr`},
		{`{"apps":[{"name":"../a"}]}`, "", `manifest: "../a": not the name`},
		{`{"apps":[null]}`, "", `manifest: "": not the name`},
		{`{`, "", "manifest: unexpected end of JSON input"},
	} {
		p, lock, err := pods.Create(poddir.NewUUID())
		if err != nil {
			t.Fatal(err)
		}
		lock.Close()
		if err := os.WriteFile(p.Path(poddir.ManifestFile), []byte(c.manifest), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := List(p, c.app)
		text := strings.Join(got, " ")
		if !testkit.Gives(text, err, c.want) || err != nil && !testkit.Says(err, "pod "+p.UUID+": ") {
			t.Errorf("%s: %s, %v\nwant %s", c.manifest, text, err, c.want)
		}
	}
}

// All that is typed arrives, however it is cut, except for ^P ^Q.
func FuzzDetach(f *testing.F) {
	f.Add([]byte("a\x10b\x10\x10\x10c"), 2)
	f.Add([]byte("ls\n\x10\x11rm"), 1)
	f.Fuzz(func(t *testing.T, typed []byte, cut int) {
		want, detaches := bytes.Clone(typed), false
		if i := bytes.Index(typed, []byte{ctrlP, ctrlQ}); i >= 0 {
			want, detaches = want[:i], true
		} else {
			want = bytes.TrimSuffix(want, []byte{ctrlP}) // held
		}
		var d detacher
		var got []byte
		cut = max(1, cut)
		for part := range slices.Chunk(typed, cut) {
			data, detached := d.pass(part)
			got = append(got, data...)
			if detached {
				if !detaches {
					t.Fatal("detached by nothing")
				}
				detaches = false
				break
			}
		}
		if detaches || !bytes.Equal(got, want) {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	})
}
