package prepare

import (
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestFields(t *testing.T) {
	const whole = `{"acKind":"PodManifest","acVersion":"0.8.11",
		"apps":[{"name":"a","image":{"name":"x","id":"sha512-0","labels":[{"name":"os","value":"linux"}]},
			"readOnlyRootFS":true,
			"app":{"exec":["/a"],"eventHandlers":[{"name":"pre-start","exec":["/a"]}],
				"user":"0","group":"0","supplementaryGIDs":[5],
				"workingDirectory":"/","environment":[{"name":"A","value":"b"}],
				"mountPoints":[{"name":"m","path":"/m","readOnly":true}],
				"ports":[{"name":"p","protocol":"tcp","port":80,"count":1,"socketActivated":false}],
				"isolators":[{"name":"resource/memory","value":{"default":true,"limit":"1M","request":"1M"}},
					{"name":"os/linux/seccomp-remove-set","value":{"errno":"EPERM","set":["mkdir"]}},
					{"name":"os/linux/no-new-privileges","value":true}],
				"userAnnotations":{"any":"x"},"userLabels":{"any":"x"}},
			"mounts":[{"volume":"v","path":"/v","appVolume":{"name":"v","kind":"empty"}}],
			"annotations":[{"name":"a","value":"b"}]}],
		"volumes":[{"name":"v","kind":"host","source":"/v","readOnly":true,"recursive":true,
			"mode":"0755","uid":0,"gid":0}],
		"isolators":[{"name":"os/unix/sysctl","value":{"net.core.somaxconn":"5"}}],
		"annotations":[{"name":"a","value":"b"}],
		"ports":[{"name":"p","hostPort":80,"hostIP":"127.0.0.1","podPort":{"name":"p","port":80}}],
		"userAnnotations":{"any":"x"},"userLabels":{"any":"x"}}`
	if err := checkFields([]byte(whole)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"volumes"`, `"volume"`, `unknown field "volume"; ... acKind, acVersion, annotations ... volumes`},
		{`"readOnlyRootFS"`, `"readOnlyRoot"`, `apps[0]: unknown field "readOnlyRoot"; `},
		{`"readOnlyRootFS"`, `"readonlyrootfs"`, ""}, // which encoding/json takes
		{`"mounts"`, `"mount"`, `apps[0]: unknown field "mount"`},
		{`"labels"`, `"label"`, `apps[0].image: unknown field "label"; ... id, labels, name`},
		{`"environment"`, `"enviroment"`, `apps[0].app: unknown field "enviroment"`},
		{`"isolators":[{"name":"resource`, `"isolator":[{"name":"resource`, `apps[0].app: unknown field "isolator"`},
		{`"limit":"1M"`, `"limits":"1M"`, `isolators[0].value: unknown field "limits"; ... default, limit, request`},
		{`"errno"`, `"erno"`, `apps[0].app.isolators[1].value: unknown field "erno"; ... errno, set`},
		{`"protocol"`, `"proto"`, `apps[0].app.ports[0]: unknown field "proto"`},
		{`"source"`, `"path"`, `volumes[0]: unknown field "path"`},
		{`"hostIP"`, `"hostIp"`, ""},
		{`"podPort":{"name"`, `"podPort":{"nam"`, `ports[0].podPort: unknown field "nam"`},
	} {
		text := strings.Replace(whole, c.old, c.new, 1)
		err := checkFields([]byte(text))
		if !testkit.Says(err, c.want) {
			t.Errorf("%s: %v, want %q", c.new, err, c.want)
		}
	}
}
