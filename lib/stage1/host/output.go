package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
	"golang.org/x/sys/unix"
)

// journalSocket takes streams of lines (sd_journal_stream_fd(3)).
const journalSocket = "/run/systemd/journal/stdout"

// nameStream has the lines of the pod appear in the host's journal under the name of the app, where
// standard output and error go to the journal: they came under the name of the program that the
// unit has started. Their priority there is "informational", whatever they begin with; the pod's
// own journal has the priorities that the apps gave.
func nameStream(p *poddir.Pod) error {
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
		return fmt.Errorf("journal: %s: %w", journalSocket, err) // the stream as it is would obey prefixes
	}
	// Identifier, unit, priority (informational), no prefix of a line is obeyed, and three places
	// to forward to. An app that can write to the pod's console would choose the priority of its
	// lines on the host: with "<0>" they are broadcast to all who are logged in.
	if _, err := unix.Write(fd, []byte(name+"\n\n6\n0\n0\n0\n0\n")); err != nil {
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

// writeOutput notes for the pod where what its apps print goes, besides the pod's own journal:
// where standard output goes. It returns arguments of systemd-nspawn: only if that is the host's
// journal does the pod have its socket.
func (s *starting) writeOutput() (options []string, err error) {
	p := s.Pod
	if s.former {
		return s.formerOutput()
	}
	output := streams.ToPlain
	if place.IsTerminal(s.Stdout) {
		output = streams.ToTerminal
	} else if out, err := journal.StdoutIsJournalStream(); err == nil && out {
		if _, err := os.Stat(systemd.JournalSocket); err == nil {
			output, options = streams.ToJournal, []string{"--bind=" + systemd.JournalSocket + ":" + streams.HostJournal}
		}
	}
	if options != nil {
		if err := mountable(p, streams.HostJournal); err != nil {
			return nil, err
		}
	}
	if s.Interactive {
		output += " " + streams.Interactive
	}
	return options, os.WriteFile(p.Path(poddir.RootDir+streams.OutputFile), []byte(output+"\n"), 0o600)
}

// formerOutput is writeOutput for a pod that an older rkt prepared: its journald prints what the
// apps say. Without a file of the host's systemd it writes no time of the kernel's clock before
// each line. The console ends lines with CR LF, which is wrong in a pipe or a file.
func (s *starting) formerOutput() (options []string, err error) {
	if systemd.Booted() {
		options = []string{"--inaccessible=/sys/module/printk/parameters/time"}
	}
	if out, err := journal.StdoutIsJournalStream(); s.Interactive || place.IsTerminal(s.Stdout) || err == nil && out {
		return options, nil
	}
	u := section("Service", "ExecStartPre=-/bin/stty -F /dev/console -onlcr")
	return options, u.dropIn(s.Pod, "systemd-journald.service", "console.conf")
}

// mountable makes a file in the pod's root for systemd-nspawn to mount on. It can't make one itself
// in a pod with users of its own.
func mountable(p *poddir.Pod, path string) error {
	return os.WriteFile(p.Path(poddir.RootDir+path), nil, 0o600)
}

// streamName is the app's name, or for a pod of several apps its own, if it has one; each line
// tells then which app's it is.
func streamName(p *poddir.Pod) (string, error) {
	apps, err := os.ReadDir(p.Path(poddir.AppsDir))
	if err != nil {
		return "", err
	}
	if len(apps) == 1 {
		return apps[0].Name(), nil
	}
	name, err := p.ReadFile(poddir.NameFile)
	if err != nil {
		return "rkt", nil
	}
	return strings.TrimSpace(string(name)), nil
}

// hostJournals has a link for each pod, by which journalctl(1) finds the pod's journal; rkt-gc
// removes it. On a host without that directory no journal outlives a boot.
const hostJournals = "/var/log/journal"

// linkJournal makes that link, and the directory in the pod that it leads to.
func linkJournal(p *poddir.Pod) error {
	if _, err := os.Stat(hostJournals); err != nil {
		return nil
	}
	target := p.Path(journalDir(p))
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	err := os.Symlink(target, filepath.Join(hostJournals, machineID(p.UUID)))
	if errors.Is(err, fs.ErrExist) { // of a start that failed
		return nil
	}
	return err
}

// machineID is the ID of a pod's systemd, after which its journal is named.
func machineID(uuid string) string { return strings.ReplaceAll(uuid, "-", "") }

// journalDir is where a pod's systemd keeps its journal.
func journalDir(p *poddir.Pod) string {
	return poddir.RootDir + "/var/log/journal/" + machineID(p.UUID)
}
