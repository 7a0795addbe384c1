package prepare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// health is the image's health check with Docker's defaults; nil if it has none. One whose program
// the image does not have is left out with a warning: it would kill an app that works.
func health(root *os.File, a App, img *schema.ImageManifest, app stage1.App, o Options) (*stage1.Health, error) {
	text, ok := img.Annotations.Get(image.AnnotationHealth)
	if !ok || a.NoHealth {
		return nil, nil
	}
	var h image.Health
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return nil, fmt.Errorf("health check: %w", err)
	}
	if h.Interval < 0 || h.Timeout < 0 || h.StartPeriod < 0 || h.Retries < 0 {
		return nil, fmt.Errorf("health check: %s: a number below 0", text)
	}
	var exec []string
	switch {
	case len(h.Test) == 0 || h.Test[0] == "NONE":
		return nil, nil
	case h.Test[0] == "CMD" && len(h.Test) > 1:
		exec = h.Test[1:]
	case h.Test[0] == "CMD-SHELL" && len(h.Test) == 2:
		exec = []string{"/bin/sh", "-c", h.Test[1]}
	default:
		return nil, fmt.Errorf("health check: %q is not one of NONE, CMD PROGRAM…, CMD-SHELL LINE", h.Test)
	}
	exec, err := findProgram(root, exec, app.WorkingDir, app.Environment)
	if err != nil {
		o.Warn(fmt.Sprintf("app %q: health check: left out: %v", app.Name, err))
		return nil, nil
	}
	interval := cmp.Or(h.Interval, 30*time.Second)
	if interval < minInterval {
		o.Warn(fmt.Sprintf("app %q: health check: its interval of %s is raised to %s, the shortest", app.Name,
			interval, minInterval))
		interval = minInterval
	}
	return &stage1.Health{
		Exec: exec, Interval: interval, Timeout: max(cmp.Or(h.Timeout, 30*time.Second), time.Millisecond),
		StartPeriod: h.StartPeriod, Retries: cmp.Or(h.Retries, 3),
	}, nil
}

// minInterval keeps a check from using a CPU of the host for nothing: the pod's PID 1 starts some
// processes for each, outside of the app's limits. Docker takes 1 ms, and so do images of OCI's
// format.
const minInterval = time.Second
