package cli

import (
	"errors"
	"fmt"

	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// OnePod resolves the POD operand of a program that takes one. With --uuid-file operands are
// ignored, as rkt did.
func (p *Process) OnePod(pods poddir.Pods, operands []string, uuidFile string) (*poddir.Pod, error) {
	if uuidFile != "" {
		operands = []string{"@" + uuidFile}
	}
	if len(operands) == 0 {
		return nil, errors.New("no pod given (--help shows how)")
	}
	if len(operands) > 1 {
		return nil, fmt.Errorf("%q: one pod only", operands[1])
	}
	return pods.Find(operands[0], poddir.Self(p.Getenv, p.PID))
}
