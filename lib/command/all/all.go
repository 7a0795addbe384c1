// Package all has all programs, for what is made of them together: the toolkit, which is all of
// them in one, the table of flags, manual pages and tests. No other program links it.
package all

import (
	"slices"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/attach"
	"github.com/rkt-toolkit/rkt/lib/command/catmanifest"
	"github.com/rkt-toolkit/rkt/lib/command/config"
	"github.com/rkt-toolkit/rkt/lib/command/cp"
	"github.com/rkt-toolkit/rkt/lib/command/doctor"
	"github.com/rkt-toolkit/rkt/lib/command/enter"
	"github.com/rkt-toolkit/rkt/lib/command/export"
	"github.com/rkt-toolkit/rkt/lib/command/fetch"
	"github.com/rkt-toolkit/rkt/lib/command/gc"
	"github.com/rkt-toolkit/rkt/lib/command/image"
	"github.com/rkt-toolkit/rkt/lib/command/kill"
	"github.com/rkt-toolkit/rkt/lib/command/list"
	"github.com/rkt-toolkit/rkt/lib/command/logs"
	"github.com/rkt-toolkit/rkt/lib/command/metadata"
	"github.com/rkt-toolkit/rkt/lib/command/net"
	"github.com/rkt-toolkit/rkt/lib/command/notify"
	"github.com/rkt-toolkit/rkt/lib/command/prepare"
	"github.com/rkt-toolkit/rkt/lib/command/rkt"
	"github.com/rkt-toolkit/rkt/lib/command/runprepared"
	"github.com/rkt-toolkit/rkt/lib/command/stage2"
	"github.com/rkt-toolkit/rkt/lib/command/stats"
	"github.com/rkt-toolkit/rkt/lib/command/status"
	"github.com/rkt-toolkit/rkt/lib/command/stop"
	"github.com/rkt-toolkit/rkt/lib/command/trust"
	"github.com/rkt-toolkit/rkt/lib/command/unit"
	"github.com/rkt-toolkit/rkt/lib/command/update"
	"github.com/rkt-toolkit/rkt/lib/command/volume"
)

// Programs are the programs.
func Programs() []*cli.Command { return append(slices.Clone(Toolkit), attach.Command, stage2.Command) }

// Toolkit are the programs that one binary is: all but rkt-attach and rkt-stage2, which go into
// pods and so are small programs of their own.
var Toolkit = []*cli.Command{
	catmanifest.Command,
	config.Command,
	cp.Command,
	doctor.Command,
	enter.Command,
	export.Command,
	fetch.Command,
	gc.Command,
	image.Command,
	kill.Command,
	list.Command,
	logs.Command,
	metadata.Command,
	net.Command,
	notify.Command,
	prepare.Command,
	rkt.Command,
	runprepared.Command,
	stats.Command,
	status.Command,
	stop.Command,
	trust.Command,
	unit.Command,
	update.Command,
	volume.Command,
}

// Pages are the manual pages that there are besides those of programs.
var Pages = []*cli.Command{rkt.Run}
