package member

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		packet      string
		descriptors int
		want        string // the program and its arguments, or the error
	}{
		{`{"command":"fetch","image":"docker://redis"}`, 0, "rkt-fetch -- docker://redis"},
		{`{"command":"fetch","image":"example.com/a:1","flags":{"full":"true","pull-policy":"new"}}`, 0,
			"rkt-fetch --full=true --pull-policy=new -- example.com/a:1"},
		{`{"command":"fetch","image":"https://example.com/a.aci","signature":"eA=="}`, 0,
			"rkt-fetch -- https://example.com/a.aci --signature=/proc/self/fd/3"},
		{`{"command":"fetch","file":true}`, 1, "rkt-fetch -- -"},
		{`{"command":"fetch","file":true,"signature":"eA=="}`, 1, "rkt-fetch -- - --signature=/proc/self/fd/3"},
		{`{"command":"list","flags":{"format":"json"}}`, 0, "rkt-image list --format=json"},
		{`{"command":"list","flags":{"fields":"id --dir=/x"}}`, 0, "rkt-image list --fields=id --dir=/x"}, // one word

		{`{"command":"rm","image":"docker://redis"}`, 0, `"rm": only root`},
		{`{"command":"fetch","image":"/etc/shadow"}`, 0,
			`image "/etc/shadow": ... rkt fetch - <FILE`},
		{`{"command":"fetch","image":"file:///etc/shadow"}`, 0,
			`image "file:///etc/shadow": ... rkt fetch - <FILE`},
		{`{"command":"fetch","image":"a.aci"}`, 0,
			`image "a.aci": ... rkt fetch - <FILE`},
		{`{"command":"fetch","image":"oci:/x"}`, 0,
			`image "oci:/x": ... rkt fetch - <FILE`},
		{`{"command":"fetch","image":"docker-archive:x"}`, 0,
			`image "docker-archive:x": ... rkt fetch - <FILE`},
		{`{"command":"fetch","image":"-"}`, 0, `image "-": ` + parseError("-")},
		{`{"command":"fetch","image":"--dir=/x"}`, 0, `image "--dir=/x": ` + parseError("--dir=/x")},
		{`{"command":"fetch"}`, 0, `image "": empty name`},
		{`{"command":"fetch","image":"docker://a","file":true}`, 1, "file or has a name"},
		{`{"command":"list","image":"docker://a"}`, 0, "list: takes no image"},
		{`{"command":"list","signature":"eA=="}`, 0, "list: takes no image"},
		{`{"command":"fetch","file":true}`, 0, "not a request: it comes with 0 descriptors"},
		{`{"command":"fetch","image":"docker://a"}`, 1, "not a request: it comes with 1 descriptors"},
		{`{"command":"fetch","file":true}`, 2, "not a request: it comes with 2 descriptors"},
		{`{"command":"fetch","image":"docker://a"} {}`, 0, "not a request: more follows it"},
		{`{"command":"fetch","images":["docker://a"]}`, 0, `not a request: json: unknown field "images"`},
		{`{"command":"fetch","ima`, 0, "not a request: unexpected EOF"},
		{``, 0, "not a request: EOF"},
	} {
		r, err := parse([]byte(c.packet), c.descriptors)
		got := ""
		if err == nil {
			name, args := r.program()
			got = strings.Join(append([]string{name}, args...), " ")
		}
		if !testkit.Gives(got, err, c.want) {
			t.Errorf("%s: %s, %v; want %s", c.packet, got, err, c.want)
		}
	}
}

func parseError(name string) string {
	_, err := image.ParseReference(name)
	return err.Error()
}

// Every flag of the two programs that is not for members is refused, with the line that says who
// may choose it.
func TestRootsFlags(t *testing.T) {
	for _, name := range []string{"dir", "system-config", "local-config", "user-config", "insecure-options",
		"trust-keys-from-https", "unpack-limit", "signature", "member", "debug", "Full", "full=true --dir"} {
		for _, command := range []string{"fetch", "list"} {
			r := Request{Command: command, Flags: map[string]string{name: "x"}}
			if command == "fetch" {
				r.Image = "docker://redis"
			}
			want := "--" + name + ": only root may choose"
			if err := r.check(); !testkit.Says(err, want) {
				t.Errorf("%s --%s: %v; want %s", command, name, err, want)
			}
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"command":"fetch","image":"docker://redis","flags":{"full":"true"}}`), 0)
	f.Add([]byte(`{"command":"fetch","file":true,"signature":"eA=="}`), 1)
	f.Add([]byte(`{"command":"list","flags":{"fields":"id","sort":"name"}}`), 0)
	f.Add([]byte(`{"command":"fetch","image":"../../etc/shadow"}`), 0)
	f.Fuzz(func(t *testing.T, packet []byte, descriptors int) {
		r, err := parse(packet, descriptors)
		if err != nil {
			return
		}
		name, args := r.program()
		var operands []string
		if name == "rkt-image" {
			if args[0] != "list" {
				t.Fatalf("%s %q", name, args)
			}
			args = args[1:]
		} else {
			end := slices.Index(args, "--")
			if end < 0 || len(args) < end+2 {
				t.Fatalf("%s %q", name, args)
			}
			args, operands = args[:end], args[end+1:]
		}
		for _, arg := range args {
			flag, _, _ := strings.Cut(arg, "=")
			if !slices.Contains(allowed[r.Command], strings.TrimPrefix(flag, "--")) {
				t.Fatalf("flag %q", arg)
			}
		}
		if len(operands) == 0 {
			return
		}
		if operands[0] == "-" && !r.File || r.File && descriptors != 1 {
			t.Fatalf("standard input of nobody: %q, %d descriptors", operands, descriptors)
		}
		if ref, err := image.ParseReference(operands[0]); operands[0] != "-" && (err != nil || ref.Local()) {
			t.Fatalf("image %q: %v", operands[0], err)
		}
		if want := operands[:1:1]; r.Signature != nil &&
			!slices.Equal(operands, append(want, "--signature=/proc/self/fd/3")) {
			t.Fatalf("operands %q", operands)
		}
	})
}

// double is a program in the place of rkt-fetch.
func double(t *testing.T, script string) Service {
	t.Helper()
	path := filepath.Join(t.TempDir(), "double")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return Service{Look: func(string) (string, error) { return path, nil }, Log: t.Logf}
}

// listen has the service answer one connection at a socket, as systemd would start it. The channel
// gets what Serve returned.
func listen(t *testing.T, s Service) (socket string, served chan error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	served = make(chan error, 1)
	go func() {
		defer unix.Close(fd)
		connection, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err == nil {
			err = s.Serve(context.Background(), connection)
			unix.Close(connection)
		}
		served <- err
	}()
	return socket, served
}

func within(t *testing.T, limit time.Duration, served chan error) error {
	t.Helper()
	select {
	case err := <-served:
		return err
	case <-time.After(limit):
		t.Fatalf("not done after %s", limit)
		return nil
	}
}

func TestAsk(t *testing.T) {
	long := strings.Repeat("0123456789", 10_000)
	for _, c := range []struct {
		name, script   string
		request        Request
		file           string
		status         int
		stdout, stderr string
	}{
		{name: "streams", script: `echo "$@"; echo two >&2; exit 3`, request: Request{Command: "fetch",
			Image: "docker://redis",
			Flags: map[string]string{"full": "true"}}, status: 3, stdout: "--full=true -- docker://redis\n",
			stderr: "two\n"},
		{name: "list", script: `echo "$@"`, request: Request{Command: "list"}, stdout: "list\n"},
		{name: "long", script: "printf %s " + long, request: Request{Command: "list"}, stdout: long},
		{name: "file", script: `cat; cat /proc/self/fd/3`, request: Request{Command: "fetch", File: true,
			Signature: []byte("signed")},
			file: "an image, ", stdout: "an image, signed"},
		{name: "killed", script: `kill -9 $$`, request: Request{Command: "list"}, status: 254,
			stderr: "rkt-fetch: signal: killed\n"},
		{name: "no connection leaks", script: `ls -l /proc/$$/fd | grep -c socket:`, request: Request{Command: "list"},
			stdout: "0\n", status: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var files []*os.File
			if c.request.File {
				path := filepath.Join(t.TempDir(), "file")
				if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
				f, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				files = append(files, f)
			}
			socket, served := listen(t, double(t, c.script))
			var stdout, stderr bytes.Buffer
			status, err := Ask(socket, c.request, files, &stdout, &stderr)
			if err != nil || status != c.status || stdout.String() != c.stdout || stderr.String() != c.stderr {
				t.Errorf("%d, %v, %.100q, %q; want %d, %.100q, %q", status, err, stdout.String(), stderr.String(),
					c.status, c.stdout, c.stderr)
			}
			within(t, time.Minute, served)
		})
	}
}

// hostile connects, and returns the connection of a client that does as it likes.
func hostile(t *testing.T, socket string) int {
	t.Helper()
	fd, err := dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// said is the answer to a hostile client, as far as it was for standard error.
func said(t *testing.T, fd int) (text string) {
	t.Helper()
	packet := make([]byte, 1+maxAnswer)
	for {
		n, err := receive(fd, packet)
		if err != nil || n == 0 || packet[0] == status {
			return text
		}
		if packet[0] == toStderr {
			text += string(packet[1:n])
		}
	}
}

func TestHostileClients(t *testing.T) {
	never := double(t, `echo ran; exit 1`)
	rights := func(path string, flags int) []byte {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return unix.UnixRights(fd)
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := `{"command":"fetch","file":true}`
	for _, c := range []struct {
		name, packet string
		rights       []byte
		want         string
	}{
		{"huge", strings.Repeat(" ", maxRequest+1), nil, "rkt-fetch: a request of more than 65536 bytes\n"},
		{"half", file[:10], nil, "rkt-fetch: not a request: unexpected EOF\n"},
		{"escapes", "{\"command\":\"\x1b[31m\"}", nil,
			"rkt-fetch: not a request: invalid character '\\x1b' in string literal\n"},
		{"escapes in JSON", `{"command":"\u001b[31m\n"}`, nil,
			"rkt-fetch: \"\\x1b[31m\\n\": only root may do this (try it as root)\n"},
		{"a file that it cannot read", file, rights(path, unix.O_PATH),
			"rkt-fetch: not a file or pipe that is open for reading\n"},
		{"a file opened for writing", file, rights(path, unix.O_WRONLY),
			"rkt-fetch: not a file or pipe that is open for reading\n"},
		{"a device", file, rights("/dev/zero", unix.O_RDONLY),
			"rkt-fetch: not a file or pipe that is open for reading\n"},
		{"a directory", file, rights("/", unix.O_RDONLY), "rkt-fetch: not a file or pipe that is open for reading\n"},
		{"no file", file, nil, "rkt-fetch: not a request: it comes with 0 descriptors\n"},
		{"a file without need", `{"command":"list"}`, rights(path, unix.O_RDONLY),
			"rkt-fetch: not a request: it comes with 1 descriptors\n"},
		{"many files", file, unix.UnixRights(0, 0, 0, 0, 0, 0), "rkt-fetch: a request with too many descriptors\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket, served := listen(t, never)
			fd := hostile(t, socket)
			defer unix.Close(fd)
			if err := unix.Sendmsg(fd, []byte(c.packet), c.rights, nil, 0); err != nil {
				t.Fatal(err)
			}
			if got := said(t, fd); got != c.want {
				t.Errorf("%q; want %q", got, c.want)
			}
			if within(t, time.Minute, served) == nil {
				t.Error("no error for the journal")
			}
		})
	}
}

// A client that hangs up before it has asked, one that goes while the program runs, and one that
// sends more: the program is asked to end.
func TestLeaving(t *testing.T) {
	request, err := json.Marshal(Request{Command: "list"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	running, ended := filepath.Join(dir, "running"), filepath.Join(dir, "ended")
	s := double(t, `trap 'echo >`+ended+`; exit 0' TERM; echo >`+running+`; while :; do sleep 0.05; done`)
	for name, leave := range map[string]func(fd int){
		"before":   nil,
		"meantime": func(fd int) { unix.Close(fd) },
		"more":     func(fd int) { unix.Sendto(fd, request, 0, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			os.Remove(running)
			os.Remove(ended)
			socket, served := listen(t, s)
			fd := hostile(t, socket)
			if leave == nil {
				unix.Close(fd)
				if within(t, time.Minute, served) == nil {
					t.Error("no error for the journal")
				}
				return
			}
			if err := unix.Sendto(fd, request, 0, nil); err != nil {
				t.Fatal(err)
			}
			for i := 0; i < 500; i++ {
				if _, err := os.Stat(running); err == nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			leave(fd)
			within(t, time.Minute, served)
			if _, err := os.Stat(ended); err != nil {
				t.Errorf("the program was not asked to end: %v", err)
			}
		})
	}
}

// Nobody listens, or no one may: one line that says what to type.
func TestNoService(t *testing.T) {
	_, err := Ask(filepath.Join(t.TempDir(), "s"), Request{Command: "list"}, nil, nil, nil)
	if !testkit.Says(err, "systemctl enable --now rkt-fetch.socket") {
		t.Errorf("%v", err)
	}
	socket, served := listen(t, double(t, ""))
	fd := hostile(t, socket)
	unix.Close(fd)
	within(t, time.Minute, served)
	if _, err = Ask(socket, Request{Command: "list"}, nil, nil, nil); !testkit.Says(err,
		"systemctl enable --now rkt-fetch.socket") {
		t.Errorf("a socket that nobody listens at: %v", err)
	}
}
