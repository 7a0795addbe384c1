package prepare

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// tree makes a root with the given files.
func tree(t *testing.T, files map[string]string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

const passwd = "root:x:0:0:root:/root:/bin/bash\nredis:x:999:998::/data:\nbroken\nbad:x:many:1::/:/bin/sh\n"

func TestLookUp(t *testing.T) {
	root := tree(t, map[string]string{"etc/passwd": passwd, "owned": "", "link": "-> /owned",
		"out": "-> ../../../../../../etc/hostname",
		"etc/group": "root:x:0:root\nstaff:x:50:redis\naudio:x:29:root,redis,1234\nbroken:x\nbad:x:many:redis\n" +
			"again:x:50:redis\nlast:x:65535:redis\nredisx:x:7:redisx\n"})
	if err := root.Chown(0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(root.Name(), "owned"), 7, 8); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, group string
		want        identity
	}{
		{"0", "0", identity{0, 0, "root", "/root", "/bin/bash", nil}},
		{"root", "", identity{0, 0, "root", "/root", "/bin/bash", []uint32{0, 29}}},
		{"0", "", identity{0, 0, "root", "/root", "/bin/bash", []uint32{0, 29}}},
		{"redis", "", identity{999, 998, "redis", "/data", "/bin/sh", []uint32{50, 29}}},
		{"redis", "staff", identity{999, 50, "redis", "/data", "/bin/sh", nil}},
		{"redis", "29", identity{999, 29, "redis", "/data", "/bin/sh", nil}},
		{"999", "", identity{999, 998, "redis", "/data", "/bin/sh", []uint32{50, 29}}},
		{"999", "staff", identity{999, 50, "redis", "/data", "/bin/sh", nil}},
		{"1234", "77", identity{1234, 77, "1234", "/", "/bin/sh", nil}},
		{"1234", "", identity{1234, 0, "1234", "/", "/bin/sh", nil}}, // its name is not known
		{"/owned", "/link", identity{7, 8, "7", "/", "/bin/sh", nil}},
	} {
		if got, err := lookUp(root, c.user, c.group); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:%q = %+v, %v; want %+v", c.user, c.group, got, err, c.want)
		}
	}
	for _, c := range []struct{ user, group, want string }{
		{"nobody", "0", `user "nobody": not in the image`},
		{"0", "wheel", `group "wheel": not in the image`},
		{"bad", "0", `the ID "many"`},
		{"-1", "0", "not in the image"},
		{"4294967295", "0", "not in the image"},
		{"65535", "0", "not in the image"},
		{"0", "65535", "not in the image"},
		{"/absent", "0", "no such file"},
		{"/out", "0", "no such file"}, // a link out of the root ends in the root
	} {
		if got, err := lookUp(root, c.user, c.group); !testkit.Says(err, c.want) {
			t.Errorf("%q:%q = %+v, %v; want %q", c.user, c.group, got, err, c.want)
		}
	}
}

// TestRootWithoutAccounts has root be 0 in an image that has neither of the files, or not root in
// them.
func TestRootWithoutAccounts(t *testing.T) {
	for _, files := range []map[string]string{{"app": ""}, {"etc/passwd": "redis:x:999:998::/data:\n",
		"etc/group": "staff:x:50:root\n"}} {
		root := tree(t, files)
		for _, c := range [][2]string{{"root", ""}, {"root", "root"}, {"0", "root"}, {"root", "0"}} {
			got, err := lookUp(root, c[0], c[1])
			if want := (identity{name: "root", home: "/", shell: "/bin/sh"}); err != nil ||
				!reflect.DeepEqual(got, want) {
				t.Errorf("%q: %+v, %v", c, got, err)
			}
		}
	}
	root := tree(t, map[string]string{"etc/passwd": "root:x:0:0::/root:\n", "etc/group": hugeGroups()})
	if _, err := lookUp(root, "root", ""); !testkit.Says(err, `user "root": in 65537 groups, more than 65536`) {
		t.Errorf("too many groups: %v", err)
	}
}

// hugeGroups is a group file in which root is in more groups than a process can be.
func hugeGroups() string {
	var b strings.Builder
	for i := range maxGroups + 2 {
		if i != 65535 { // which is no ID
			fmt.Fprintf(&b, ":x:%d:root\n", i)
		}
	}
	return b.String()
}

// TestGroups has which supplementary groups an app gets, as Docker and Podman give them.
func TestGroups(t *testing.T) {
	root := tree(t, map[string]string{"etc/passwd": passwd,
		"etc/group": "root:x:0:root\nwheel:x:10:root\nredis:x:998:\nstaff:x:50:redis\n", "bin/app": ""})
	for _, c := range []struct {
		image string // USER
		app   App
		want  string
	}{
		{"", App{}, "0:0 [0 10]"},
		{"root", App{}, "0:0 [0 10]"},
		{"0", App{}, "0:0 [0 10]"},
		{"redis", App{}, "999:998 [50]"},
		{"999", App{}, "999:998 [50]"},
		{"redis:redis", App{}, "999:998 []"},
		{"999:redis", App{}, "999:998 []"},
		{"redis:998", App{}, "999:998 []"},
		{"1000", App{}, "1000:0 []"},
		{"1000:staff", App{}, "1000:50 []"},
		{":staff", App{}, "0:50 []"},
		{"", App{User: "redis"}, "999:998 [50]"},
		{"redis:redis", App{User: "root"}, "0:998 []"},
		{"redis", App{User: "0"}, "0:0 [0 10]"},
		{"redis", App{Group: "staff"}, "999:50 []"},
		{"redis", App{User: "redis:staff"}, "999:50 []"},
		{"redis", App{SupplementaryGIDs: []uint32{7}}, "999:998 [7]"},
		{"redis", App{SupplementaryGIDs: []uint32{}}, "999:998 []"},
	} {
		ref, err := image.ParseReference("docker://x")
		if err != nil {
			t.Fatal(err)
		}
		img, err := image.FromOCI([]byte(`{"config":{"Cmd":["/bin/app"],"User":"`+c.image+`"}}`), ref)
		if err != nil {
			t.Fatal(err)
		}
		out, effective, err := resolve(root, "a", c.app, img, Options{})
		if err != nil {
			t.Errorf("%q %+v: %v", c.image, c.app, err)
			continue
		}
		got := fmt.Sprintf("%d:%d %v", out.UID, out.GID, out.SupplementaryGIDs)
		recorded := fmt.Sprintf("%s:%s %v", effective.User, effective.Group, effective.SupplementaryGIDs)
		if got != c.want || recorded != c.want {
			t.Errorf("USER %q, %+v: %s, recorded as %s; want %s", c.image, c.app, got, recorded, c.want)
		}
	}
}

// --user may name the group as well, which --group must then agree with.
func TestUserAndGroup(t *testing.T) {
	root := tree(t, map[string]string{"etc/passwd": passwd, "etc/group": "redis:x:998:\nstaff:x:50:\n", "bin/app": "",
		"a:b": ""})
	for _, c := range []struct{ user, group, want string }{
		{"1000:1000", "", "1000:1000"},
		{"redis:redis", "", "999:998"},
		{"redis:50", "", "999:50"},
		{"1234:staff", "", "1234:50"},
		{"redis", "staff", "999:50"},
		{"redis:redis", "redis", "999:998"},
		{"redis:998", "redis", "999:998"},
		{"/a:b", "", "0:0"},
		{"1000:1000", "staff", "--user=1000:1000 and --group=staff: name one group"},
		{"1000:nosuch", "", `group "nosuch": not in the image`},
		{"1000:nosuch", "50", "--user=1000:nosuch and --group=50: name one group"},
		{"1000:", "", "--user=1000:: neither USER nor USER:GROUP"},
		{":1000", "", "--user=:1000: neither USER nor USER:GROUP"},
		{"1:2:3", "", "--user=1:2:3: neither USER nor USER:GROUP"},
	} {
		out, effective, err := resolve(root, "a", App{User: c.user, Group: c.group}, imageWith(nil), Options{})
		got := fmt.Sprintf("%d:%d", out.UID, out.GID)
		if err != nil {
			got = ""
		} else if recorded := effective.User + ":" + effective.Group; recorded != got {
			t.Errorf("%s recorded as %s", got, recorded)
		}
		if !testkit.Gives(got, err, c.want) {
			t.Errorf("--user=%s --group=%s: %s, %v, want %s", c.user, c.group, got, err, c.want)
		}
	}
}

func TestLookUpReadsNoDevice(t *testing.T) {
	root := tree(t, map[string]string{"etc/passwd": "-> /dev/zero", "dev/zero": ""})
	if _, err := lookUp(root, "redis", ""); err == nil {
		t.Error("an image without the user: no error")
	}
	root = tree(t, map[string]string{"etc/x": ""})
	if err := os.Mkdir(filepath.Join(root.Name(), "etc/passwd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := lookUp(root, "redis", ""); !testkit.Says(err, "not a regular file") {
		t.Errorf("passwd is a directory: %v", err)
	}
}

func TestProgram(t *testing.T) {
	root := tree(t, map[string]string{"usr/bin/redis": "", "bin": "-> usr/bin", "srv/run": "", "etc/hosts": ""})
	if err := os.Chmod(filepath.Join(root.Name(), "etc/hosts"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []stage1.Variable{{Name: "PATH", Value: "/absent:/bin:/usr/bin"}}
	for _, c := range []struct{ name, dir, want string }{
		{"redis", "/", "/bin/redis"},
		{"/usr/bin/redis", "/", "/usr/bin/redis"},
		{"./run", "/srv", "/srv/run"},
		{"../srv/run", "/srv", "/srv/run"},
	} {
		got, err := findProgram(root, []string{c.name, "a"}, c.dir, env)
		if err != nil || !slices.Equal(got, []string{c.want, "a"}) {
			t.Errorf("%s in %s: %q, %v; want %s", c.name, c.dir, got, err, c.want)
		}
	}
	for name, want := range map[string]string{"nope": "no such file", "/etc/hosts": "permission denied",
		"/usr/bin": "not a file", "": "not a file"} {
		if got, err := findProgram(root, []string{name}, "/", env); !testkit.Says(err, want) {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestCommand(t *testing.T) {
	docker := func(entrypoint, cmd []string) *schema.ImageManifest {
		config, err := json.Marshal(map[string]any{"config": map[string]any{"Entrypoint": entrypoint, "Cmd": cmd}})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := image.ParseReference("docker://x")
		if err != nil {
			t.Fatal(err)
		}
		m, err := image.FromOCI(config, ref)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	aci := &schema.ImageManifest{App: &types.App{Exec: types.Exec{"/etcd", "-v"}}}
	for _, c := range []struct {
		img  *schema.ImageManifest
		app  App
		want string
	}{
		{docker([]string{"e"}, []string{"c"}), App{}, "e c"},
		{docker([]string{"e"}, []string{"c"}), App{Args: []string{"x", "y"}}, "e x y"},
		{docker([]string{"e"}, []string{"c"}), App{Args: []string{}}, "e"},
		{docker([]string{"e"}, []string{"c"}), App{Exec: "z"}, "z"},
		{docker([]string{"e"}, []string{"c"}), App{Exec: "z", Args: []string{"x"}}, "z x"},
		{docker(nil, []string{"c", "d"}), App{}, "c d"},
		{docker(nil, []string{"c", "d"}), App{Args: []string{"x"}}, "x"},
		{docker([]string{"e"}, nil), App{Args: []string{"x"}}, "e x"},
		{aci, App{}, "/etcd -v"},
		{aci, App{Args: []string{"x"}}, "/etcd -v x"},
		{aci, App{Exec: "/sh", Args: []string{"-c", ""}}, "/sh -c "},
	} {
		got, err := command(c.app, c.img.App.Exec, c.img)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%v, exec %q, args %q: %q, %v; want %q", c.img.App.Exec, c.app.Exec, c.app.Args, got, err, c.want)
		}
	}
	if got, err := command(App{}, nil, docker(nil, nil)); err == nil {
		t.Errorf("an image without a command: %q", got)
	}
}

func TestEnvironment(t *testing.T) {
	id := identity{name: "redis", home: "/data", shell: "/bin/sh"}
	o := Options{
		Inherit: []stage1.Variable{{Name: "A", Value: "caller"}, {Name: "HOME", Value: "/root"},
			{Name: "BASH_FUNC_x%%", Value: "()"}},
		Environment: []stage1.Variable{{Name: "C", Value: "set-env"}, {Name: "D", Value: "set-env"}},
	}
	a := App{Environment: []stage1.Variable{{Name: "D", Value: "app"}}}
	img := types.Environment{{Name: "B", Value: "image"}, {Name: "C", Value: "image"}, {Name: "PATH", Value: "/opt"}}
	got := map[string]string{}
	env, err := environment("n", id, o, a, img, []string{"F.G=odd=", "D=odd", "novalue"})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range env {
		if _, twice := got[v.Name]; twice {
			t.Errorf("%s twice", v.Name)
		}
		got[v.Name] = v.Value
	}
	want := map[string]string{"A": "caller", "B": "image", "C": "set-env", "D": "app", "F.G": "odd=", "novalue": "",
		"PATH": "/opt", "HOME": "/data", "USER": "redis", "LOGNAME": "redis", "SHELL": "/bin/sh", "AC_APP_NAME": "n",
		"container": "rkt"}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s=%q, want %q", name, got[name], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d variables, want %d: %v", len(got), len(want), got)
	}
	for _, odd := range []string{"=x", "", "A\xff=x", "A=\xff", "A=\x00"} {
		if env, err := environment("n", id, o, a, img, []string{odd}); err == nil {
			t.Errorf("%q: %q, want an error", odd, env)
		}
	}
}

// What the kernel takes is measured with it.
func TestCheckSize(t *testing.T) {
	fits := func(app stage1.App) bool { return checkSize(app) == nil }
	run := func(app stage1.App) error {
		cmd := exec.Command("/bin/true", app.Exec...)
		cmd.Env = []string{}
		for _, v := range app.Environment {
			cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
		}
		return cmd.Run()
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	many := func(n, size int) (list []string) {
		for range n {
			list = append(list, long(size))
		}
		return list
	}
	for name, c := range map[string]struct {
		app  stage1.App
		fits bool
	}{
		"longest argument":  {stage1.App{Exec: []string{long(maxString)}}, true},
		"argument too long": {stage1.App{Exec: []string{long(maxString + 1)}}, false},
		"longest variable": {stage1.App{Environment: []stage1.Variable{{Name: "A", Value: long(maxString - 2)}}},
			true},
		"variable too long": {stage1.App{Environment: []stage1.Variable{{Name: "A", Value: long(maxString - 1)}}},
			false},
		"many short arguments": {stage1.App{Exec: many(maxStrings/10, 1)}, true},
		"too many":             {stage1.App{Exec: many(2<<20/10, 1)}, false},
		"as much as there is":  {stage1.App{Exec: many(16, maxStrings/16-9)}, true},
	} {
		if fits(c.app) != c.fits {
			t.Errorf("%s: fits %v, want %v", name, fits(c.app), c.fits)
		}
		if err := run(c.app); (err == nil) != c.fits {
			t.Errorf("%s: the kernel says %v", name, err)
		}
	}
}

func TestCapabilities(t *testing.T) {
	retain, err := types.NewLinuxCapabilitiesRetainSet("CAP_KILL")
	if err != nil {
		t.Fatal(err)
	}
	isolator, err := retain.AsIsolator()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		app       App
		isolators types.Isolators
		all       bool
		want      int
		has       string
	}{
		{App{}, nil, false, 14, "CAP_CHOWN"},
		{App{}, types.Isolators{*isolator}, false, 1, "CAP_KILL"},
		{App{CapsRetain: []string{"CAP_NET_ADMIN"}}, types.Isolators{*isolator}, false, 1, "CAP_NET_ADMIN"},
		{App{CapsRemove: []string{"CAP_KILL", "CAP_CHOWN"}}, nil, false, 12, "CAP_MKNOD"},
		{App{}, nil, true, len(stage1.AllCapabilities), "CAP_SYS_ADMIN"},
		{App{CapsRetain: []string{}}, nil, false, 0, ""},
		{App{CapsRetain: []string{}}, types.Isolators{*isolator}, false, 0, ""},
		{App{CapsRemove: []string{}}, nil, false, 14, "CAP_CHOWN"},
		{App{CapsRemove: []string{"all"}}, nil, false, 0, ""},
		{App{CapsRetain: []string{"ALL"}}, nil, false, len(stage1.AllCapabilities), "CAP_SYS_ADMIN"},
		{App{CapsRetain: []string{"net_admin", "CAP_NET_ADMIN", "Kill"}}, nil, false, 2, "CAP_NET_ADMIN"},
		{App{CapsRemove: []string{"chown"}}, nil, false, 13, "CAP_KILL"},
	} {
		got, err := capabilities(c.app, c.isolators, c.all)
		if err != nil || len(got) != c.want || c.has != "" && !slices.Contains(got, c.has) {
			t.Errorf("%+v: %v, %v; want %d with %s", c, got, err, c.want, c.has)
		}
	}
	for _, a := range []App{{CapsRetain: []string{"CAP_NONE"}}, {CapsRetain: []string{}, CapsRemove: []string{}},
		{CapsRemove: []string{"CAP_MKNDO"}}, {CapsRemove: []string{""}}, {CapsRetain: []string{"CAP_KILL\nUser=0"}}} {
		if got, err := capabilities(a, nil, false); err == nil {
			t.Errorf("%+v: %v, want an error", a, got)
		}
	}
}

func TestSignalName(t *testing.T) {
	for s, want := range map[string]string{"SIGTERM": "SIGTERM", "quit": "SIGQUIT", "9": "9",
		"SIGRTMIN+3": "SIGRTMIN+3", "37": "37"} {
		if got, err := signalName(s); err != nil || got != want {
			t.Errorf("%q = %q, %v; want %q", s, got, err, want)
		}
	}
	for _, s := range []string{"", "SIG", "0", "65", "SIGFOO", "TERM\nUser=0", "SIGRTMIN+99"} {
		if got, err := signalName(s); err == nil {
			t.Errorf("%q = %q, want an error", s, got)
		}
	}
}

// An app's streams are what the pod's annotations of the app say.
func TestStreams(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"stdin", "stream", ""}, {"stdin", "tty", ""}, {"stdin", "null", ""}, {"stdout", "log", ""},
		{"stderr", "tty", ""},
		{"stdin", "log", `annotation coreos.com/rkt/stage2/stdin: "log": ... null, tty, stream`},
		{"stdout", "", `annotation coreos.com/rkt/stage2/stdout: "": ... log, null, tty, stream`},
		{"stderr", "tty\nExecStart=/evil",
			`annotation coreos.com/rkt/stage2/stderr: "tty\nExecStart=/evil": ... log, null`},
	} {
		var out stage1.App
		err := streams(&out, types.Annotations{{Name: types.ACIdentifier(stage1.StreamAnnotation + c.name),
			Value: c.value}})
		if !testkit.Says(err, c.want) {
			t.Errorf("%s=%q: %v", c.name, c.value, err)
		}
		got := map[string]stage1.Stream{"stdin": out.Stdin, "stdout": out.Stdout, "stderr": out.Stderr}
		if err == nil && string(got[c.name]) != c.value || err != nil && out.Attachable() {
			t.Errorf("%s=%q: %+v", c.name, c.value, got)
		}
	}
}
