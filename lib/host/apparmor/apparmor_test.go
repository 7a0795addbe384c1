package apparmor

import "testing"

func TestHas(t *testing.T) {
	const profiles = "rkt-default (enforce)\n/usr/sbin/ntpd (complain)\na (b) (enforce)\nlsb_release (unconfined)\n"
	for name, want := range map[string]bool{"rkt-default": true, "/usr/sbin/ntpd": true, "a (b)": true, "rkt": false,
		"": false, "enforce": false, "a": false} {
		if got := has(profiles, name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if has("", "x") || has("x", "x") {
		t.Error("found in a list without it")
	}
}
