package prepare

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestVolumeFlags(t *testing.T) {
	for flag, want := range map[string]string{
		"a,kind=host,source=/x": `{"name":"a","kind":"host","source":"/x"}`,
		"a,source=/x/../y/,kind=host,readOnly=true,recursive=0": `{"name":"a","kind":"host","source":"/y",` +
			`"readOnly":true,"recursive":false}`,
		"a,kind=host,source=/a%20b+c=d": `{"name":"a","kind":"host","source":"/a%20b+c=d"}`,
		"a,kind=empty":                  `{"name":"a","kind":"empty"}`,
		"a,kind=empty,mode=1777,uid=5,gid=6,readOnly=false": `{"name":"a","kind":"empty","readOnly":false,` +
			`"mode":"1777","uid":5,"gid":6}`,
	} {
		var v Volumes
		if err := v.AddVolume(flag); err != nil || len(v.Volumes) != 1 {
			t.Errorf("%s: %v", flag, err)
			continue
		}
		type plain types.Volume // whose marshalling checks nothing
		if got, err := json.Marshal(plain(v.Volumes[0])); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", flag, got, err, want)
		}
	}
	for flag, want := range map[string]Bind{
		"/a:/b":           {Source: "/a", Target: "/b", ReadOnly: false},
		"/a,b/:/c/:ro":    {Source: "/a,b", Target: "/c", ReadOnly: true},
		"/a:/dev/x:rw":    {Source: "/a", Target: "/dev/x", ReadOnly: false},
		"/a:/b:slave":     {Source: "/a", Target: "/b", Slave: true},
		"/a:/b:ro,rslave": {Source: "/a", Target: "/b", ReadOnly: true, Slave: true},
	} {
		var v Volumes
		if err := v.AddVolume(flag); err != nil || !slices.Equal(v.Binds, []Bind{want}) {
			t.Errorf("%s: %+v, %v; want %+v", flag, v.Binds, err, want)
		}
	}
	var v Volumes
	if err := v.AddMount("target=/x//y,volume=a"); err != nil ||
		v.Mounts[0] != (schema.Mount{Volume: "a", Path: "/x/y"}) {
		t.Errorf("%+v, %v", v.Mounts, err)
	}
}

func TestVolumeFlagsRefuse(t *testing.T) {
	for flag, want := range map[string]string{
		"":                "and SOURCE:TARGET",
		"a":               "and SOURCE:TARGET",
		"/a":              "and SOURCE:TARGET",
		"/a:/b:rx":        `option "rx" ... ro, rw, private, slave`,
		"/a:/b:ro,shared": `option "shared" ... ro, rw, private, slave`,
		"data:/b:slave":   `volume "data": propagation ... directory of the host`,
		"v,kind=host,source=/,propagation=shared":                `propagation=shared ... private, slave`,
		"v,kind=empty,propagation=slave":                         "propagation is for kind=host",
		"v,kind=host,source=/,propagation=slave,recursive=false": "leave out one",
		"/a:/b:ro:x": "and SOURCE:TARGET",
		"./a:/b":     `source "./a": not absolute: ... from /`,
		"My_data:/b": `"My_data": ... nor the ` +
			`name of a volume`,
		"-a:/b":                               "letters, digits and dashes",
		":/b":                                 "has no source",
		"/a:":                                 "has no target",
		"/a:/":                                "is the app's root",
		"/a:/x/..":                            "is the app's root",
		"/a:../..":                            "is the app's root",
		"/a:proc":                             "the pod's own",
		"/a:/b/../../dev/pts":                 "the pod's own",
		"/a:/proc/x":                          "the pod's own",
		"/a:/dev":                             "the pod's own",
		"/a:/dev/pts/":                        "the pod's own",
		"/a\x00:/b":                           "NUL",
		"A_,kind=empty":                       `volume name "A_"`,
		"a,kind":                              "not KEY=VALUE",
		"a,kind=tmpfs":                        "one of host, empty",
		"a,source=/x":                         "one of host, empty",
		"a,kind=host":                         "has no source",
		"a,kind=host,source=x":                "not absolute",
		"a,kind=host,source=/x,source=/y":     "twice",
		"a,kind=host,source=/x,mode=0755":     "for kind=empty",
		"a,kind=host,source=/x,readOnly=oui":  "not a valid value",
		"a,kind=host,source=/x,readonly=true": `"readonly" is not one of`,
		"a,kind=empty,source=/x":              "for kind=host",
		"a,kind=empty,mode=888":               "not a valid value",
		"a,kind=empty,mode=17777":             "not a valid value",
		"a,kind=empty,uid=-1":                 "not a valid value",
		"a,kind=empty,gid=4294967295":         "not a valid value",
	} {
		var v Volumes
		if err := v.AddVolume(flag); !testkit.Says(err, want) {
			t.Errorf("%q: %+v, %v; want %q", flag, v, err, want)
		}
	}
	for flag, want := range map[string]string{
		"volume=a": "not volume=NAME,target=PATH", "target=/a": "not volume=NAME,target=PATH", "a": "not KEY=VALUE",
		"": "not KEY=VALUE", "volume=a,target=/": "root", "volume=a,target=": "has no target",
		"volume=/,target=/x": "volume name", "volume=a,path=/x": "not one of volume, target",
	} {
		var v Volumes
		if err := v.AddMount(flag); !testkit.Says(err, want) {
			t.Errorf("%q: %+v, %v; want %q", flag, v, err, want)
		}
	}
}

// What is accepted is absolute, and nothing that the pod has of its own.
func FuzzVolumeFlags(f *testing.F) {
	for _, s := range []string{"a,kind=host,source=/x,readOnly=true", "a,kind=empty,mode=0755,uid=0,gid=0", "/a:/b:ro",
		"volume=a,target=/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var v Volumes
		if v.AddVolume(s) == nil {
			for _, b := range v.Binds {
				v.Mounts = append(v.Mounts, schema.Mount{Path: b.Target})
			}
		}
		if (&v).AddMount(s) != nil && len(v.Binds) == 0 {
			return
		}
		for _, m := range v.Mounts {
			if !filepath.IsAbs(m.Path) || m.Path == "/" || filepath.Clean(m.Path) != m.Path ||
				strings.HasPrefix(m.Path, "/proc/") {
				t.Errorf("%q: target %q", s, m.Path)
			}
		}
	})
}

// A mount point is a directory of the app's own root, whatever links the image has, and what is in
// it is copied as it is.
func TestStorage(t *testing.T) {
	root := tree(t, map[string]string{"data/f": "", "data/l": "-> /etc/shadow", "out": "-> ../../../../../nowhere/x",
		"self": "-> /", "again": "-> data"})
	data := filepath.Join(root.Name(), "data")
	for _, err := range []error{os.Mkdir(data+"/sub", 0o700), unix.Mkfifo(data+"/fifo", 0o640),
		os.Link(data+"/f", data+"/sub/hard"),
		os.Chown(data+"/f", 5, 6), os.Chmod(data+"/f", 0o755|os.ModeSetuid), os.Chmod(data, 0o750),
		unix.Setxattr(data+"/f", "user.x", []byte("y"), 0)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	var warned []string
	o := Options{Warn: func(s string) { warned = append(warned, s) }, Apps: []App{{}}}
	s, err := newStorage(dir, t.TempDir(), &o)
	if err != nil {
		t.Fatal(err)
	}
	points := []types.MountPoint{{Name: "data", Path: "/data"}, {Name: "out", Path: "/out/in", ReadOnly: true}}
	if err := os.MkdirAll(filepath.Join(root.Name(), "nowhere/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	mounts, err := s.mounts("app", nil, nil, points)
	if err != nil || len(warned) != 2 {
		t.Fatalf("%v, %q", err, warned)
	}
	if err := s.add(root, "app", mounts, points); err != nil {
		t.Fatal(err)
	}
	want := "sharedVolumes/app-data stage1/rootfs/opt/stage2/app/rootfs/data none bind,nodev 0 0\n" +
		"sharedVolumes/app-out stage1/rootfs/opt/stage2/app/rootfs/out/in none bind,ro,nodev 0 0\n"
	if s.lines != want {
		t.Errorf("%s\nwant\n%s", s.lines, want)
	}
	copied := filepath.Join(dir, "sharedVolumes/app-data")
	var st, hard unix.Stat_t
	if err := unix.Stat(copied+"/f", &st); err != nil || st.Mode != unix.S_IFREG|0o4755 || st.Uid != 5 || st.Gid != 6 ||
		st.Nlink != 2 {
		t.Errorf("f: %+v, %v", st, err)
	}
	if err := unix.Stat(copied+"/sub/hard", &hard); err != nil || hard.Ino != st.Ino {
		t.Errorf("hard link: %+v, %v", hard, err)
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(copied+"/f", "user.x", value); err != nil || string(value[:n]) != "y" {
		t.Errorf("attribute: %q, %v", value, err)
	}
	if to, err := os.Readlink(copied + "/l"); to != "/etc/shadow" {
		t.Errorf("link: %q, %v", to, err)
	}
	if info, err := os.Lstat(copied + "/fifo"); err != nil || info.Mode() != os.ModeNamedPipe|0o640 {
		t.Errorf("fifo: %v, %v", info, err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o750 || *s.find("app-data").Mode != "0750" {
		t.Errorf("the directory: %v, %v", info, err)
	}
	host := &Volumes{Volumes: []types.Volume{{Name: "h", Kind: "host", Source: "/etc/hostname"},
		{Name: "d", Kind: "host", Source: "/"}}}
	for _, c := range []struct {
		mounts []schema.Mount
		want   string
	}{
		{[]schema.Mount{{Volume: "h", Path: "/data"}}, "is a directory, ... volume is a file"},
		{[]schema.Mount{{Volume: "d", Path: "/data/f"}}, "is a file, ... volume is a directory"},
		{[]schema.Mount{{Volume: "d", Path: "/self"}}, "is the app's root"},
		{[]schema.Mount{{Volume: "d", Path: "/again"}, {Volume: "d", Path: "/data"}},
			"two mounts ... /again and /data"},
	} {
		o := Options{Volumes: *host}
		s, err := newStorage(t.TempDir(), t.TempDir(), &o)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.add(root, "app", c.mounts, nil); !testkit.Says(err, c.want) {
			t.Errorf("%+v: %v, want %q", c.mounts, err, c.want)
		}
	}
}
