package fetch

import (
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// TestPlatform fetches images for other machines, which get no name: names mean images for this
// one.
func TestPlatform(t *testing.T) {
	if runtime.GOARCH == "arm" {
		t.Fatal("the test has images for arm as foreign ones")
	}
	s, _ := newStore(t)
	l := newLayout(t)
	var entries []object
	for _, p := range []Platform{thisMachine(), {"linux", "arm", "v6"}, {"linux", "arm", "v7"}, {"linux", "vax", ""}} {
		layer := gzipLayer(t, "is="+p.String())
		c := config(layer)
		c["architecture"], c["variant"] = p.Arch, p.Variant
		entry := l.json(typeManifest, l.manifest(c, layer))
		entry["platform"] = object{"os": "linux", "architecture": p.Arch, "variant": p.Variant}
		entries = append(entries, entry)
	}
	index := l.json(typeIndex, object{"schemaVersion": 2, "mediaType": typeIndex, "manifests": entries})
	l.index(index)
	server := httptest.NewServer(&registry{dir: l.dir})
	defer server.Close()
	for _, name := range []string{"oci:" + l.dir, "docker://" + server.Listener.Addr().String() + "/app"} {
		ref := reference(t, name)
		fetch := func(platform string, policy PullPolicy) (string, error) {
			o := quick
			o.PullPolicy = policy
			if platform != "" {
				var err error
				o.Platform, err = ParsePlatform(platform)
				must(t, err)
			}
			return Fetch(t.Context(), s, ref, o)
		}
		ours, err := fetch("", Update)
		must(t, err)
		if id, err := fetch(thisMachine().String(), Never); id != ours || err != nil {
			t.Errorf("%s: %s %v", name, id, err)
		}
		seen := map[string]bool{ours: true}
		for platform, arch := range map[string]string{"linux/arm/v6": "armv6l", "linux/arm/v7": "armv7l",
			"linux/vax": ""} {
			for _, policy := range []PullPolicy{Update, New} {
				id, err := fetch(platform, policy)
				if err != nil || seen[id] != (policy == New) {
					t.Errorf("%s %s: %s %v", name, platform, id, err)
					continue
				}
				seen[id] = true
				img, err := s.Image(id)
				must(t, err)
				if got, _ := img.Manifest.Labels.Get("arch"); got != arch {
					t.Errorf("%s %s: arch %s", name, platform, got)
				}
				o := quick
				o.Platform, _ = ParsePlatform(platform)
				if again, err := Fetch(t.Context(), s, reference(t, id), o); again != id || err != nil {
					t.Errorf("%s: by its ID: %s %v", id, again, err)
				}
			}
			if _, err := fetch(platform, Never); !testkit.Says(err, "images for linux/"+runtime.GOARCH+
				": give its ID") {
				t.Error(err)
			}
		}
		if _, err := fetch("linux/pdp11", Update); !testkit.Says(err, "linux/pdp11") {
			t.Error(err)
		}
		for _, policy := range []PullPolicy{Never, New, Update} {
			if id, err := fetch("", policy); id != ours || err != nil {
				t.Errorf("%s: the name became another image: %s %v", name, id, err)
			}
		}
	}
	for _, name := range []string{"/app.aci", "https://example.com/app.aci", "example.com/app"} {
		o := quick
		o.Platform = Platform{"linux", "vax", ""}
		if _, err := Fetch(t.Context(), s, reference(t, name), o); !testkit.Says(err,
			"--platform=linux/vax") {
			t.Error(err)
		}
	}
	var none image.Reference
	if _, err := s.Lookup(none); err == nil {
		t.Error("an empty name is in the store")
	}
}

func TestParsePlatform(t *testing.T) {
	for s, want := range map[string]string{
		"linux/arm64":  "linux/arm64",
		"linux/arm/v7": "linux/arm/v7",
		"arm64":        "error",
		"windows/386":  "error",
		"linux/":       "error",
		"linux/a/b/c":  "error",
		"linux/A":      "error",
		"":             "error",
	} {
		p, err := ParsePlatform(s)
		got := p.String()
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s", s, got)
		}
	}
	for _, c := range []struct {
		p                 Platform
		os, arch, variant string
		want              string
	}{
		{Platform{}, "", "", "", ""},
		{Platform{}, "linux", runtime.GOARCH, "v9", ""},
		{Platform{}, "plan9", runtime.GOARCH, "", "plan9/" + runtime.GOARCH + " ... linux/" + runtime.GOARCH},
		{Platform{"linux", "arm", "v7"}, "linux", "arm", "", ""},
		{Platform{"linux", "arm", "v7"}, "linux", "arm", "v6", "linux/arm/v6 ... linux/arm/v7"},
	} {
		if err := c.p.check(c.os, c.arch, c.variant); !testkit.Says(err, c.want) {
			t.Errorf("%v: %v", c, err)
		}
	}
}
