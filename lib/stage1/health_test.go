package stage1

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestHealthState(t *testing.T) {
	s := ParseHealthState([]byte("nonsense"))
	for _, test := range []struct {
		check             Check
		failed, successes int
	}{
		{Check{Startup: true, Status: 1}, 1, 0},
		{Check{Startup: true}, 1, 1},
		{Check{Startup: true, Status: 1}, 2, 0},
		{Check{Startup: true}, 2, 1},
		{Check{Startup: true}, 0, 2},
		{Check{Status: -1}, 1, 2},
		{Check{Status: 137}, 2, 2},
		{Check{}, 0, 2},
	} {
		s.Add(test.check, 2)
		if s.Failed != test.failed || s.Successes != test.successes {
			t.Fatalf("%+v: %+v", test, s)
		}
	}
	if len(s.Checks) != MaxChecks {
		t.Fatalf("%d checks are kept", len(s.Checks))
	}
	s.Add(Check{Output: strings.Repeat("a", MaxCheckOutput-1) + "é\xff"}, 0)
	s = ParseHealthState(s.Text())
	if got := s.Checks[MaxChecks-1].Output; len(got) != MaxCheckOutput-1 || !utf8.ValidString(got) {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	hostile := `{"checks":[` + strings.Repeat(`{"output":"x"},`, 1000) +
		`{"output":"` + strings.Repeat("y", 10000) + `"}]}`
	if s = ParseHealthState([]byte(hostile)); len(s.Checks) != MaxChecks || len(s.Checks[4].Output) != MaxCheckOutput {
		t.Errorf("not bounded: %d", len(s.Checks))
	}
}
