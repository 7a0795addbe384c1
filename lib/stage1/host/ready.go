package host

import (
	"slices"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/ready"
)

// ReadyUnit is the unit that says so. No app's unit has an @ in its name.
const ReadyUnit = "ready@pod.service"

// Ready is the text of ReadyUnit for a pod with these apps, and of a drop-in of default.target that
// starts it. byHealth are those that are ready when they have passed a health check.
//
// It runs rkt-stage2, which waits until each app has been executed. What the pod's PID 1 would say
// itself, that no job waits any more, is true of a pod whose app has failed, too (see Arguments).
//
// An app that ended has failed if its recorder says so, which After= waits for; the recorder then
// ends the pod, and with it what waits here. Requires=pod.target keeps a pod whose apps have all
// ended well from ending before it has been ready.
func Ready(apps, byHealth []string) (service, wants *unit) {
	after, waits := "", ""
	for _, app := range apps {
		waits += " "
		if slices.Contains(byHealth, app) {
			waits += ready.ByHealth
		}
		waits += app
		after += " " + app + ".service"
	}
	requires := "pod.target" + after
	for _, app := range apps {
		after += " app-succeeded@" + app + ".service app-failed@" + app + ".service"
	}
	service = section("Unit", "Description=Readiness of the pod", "DefaultDependencies=no", "Requires="+requires,
		"After=pod.target"+after, "Conflicts=shutdown.target", "Before=shutdown.target").
		with("Service", "Type=oneshot", "Slice=-.slice", "ExecStart="+stage1.Stage2+" ready"+waits,
			"StandardOutput=null", "StandardError=journal")
	return service, section("Unit", "Wants="+ReadyUnit)
}
