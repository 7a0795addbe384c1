package prepare

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema/types"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// limitAnnotation and the name of a resource limit is the name of rkt's annotation of an app whose
// value is SOFT:HARD.
const limitAnnotation = "coreos.com/rkt/stage2/ulimit/"

// SetLimit reads NAME=SOFT[:HARD], a resource limit of the app (getrlimit(2)).
func (a *App) SetLimit(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("not NAME=SOFT[:HARD], such as nofile=4096:8192")
	}
	limit, err := parseLimit(name, value)
	if err != nil {
		return err
	}
	a.Annotations.Set(types.ACIdentifier(limitAnnotation+strings.ToLower(strings.TrimPrefix(limit.Type, "RLIMIT_"))),
		value)
	return nil
}

// parseLimit is stage1.ParseLimit, and refuses more than the host's kernel gives.
func parseLimit(name, value string) (specs.POSIXRlimit, error) {
	limit, err := stage1.ParseLimit(name, value)
	if err != nil || limit.Type != "RLIMIT_NOFILE" {
		return limit, err
	}
	const file = "/proc/sys/fs/nr_open"
	text, err := os.ReadFile(file)
	if err != nil {
		return limit, err
	}
	most, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err == nil && limit.Hard > most {
		err = fmt.Errorf("%d open files are more than the host allows a process, %d (%s)", limit.Hard, most, file)
	}
	return limit, err
}

// rlimits are the resource limits that annotations of an app say.
func rlimits(annotations types.Annotations) (limits []specs.POSIXRlimit, err error) {
	for _, a := range annotations {
		name, ok := strings.CutPrefix(a.Name.String(), limitAnnotation)
		if !ok {
			continue
		}
		limit, err := parseLimit(name, a.Value)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", a.Name, err)
		}
		limits = append(limits, limit)
	}
	slices.SortFunc(limits, func(a, b specs.POSIXRlimit) int { return strings.Compare(a.Type, b.Type) })
	return limits, nil
}
