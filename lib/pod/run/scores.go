package run

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// allowScores has the processes of a pod with users of its own be able to take the OOM scores of
// its apps. A score below that which was set last with CAP_SYS_RESOURCE takes this capability, of
// the host's user namespace; children inherit that minimum (proc_pid_oom_score_adj(5)). So the
// lowest is set with the capability, and what was before without.
//
// The calling thread is the one that becomes the pod.
func allowScores(apps []*app) error {
	const file = "/proc/self/oom_score_adj"
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	lowest := own
	for _, a := range apps {
		if a.Prepared != nil && a.Prepared.Process.OOMScoreAdj != nil {
			lowest = min(lowest, *a.Prepared.Process.OOMScoreAdj)
		}
	}
	if lowest == own || os.WriteFile(file, []byte(strconv.Itoa(lowest)), 0) != nil {
		// rkt-prepare has told of a refusal
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, less [2]unix.CapUserData
	if err := unix.Capget(&header, &all[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	less = all
	less[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	if err := unix.Capset(&header, &less[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	back := os.WriteFile(file, []byte(text), 0)
	if err := unix.Capset(&header, &all[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return back
}
