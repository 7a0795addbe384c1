// Package flavor has the flavors of pods that programs know. To add one, add it here.
package flavor

import (
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/fly"
	"github.com/rkt-toolkit/rkt/lib/stage1/host"
	initflavor "github.com/rkt-toolkit/rkt/lib/stage1/init"
)

// All are the flavors.
func All() stage1.Flavors { return stage1.Flavors{host.Flavor{}, initflavor.Flavor{}, fly.Flavor{}} }
