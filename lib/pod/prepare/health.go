package prepare

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// health is the image's health check with Docker's defaults; nil if it has none. One whose program
// the image does not have is left out with a warning: it would kill an app that works.
func health(root *os.File, a App, img *schema.ImageManifest, app stage1.App, o Options) (*stage1.Health, error) {
	var h image.Health
	text, ok := img.Annotations.Get(image.AnnotationHealth)
	own, given := a.Annotations.Get(image.AnnotationHealth)
	if a.NoHealth || !ok && !given {
		return nil, nil
	}
	for _, text := range []string{text, own} { // what is given takes the place of the image's
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			return nil, fmt.Errorf("health check: %w", err)
		}
	}
	if len(h.Test) == 0 && given {
		return nil, fmt.Errorf("health check: the image has none; --health-cmd=COMMAND says what to run")
	}
	if h.Interval < 0 || h.Timeout < 0 || h.StartPeriod < 0 || h.Retries < 0 {
		return nil, fmt.Errorf("health check: %s%s: a number below 0", text, own)
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
	if err != nil && strings.Contains(own, `"Test"`) {
		return nil, fmt.Errorf("health check: %w", err)
	}
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

// SetHealth has one value of the app's health check take the place of the image's: its cmd, a line
// for the shell, a JSON array of a program and its arguments, or "none"; retries, a number;
// interval,
// timeout and start-period, times.
func (a *App) SetHealth(name, value string) (err error) {
	own := map[string]any{}
	if text, ok := a.Annotations.Get(image.AnnotationHealth); ok {
		if err := json.Unmarshal([]byte(text), &own); err != nil {
			return err
		}
	}
	switch name {
	case "cmd":
		own["Test"], err = healthCommand(value)
	case "retries":
		var n uint64
		if n, err = strconv.ParseUint(value, 10, 16); err != nil || n == 0 {
			return errors.New("not a number from 1 on")
		}
		own["Retries"] = n
	default:
		var d time.Duration
		if d, err = time.ParseDuration(value); err != nil || d < 0 {
			return errors.New("not a time such as 30s or 1m30s")
		}
		own[map[string]string{"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod"}[name]] = d
	}
	if err != nil {
		return err
	}
	text, err := json.Marshal(own)
	a.Annotations.Set(image.AnnotationHealth, string(text))
	return err
}

// healthCommand is a command as an image has it.
func healthCommand(s string) ([]string, error) {
	switch {
	case s == "":
		return nil, errors.New("is empty; none is no check")
	case s == "none":
		return []string{"NONE"}, nil
	case !strings.HasPrefix(s, "["):
		return []string{"CMD-SHELL", s}, nil
	}
	var argv []string
	if err := json.Unmarshal([]byte(s), &argv); err != nil || len(argv) == 0 {
		return nil, errors.New("not a JSON array of a program and its arguments")
	}
	if argv[0] == "CMD" || argv[0] == "CMD-SHELL" || argv[0] == "NONE" { // as an image's HEALTHCHECK
		return argv, nil
	}
	return append([]string{"CMD"}, argv...), nil
}

// minInterval keeps a check from using a CPU of the host for nothing: the pod's PID 1 starts some
// processes for each, outside of the app's limits. Docker takes 1 ms, and so do images of OCI's
// format.
const minInterval = time.Second
