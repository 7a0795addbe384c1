// Package inside has the paths at which programs meet in a pod of flavor host, as the pod's systemd
// sees them.
package inside

// Sockets for notifications (sd_notify(3)): that of the pod's systemd, and that of the host's,
// which no app can see. The latter is not below /run: systemd-nspawn would make /run/rkt for it,
// and in a pod with users of its own nobody could write there.
const (
	PodNotify  = "/run/systemd/notify"
	HostNotify = "/rkt/host-notify"
)
