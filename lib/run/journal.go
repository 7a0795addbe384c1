package run

import (
	"fmt"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"golang.org/x/sys/unix"
)

// journalSocket takes streams of lines (sd_journal_stream_fd(3)).
const journalSocket = "/run/systemd/journal/stdout"

// nameStream has the lines of the pod appear in the host's journal under the name of the app, where standard output and error go to the
// journal: they came under the name of the program that the unit has started.
func nameStream(p *pod.Pod) error {
	name, err := streamName(p)
	if err != nil {
		return err
	}
	if out, err := journal.StdoutIsJournalStream(); err != nil || !out { // an error: $JOURNAL_STREAM is nonsense
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: journalSocket}); err != nil {
		return nil // then it goes where it went
	}
	// Identifier, unit, priority (informational), whether lines have a prefix of their own, and three places to forward to.
	if _, err := unix.Write(fd, []byte(name+"\n\n6\n1\n0\n0\n0\n")); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	to := []int{unix.Stdout}
	if both, err := journal.StderrIsJournalStream(); err == nil && both {
		to = append(to, unix.Stderr)
	}
	for _, to := range to {
		if err := unix.Dup3(fd, to, 0); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	return nil
}

// plainLines has the lines of the pod end without a carriage return where they go into a pipe or a file: the terminal that
// systemd-nspawn makes for the pod, which all of them pass, adds one. A terminal wants it, and the journal drops it.
func plainLines(p *pod.Pod, interactive bool) error {
	if out, err := journal.StdoutIsJournalStream(); interactive || isTerminal(os.Stdout) || err == nil && out {
		return nil
	}
	return dropIn(p, "systemd-journald.service", "console.conf", "[Service]\nExecStartPre=-/bin/stty -F /dev/console -onlcr\n")
}

// streamName is the app's name, or for a pod of several apps its own, if it has one; each line tells then which app's it is.
func streamName(p *pod.Pod) (string, error) {
	apps, err := os.ReadDir(p.Path(pod.AppsDir))
	if err != nil {
		return "", err
	}
	if len(apps) == 1 {
		return apps[0].Name(), nil
	}
	name, err := p.ReadFile(pod.NameFile)
	if err != nil {
		return "rkt", nil
	}
	return strings.TrimSpace(string(name)), nil
}
