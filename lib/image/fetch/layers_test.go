package fetch

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false,
	"ask umoci and podman anew, and write what they answer into testdata/layers.txtar")

// layersTable has the odd layers, and what becomes of them; its first lines say how.
const layersTable = "testdata/layers.txtar"

// row is an image of odd layers. Answers are listings, or "error" in place of one.
type row struct {
	name   string
	layers []string
	answer map[string]string // by "umoci", "podman" and "rkt"
	why    string
}

// TestLayers compares what an app sees of odd layers with what umoci and podman make of them. Where
// they are installed they are asked, else their recorded answers are taken.
func TestLayers(t *testing.T) {
	rows, versions := readRows(t)
	if len(rows) < 40 {
		t.Errorf("%d rows are fewer than 40", len(rows))
	}
	now := peerVersions(t)
	t.Run("rows", func(t *testing.T) {
		for i := range rows {
			r := &rows[i]
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				r.compare(t, versions, now)
			})
		}
	})
	if *update {
		writeRows(t, rows, now)
	}
}

// compare compares what rkt makes of a row with what it should.
func (r *row) compare(t *testing.T, recorded, now map[string]string) {
	l := r.layout(t)
	r.ask(t, l, recorded, now)
	want := r.answer["umoci"]
	if !fits(want, r.answer["podman"]) && r.why == "" {
		t.Errorf("umoci and podman differ, and the row does not say what decides:\n%s\n%s", want, r.answer["podman"])
	}
	if own, ok := r.answer["rkt"]; ok {
		if r.why == "" || own == want {
			t.Error("an answer of rkt's own needs a reason, and has to be one")
		}
		want = own
	}
	if got := r.shown(askRkt(t, l)); !fits(want, got) {
		t.Errorf("rkt has\n%s\nand not\n%s\npodman has\n%s", got, want, r.answer["podman"])
	}
}

// ask compares the peers' answers with the recorded ones, or with -update takes them.
func (r *row) ask(t *testing.T, l layout, recorded, now map[string]string) {
	t.Helper()
	for peer, ask := range map[string]func(*testing.T, layout) string{"umoci": askUmoci, "podman": askPodman} {
		if now[peer] == "" {
			t.Logf("%s is not installed: its recorded answer is taken", peer)
			continue
		}
		answer := r.shown(ask(t, l))
		switch {
		case *update:
			r.answer[peer] = answer
		case answer == r.answer[peer]:
		case now[peer] == recorded[peer]:
			t.Errorf("%s has\n%s\nand the table says\n%s\n(go test ./lib/image/fetch -run TestLayers -update)", peer,
				answer, r.answer[peer])
		default:
			t.Logf("%s, which is not %s, has\n%s\nand the table says\n%s", now[peer], recorded[peer], answer,
				r.answer[peer])
		}
	}
}

// shown leaves the root out of a listing when no layer says what it is like: umoci then has 0755
// for it, and podman 0555.
func (r *row) shown(listing string) string {
	if strings.Contains(strings.Join(r.layers, ""), "d ./") || !strings.HasPrefix(listing, "d ") {
		return listing
	}
	_, rest, _ := strings.Cut(listing, "\n")
	return cmp.Or(rest, "nothing\n")
}

// fits reports whether a listing is the one that is wanted, in which the time of a directory that
// no layer says may be any.
func fits(want, got string) bool {
	wanted, lines := strings.Split(want, "\n"), strings.Split(got, "\n")
	return slices.EqualFunc(wanted, lines, func(w, g string) bool {
		x, y := strings.Fields(w), strings.Fields(g)
		if w != g && len(x) > 4 && len(y) > 4 && x[0] == "d" && x[3] == "@-" {
			x[3] = y[3]
		}
		return slices.Equal(x, y)
	})
}

func peerVersions(t *testing.T) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, peer := range []string{"umoci", "podman"} {
		out, err := exec.Command(peer, "--version").Output()
		if err == nil {
			versions[peer] = strings.TrimSpace(string(out))
		} else if *update {
			t.Fatalf("%s: %v", peer, err)
		}
	}
	return versions
}

func readRows(t *testing.T) (rows []row, versions map[string]string) {
	t.Helper()
	archive, err := txtar.ParseFile(layersTable)
	must(t, err)
	versions = map[string]string{}
	for line := range strings.Lines(string(archive.Comment)) {
		for _, peer := range []string{"umoci", "podman"} {
			if strings.HasPrefix(line, peer+" version ") {
				versions[peer] = strings.TrimSpace(line)
			}
		}
	}
	for _, f := range archive.Files {
		name, part, _ := strings.Cut(f.Name, "/")
		if len(rows) == 0 || rows[len(rows)-1].name != name {
			rows = append(rows, row{name: name, answer: map[string]string{}})
		}
		r := &rows[len(rows)-1]
		text := string(f.Data)
		switch part {
		case "umoci", "podman", "rkt":
			r.answer[part] = text
		case "both":
			r.answer["umoci"], r.answer["podman"] = text, text
		case "why":
			r.why = text
		default:
			if part != strconv.Itoa(len(r.layers)+1) {
				t.Fatalf("%s: %s is no part of a row", layersTable, f.Name)
			}
			r.layers = append(r.layers, text)
		}
	}
	return rows, versions
}

func writeRows(t *testing.T, rows []row, versions map[string]string) {
	t.Helper()
	old, err := txtar.ParseFile(layersTable)
	must(t, err)
	a := &txtar.Archive{}
	for line := range strings.Lines(string(old.Comment)) {
		for _, version := range versions {
			if peer, _, _ := strings.Cut(version, " "); strings.HasPrefix(line, peer+" version ") {
				line = version + "\n"
			}
		}
		a.Comment = append(a.Comment, line...)
	}
	for _, r := range rows {
		add := func(part, text string) {
			if text != "" {
				a.Files = append(a.Files, txtar.File{Name: r.name + "/" + part, Data: []byte(text)})
			}
		}
		for i, text := range r.layers {
			a.Files = append(a.Files, txtar.File{Name: fmt.Sprintf("%s/%d", r.name, i+1), Data: []byte(text)})
		}
		if r.answer["umoci"] == r.answer["podman"] {
			add("both", r.answer["umoci"])
		} else {
			add("umoci", r.answer["umoci"])
			add("podman", r.answer["podman"])
		}
		add("rkt", r.answer["rkt"])
		add("why", r.why)
	}
	must(t, os.WriteFile(layersTable, txtar.Format(a), 0o644))
}

// layerTime is that of each entry of the layer of that number, from 1.
func layerTime(n int) time.Time { return time.Unix(1e9+int64(n)*1000, 0) }

// layout makes an image of the row's layers, "rows" by its tag.
func (r *row) layout(t *testing.T) layout {
	t.Helper()
	l := newLayout(t)
	var layers []layer
	for i, text := range r.layers {
		if same, ok := strings.CutPrefix(text, "as layer "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(same))
			must(t, err)
			layers = append(layers, layers[n-1])
			continue
		}
		data := layerOf(t, text, layerTime(i+1))
		layers = append(layers, layer{gzipped(t, data), digest(data)})
	}
	d := l.json(typeManifest, l.manifest(config(layers...), layers...))
	d["annotations"] = object{"org.opencontainers.image.ref.name": "rows"}
	l.index(d)
	return l
}

// layerOf makes the archive of a layer of lines KIND NAME [MODE [UID:GID]] [=TEXT|-> TARGET].
func layerOf(t *testing.T, text string, when time.Time) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for line := range strings.Lines(text) {
		line, content, _ := strings.Cut(strings.TrimSpace(line), " =")
		line, target, _ := strings.Cut(line, " -> ")
		words := append(strings.Fields(line), "", "")
		h := &tar.Header{Name: words[1], Linkname: target, ModTime: when, Mode: 0o644, Format: tar.FormatPAX}
		switch words[0] {
		case "d":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "f":
			h.Typeflag, h.Size = tar.TypeReg, int64(len(content))
		case "s":
			h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		case "h":
			h.Typeflag = tar.TypeLink
		case "p":
			h.Typeflag = tar.TypeFifo
		case "c":
			h.Typeflag = tar.TypeChar
		default:
			t.Fatalf("%q: is no entry", line)
		}
		if words[2] != "" {
			mode, err := strconv.ParseInt(words[2], 8, 64)
			must(t, err)
			h.Mode = mode
		}
		if words[3] != "" {
			_, err := fmt.Sscanf(words[3], "%d:%d", &h.Uid, &h.Gid)
			must(t, err)
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(content))
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func askUmoci(t *testing.T, l layout) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := exec.Command("umoci", "raw", "unpack", "--image", l.dir+":rows", root).Run(); err != nil {
		return "error\n"
	}
	got, err := listing(root)
	must(t, err)
	return got
}

func askPodman(t *testing.T, l layout) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rows") // podman wants a short path
	must(t, err)
	defer os.RemoveAll(dir)
	podman := func(args ...string) (string, error) {
		cmd := exec.Command("podman", append([]string{"--root", dir + "/root", "--runroot", dir + "/run",
			"--storage-driver=overlay"}, args...)...)
		cmd.Dir = filepath.Dir(l.dir) // a path makes a name, in which podman wants no capitals
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	defer func() {
		if _, err := podman("image", "rm", "--all", "--force"); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(dir+"/root/overlay", 0); err != nil && err != unix.EINVAL {
			// none of an image that it has refused
			t.Error(err)
		}
	}()
	id, err := podman("pull", "--quiet", "oci:"+filepath.Base(l.dir)+":rows")
	if err != nil {
		t.Logf("podman: %.300s", err.(*exec.ExitError).Stderr)
		return "error\n"
	}
	root, err := podman("image", "mount", id)
	must(t, err)
	got, err := listing(root)
	must(t, err)
	_, err = podman("image", "unmount", id)
	must(t, err)
	return got
}

// askRkt fetches the image and lists what an app of it sees.
func askRkt(t *testing.T, l layout) string {
	t.Helper()
	s, dir := newStore(t)
	id, err := Fetch(context.Background(), s, reference(t, "oci:"+l.dir+":rows"), Options{InsecureImage: true})
	if err != nil {
		t.Log(err)
		return "error\n"
	}
	img, err := s.Image(id)
	must(t, err)
	must(t, os.Mkdir(dir+"/target", 0o755))
	must(t, overlay.Make(dir+"/app", img.Layers))
	got := ""
	must(t, overlay.View(dir+"/app", dir+"/target", func(root *os.File) (err error) {
		got, err = listing(root.Name())
		return err
	}))
	return got
}

// listing has a line for each file: KIND MODE UID:GID @LAYER NAME [=TEXT|-> TARGET|same as NAME].
// The time is that of a layer, or @- for one that no layer has; a link's mode says nothing, and the
// time of the root is nobody's.
func listing(root string) (string, error) {
	var lines []string
	first := map[[2]uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := cmp.Or(strings.TrimPrefix(path[len(root):], "/"), ".")
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err == unix.ENOENT {
			lines = append(lines, "? 0000 0:0 @- "+name+" is listed, and not there\n")
			return nil
		} else if err != nil {
			return err
		}
		kind, about := "?", ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			kind = "d"
		case unix.S_IFREG:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			kind, about = "f", " ="+string(text)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			kind, about = "s", " -> "+target
		case unix.S_IFIFO:
			kind = "p"
		case unix.S_IFCHR:
			kind, about = "c", fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if kind != "d" && st.Nlink > 1 {
			inode := [2]uint64{st.Dev, st.Ino}
			if other, ok := first[inode]; ok {
				about = " same as " + other
			} else {
				first[inode] = name
			}
		}
		when := "-"
		if n := (st.Mtim.Sec - 1e9) / 1000; layerTime(int(n)).Equal(time.Unix(st.Mtim.Unix())) && n > 0 && name != "." {
			when = strconv.FormatInt(n, 10)
		}
		lines = append(lines, fmt.Sprintf("%s %04o %d:%d @%s %s%s\n", kind, st.Mode&0o7777, st.Uid, st.Gid,
			when, name, about))
		return nil
	})
	slices.SortFunc(lines, func(a, b string) int { return cmp.Compare(strings.Fields(a)[4], strings.Fields(b)[4]) })
	return strings.Join(lines, ""), err
}
