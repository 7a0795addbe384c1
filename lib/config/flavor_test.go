package config

import "testing"

func TestFlavor(t *testing.T) {
	for image, want := range map[string]string{
		"coreos.com/rkt/stage1-coreos:1.30.0":          "host",
		"coreos.com/rkt/stage1-host":                   "host",
		"/usr/lib/rkt/stage1-images/stage1-coreos.aci": "host",
		"stage1-src-1.30.0-linux-amd64.aci":            "host",
		"https://github.com/rkt/rkt/releases/download/v1.30.0/stage1-coreos-1.30.0-linux-amd64.aci": "host",
		"file:///opt/stage1-host.aci":      "host",
		"coreos.com/rkt/stage1-fly:1.30.0": "fly",
		"coreos.com/rkt/stage1-init":       "init",
		"init":                             "init",
		"init:1.30.0":                      "init",
		"host":                             "host",
		"stage1-kvm.aci":                   "kvm",
		"/opt/init":                        "",
		"init:":                            "",
		"/opt/stage1.aci":                  "",
		"example.com/stage1-hosted":        "hosted",
		"sha512-0123456789abcdef":          "",
		"":                                 "",
	} {
		if got, err := Flavor(image); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", image, got, err)
		}
	}
	for s, want := range map[Stage1]string{
		{}: "",
		{Name: "coreos.com/rkt/stage1-fly", Version: "1", Location: "/stage1-host.aci"}: "coreos.com/rkt/stage1-fly",
		{Location: "stage1-kvm.aci"}: "stage1-kvm.aci",
	} {
		if got := s.Image(); got != want {
			t.Errorf("%+v: %q", s, got)
		}
	}
}
