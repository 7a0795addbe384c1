package prepare

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestIsolate(t *testing.T) {
	for _, test := range []struct {
		image string // isolators, JSON
		flags Limits
		want  string // lines of the unit
		wrong string
	}{
		{`[]`, Limits{}, "", ""},
		{`[{"name":"resource/memory","value":{"limit":"1G"}},{"name":"resource/cpu","value":{"limit":"1500m"}}]`,
			Limits{},
			"CPUQuota=150.0% MemoryMax=1000000000", ""},
		{`[{"name":"resource/memory","value":{"limit":"1G"}}]`, Limits{Memory: "64Mi", CPU: "0.25"},
			"CPUQuota=25.0% MemoryMax=67108864", ""},
		{`[{"name":"resource/memory","value":{"request":"1G"}}]`, Limits{}, "", ""},
		{`[{"name":"os/linux/cpu-shares","value":512}]`, Limits{}, "CPUWeight=50", ""},
		{`[{"name":"os/linux/cpu-shares","value":512}]`, Limits{CPUShares: new(2)}, "CPUWeight=1", ""},
		{`[]`, Limits{CPUShares: new(262144)}, "CPUWeight=10000", ""},
		{`[{"name":"os/linux/oom-score-adj","value":-5}]`, Limits{}, "oom:-5", ""},
		{`[{"name":"os/linux/no-new-privileges","value":true}]`, Limits{OOMScore: new(0)}, "no-new-privileges oom:0",
			""},
		{`[{"name":"resource/block-bandwidth","value":{"default":true,"limit":"2M"}}]`, Limits{},
			"IOReadBandwidthMax=/rkt_2000000 IOWriteBandwidthMax=/rkt_2000000", ""},
		{`[{"name":"resource/block-iops","value":{"default":true,"limit":"100"}}]`, Limits{},
			"IOReadIOPSMax=/rkt_100 IOWriteIOPSMax=/rkt_100", ""},
		{`[{"name":"os/linux/seccomp-retain-set","value":{"set":["read","@systemd/io-event"],"errno":"ENOSYS"}}]`,
			Limits{},
			"only:@io-event,read ENOSYS", ""},
		{`[{"name":"os/linux/seccomp-retain-set","value":{"set":["read"]}}]`,
			Limits{Seccomp: "mode=remove,errno=EPERM,mkdir,mkdir"},
			"not:mkdir EPERM", ""},
		{`[{"name":"os/linux/seccomp-retain-set","value":{"set":["@appc.io/all"]}}]`, Limits{}, "", ""},
		{`[{"name":"os/linux/seccomp-remove-set","value":{"set":["@appc.io/empty"]}}]`, Limits{}, "", ""},
		{`[{"name":"os/linux/seccomp-remove-set","value":{"set":["a b"]}}]`, Limits{}, "", `"a b" is neither`},
		{`[{"name":"os/linux/seccomp-remove-set","value":{"set":["a\nUser=root"]}}]`, Limits{}, "", `is neither`},
		{`[]`, Limits{Seccomp: "mode=retain,@appc.io/empty"}, "", "without any system call"},
		{`[]`, Limits{Seccomp: "mode=remove,errno=no,read"}, "", "no error number's name"},
		{`[]`, Limits{Seccomp: "mode=remove,errno=ENOPE,read"}, "", `"ENOPE" ... error number's name`},
		{`[]`, Limits{Seccomp: "mode=remove,errno=ENOTSUP,mkdir,mkdri,@systemd/io-event"},
			"warned: app \"a\": --seccomp: the host's systemd knows no system call mkdri" +
				"not:@io-event,mkdir,mkdri ENOTSUP", ""},
		{`[]`, Limits{Seccomp: "mode=remove"}, "", "no system call"},
		{`[]`, Limits{Seccomp: "mood=remove,read"}, "", "is not one of"},
		{`[]`, Limits{Memory: "-1"}, "", "-1 is less ... 4096 bytes"},
		{`[]`, Limits{Memory: "64m"}, "", "--memory=64m: 64m is less ... " +
			"write 64M or 64Mi"},
		{`[]`, Limits{Memory: "64"}, "", "--memory=64: 64 is less ... page"},
		{`[]`, Limits{Memory: "4095"}, "", "--memory=4095: 4095 is less ... page"},
		{`[]`, Limits{Memory: "0"}, "", "--memory=0: 0 is less ... page"},
		{`[]`, Limits{Memory: "4096"}, "MemoryMax=4096", ""},
		{`[{"name":"resource/memory","value":{"limit":"64m"}}]`, Limits{}, "",
			"isolator resource/memory: 64m is less ... page"},
		{`[{"name":"resource/memory","value":{"limit":"64m"}}]`, Limits{Memory: "64M"}, "MemoryMax=64000000", ""},
		{`[{"name":"resource/cpu","value":{"limit":"0"}}]`, Limits{}, "",
			"isolator resource/cpu: 0 is less ... of a CPU"},
		{`[{"name":"resource/cpu","value":{"limit":"0"}}]`, Limits{CPU: "1m"}, "CPUQuota=0.1%", ""},
		{`[]`, Limits{CPU: "0.5m"}, "", "500u is less ... 500m"},
		{`[]`, Limits{CPU: "100000"},
			fmt.Sprintf("warned: app \"a\": --cpu=100000 limits nothing: there are %d CPUs (1 is one of them, 500m "+
				"half of one)CPUQuota=10000000.0%%", runtime.NumCPU()), ""},
		{`[{"name":"resource/block-bandwidth","value":{"default":true,"limit":"2m"}}]`, Limits{}, "",
			"isolator resource/block-bandwidth: 2m is less ... byte per second"},
		{`[{"name":"resource/block-iops","value":{"default":true,"limit":"2m"}}]`, Limits{}, "",
			"isolator resource/block-iops: 2m is less ... one per second"},
		{`[]`, Limits{Memory: "99999999999999999999"}, "", "99999999999999999999 ... can be counted"},
		{`[]`, Limits{CPU: "1e99"}, "", "1e99 ... can be counted"},
		{`[]`, Limits{Seccomp: "mode=remove,mode=retain,mkdir"}, "", "mode is said twice"},
		{`[]`, Limits{CPU: "x"}, "", "--cpu=x: not a quantity ... 500m"},
		{`[]`, Limits{Memory: "foo"}, "", "--memory=foo: not a quantity ... 500m"},
		{`[{"name":"resource/network-bandwidth","value":{"default":true,"limit":"1M"}}]`, Limits{},
			"warned: app \"a\": isolator resource/network-bandwidth: not honoured: a network with CNI's bandwidth " +
				"plugin limits a pod", ""},
	} {
		var isolators types.Isolators
		if err := json.Unmarshal([]byte(test.image), &isolators); err != nil {
			t.Fatalf("%s: %v", test.image, err)
		}
		out := stage1.App{Name: "a", Exec: []string{"/a"}, WorkingDir: "/"}
		warned := ""
		err := isolate(&out, App{Limits: test.flags}, isolators,
			Options{Warn: func(line string) { warned = "warned: " + line }})
		if test.wrong != "" {
			if !testkit.Says(err, test.wrong) {
				t.Errorf("%s %+v: got %v, want %q", test.image, test.flags, err, test.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %+v: %v", test.image, test.flags, err)
			continue
		}
		if got := warned + settings(t, out); got != test.want {
			t.Errorf("%s %+v:\ngot  %s\nwant %s", test.image, test.flags, got, test.want)
		}
	}
}

// settings are what an app's unit has more than one without isolators, and its configuration, with
// spaces between them.
func settings(t *testing.T, app stage1.App) string {
	t.Helper()
	unit := func(app stage1.App) string {
		files, err := host.Files("0ed5c2f6-2ec4-4c6b-8b31-0a1f6a7f3b11", stage1.Resources{}, []stage1.App{app})
		if err != nil {
			t.Fatal(err)
		}
		return string(files[host.UnitPath+"/a.service"])
	}
	plain := unit(stage1.App{Name: app.Name, Exec: app.Exec, WorkingDir: app.WorkingDir})
	var more []string
	for line := range strings.Lines(unit(app)) {
		if !strings.Contains(plain, line) {
			more = append(more, strings.ReplaceAll(strings.TrimSpace(line), " ", "_"))
		}
	}
	if calls := strings.Join(app.Seccomp.Names, ","); calls != "" {
		kind := map[bool]string{true: "only", false: "not"}[app.Seccomp.Retain]
		more = append(more, kind+":"+calls)
		if app.Seccomp.Errno != "" {
			more = append(more, app.Seccomp.Errno)
		}
	}
	config, err := app.Config()
	if err != nil {
		t.Fatal(err)
	}
	if config.Process.NoNewPrivileges {
		more = append(more, "no-new-privileges")
	}
	if score := config.Process.OOMScoreAdj; score != nil {
		more = append(more, fmt.Sprintf("oom:%d", *score))
	}
	return strings.Join(more, " ")
}

func FuzzSeccomp(f *testing.F) {
	f.Add("mode=retain,errno=EPERM,read,@systemd/io-event")
	f.Add("mode=remove,@docker/default-blacklist")
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := parseSeccomp(s)
		if err != nil {
			return
		}
		for _, word := range append(filter.Names, filter.Errno) {
			if strings.ContainsAny(word, " \n\r\t%\\\"'~$;#") {
				t.Fatalf("%q gives %q", s, word)
			}
		}
	})
}
