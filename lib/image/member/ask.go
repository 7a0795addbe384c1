package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Ask has the service at a socket do what a request says, with descriptors of the files that belong
// to it, and copies what the program prints. It returns the program's exit status.
func Ask(socket string, r Request, files []*os.File, stdout, stderr io.Writer) (exitStatus int, err error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	packet, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	fd, err := dial(socket)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(fd, packet, rights, nil, unix.MSG_NOSIGNAL); err != nil && !hungUp(err) {
		// what it said before is read below
		return 0, fmt.Errorf("%s: %w", socket, err)
	}
	answer := make([]byte, 1+maxAnswer)
	for {
		n, err := receive(fd, answer)
		if n == 0 && (err == nil || hungUp(err)) {
			return 0, fmt.Errorf("%s: the service hung up: it is busy with others, or was stopped; try again", socket)
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", socket, err)
		}
		text := answer[1:n]
		switch answer[0] {
		case toStdout:
			_, err = stdout.Write(text)
		case toStderr:
			_, err = stderr.Write(text)
		case status:
			return strconv.Atoi(string(text))
		default:
			err = fmt.Errorf("%s: not an answer of this program's version", socket)
		}
		if err != nil {
			return 0, err
		}
	}
}

func hungUp(err error) bool { return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) }

// dial connects to the service, or says what to do.
func dial(socket string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	for {
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != unix.EINTR {
			break
		}
	}
	switch err {
	case nil:
		return fd, nil
	case unix.EACCES, unix.EPERM:
		err = fmt.Errorf("%s: %w (root may, and members of group rkt)", socket, err)
	case unix.ENOENT, unix.ECONNREFUSED:
		err = fmt.Errorf("only root may use the image store; for members of group rkt, start the service as root: " +
			"systemctl enable --now rkt-fetch.socket")
	default:
		err = fmt.Errorf("%s: %w", socket, err)
	}
	unix.Close(fd)
	return -1, err
}

// receive reads a packet; 0 bytes are the end.
func receive(fd int, packet []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, packet, 0)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
