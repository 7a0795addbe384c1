package streams

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// HealthDir has, of each app, what its running health check has printed: NAME.output. Package
// health has more there.
const HealthDir = "/run/rkt/health"

func capturePath(app string) string { return filepath.Join(HealthDir, app+".output") }

// capture keeps a line of a health check. Of one that prints much it keeps the start.
func capture(app string, line []byte) error {
	if err := os.MkdirAll(HealthDir, 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(capturePath(app), os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	room := stage1.MaxCheckOutput - info.Size()
	if room <= 0 {
		return nil
	}
	line = append(line[:len(line):len(line)], '\n')
	_, err = file.Write(line[:min(int64(len(line)), room)])
	return err
}

// Checked is what the health check of an app has printed that has ended, its start.
func Checked(app string) ([]byte, error) {
	read := rest(app, Health)
	file, err := os.Open(capturePath(app))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, read
	}
	if err != nil {
		return nil, errors.Join(read, err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, stage1.MaxCheckOutput))
	return text, errors.Join(read, err, os.Remove(capturePath(app)))
}
