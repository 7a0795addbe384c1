package poddir

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/selinux"
)

// Labels are a pod's own pair of SELinux contexts: that of its apps' processes, and that of the
// files that these have.
type Labels struct {
	Process, File selinux.Context
	Asked         bool // a flag asks for them, so that the pod must not start without
}

// asked follows the contexts in the file.
const asked = "asked"

// String is the content of the file LabelsFile.
func (l Labels) String() string {
	words := []string{l.Process.String(), l.File.String()}
	if l.Asked {
		words = append(words, asked)
	}
	return strings.Join(words, " ") + "\n"
}

// Labels reads that file; nil if the pod has none.
func (p *Pod) Labels() (*Labels, error) {
	text, err := p.ReadFile(LabelsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l, err := ParseLabels(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path(LabelsFile), err)
	}
	return l, nil
}

// ParseLabels reads the content of the file.
func ParseLabels(text string) (*Labels, error) {
	words := strings.Split(strings.TrimSuffix(text, "\n"), " ")
	if len(words) != 2 && (len(words) != 3 || words[2] != asked) {
		return nil, fmt.Errorf("%q: not two contexts", text)
	}
	l := Labels{Asked: len(words) == 3}
	var err error
	if l.Process, err = selinux.Parse(words[0]); err == nil {
		l.File, err = selinux.Parse(words[1])
	}
	if err != nil {
		return nil, err
	}
	return &l, nil
}
