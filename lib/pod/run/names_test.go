package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// made is a pod with files under net/.
func made(t *testing.T, files map[string]string) *poddir.Pod {
	t.Helper()
	p, lock, err := poddir.In(t.TempDir()).Create(poddir.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	for name, text := range files {
		write(t, p.Path(poddir.NetDir+"/"+name), text)
	}
	return p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if target, ok := strings.CutPrefix(text, "-> "); ok {
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestNames(t *testing.T) {
	const stub = network.Localhost + "10.1.0.2 web\n"
	eth0 := map[string]string{"eth0/config": `{"name":"a"}`,
		"eth0/result": `{"cniVersion":"0.4.0","ips":[{"address":"10.1.0.2/24"}]}`}
	with := func(more ...string) map[string]string {
		files := map[string]string{}
		for name, text := range eth0 {
			files[name] = text
		}
		for i := 0; i < len(more); i += 2 {
			files[more[i]] = more[i+1]
		}
		return files
	}
	for _, test := range []struct {
		name          string
		net, image    map[string]string
		resolv, hosts string
		wrong         string
	}{
		{name: "nothing said", net: with(), hosts: stub},
		{name: "no network", hosts: network.Localhost + "127.0.1.1 web\n"},
		{name: "the host's where the image has none", net: with("host-resolv.conf", "H\n"), resolv: "H\n", hosts: stub},
		{name: "or an empty one", net: with("host-resolv.conf", "H\n"), image: map[string]string{"etc/resolv.conf": "",
			"etc/hosts": ""}, resolv: "H\n", hosts: stub},
		{name: "or a link to nowhere", net: with("host-resolv.conf", "H\n"),
			image:  map[string]string{"etc/resolv.conf": "-> ../run/stub", "etc/hosts": "-> /x"},
			resolv: "H\n", hosts: stub},
		{name: "the image's", net: with("host-resolv.conf", "H\n"), image: map[string]string{"etc/resolv.conf": "I\n",
			"etc/hosts": "J\n"}, resolv: "I\n", hosts: "J\n"},
		{name: "imposed", net: with("resolv.conf", "N\n", "hosts", "M\n"),
			image:  map[string]string{"etc/resolv.conf": "I\n", "etc/hosts": "J\n"},
			resolv: "N\n", hosts: "M\n10.1.0.2 web\n"},
		{name: "the name is there", net: with("hosts", "1.1.1.1 x web\n"), hosts: "1.1.1.1 x web\n"},
		{name: "the name is in a comment", net: with("hosts", "1.1.1.1 x # web\n"),
			hosts: "1.1.1.1 x # web\n10.1.0.2 web\n"},
		{name: "imposed, empty", net: with("resolv.conf", ""), image: map[string]string{"etc/resolv.conf": "I\n"},
			hosts: stub},
		{name: "a directory above is a link", net: with("resolv.conf", "N\n"),
			image: map[string]string{"etc": "-> /usr/etc", "usr/etc/x": ""}, resolv: "N\n", hosts: stub},
		{name: "no directory at all", net: with("resolv.conf", "N\n"), image: map[string]string{"usr/x": ""},
			resolv: "N\n", hosts: stub},
		{name: "a file in the directory's place", image: map[string]string{"etc": "x"}, hosts: "", resolv: ""},
		{name: "a directory in the file's place", net: with("resolv.conf", "N\n"),
			image: map[string]string{"etc/resolv.conf/x": ""}, wrong: "/etc/resolv.conf: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, err := readNames(made(t, test.net), "web")
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			for name, text := range test.image {
				write(t, filepath.Join(root, name), text)
			}
			err = n.give(root)
			if test.wrong != "" {
				if !testkit.Says(err, test.wrong) {
					t.Fatalf("got %v, want %s", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			etc := filepath.Join(root, "etc")
			if target, err := os.Readlink(etc); err == nil {
				etc = filepath.Join(root, target)
			}
			for name, want := range map[string]string{"resolv.conf": test.resolv, "hosts": test.hosts} {
				info, err := os.Lstat(filepath.Join(etc, name))
				if err != nil {
					if want != "" {
						t.Error(err)
					}
					continue
				}
				if text, err := os.ReadFile(filepath.Join(etc, name)); err != nil || string(text) != want ||
					!info.Mode().IsRegular() || info.Mode().Perm() != 0o644 {
					t.Errorf("%s: %q, %s, %v", name, text, info.Mode(), err)
				}
			}
			hostname, _ := os.ReadFile(filepath.Join(etc, "hostname"))
			mtab, _ := os.Readlink(filepath.Join(etc, "mtab"))
			if _, file := test.image["etc"]; string(hostname)+mtab != "web\n../proc/self/mounts" &&
				(!file || etc != filepath.Join(root, "etc")) {
				t.Errorf("hostname %q, mtab %q", hostname, mtab)
			}
			if left, _ := filepath.Glob(filepath.Join(etc, ".rkt*")); left != nil {
				t.Error(left)
			}
		})
	}
}

// TestNamesOfHostileImage: no link of an image leads a file out of it.
func TestNamesOfHostileImage(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "etc/resolv.conf"), "the host's\n")
	for _, image := range []map[string]string{
		{"etc/resolv.conf": "-> " + outside + "/etc/resolv.conf", "etc/hosts": "-> " + outside + "/etc/hosts"},
		{"etc": "-> " + outside + "/etc"},
		{"etc": "-> ../../../../../../../../.." + outside + "/etc"},
		{"etc/.rkt-resolv.conf": "-> " + outside + "/etc/resolv.conf"},
	} {
		n, err := readNames(made(t, map[string]string{"resolv.conf": "N\n", "hosts": "M\n"}), "web")
		if err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		for name, text := range image {
			write(t, filepath.Join(root, name), text)
		}
		err = n.give(root) // may fail
		if text, _ := os.ReadFile(filepath.Join(outside, "etc/resolv.conf")); string(text) != "the host's\n" {
			t.Fatalf("%v: wrote outside: %q", image, text)
		}
		if entries, _ := os.ReadDir(filepath.Join(outside, "etc")); len(entries) != 1 {
			t.Fatalf("%v: made %v outside", image, entries)
		}
		t.Log(err)
	}
}

func TestHostname(t *testing.T) {
	for name, want := range map[string]bool{"a": true, "web-1.example.org": true, strings.Repeat("a", 64): true,
		"": false, "-a": false, "a-": false, "a..b": false, ".a": false, "a b": false, "a\nb": false, "a_b": false,
		strings.Repeat("a", 65): false} {
		if validHostname(name) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}
