package prepare

import (
	"fmt"
	"strconv"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Annotations of a pod's manifest that say what all its apps have together, as the flags of the
// same names do.
const (
	tasksAnnotation types.ACIdentifier = "coreos.com/rkt/stage2/pids-max"
	shmAnnotation   types.ACIdentifier = "coreos.com/rkt/stage2/shm-size"
)

// maxTasks is the kernel's own limit, of all processes and threads of a host (PID_MAX_LIMIT,
// proc(5)).
const maxTasks = 1 << 22

// ParseTasks reads --pids-max; 0 is no limit.
func ParseTasks(s string) (uint64, error) {
	if s == "max" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || n > maxTasks {
		return 0, fmt.Errorf("not a number from 1 to %d, nor max, which is no limit", maxTasks)
	}
	return n, nil
}

// setShared settles --pids-max and --shm-size, which take precedence over the manifest that the pod
// is described by, and has its own manifest say them. shm is 0 for what the pod's flavor has.
func setShared(o Options, manifest *schema.PodManifest) (tasks, shm uint64, err error) {
	tasks = stage1.DefaultTasks
	for _, s := range []struct {
		given string
		name  types.ACIdentifier
		parse func(string) (uint64, error)
		to    *uint64
	}{{o.Tasks, tasksAnnotation, ParseTasks, &tasks}, {o.Shm, shmAnnotation, ParseSize, &shm}} {
		value, ok := manifest.Annotations.Get(string(s.name))
		if s.given != "" {
			value = s.given
			manifest.Annotations.Set(s.name, value)
		} else if !ok {
			continue
		}
		if *s.to, err = s.parse(value); err != nil {
			return 0, 0, fmt.Errorf("annotation %s: %q: %w", s.name, value, err)
		}
	}
	return tasks, shm, nil
}
