package stage1

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What rkt-prepare writes of an app, rkt-enter reads.
func TestRecordOf(t *testing.T) {
	record := func(app App) *Record {
		t.Helper()
		app.Exec = []string{"/x"}
		config, err := app.Config()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		var read specs.Spec
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		got, err := RecordOf(app.Name, &read)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := record(App{Name: "none"}); !reflect.DeepEqual(got, &Record{Name: "none", Capabilities: []string{}}) {
		t.Errorf("%+v", got)
	}
	got := record(App{Name: "all", UID: 1000, GID: 1001, SupplementaryGIDs: []uint32{7, 8}, Capabilities: AllCapabilities,
		Isolation: Isolation{NoNewPrivileges: true}})
	want := &Record{Name: "all", UID: 1000, GID: 1001, SupplementaryGIDs: []uint32{7, 8, 1001}, Capabilities: AllCapabilities, NoNewPrivileges: true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if set, err := got.Bounding(); err != nil || set != 1<<len(AllCapabilities)-1 {
		t.Errorf("bounding set %#x, %v", set, err)
	}
	if set, err := (&Record{Capabilities: DefaultCapabilities}).Bounding(); err != nil || set != 0xa80425fb {
		t.Errorf("default bounding set %#x, %v", set, err)
	}
}

// A damaged record is an error and never fewer limits.
func TestDamagedRecords(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "EOF",
		"{}":                                  "cannot unmarshal object",
		"[]":                                  `no record of app "a"`,
		`[{"name":"a","capabilities":[]}] x`:  "something follows",
		`[{"name":"a","capabilities":[]}] []`: "something follows",
		`[{"name":"a","capabilities":[]},{"name":"a","capabilities":[]}]`: "two records",
		`[{"name":"a"}]`: "no capability bounding set",
		`[{"name":"a","capabilities":["CAP_ALL"]}]`:                           `unknown capability "CAP_ALL"`,
		`[{"name":"a","capabilities":[],"uid":4294967295}]`:                   "an ID that is none",
		`[{"name":"a","capabilities":[],"uid":-1}]`:                           "cannot unmarshal number -1",
		`[{"name":"a","capabilities":[],"seccomp":{}}]`:                       "a seccomp filter of no system calls",
		`[{"name":"a","capabilities":[],"landlock":1}]`:                       "unknown field",
		`[{"name":"a","capabilities":[],"supplementaryGIDs":[1,4294967295]}]`: "an ID that is none",
		"[{\"name\":\"a\",\"capabilities\":[\"CAP_CHOWN\"]":                   "unexpected EOF",
	} {
		if got, err := FindRecord([]byte(text), "a"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %s", text, got, err, want)
		}
	}
}
