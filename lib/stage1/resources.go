package stage1

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// PodLimits is what poddir.LimitsFile has.
type PodLimits struct {
	Pod  Resources            `json:"pod"` // of all apps together
	Apps map[string]Resources `json:"apps"`
}

// LimitsOf are the limits of a pod.
func LimitsOf(s Spec) PodLimits {
	l := PodLimits{Pod: s.Limits.Resources, Apps: map[string]Resources{}}
	for _, a := range s.Apps {
		l.Apps[a.Name] = a.Resources
	}
	return l
}

// ReadLimits reads the limits of a pod; nil for one that an older rkt prepared.
func ReadLimits(p *poddir.Pod) (*PodLimits, error) {
	text, err := p.ReadFile(poddir.LimitsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var l PodLimits
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path(poddir.LimitsFile), err)
	}
	return &l, nil
}
