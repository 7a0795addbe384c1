package prepare

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// check is an app's health check as flags say it, beyond what an image can.
type check struct {
	image.Health
	OnFailure stage1.HealthAction
	Ready     bool
	Startup   struct {
		Test               []string
		Interval, Timeout  time.Duration
		Retries, Successes int
	}
}

// health is the image's health check with Docker's defaults, and what flags say of it; nil if it
// has none. One whose program the image does not have is left out with a warning: it would kill an
// app that works.
func health(root *os.File, a App, img *schema.ImageManifest, app stage1.App, o Options) (*stage1.Health, error) {
	text, ok := img.Annotations.Get(image.AnnotationHealth)
	own, given := a.Annotations.Get(image.AnnotationHealth)
	if a.NoHealth || !ok && !given {
		return nil, nil
	}
	h, err := readCheck(text, own)
	if err != nil {
		return nil, err
	}
	if len(h.Test) == 0 && given {
		return nil, fmt.Errorf("health check: the image has none; --health-cmd=COMMAND says what to run")
	}
	argv, err := h.program(h.Test)
	if err != nil || argv == nil {
		return nil, err
	}
	exec, err := findProgram(root, argv, app.WorkingDir, app.Environment)
	if err != nil && (strings.Contains(own, `"Test"`) || h.Ready) {
		return nil, fmt.Errorf("health check: %w", err)
	}
	if err != nil {
		o.Warn(fmt.Sprintf("app %q: health check: left out: %v", app.Name, err))
		return nil, nil
	}
	interval := func(d, instead time.Duration) time.Duration {
		d = cmp.Or(d, instead)
		if d < minInterval {
			o.Warn(fmt.Sprintf("app %q: health check: its interval of %s is raised to %s, the shortest", app.Name,
				d, minInterval))
		}
		return max(d, minInterval)
	}
	limit := func(d, instead time.Duration) time.Duration { return max(cmp.Or(d, instead), time.Millisecond) }
	const usual = 30 * time.Second
	c := &stage1.Health{
		Exec: exec, Interval: interval(h.Interval, usual), Timeout: limit(h.Timeout, usual), StartPeriod: h.StartPeriod,
		Retries: cmp.Or(h.Retries, 3), OnFailure: h.OnFailure, Ready: h.Ready,
	}
	s := h.Startup
	if h.Ready && s.Test == nil { // the same check, often; the unit says how long a start may take
		s.Test, s.Interval = h.Test, cmp.Or(s.Interval, min(c.Interval, minInterval))
	}
	if s.Test == nil || s.Test[0] == none {
		return c, nil
	}
	c.Startup = &stage1.Startup{Interval: interval(s.Interval, usual), Timeout: limit(s.Timeout, usual),
		Retries: s.Retries, Successes: cmp.Or(s.Successes, 1)}
	if argv, err = h.program(s.Test); err == nil {
		c.Startup.Exec, err = findProgram(root, argv, app.WorkingDir, app.Environment)
	}
	if err != nil {
		return nil, fmt.Errorf("health check of the start: %w", err)
	}
	return c, nil
}

// readCheck reads what the image says, in whose place comes what flags say.
func readCheck(text, own string) (h check, err error) {
	if text != "" {
		if err := json.Unmarshal([]byte(text), &h.Health); err != nil {
			return h, fmt.Errorf("health check: %w", err)
		}
	}
	if own != "" {
		if err := json.Unmarshal([]byte(own), &h); err != nil {
			return h, fmt.Errorf("health check: %w", err)
		}
	}
	s := h.Startup
	if min(h.Interval, h.Timeout, h.StartPeriod, s.Interval, s.Timeout) < 0 ||
		min(h.Retries, s.Retries, s.Successes) < 0 {
		return h, fmt.Errorf("health check: %s%s: a number below 0", text, own)
	}
	return h, nil
}

// none is a check that is none.
const none = "NONE"

// program is what a check runs; nil for none.
func (check) program(test []string) ([]string, error) {
	switch {
	case len(test) == 0 || test[0] == none:
		return nil, nil
	case test[0] == "CMD" && len(test) > 1:
		return test[1:], nil
	case test[0] == "CMD-SHELL" && len(test) == 2:
		return []string{"/bin/sh", "-c", test[1]}, nil
	}
	return nil, fmt.Errorf("health check: %q is not one of NONE, CMD PROGRAM…, CMD-SHELL LINE", test)
}

// SetReady has the app be ready when it says so itself, or when it has passed a health check.
func (a *App) SetReady(value string) error {
	switch value {
	case "exec":
		return nil
	case "notify":
		a.Annotations.Set(image.AnnotationNotify, "true")
		return nil
	case "health":
		return a.setHealth(func(own map[string]any) error {
			own["Ready"] = true
			return nil
		})
	}
	return errors.New("not one of exec, notify, health")
}

// SetHealth has one value of the app's health check take the place of the image's: its cmd, a line
// for the shell, a JSON array of a program and its arguments, or "none"; retries, a number;
// interval, timeout and start-period, times; on-failure, an action. Those of the check of the app's
// start begin with "startup-".
func (a *App) SetHealth(name, value string) error {
	return a.setHealth(func(own map[string]any) error {
		name, startup := strings.CutPrefix(name, "startup-")
		if startup {
			inner, _ := own["Startup"].(map[string]any)
			if inner == nil {
				inner = map[string]any{}
			}
			own["Startup"], own = inner, inner
		}
		return setCheck(own, name, value, startup)
	})
}

// setHealth changes what flags say of the check.
func (a *App) setHealth(change func(own map[string]any) error) error {
	own := map[string]any{}
	if text, ok := a.Annotations.Get(image.AnnotationHealth); ok {
		if err := json.Unmarshal([]byte(text), &own); err != nil {
			return err
		}
	}
	if err := change(own); err != nil {
		return err
	}
	text, err := json.Marshal(own)
	a.Annotations.Set(image.AnnotationHealth, string(text))
	return err
}

func setCheck(own map[string]any, name, value string, startup bool) (err error) {
	switch name {
	case "cmd":
		own["Test"], err = healthCommand(value)
	case "retries", "success":
		var n uint64
		if n, err = strconv.ParseUint(value, 10, 16); err != nil || n == 0 && (!startup || name == "success") {
			return errors.New("not a number from 1 on")
		}
		own[map[string]string{"retries": "Retries", "success": "Successes"}[name]] = n
	case "on-failure":
		if !slices.Contains(stage1.HealthActions, stage1.HealthAction(value)) {
			return errors.New("not one of none, restart, stop, kill")
		}
		own["OnFailure"] = value
	default:
		var d time.Duration
		if d, err = time.ParseDuration(value); err != nil || d < 0 {
			return errors.New("not a time such as 30s or 1m30s")
		}
		own[map[string]string{"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod"}[name]] = d
	}
	return err
}

// healthCommand is a command as an image has it.
func healthCommand(s string) ([]string, error) {
	switch {
	case s == "":
		return nil, errors.New("is empty; none is no check")
	case s == "none":
		return []string{none}, nil
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
