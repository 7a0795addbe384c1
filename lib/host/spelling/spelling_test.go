package spelling

import "testing"

func TestNear(t *testing.T) {
	names := []string{"net", "memory", "hostname", "no-legend", "insecure-options", "insecure-allow-http"}
	for typed, want := range map[string]string{
		"nett": "net", "memroy": "memory", "memry": "memory", "hostnam": "hostname", "p": "", "n": "", "nte": "net",
		"no-leg":   "no-legend",
		"insecure": "insecure-options", "insecure-opt": "insecure-options", "xyz": "", "": "",
	} {
		if got := Near(typed, names); got != want {
			t.Errorf("%s: %s, want %s", typed, got, want)
		}
	}
}
