package prepare

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
)

// warnOfOOMScores warns of each OOM score of a flag that the kernel refuses: a score below one's
// own takes CAP_SYS_RESOURCE, which root in a container has not. The app runs all the same, with
// the score of its unit.
func (o *Options) warnOfOOMScores() {
	for _, a := range o.Apps {
		if score := a.Limits.OOMScore; score != nil && *score < 0 && oomScoreRefused(*score) {
			o.Warn("image " + strconv.Quote(a.Image) + ": --oom-score-adj=" + strconv.Itoa(*score) +
				": the kernel refuses it here; the app runs with the score of its unit")
		}
	}
}

// oomScoreRefused reports whether this process may not have a score: it tries, and takes it back.
func oomScoreRefused(score int) bool {
	const file = "/proc/self/oom_score_adj"
	before, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	err = os.WriteFile(file, []byte(strconv.Itoa(score)), 0)
	if err == nil {
		os.WriteFile(file, before, 0)
	}
	return errors.Is(err, fs.ErrPermission)
}
