package prepare

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// An image is hostile: whatever its manifest says, its app has no more than the default, and one
// line names what it does not get and the flag that grants it. The table is that of
// docs/isolation.md.
func TestImageOnlyReduces(t *testing.T) {
	root := tree(t, map[string]string{"bin/app": ""})
	pair := []string{"CAP_KILL", "CAP_CHOWN"}
	plain, plainApp := resolved(t, root, nil, App{}, Options{})
	if plainApp.Isolators != nil {
		t.Errorf("an image that asks for nothing is recorded as %v", plainApp.Isolators)
	}
	const caps = "os/linux/capabilities-retain-set"
	for _, c := range []struct {
		name, isolators string
		app             App
		o               Options
		change          func(*stage1.App) // what differs from an app whose image asks for nothing
		warning         string            // after the app's name; "" is none
	}{
		{name: "more capabilities", isolators: `[{"name":"` + caps + `","value":{"set":["CAP_SYS_ADMIN","CAP_KILL",` +
			`"CAP_SYS_MODULE","CAP_CHOWN"]}}]`,
			change: func(a *stage1.App) { a.Capabilities = pair },
			warning: "isolator " + caps + ": ... CAP_SYS_ADMIN, CAP_SYS_MODULE; " +
				"... --caps-retain=CAP_SYS_ADMIN,CAP_KILL,CAP_SYS_MODULE,CAP_CHOWN after the image"},
		{name: "nothing but more", isolators: `[{"name":"` + caps + `","value":{"set":["CAP_SYS_PTRACE"]}}]`,
			change: func(a *stage1.App) { a.Capabilities = []string{} },
			warning: "isolator " + caps + ": ... CAP_SYS_PTRACE; ... " +
				"--caps-retain=CAP_SYS_PTRACE after the image"},
		{name: "fewer capabilities", isolators: `[{"name":"` + caps + `","value":{"set":["CAP_KILL","CAP_CHOWN"]}}]`,
			change: func(a *stage1.App) { a.Capabilities = pair }},
		{name: "two sets", isolators: `[{"name":"` + caps + `","value":{"set":["CAP_KILL","CAP_CHOWN"]}},
			{"name":"os/linux/capabilities-remove-set","value":{"set":["CAP_MKNOD"]}},
			{"name":"` + caps + `","value":{"set":["CAP_KILL","CAP_CHOWN","CAP_MKNOD","CAP_NET_RAW"]}}]`,
			change: func(a *stage1.App) { a.Capabilities = pair }},
		{name: "granted by a flag", isolators: `[{"name":"` + caps + `","value":{"set":["CAP_SYS_ADMIN"]}}]`,
			app:    App{CapsRetain: []string{"CAP_SYS_ADMIN"}},
			change: func(a *stage1.App) { a.Capabilities = []string{"CAP_SYS_ADMIN"} }},
		{name: "granted by a pod manifest",
			app: App{Section: &types.App{Exec: types.Exec{"/bin/app"}, User: "0", Group: "0",
				Isolators: parsed(t, `[{"name":"`+caps+`","value":{"set":["CAP_SYS_ADMIN"]}},`+
					`{"name":"os/linux/oom-score-adj","value":-5}]`)}},
			change: func(a *stage1.App) { a.Capabilities, a.OOMScoreAdj = []string{"CAP_SYS_ADMIN"}, new(-5) }},
		{name: "granted by an insecure option", isolators: `[{"name":"` + caps +
			`","value":{"set":["CAP_SYS_ADMIN"]}}]`,
			o: Options{AllCaps: true}, change: func(a *stage1.App) { a.Capabilities = stage1.AllCapabilities }},
		{name: "the last to die when memory is short", isolators: `[{"name":"os/linux/oom-score-adj","value":-1000}]`,
			warning: "isolator os/linux/oom-score-adj: ... cannot grant itself less ... 0; ... " +
				"--oom-score-adj=-1000 after the image"},
		{name: "later than its unit says", isolators: `[{"name":"os/linux/oom-score-adj","value":100}]`,
			o: Options{OOMScore: 500},
			warning: "isolator os/linux/oom-score-adj: ... cannot grant itself less ... 500; ... " +
				"--oom-score-adj=100 after the image"},
		{name: "no better than the process that prepares it",
			isolators: `[{"name":"os/linux/oom-score-adj","value":-900}]`, o: Options{OOMScore: -1000},
			warning: "isolator os/linux/oom-score-adj: ... cannot grant itself less ... 0; ... " +
				"--oom-score-adj=-900 after the image"},
		{name: "the first to die", isolators: `[{"name":"os/linux/oom-score-adj","value":100}]`,
			change: func(a *stage1.App) { a.OOMScoreAdj = new(100) }},
		{name: "OOM score by a flag", isolators: `[{"name":"os/linux/oom-score-adj","value":-1000}]`,
			app:    App{Limits: Limits{OOMScore: new(-7)}},
			change: func(a *stage1.App) { a.OOMScoreAdj = new(-7) }},
		{name: "all of the CPU", isolators: `[{"name":"os/linux/cpu-shares","value":262144}]`,
			warning: "isolator os/linux/cpu-shares: ... cannot grant itself more ... 1024; ... " +
				"--cpu-shares=262144 after the image"},
		{name: "less of the CPU", isolators: `[{"name":"os/linux/cpu-shares","value":512}]`,
			change: func(a *stage1.App) { a.CPUWeight = 50 }},
		{name: "CPU by a flag", isolators: `[{"name":"os/linux/cpu-shares","value":262144}]`,
			app:    App{Limits: Limits{CPUShares: new(2048)}},
			change: func(a *stage1.App) { a.CPUWeight = 200 }},
		{name: "an SELinux context", isolators: `[{"name":"os/linux/selinux-context","value":{"user":"u","role":"r",` +
			`"type":"spc_t","level":"s0"}}]`,
			warning: "isolator os/linux/selinux-context: an image cannot choose ... " +
				"(--pod-manifest)"},
		{name: "an AppArmor profile",
			isolators: `[{"name":"os/linux/apparmor-profile","value":{"profile":"unconfined"}}]`,
			warning: "isolator os/linux/apparmor-profile: an image cannot choose ... " +
				"(--pod-manifest)"},
		{name: "all system calls",
			isolators: `[{"name":"os/linux/seccomp-retain-set","value":{"set":["@appc.io/all"]}}]`},
		{name: "new privileges", isolators: `[{"name":"os/linux/no-new-privileges","value":false}]`},
		{name: "limits", isolators: `[{"name":"resource/memory","value":{"limit":"1G"}},{"name":"resource/cpu",` +
			`"value":{"limit":"1"}}]`,
			change: func(a *stage1.App) { a.MemoryMax, a.CPUMilli = 1000000000, 1000 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var warned []string
			c.o.Warn = func(line string) { warned = append(warned, line) }
			out, effective := resolved(t, root, parsed(t, c.isolators), c.app, c.o)
			want := plain
			if c.change != nil {
				c.change(&want)
			}
			got, wanted := text(t, out), text(t, want)
			if got != wanted {
				t.Errorf("got  %s\nwant %s", got, wanted)
			}
			var lines []string
			if c.warning != "" {
				lines = []string{`app "a": ` + c.warning}
			}
			if len(warned) != len(lines) || len(lines) == 1 && !testkit.Has(warned[0], lines[0]) {
				t.Errorf("warned %q, want %q", warned, lines)
			}
			// A pod of the manifest of this one, which counts as root's own, has no more than this
			// one.
			if c.app.Section != nil || c.o.AllCaps {
				return
			}
			effective.Exec, effective.User, effective.Group = types.Exec{"/bin/app"}, "0", "0"
			again, _ := resolved(t, root, nil, App{Section: effective}, Options{})
			if !slices.Equal(again.Capabilities, out.Capabilities) {
				t.Errorf("again, of its manifest: %v, want %v", again.Capabilities, out.Capabilities)
			}
			if again.OOMScoreAdj != nil && *again.OOMScoreAdj < 0 || again.SELinuxContext != "" ||
				again.AppArmorProfile != "" {
				t.Errorf("again, of its manifest: %s", text(t, again))
			}
			if c.warning == "" {
				return
			}
			c.o.Strict = true
			if _, _, err := resolve(root, "a", c.app, imageWith(parsed(t, c.isolators)), c.o); !testkit.Says(err,
				c.warning) {
				t.Errorf("--strict-isolators: %v; want %s", err, c.warning)
			}
		})
	}
}

// Annotations of an image that mean something in a pod manifest mean nothing in the image.
func TestImageAnnotations(t *testing.T) {
	root := tree(t, map[string]string{"bin/app": ""})
	img := imageWith(nil)
	for _, name := range StreamNames {
		img.Annotations.Set(types.ACIdentifier(stage1.StreamAnnotation+name), "tty")
	}
	out, _, err := resolve(root, "a", App{}, img, Options{})
	if err != nil || out.Attachable() {
		t.Errorf("%+v, %v", out, err)
	}
	// Docker's labels neither.
	ref, err := image.ParseReference("docker://x")
	if err != nil {
		t.Fatal(err)
	}
	docker, err := image.FromOCI([]byte(`{"config":{"Entrypoint":["/bin/app"],"Labels":{
		"coreos.com/rkt/stage2/stdin":"tty","appc.io/docker/entrypoint":"x",
		"os/linux/capabilities-retain-set":"{\"set\":[\"CAP_SYS_ADMIN\"]}"}}}`), ref)
	if err != nil {
		t.Fatal(err)
	}
	out, _, err = resolve(root, "a", App{}, docker, Options{})
	if err != nil || out.Attachable() || !slices.Equal(out.Capabilities, stage1.DefaultCapabilities) {
		t.Errorf("%+v, %v", out, err)
	}
}

// An app that the command line makes another user has none of its image's groups.
func TestImageAddsNoGroups(t *testing.T) {
	root := tree(t, map[string]string{"bin/app": ""})
	img := imageWith(nil)
	img.App.SupplementaryGIDs = []int{0, 4}
	for _, c := range []struct {
		app    App
		want   []uint32
		warned int
	}{
		{App{}, []uint32{0, 4}, 0},
		{App{User: "1000"}, nil, 1},
		{App{Group: "1000"}, nil, 1},
		{App{User: "1000", SupplementaryGIDs: []uint32{4}}, []uint32{4}, 0},
	} {
		warned := 0
		out, effective, err := resolve(root, "a", c.app, img, Options{Warn: func(string) { warned++ }})
		if err != nil || !slices.Equal(out.SupplementaryGIDs, c.want) || warned != c.warned {
			t.Errorf("%+v: %v, %d warnings, %v; want %v", c.app, out.SupplementaryGIDs, warned, err, c.want)
		}
		if err == nil && len(effective.SupplementaryGIDs) != len(c.want) {
			t.Errorf("%+v: recorded as %v", c.app, effective.SupplementaryGIDs)
		}
	}
}

func imageWith(isolators types.Isolators) *schema.ImageManifest {
	img := schema.BlankImageManifest()
	img.App = &types.App{Exec: types.Exec{"/bin/app"}, User: "0", Group: "0", Isolators: isolators}
	return img
}

func resolved(t *testing.T, root *os.File, isolators types.Isolators, a App, o Options) (stage1.App, *types.App) {
	t.Helper()
	if o.Warn == nil {
		o.Warn = func(line string) { t.Errorf("warned: %s", line) }
	}
	out, effective, err := resolve(root, "a", a, imageWith(isolators), o)
	if err != nil {
		t.Fatal(err)
	}
	return out, effective
}

func parsed(t *testing.T, text string) (isolators types.Isolators) {
	t.Helper()
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &isolators); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return isolators
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The pod's own filter is loosened by root only.
func TestImageLoosensNoFilter(t *testing.T) {
	root := tree(t, map[string]string{"bin/app": ""})
	isolators := parsed(t, `[{"name":"os/linux/capabilities-retain-set","value":{"set":["CAP_SYS_ADMIN"]}},
		{"name":"os/linux/seccomp-retain-set","value":{"set":["@appc.io/all","io_uring_setup","userfaultfd"]}}]`)
	o := Options{Apps: []App{{}}, Warn: func(string) {}}
	out, _ := resolved(t, root, isolators, o.Apps[0], o)
	if got := policy([]stage1.App{out}, o); got.All || got.UserNamespaces || got.Calls != nil {
		t.Errorf("%+v", got)
	}
	o.Apps[0].CapsRetain = []string{"CAP_SYS_ADMIN"}
	out, _ = resolved(t, root, isolators, o.Apps[0], o)
	if got := policy([]stage1.App{out}, o); !got.UserNamespaces {
		t.Errorf("granted by a flag: %+v", got)
	}
}
