package e2e

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
)

// pieces are what random strings are put together of: all that means something to a unit file, a
// shell, systemd, a path or JSON.
var pieces = []string{"%", "%%", "%n", "%H", "$", "$$", "${HOME}", "$HOME", `"`, "'", `\`, `\\`, `\n`, `\x41`, `\u00e9`,
	";", " ; ", "#", "\n", "\r", "\t", " ", "  ", "[Service]", "\nExecStart=/bin/false\n", "=", ":", "-", "--", "+",
	"!", "@", "|", "*", "?", "~", "{", "}", "(", ")", "<", ">", "&", "`", ",", "/", "..", ".", "a", "é", "€", "😀",
	"\x01", "\x1b[0m", "\x7f", "\x80", "\xff", "\xc3", "\xed\xa0\x80", strings.Repeat("x", 3000)}

func randomString(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(8) {
		if r.IntN(4) == 0 {
			b.WriteByte(byte(1 + r.IntN(255)))
		} else {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
	}
	return b.String()
}

// randomName is a random string that is mostly what systemd takes in a path, and short enough for a
// directory's name.
func randomName(r *rand.Rand) string {
	s := strings.ReplaceAll(randomString(r), strings.Repeat("x", 3000), "x")
	if r.IntN(10) == 0 {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return 'x'
		}
		return c
	}, s)
}

// fuzz runs pods with random arguments, environment (names, too), working directory and mount
// point: fuzz ROUNDS. Each string arrives byte for byte, or is refused in one line before anything
// is made. $FUZZ_ROUNDS is how many instead, and $FUZZ_SEED repeats a run.
func fuzz(ts *testscript.TestScript, neg bool, args []string) {
	number := func(variable, otherwise string) uint64 {
		text := os.Getenv(variable)
		if text == "" {
			text = otherwise
		}
		n, err := strconv.ParseUint(text, 10, 64)
		ts.Check(err)
		return n
	}
	seed := number("FUZZ_SEED", strconv.FormatInt(time.Now().UnixNano(), 10))
	rounds := number("FUZZ_ROUNDS", args[0])
	r := rand.New(rand.NewPCG(seed, 0))
	ts.Check(os.MkdirAll("/var/lib/rkt/fuzz", 0o755))
	ts.Check(os.WriteFile("/var/lib/rkt/fuzz/here", nil, 0o644))
	arrived, refused := 0, 0
	for round := range rounds {
		want := map[string]string{}
		argv := []string{"--insecure-options=image", "run", "--net=none"}
		app := []string{}
		for i := range 10 {
			value := randomString(r)
			if r.IntN(40) > 0 {
				value = strings.ToValidUTF8(value, "?") // systemd takes no other
			}
			app = append(app, fmt.Sprintf("--environment=V%d=%s", i, value))
			want[fmt.Sprintf("V%d", i)] = value
		}
		for i := range r.IntN(3) { // variables of any name
			name := strings.NewReplacer("=", "", "\x00", "").Replace(strings.ToValidUTF8(randomString(r), "?")) +
				strconv.Itoa(i)
			if _, taken := want[name]; taken {
				continue
			}
			value := "odd:" + strings.ToValidUTF8(randomString(r), "?")
			app = append(app, "--environment="+name+"="+value)
			want[fmt.Sprintf("env:%x", name)] = value
		}
		want["cwd"] = path.Clean("/" + randomName(r))
		app = append(app, "--working-dir="+want["cwd"])
		target := path.Clean("/mnt/" + strings.NewReplacer(",", "?", ":", "?", "/", "_").Replace(randomName(r)))
		if target != "/mnt" && r.IntN(2) == 0 {
			argv = append(argv, "--volume=/var/lib/rkt/fuzz:"+target)
			want["mount"] = target
			app = append(app, "--environment=INSPECT_MOUNT="+target)
		}
		argv = append(append(argv, "oci:/images/web", "--name=fuzz", "--exec=/app"), append(app, "--", "bytes")...)
		for i := range 10 {
			value := randomString(r)
			argv = append(argv, value)
			want[strconv.Itoa(i+2)] = value
		}
		if slices.Contains(argv[len(argv)-10:], "---") {
			continue
		}
		cmd := exec.Command("rkt", argv...)
		var out, complaint bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &complaint
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() == 254 {
			line := complaint.String()
			if strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "rkt") {
				ts.Fatalf("seed %d, round %d: not one line: %q", seed, round, line)
			}
			ts.Logf("%s", strings.TrimSpace(line))
			refused++
			continue
		}
		got := map[string]string{}
		for line := range strings.Lines(out.String()) {
			_, line, _ = strings.Cut(line, "]: ")
			name, text, ok := strings.Cut(strings.TrimSpace(line), " ")
			value, errHex := hex.DecodeString(strings.TrimPrefix(text, "x"))
			if ok && errHex == nil {
				got[name] = string(value)
			}
		}
		if err != nil || !maps.Equal(got, want) {
			for name := range got {
				if _, ok := want[name]; !ok {
					ts.Logf("%s: got %q, which is nothing", name, got[name])
				}
			}
			for name := range want {
				if _, ok := got[name]; !ok || got[name] != want[name] {
					ts.Logf("%s: got %q, want %q", name, got[name], want[name])
				}
			}
			ts.Fatalf("seed %d, round %d: %v, %s", seed, round, err, complaint.String())
		}
		arrived++
	}
	ts.Logf("seed %d: %d pods got what was meant for them, %d were refused", seed, arrived, refused)
	if arrived == 0 {
		ts.Fatalf("none arrived")
	}
}
