package testkit

import (
	"errors"
	"testing"
)

func TestSays(t *testing.T) {
	err := errors.New(`pod "a": is running; stop it first: rkt stop a`)
	for want, says := range map[string]bool{"": false, `pod "a"`: true, `pod "a" ... rkt stop`: true,
		`running ... pod "a"`: false, `pod "b"`: false, "stop ... stop ... stop": false} {
		if Says(err, want) != says {
			t.Errorf("%q: %t", want, !says)
		}
	}
	if !Says(nil, "") || Says(nil, "a") {
		t.Error("no error says something")
	}
	if !Has("", "") || Has("a", "") || !Has("a b", "a ... b") {
		t.Error("what a program has said")
	}
	if !Gives("a", nil, "a") || Gives("b", nil, "a") || !Gives("", err, "running") || Gives("", err, "") {
		t.Error("what a call gives")
	}
}
