package random

import (
	"bytes"
	"testing"
)

func TestBytes(t *testing.T) {
	for _, n := range []int{0, 1, 16, 1000} { // more than getrandom(2) promises to give at once
		a, b := Bytes(n), Bytes(n)
		if len(a) != n || len(b) != n || n >= 16 && bytes.Equal(a, b) {
			t.Errorf("%d bytes: %x and %x", n, a, b)
		}
	}
	if long := Bytes(1000); bytes.Contains(long, make([]byte, 16)) {
		t.Error("a part was not filled")
	}
	if a, b := Hex(16), Hex(16); len(a) != 32 || a == b {
		t.Errorf("%s and %s", a, b)
	}
}
