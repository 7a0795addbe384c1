package status

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/pod"
)

const image = `"image":{"id":"sha512-aa","name":"example.com/a","labels":[{"name":"version","value":"1"}]}`

func make1(t testing.TB, pods pod.Pods, manifest string) *pod.Pod {
	t.Helper()
	p, lock, err := pods.Create(pod.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := os.WriteFile(p.Path(pod.ManifestFile), []byte(manifest), 0o640); err != nil {
		t.Fatal(err)
	}
	return p
}

// A pod with a hostile manifest is an error of that pod, and the others are listed.
func TestHostileManifests(t *testing.T) {
	for name, manifest := range map[string]string{
		"giant":           `{"acKind":"PodManifest","x":"` + strings.Repeat("x", pod.MaxFile) + `"}`,
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
			pods := pod.In(t.TempDir())
			bad := make1(t, pods, manifest)
			good := make1(t, pods, `{"acKind":"PodManifest","apps":[{"name":"a",`+image+`}]}`)
			all, err := All(pods)
			if err == nil || !strings.Contains(err.Error(), bad.UUID) || len(err.Error()) > 1000 {
				t.Errorf("error %.1000v", err)
			}
			if len(all) != 2 || all[0].UUID != bad.UUID && all[1].UUID != bad.UUID {
				t.Errorf("pods %v", all)
			}
			if s, err := Read(good); err != nil || len(s.Apps) != 1 || s.Apps[0].ImageName != "example.com/a:1" || s.State != "prepared" {
				t.Errorf("the other: %+v, %v", s, err)
			}
		})
	}
}

func BenchmarkAll(b *testing.B) {
	pods := pod.In(b.TempDir())
	for i := range 10000 {
		make1(b, pods, fmt.Sprintf(`{"acVersion":"0.8.11","acKind":"PodManifest","apps":[{"name":"a%d",%s,"app":{"exec":["/bin/true"]}}]}`, i, image))
	}
	for b.Loop() {
		if all, err := All(pods); err != nil || len(all) != 10000 {
			b.Fatalf("%d pods, %v", len(all), err)
		}
	}
}
