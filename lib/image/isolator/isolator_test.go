package isolator

import (
	"encoding/json"
	"testing"

	"github.com/appc/spec/schema"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestManifest(t *testing.T) {
	for list, want := range map[string]string{
		`[{"name":"os/linux/apparmor-profile","value":{"profile":"docker-default"}}]`: "",
		`[{"name":"os/linux/apparmor-profile","value":{"profile":"a b"}}]`:            `"a b" is no profile's name`,
		`[{"name":"os/linux/apparmor-profile","value":{"profile":"-a"}}]`:             `"-a" is no profile's name`,
		`[{"name":"os/linux/apparmor-profile","value":{"profile":"%n"}}]`:             `"%n" is no profile's name`,
		`[{"name":"os/linux/apparmor-profile","value":{}}]`:                           `"" is no profile's name`,
		`[{"name":"example.com/odd","value":{}}]`:                                     "invalid isolator",
	} {
		text := `{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a","app":{"exec":["/a"],"user":"0",` +
			`"group":"0","isolators":` + list + `}}`
		var m schema.ImageManifest
		err := json.Unmarshal([]byte(text), &m)
		if !testkit.Says(err, want) {
			t.Errorf("%s: %v; want %q", list, err, want)
			continue
		}
		if err != nil {
			continue
		}
		if got := m.App.Isolators[0].Value().(*AppArmor).Profile; got != "docker-default" {
			t.Errorf("%s: profile %q", list, got)
		}
		if again, err := json.Marshal(m); err != nil || json.Unmarshal(again, &m) != nil {
			t.Errorf("%s: written as %s, %v", list, again, err)
		}
	}
}

func TestUnknown(t *testing.T) {
	for text, want := range map[string]string{
		`{"app":{"isolators":[{"name":"resource/memory","value":{"limit":"1G"}},` +
			`{"name":"os/linux/capabilities-retain-set"},{"name":"example.com/odd","value":1}]}}`: "example.com/odd",
		`{"app":{"isolators":[{"name":"os/linux/apparmor-profile"}]}}`: "",
		`{"app":{}}`: "", `{}`: "", `x`: "", `{"app":{"isolators":[{"name":"not a name"}]}}`: "",
	} {
		if got := Unknown([]byte(text)); got != want {
			t.Errorf("%s: %q; want %q", text, got, want)
		}
	}
}
