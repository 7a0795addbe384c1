package streams

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"hello": "6 hello", "<3>bad": "3 bad", "<0>worst": "0 worst", "<8>x": "6 <8>x", "<30>x": "6 <30>x",
		"<3": "6 <3", "<3>": "", "": "", "\r": "", "dos\r": "6 dos", "10%\r20%\r": "6 10%\r20%",
		"  indented ": "6   indented ", "\xff": "6 \xff",
	} {
		r, ok := parse([]byte(line), "")
		if got := fmt.Sprintf("%d %s", r.priority, r.text); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", line, got, ok)
		}
	}
}

func TestFormats(t *testing.T) {
	r := record{app: "web", pid: 7, priority: 3, facility: daemon, text: []byte("a=b\tc"), brokenBy: byLimit}
	want := "SYSLOG_IDENTIFIER=web\nSYSLOG_FACILITY=3\nSYSLOG_PID=7\nPRIORITY=3\nRKT_POD=uuid\nRKT_APP=web\n" +
		"LINE_BREAK=line-max\nMESSAGE=a=b\tc\n"
	if got := string(r.native(nil, "uuid")); got != want {
		t.Errorf("%s", got)
	}
	if got := string(r.shown([]byte("before\n"))); got != "before\nweb[7]: a=b\tc\n" {
		t.Errorf("%s", got)
	}
}

// fifo is a named pipe as the pod's systemd makes it.
type fifo struct {
	path string
	both *os.File
}

func newFIFO(t testing.TB) fifo {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { both.Close() })
	if _, err := unix.FcntlInt(both.Fd(), unix.F_SETPIPE_SZ, 128<<10); err != nil {
		t.Fatal(err)
	}
	return fifo{path, both}
}

// lines is what one reader passes on that is started now, each line with what broke it.
func (f fifo) lines(t testing.TB, last bool) (lines []string) {
	t.Helper()
	s, err := newScratch()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s.peek[0])
	defer unix.Close(s.peek[1])
	p, err := openPipe(f.path, s)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p.fd)
	pass := func(line []byte, brokenBy string) error {
		if brokenBy != "" {
			brokenBy = "|" + brokenBy
		}
		lines = append(lines, string(line)+brokenBy)
		return nil
	}
	for more := true; more; {
		if more, err = p.drain(last, pass, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

func (f fifo) write(t testing.TB, text string) {
	t.Helper()
	if _, err := io.WriteString(f.both, text); err != nil {
		t.Fatal(err)
	}
}

// What is incomplete stays in the pipe, for this reader or another one.
func TestDrain(t *testing.T) {
	f := newFIFO(t)
	check := func(last bool, want ...string) {
		t.Helper()
		if got := f.lines(t, last); !slices.Equal(got, want) {
			t.Errorf("%.200q, want %.200q", got, want)
		}
	}
	check(false)
	check(true)
	f.write(t, "one\ntwo\n\nthr")
	check(false, "one", "two", "")
	check(false)
	f.write(t, "ee\nzero\x00four")
	check(false, "three", "zero|nul")
	check(true, "four|eof")
	check(true)
	long := strings.Repeat("x", lineMax)
	f.write(t, long[1:]+"\n")
	check(false, long[1:])
	f.write(t, long+"\n")
	check(false, long)
	f.write(t, long+"y\n")
	check(false, long+"|line-max", "y")
	f.write(t, long)
	check(false, long+"|line-max")
}

// A pipe that is full of one line, written in pieces of which each takes a page, does not stop the
// app.
func TestDrainPages(t *testing.T) {
	f := newFIFO(t)
	piece := strings.Repeat("x", 2049)
	done := make(chan bool)
	go func() {
		defer close(done)
		for range 50 {
			f.both.WriteString(piece)
		}
		f.both.WriteString("\n")
	}()
	total := 0
	for end := time.Now().Add(10 * time.Second); total < 50*2049 &&
		time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, line := range f.lines(t, false) {
			total += len(strings.TrimSuffix(line, "|line-max"))
		}
	}
	if total != 50*2049 {
		t.Errorf("read %d bytes", total)
	}
	<-done
}

// Two that write lines at once, and readers of which each is gone after a moment.
func TestDrainChanging(t *testing.T) {
	f := newFIFO(t)
	const n = 20000
	for _, name := range []string{"a", "b"} {
		go func() {
			w, err := os.OpenFile(f.path, os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
			for i := range n {
				fmt.Fprintf(w, "%s %d\n", name, i)
			}
		}()
	}
	next := map[string]int{}
	for end := time.Now().Add(60 * time.Second); next["a"]+next["b"] < 2*n && time.Now().Before(end); {
		for _, line := range f.lines(t, false) {
			var name string
			var i int
			if _, err := fmt.Sscanf(line, "%s %d", &name, &i); err != nil || i != next[name] {
				t.Fatalf("%q after %d of %q", line, next[name], name)
			}
			next[name]++
		}
	}
	if next["a"] != n || next["b"] != n {
		t.Errorf("%v", next)
	}
}

func FuzzDrain(f *testing.F) {
	f.Add([]byte("one\ntwo"), []byte("\nthree\x00"))
	f.Add([]byte("\n\n\n"), []byte(""))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if len(first) > 20000 || len(second) > 20000 {
			t.Skip()
		}
		pipe := newFIFO(t)
		pipe.write(t, string(first))
		got := pipe.lines(t, false)
		pipe.write(t, string(second))
		got = append(got, pipe.lines(t, true)...)
		all := bytes.ReplaceAll(slices.Concat(first, second), []byte("\x00"), []byte("|nul\n"))
		want := strings.Split(string(all), "\n")
		if end := len(want) - 1; want[end] == "" {
			want = want[:end]
		} else {
			want[end] += "|eof"
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// journal is a socket in the place of a journal's.
type journal struct{ socket *net.UnixConn }

func newJournal(t *testing.T) (j journal, connected int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	if err != nil {
		t.Fatal(err)
	}
	if connected, err = connect(path); err != nil {
		t.Fatal(err)
	}
	return journal{socket}, connected
}

func (j journal) next(t *testing.T) (text string, from unix.Ucred) {
	t.Helper()
	buffer, control := make([]byte, 1<<17), make([]byte, 100)
	n, nc, _, _, err := j.socket.ReadMsgUnix(buffer, control)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := unix.ParseSocketControlMessage(control[:nc])
	if err != nil || len(parts) != 1 {
		t.Fatal(parts, err)
	}
	creds, err := unix.ParseUnixCredentials(&parts[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n]), *creds
}

// A record is in the app's name on both sides, as long as the app is there, and no app can
// broadcast to the users of the host.
func TestSink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root, who may speak in the name of another process")
	}
	pod, podFD := newJournal(t)
	host, hostFD := newJournal(t)
	s := &sink{pod: "uuid", journal: podFD, host: hostFD, console: -1}
	app := exec.Command("/bin/sleep", "1000")
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	pid := app.Process.Pid
	process := unix.Ucred{Pid: int32(pid), Uid: 1000, Gid: 1001}
	from := newSender(process)
	r := record{app: "web", pid: pid, priority: emergency, text: []byte(strings.Repeat("x", lineMax))}
	done := make(chan error)
	go func() { done <- s.write(r, from, true) }()
	text, creds := pod.next(t)
	if creds != process || !strings.Contains(text, "\nPRIORITY=0\n") ||
		!strings.HasSuffix(text, "\nMESSAGE="+string(r.text)+"\n") {
		t.Errorf("the pod's: %+v %.300s", creds, text)
	}
	if text, creds = host.next(t); text != "\n" || creds != (unix.Ucred{Pid: int32(pid)}) {
		t.Errorf("the host's journal is told of the process: %+v %.300s", creds, text)
	}
	if text, creds = host.next(t); text != "\n" || creds.Pid != 1 {
		t.Errorf("the host's journal has looked at it: %+v %.300s", creds, text)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	text, creds = host.next(t)
	if creds != (unix.Ucred{Pid: int32(pid)}) || !strings.Contains(text, "\nPRIORITY=1\n") {
		t.Errorf("the host's: %+v %.300s", creds, text)
	}
	if err := s.write(r, from, false); err != nil {
		t.Fatal(err)
	}
	pod.next(t)
	host.socket.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := host.socket.Read(make([]byte, 10)); err == nil {
		t.Errorf("what is no output is in the host's journal: %d", n)
	}
	host.socket.SetReadDeadline(time.Time{})
	app.Process.Kill()
	app.Wait()
	if err := s.write(r, from, true); err != nil {
		t.Fatal(err)
	}
	for j, sender := range map[journal]int{pod: os.Getpid(), host: 1} {
		text, creds := j.next(t)
		if int(creds.Pid) != sender || !strings.Contains(text, fmt.Sprintf("\nSYSLOG_PID=%d\n", pid)) {
			t.Errorf("of an app that is gone: %+v %.100s", creds, text)
		}
	}
}

// A process may end after the host's journal has read of it and before it has looked at it.
func TestSinkProcessEnds(t *testing.T) {
	_, podFD := newJournal(t)
	host, hostFD := newJournal(t)
	s := &sink{pod: "uuid", journal: podFD, host: hostFD, console: -1}
	app := exec.Command("/bin/sleep", "1000")
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	from := newSender(unix.Ucred{Pid: int32(app.Process.Pid)})
	done := make(chan error)
	go func() {
		done <- s.write(record{app: "web", priority: informational, text: []byte("last words")}, from, true)
	}()
	host.next(t)
	app.Process.Kill()
	app.Wait()
	host.next(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if text, creds := host.next(t); creds.Pid != 1 || !strings.Contains(text, "\nMESSAGE=last words\n") {
		t.Errorf("the host's: %+v %.300s", creds, text)
	}
}

func TestConsole(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, podFD := newJournal(t)
	s := &sink{pod: "uuid", journal: podFD, host: -1, console: int(file.Fd())}
	for _, line := range []string{"one", "two"} {
		if err := s.write(record{app: "web", pid: 7, priority: emergency, text: []byte(line)}, nil, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file.Name()); err != nil || string(text) != "web[7]: one\nweb[7]: two\n" {
		t.Errorf("%q, %v", text, err)
	}
	s.console = -1
	s.text = []byte("nobody reads it")
	if err := s.flush(); err != nil || len(s.text) > 0 {
		t.Error(err, s.text)
	}
}

func TestPlain(t *testing.T) {
	console, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(console)
	for range 2 {
		if err := plain(console); err != nil {
			t.Fatal(err)
		}
		if settings, err := unix.IoctlGetTermios(console, unix.TCGETS); err != nil || settings.Oflag&unix.ONLCR != 0 {
			t.Errorf("%+v, %v", settings, err)
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := plain(int(null.Fd())); err == nil {
		t.Error("it is no terminal")
	}
}
