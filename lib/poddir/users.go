package poddir

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/userns"
)

// UsersMode says whose users a pod is to have.
type UsersMode string

// The values of --private-users.
const (
	UsersAuto UsersMode = "auto" // its own, unless something that it is to have needs the host's
	UsersOwn  UsersMode = "yes"
	UsersHost UsersMode = "no"
)

// ParseUsersMode reads a value of --private-users. The flag alone, which is "true", means yes.
func ParseUsersMode(s string) (UsersMode, error) {
	switch s {
	case "auto", "yes", "no":
		return UsersMode(s), nil
	case "true", "1":
		return UsersOwn, nil
	case "false", "0":
		return UsersHost, nil
	}
	return "", fmt.Errorf("%q is not one of auto, yes, no", s)
}

// Reserved is what rkt-prepare notes of a pod's users; rkt-run-prepared decides by it.
type Reserved struct {
	Range userns.Range
	Mode  UsersMode // auto or yes
	Asked []string  // capabilities of the default set that a flag names
}

// String is the content of the file ReservedFile.
func (r Reserved) String() string {
	return strings.Join(append([]string{r.Range.String(), string(r.Mode)}, r.Asked...), " ") + "\n"
}

// Reserved reads that file; nil if the pod has none, since it is to have the host's users, or an
// older rkt prepared it.
func (p *Pod) Reserved() (*Reserved, error) {
	text, err := p.ReadFile(ReservedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := parseReserved(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path(ReservedFile), err)
	}
	return &r, nil
}

func parseReserved(text string) (r Reserved, err error) {
	words := strings.Split(strings.TrimSuffix(text, "\n"), " ")
	if len(words) < 2 {
		return r, fmt.Errorf("%q: neither a range of user IDs and auto, nor one and yes", text)
	}
	if r.Range, err = userns.Parse(words[0]); err != nil {
		return r, err
	}
	r.Mode, r.Asked = UsersMode(words[1]), words[2:]
	if !slices.Contains([]UsersMode{UsersAuto, UsersOwn}, r.Mode) {
		return r, fmt.Errorf("%q is neither auto nor yes", words[1])
	}
	return r, nil
}

// Users is the pod's own range of user IDs; nil if it has the host's, or has not been started yet.
func (p *Pod) Users() (*userns.Range, error) {
	text, err := p.ReadFile(UsersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	users, err := userns.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path(UsersFile), err)
	}
	return &users, nil
}
