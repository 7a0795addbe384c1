package stage1

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/rkt-toolkit/rkt/lib/testkit"
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
	got := record(App{Name: "all", UID: 1000, GID: 1001, SupplementaryGIDs: []uint32{7, 8},
		Capabilities: AllCapabilities,
		Isolation:    Isolation{NoNewPrivileges: true}})
	want := &Record{Name: "all", UID: 1000, GID: 1001, SupplementaryGIDs: []uint32{7, 8, 1001},
		Capabilities: AllCapabilities, NoNewPrivileges: true}
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

// A damaged configuration is an error and never fewer limits.
func TestDamagedRecords(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:             "no process",
		`{"process":{}}`: "or no capabilities",
		`{"process":{"capabilities":{"bounding":["CAP_ALL"]}}}`:                    `unknown capability "CAP_ALL"`,
		`{"process":{"capabilities":{},"user":{"uid":4294967295}}}`:                "ID that is none",
		`{"process":{"capabilities":{},"user":{"gid":4294967295}}}`:                "ID that is none",
		`{"process":{"capabilities":{},"user":{"additionalGids":[1,4294967295]}}}`: "ID that is none",
	} {
		var config specs.Spec
		if err := json.Unmarshal([]byte(text), &config); err != nil {
			t.Fatal(err)
		}
		if got, err := RecordOf("a", &config); !testkit.Says(err, want) {
			t.Errorf("%s: %+v, %v; want %s", text, got, err, want)
		}
	}
}
