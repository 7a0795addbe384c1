package host

import (
	"testing"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/recorder"
)

// What programs in a pod write, others find under the same name in the pod's directory.
func TestNamesInside(t *testing.T) {
	for inside, outside := range map[string]string{
		recorder.StatusDir: poddir.StatusDir, recorder.StoppedFile: poddir.StoppedFile,
		stage1.ReadyFile:    poddir.ReadyFile,
		stage1.AppRoot("a"): poddir.AppsDir + "/a/rootfs",
	} {
		if poddir.RootDir+inside != outside {
			t.Errorf("%s is %s outside", inside, outside)
		}
	}
}
