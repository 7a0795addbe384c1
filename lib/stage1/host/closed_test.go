package host

import "testing"

func TestNamesBelow(t *testing.T) {
	for _, test := range []struct {
		word string
		want bool
	}{
		{"/tmp/rkt/pods/1", true}, {"--bind-ro=/tmp/bin/rkt-notify:/rkt/notify", true}, {"--bind=/run/x:/tmp/y", true},
		{"/tmp", false}, {"/var/tmp/x", false}, {"--machine=tmp/x", false}, {"/tmpx/y", false}, {"/tmp/../var", false},
	} {
		if got := namesBelow("/tmp", []string{"--boot", test.word}); got != test.want {
			t.Errorf("%q: %t, want %t", test.word, got, test.want)
		}
	}
}
