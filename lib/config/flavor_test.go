package config

import "testing"

func TestCheckStage1(t *testing.T) {
	for image, known := range map[string]bool{
		"coreos.com/rkt/stage1-coreos:1.30.0":          true,
		"coreos.com/rkt/stage1-host":                   true,
		"/usr/lib/rkt/stage1-images/stage1-coreos.aci": true,
		"stage1-src-1.30.0-linux-amd64.aci":            true,
		"https://github.com/rkt/rkt/releases/download/v1.30.0/stage1-coreos-1.30.0-linux-amd64.aci": true,
		"file:///opt/stage1-host.aci":      true,
		"coreos.com/rkt/stage1-fly:1.30.0": false,
		"stage1-kvm.aci":                   false,
		"/opt/stage1.aci":                  false,
		"example.com/stage1-hosted":        false,
		"sha512-0123456789abcdef":          false,
		"":                                 false,
	} {
		if err := CheckStage1(image); (err == nil) != known {
			t.Errorf("%q: %v", image, err)
		}
	}
	for s, known := range map[Stage1]bool{
		{}: true, {Name: "coreos.com/rkt/stage1-coreos", Version: "1", Location: "/x"}: true,
		{Name: "coreos.com/rkt/stage1-fly", Version: "1", Location: "/stage1-host.aci"}: false,
		{Location: "stage1-kvm.aci"}: false,
	} {
		if err := s.Check(); (err == nil) != known {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
