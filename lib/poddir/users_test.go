package poddir

import (
	"os"
	"reflect"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/host/userns"
)

func TestUsersMode(t *testing.T) {
	for s, want := range map[string]UsersMode{"auto": UsersAuto, "yes": UsersOwn, "true": UsersOwn, "no": UsersHost,
		"false": UsersHost, "": "", "AUTO": "", "pick": "", "524288": "", "yes ": ""} {
		if got, err := ParseUsersMode(s); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", s, got, err, want)
		}
	}
}

// What rkt-prepare writes rkt-run-prepared reads; all else is an error, and never the host's users.
func TestReserved(t *testing.T) {
	pods := In(t.TempDir())
	p, lock, err := pods.Create("01234567-89ab-4def-8123-456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if r, err := p.Reserved(); r != nil || err != nil {
		t.Errorf("a pod of a former version: %v, %v", r, err)
	}
	for _, r := range []Reserved{
		{Range: userns.Range{Base: 524288}, Mode: UsersAuto, Asked: []string{}},
		{Range: userns.Range{Base: 1048576}, Mode: UsersOwn, Asked: []string{"CAP_NET_RAW"}},
	} {
		if err := os.WriteFile(p.Path(ReservedFile), []byte(r.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := p.Reserved(); err != nil || !reflect.DeepEqual(*got, r) {
			t.Errorf("%q: %v, %v", r, got, err)
		}
	}
	for _, text := range []string{"", "\n", "524288:65536\n", "524288:65536 no\n", "524288:65536 true\n",
		"0:65536 auto\n", "auto\n", "524288:65536\nauto\n", "524288:65536  auto\n", " 524288:65536 auto\n"} {
		if err := os.WriteFile(p.Path(ReservedFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := p.Reserved(); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
