package stage1

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What an app has of devices depends on its capabilities and volumes, and on the host when the pod
// starts.
func TestDevices(t *testing.T) {
	paths := func(config *specs.Spec) string {
		var list []string
		for _, d := range config.Linux.Devices {
			list = append(list, strings.TrimPrefix(d.Path, "/dev/"))
		}
		return strings.Join(list, " ")
	}
	for _, test := range []struct {
		volumes, capabilities []string
		want, noTun           string
	}{
		{want: "null zero full random urandom tty"},
		{volumes: []string{"/dev/random", "/dev/nul", "/dev/tty/x", "/data"}, want: "null zero full urandom tty"},
		{capabilities: []string{"CAP_NET_ADMIN"}, want: "null zero full random urandom tty net/tun",
			noTun: "null zero full random urandom tty"},
		{capabilities: []string{"CAP_NET_ADMIN"}, volumes: []string{"/dev/net"},
			want: "null zero full random urandom tty"},
	} {
		app := plain("a")
		app.Volumes, app.Capabilities = test.volumes, append(app.Capabilities, test.capabilities...)
		config, err := app.Config()
		if err != nil {
			t.Fatal(err)
		}
		if got := paths(config); got != test.want {
			t.Errorf("%v: %s, want %s", test, got, test.want)
		}
		if got := paths(Finish(config, Final{NoTun: true})); got != test.noTun && test.noTun != "" {
			t.Errorf("%v: without tun %s, want %s", test, got, test.noTun)
		}
		if got := paths(config); got != test.want {
			t.Errorf("Finish changed what was prepared: %s", got)
		}
	}
}
