package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

const image = `"image":{"id":"sha512-aa","name":"example.com/a","labels":[{"name":"version","value":"1"}]}`

func make1(t testing.TB, pods poddir.Pods, manifest string) *poddir.Pod {
	t.Helper()
	p, lock, err := pods.Create(poddir.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := os.WriteFile(p.Path(poddir.ManifestFile), []byte(manifest), 0o640); err != nil {
		t.Fatal(err)
	}
	return p
}

// A pod with a hostile manifest is an error of that pod, and the others are listed.
func TestHostileManifests(t *testing.T) {
	for name, manifest := range map[string]string{
		"giant":           `{"acKind":"PodManifest","x":"` + strings.Repeat("x", poddir.MaxFile) + `"}`,
		"deep":            strings.Repeat(`{"apps":[`, 1<<17),
		"deep in a label": `{"acKind":"PodManifest","userLabels":` + strings.Repeat("[", 1<<20) + `}`,
		"empty":           "",
		"not JSON":        "\x00\x01",
		"another kind":    `{"acKind":"ImageManifest"}`,
		"apps is no list": `{"acKind":"PodManifest","apps":{}}`,
		"a path as name":  `{"acKind":"PodManifest","apps":[{"name":"../../../pod",` + image + `}]}`,
		"an empty name":   `{"acKind":"PodManifest","apps":[{"name":"",` + image + `}]}`,
		"an escape":       `{"acKind":"PodManifest","apps":[{"name":"\u001b[2J",` + image + `}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			pods := poddir.In(t.TempDir())
			bad := make1(t, pods, manifest)
			good := make1(t, pods, `{"acKind":"PodManifest","apps":[{"name":"a",`+image+`}]}`)
			all, err := All(pods, Want{Names: true, Ends: true})
			if !testkit.Says(err, bad.UUID) || len(err.Error()) > 1000 {
				t.Errorf("error %.1000v", err)
			}
			if len(all) != 2 || all[0].UUID != bad.UUID && all[1].UUID != bad.UUID {
				t.Errorf("pods %v", all)
			}
			if s, err := Read(good, nil); err != nil || len(s.Apps) != 1 || s.Apps[0].ImageName != "example.com/a:1" ||
				s.State != "prepared" {
				t.Errorf("the other: %+v, %v", s, err)
			}
		})
	}
}

// What rkt 1.30 told of an app, in its JSON.
func TestJSON(t *testing.T) {
	pods := poddir.In(t.TempDir())
	p := make1(t, pods,
		`{"acKind":"PodManifest","volumes":[{"name":"data","kind":"host","source":"/srv","readOnly":true},
		{"name":"e","kind":"empty"}],"apps":[{"name":"a",`+image+`,"mounts":[
		{"volume":"data","path":"/data"},{"volume":"e","path":"/e"},
		{"volume":"own","path":"/own","appVolume":{"name":"own","kind":"host","source":"/opt"}}]}]}`)
	status := p.Path(poddir.StatusDir + "/a")
	for name, text := range map[string]string{p.Path(poddir.StartedFile): "", status: "3\n"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text),
			0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{p.Path(poddir.ManifestFile), p.Path(poddir.StartedFile), status} {
		at := time.Unix(int64(1000+i), 5)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Read(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	want := `{"name":"` + p.UUID + `","state":"exited","flavor":"host","app_names":["a"],` +
		`"apps":[{"name":"a","state":"exited",` +
		`"created_at":1000000000005,"started_at":1001000000005,"finished_at":1002000000005,"exit_code":3,` +
		`"image_id":"sha512-aa","image_name":"example.com/a:1","mounts":[{"name":"data","container_path":"/data",` +
		`"host_path":"/srv","read_only":true},{"name":"e","container_path":"/e","host_path":"","read_only":false},` +
		`{"name":"own","container_path":"/own","host_path":"/opt","read_only":false}]}],"created_at":1000000000005,` +
		`"started_at":1001000000005}`
	if err != nil || string(text) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, text, want)
	}
}

// What a pod that has ended still has of its networks is told where it is asked for; the networks
// of the others always.
func TestNetworks(t *testing.T) {
	pods := poddir.In(t.TempDir())
	p := make1(t, pods, `{"acKind":"PodManifest","apps":[{"name":"a",`+image+`}]}`)
	for name, text := range map[string]string{
		"config": `{"cniVersion":"1.0.0","name":"lan","plugins":[{"type":"ptp"}]}`,
		"result": `{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.3/24"}]}`,
	} {
		file := filepath.Join(p.Path(poddir.NetDir), "eth0", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text),
			0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		state string
		want  Want
		has   string
	}{
		{"prepared", Want{}, "lan:ip4=10.1.2.3"}, {"exited", Want{}, ""},
		{"exited", Want{Ends: true}, "lan:ip4=10.1.2.3"},
		{"exited garbage", Want{}, ""},
	} {
		for state, file := range map[string]string{"exited": poddir.StartedFile, "exited garbage": poddir.GarbageFile} {
			if state == c.state {
				if err := os.WriteFile(p.Path(file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		all, err := All(pods, c.want)
		if err != nil || len(all) != 1 || all[0].State != c.state || all[0].Addresses() != c.has {
			t.Errorf("%+v: %v, %v", c, all, err)
		}
	}
}

func BenchmarkAll(b *testing.B) {
	pods := poddir.In(b.TempDir())
	for i := range 10000 {
		make1(b, pods, fmt.Sprintf(`{"acVersion":"0.8.11","acKind":"PodManifest","apps":[{"name":"a%d",%s,`+
			`"app":{"exec":["/bin/true"]}}]}`, i, image))
	}
	for b.Loop() {
		if all, err := All(pods, Want{}); err != nil || len(all) != 10000 {
			b.Fatalf("%d pods, %v", len(all), err)
		}
	}
}
