package poddir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestStateOf(t *testing.T) {
	for _, c := range []struct {
		locked, manifest, started, garbage bool
		want                               State
	}{
		{true, false, false, false, Preparing},
		{false, false, false, false, AbortedPrepare},
		{false, true, false, false, Prepared},
		{true, true, false, false, Prepared}, // another program works on it
		{true, true, true, false, Running},
		{true, true, true, true, ExitedGarbage}, // another program works on it
		{false, true, true, false, Exited},
		{false, true, true, true, ExitedGarbage},
		{false, false, true, false, AbortedPrepare},
	} {
		if got := stateOf(c.locked, c.manifest, c.started, c.garbage); got != c.want {
			t.Errorf("locked %v, pod %v, started %v, garbage %v: %v, want %v", c.locked, c.manifest, c.started,
				c.garbage, got, c.want)
		}
	}
}

func TestSelf(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	for _, c := range []struct{ invocation, execPID, want string }{
		{id, "7", "01234567-89ab-cdef-0123-456789abcdef"},
		{id, "8", ""}, // a shell of the service started this process
		{id, "", ""},
		{"", "7", ""},
		{"../../../../etc/../etc/passwd/../x", "7", ""},
		{"ABCDEF6789abcdef0123456789abcdef", "7", ""},
	} {
		env := map[string]string{"INVOCATION_ID": c.invocation, "SYSTEMD_EXEC_PID": c.execPID}
		if got := Self(func(k string) string { return env[k] }, 7); got != c.want {
			t.Errorf("Self with %v = %q, want %q", env, got, c.want)
		}
	}
}

// prepared makes a pod in state prepared.
func prepared(t *testing.T, pods Pods, uuid, name string) *Pod {
	t.Helper()
	p, lock, err := pods.Create(uuid)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	write(t, p, ManifestFile, "{}")
	if name != "" {
		write(t, p, NameFile, name+"\n")
	}
	return p
}

func write(t *testing.T, p *Pod, name, text string) {
	t.Helper()
	if err := os.WriteFile(p.Path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLife(t *testing.T) {
	pods := In(t.TempDir())
	uuid := NewUUID()
	p, lock, err := pods.Create(uuid)
	if err != nil {
		t.Fatal(err)
	}
	is := func(want State) {
		t.Helper()
		if got, err := p.State(); err != nil || got != want {
			t.Errorf("state %v, %v; want %v", got, err, want)
		}
	}
	is(Preparing)
	if _, _, err := pods.Create(uuid); !errors.Is(err, ErrExists) {
		t.Errorf("second pod of the UUID: %v", err)
	}
	if left, _ := os.ReadDir(pods.tmp()); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
	if _, err := p.Lock(); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("lock of a pod that is being prepared: %v", err)
	}
	lock.Close()
	is(AbortedPrepare)
	write(t, p, ManifestFile, "{}")
	is(Prepared)
	lock, err = p.Lock()
	if err != nil {
		t.Fatal(err)
	}
	write(t, p, StartedFile, "")
	is(Running)
	lock.Close()
	is(Exited)
	write(t, p, GarbageFile, "")
	is(ExitedGarbage)
	lock, err = p.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Delete(); err != nil {
		t.Error(err)
	}
	lock.Close()
	if _, err := p.State(); !errors.Is(err, ErrNotFound) {
		t.Errorf("state of a deleted pod: %v", err)
	}
	if left, _ := os.ReadDir(pods.garbage()); len(left) != 0 {
		t.Errorf("left in garbage: %v", left)
	}
}

// A reader's look at a pod must not make rkt-run-prepared believe that the pod runs.
func TestLockOutlastsReaders(t *testing.T) {
	p := prepared(t, In(t.TempDir()), NewUUID(), "")
	stop := make(chan bool)
	for range 4 {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.State()
				}
			}
		}()
	}
	defer close(stop)
	for range 200 {
		lock, err := p.Lock()
		if err != nil {
			t.Fatal(err)
		}
		lock.Close()
	}
}

func TestSweep(t *testing.T) {
	pods := In(t.TempDir())
	prepared(t, pods, NewUUID(), "")
	old := filepath.Join(pods.tmp(), "pod-old")
	grave := filepath.Join(pods.garbage(), "x-1", "x", "deep")
	held := filepath.Join(pods.tmp(), "pod-held")
	for _, dir := range []string{old, grave, held} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := durable.Lock(held, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := pods.Sweep(); err != nil {
		t.Error(err)
	}
	for dir, want := range map[string]bool{old: false, grave: false, filepath.Join(pods.garbage(), "x-1"): false,
		held: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", dir, err == nil, want)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	pods := In(dir)
	a := prepared(t, pods, "11111111-1111-4111-8111-111111111111", "redis.service")
	b := prepared(t, pods, "11111111-2222-4111-8111-111111111111", "redis.service")
	c := prepared(t, pods, "33333333-1111-4111-8111-111111111111", "")
	past := time.Now().Add(-time.Hour)
	os.Chtimes(b.Path(ManifestFile), past, past)
	write(t, a, StartedFile, "")
	write(t, b, StartedFile, "")
	file := filepath.Join(dir, "uuid")
	os.WriteFile(file, []byte(c.UUID+"\n"), 0o600)
	os.WriteFile(filepath.Join(dir, "bad"), []byte("../../etc\n"), 0o600)

	for _, tc := range []struct{ operand, self, want string }{
		{a.UUID, "", a.UUID},
		{strings.ToUpper(c.UUID), "", c.UUID},
		{c.UUID + "\n", "", c.UUID},
		{" 3\n", "", c.UUID},
		{"3", "", c.UUID},
		{"11111111-2", "", b.UUID},
		{"@" + file, "", c.UUID},
		{"self", b.UUID, b.UUID},
		{"redis.service", "", a.UUID}, // the newest of two that have exited
		{"redis", "", a.UUID},
	} {
		p, err := pods.Find(tc.operand, tc.self)
		if err != nil || p.UUID != tc.want {
			t.Errorf("Find(%q) = %v, %v; want %s", tc.operand, p, err, tc.want)
		}
	}
	for operand, want := range map[string]string{
		"":                                     `no matches found for ""`,
		"1111":                                 "ambiguous uuid, 2 matches: ",
		"4":                                    `no matches found for "4": no such pod`,
		"self":                                 "works only in",
		"../..":                                "no such pod",
		"@" + dir + "/bad":                     "hold a pod's UUID",
		"@" + dir + "/absent":                  "no such file",
		"44444444-1111-4111-8111-111111111111": "no such pod",
	} {
		if p, err := pods.Find(operand, ""); !testkit.Says(err, want) {
			t.Errorf("Find(%q) = %v, %v; want an error with %q", operand, p, err, want)
		}
	}

	// The running pod of a name takes precedence over a newer one that has exited.
	lock, err := b.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if p, err := pods.Find("redis", ""); err != nil || p.UUID != b.UUID {
		t.Errorf("Find of a running pod's name = %v, %v; want %s", p, err, b.UUID)
	}
}

func TestValidName(t *testing.T) {
	for _, name := range []string{"redis", "redis.service", "rkt@web.service", `a\x2db.service`, "A_b:c-9", "9",
		strings.Repeat("a", 255)} {
		if !ValidName(name) {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{"", "self", "@x", "-x", ".", "..", "a/b", "a b", "a\nb", "\x1b[1m", "ä",
		strings.Repeat("a", 256),
		"11111111-1111-4111-8111-111111111111", "AAAAAAAA-1111-4111-8111-111111111111"} {
		if ValidName(name) {
			t.Errorf("%q is taken", name)
		}
	}
}

func FuzzFind(f *testing.F) {
	for _, s := range []string{"self", "@", "", "1", "../../etc/passwd", "11111111-1111-4111-8111-111111111111",
		"a/../b"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, operand string) {
		if p, err := In(dir).Find(operand, ""); err == nil {
			t.Errorf("Find(%q) found %s where there is no pod", operand, p.UUID)
		}
	})
}

// Sweep never takes a directory from under somebody who is making it.
func TestSweepAgainstCreate(t *testing.T) {
	pods := In(t.TempDir())
	stop, swept := make(chan bool), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				swept <- n
				return
			default:
				if err := pods.Sweep(); err != nil {
					t.Error(err)
				}
				n++
			}
		}
	}()
	for range 300 {
		_, lock, err := pods.Create(NewUUID())
		if err != nil {
			t.Fatal(err)
		}
		lock.Close()
	}
	close(stop)
	if n := <-swept; n == 0 {
		t.Errorf("only %d sweeps meanwhile", n)
	}
}

// An operand that says a whole UUID needs no look at the pods.
func TestUUIDOf(t *testing.T) {
	const uuid = "33333333-1111-4111-8111-111111111111"
	file := filepath.Join(t.TempDir(), "uuid")
	if err := os.WriteFile(file, []byte(strings.ToUpper(uuid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for operand, want := range map[string]string{uuid: uuid, " " + strings.ToUpper(uuid) + "\n": uuid, "@" + file: uuid,
		"3": "", "web": "", "": ""} {
		if got, err := UUIDOf(operand, ""); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", operand, got, err, want)
		}
	}
	if got, err := UUIDOf("self", uuid); err != nil || got != uuid {
		t.Errorf("self: %q, %v", got, err)
	}
	for _, operand := range []string{"self", "@/no/file", "@/dev/null"} {
		if got, err := UUIDOf(operand, ""); err == nil {
			t.Errorf("%q: %q", operand, got)
		}
	}
}
