package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const goarch = runtime.GOARCH

const searchPath = "PATH=/usr/local/bin:/usr/bin:/bin"

var busyboxConfig = v1.Config{Env: []string{searchPath}, Entrypoint: []string{"/bin/sh"}}

var redisConfig = v1.Config{
	Env: []string{searchPath, "REDIS_HOME=/data"}, WorkingDir: "/data",
	ExposedPorts: map[string]struct{}{"6379/tcp": {}}, User: "redis",
	Entrypoint: []string{"redis-server"},
	Cmd:        []string{"--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data", "--save", "3600 1"},
}

// tree is a layer in the making.
type tree struct {
	headers []*tar.Header
	content [][]byte
	made    map[string]bool
}

func (t *tree) add(h *tar.Header, content []byte) {
	if t.made == nil {
		t.made = map[string]bool{}
	}
	if dir := path.Dir(h.Name); dir != "." && !t.made[dir] {
		t.add(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	if t.made[h.Name] {
		return
	}
	t.made[h.Name] = true
	h.Size, h.ModTime = int64(len(content)), time.Unix(1e9, 0)
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	t.headers, t.content = append(t.headers, h), append(t.content, content)
}

func (t *tree) file(name string, mode int64, content []byte) {
	t.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, content)
}

func (t *tree) text(name, content string) { t.file(name, 0o644, []byte(content)) }

func (t *tree) link(name, target string) {
	t.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

// program copies a program of the machine, under the path that it has there.
func (t *tree) program(name string) (from string, err error) {
	if from, err = exec.LookPath(name); err != nil {
		return "", fmt.Errorf("%w: run make deps", err)
	}
	content, err := os.ReadFile(from)
	if err == nil {
		t.file(strings.TrimPrefix(from, "/"), 0o755, content)
	}
	return from, err
}

func (t *tree) layer() (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, h := range t.headers {
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(t.content[i]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	})
}

func busybox(t *tree) error {
	from, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w: run make deps", err)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	t.file("bin/busybox", 0o755, content)
	applets, err := exec.Command(from, "--list").Output()
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(applets)) {
		if name != "busybox" {
			t.link("bin/"+name, "busybox")
		}
	}
	t.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n")
	t.text("etc/group", "root:x:0:\napp:x:1000:\nextra:x:1001:app\n")
	t.add(&tar.Header{Typeflag: tar.TypeDir, Name: "home/app", Mode: 0o755, Uid: 1000, Gid: 1000}, nil)
	t.text("etc/removed", "the next layer removes this\n")
	t.text("etc/hidden/old", "the next layer's directory replaces this\n")
	return nil
}

// motd is a layer that changes the one below it.
func motd(t *tree) error {
	t.text("etc/motd", "a layer of its own\n")
	t.text("etc/.wh.removed", "")
	t.text("etc/hidden/.wh..wh..opq", "")
	t.text("etc/hidden/new", "the new content\n")
	return nil
}

var etcdConfig = v1.Config{
	ExposedPorts: map[string]struct{}{"2379/tcp": {}, "2380/tcp": {}}, Entrypoint: []string{"/etcd"},
}

// etcd has its one program where CoreOS's image had it.
func etcd(t *tree) error {
	if err := libraries("etcd")(t); err != nil {
		return err
	}
	from, err := exec.LookPath("etcd")
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	t.file("etcd", 0o755, content)
	t.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	return nil
}

// program makes an image of busybox and a static program. What follows is LABEL=VALUE,
// PORT/PROTOCOL or an argument.
func program(dir, file string, more []string) error {
	config := v1.Config{Env: []string{searchPath}, Entrypoint: []string{"/app"}, Labels: map[string]string{},
		ExposedPorts: map[string]struct{}{}}
	for _, item := range more {
		if text, ok := strings.CutPrefix(item, "CONFIG="); ok {
			if err := json.Unmarshal([]byte(text), &config); err != nil {
				return err
			}
		} else if label, value, ok := strings.Cut(item, "="); ok {
			config.Labels[label] = value
		} else if strings.Contains(item, "/") {
			config.ExposedPorts[item] = struct{}{}
		} else {
			config.Cmd = append(config.Cmd, item)
		}
	}
	return write(dir, config, busybox, func(t *tree) error {
		content, err := os.ReadFile(file)
		if err == nil {
			t.file("app", 0o755, content)
		}
		return err
	})
}

var libraryPath = regexp.MustCompile(`/[^ ]*\.so[^ ]*`)

// libraries are what programs of the machine need, at the paths where the loader looks.
func libraries(names ...string) func(*tree) error {
	return func(t *tree) error {
		for _, name := range names {
			program, err := exec.LookPath(name)
			if err != nil {
				return fmt.Errorf("%w: run make deps", err)
			}
			out, err := exec.Command("ldd", program).CombinedOutput()
			if err != nil && !strings.Contains(string(out), "not a dynamic executable") {
				return fmt.Errorf("ldd %s: %w: %s", program, err, out)
			}
			paths := libraryPath.FindAllString(string(out), -1)
			slices.Sort(paths)
			for _, lib := range paths {
				content, err := os.ReadFile(lib)
				if err != nil {
					return err
				}
				t.file(strings.TrimPrefix(filepath.Clean(lib), "/"), 0o755, content)
			}
		}
		return nil
	}
}

func redis(t *tree) error {
	server, err := t.program("redis-server")
	if err != nil {
		return err
	}
	if target, err := filepath.EvalSymlinks(server); err == nil && target != server {
		if _, err := t.program(filepath.Base(target)); err != nil {
			return err
		}
	}
	if _, err := t.program("redis-cli"); err != nil {
		return err
	}
	t.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nredis:x:999:999:redis:/data:/bin/false\n")
	t.text("etc/group", "root:x:0:\nredis:x:999:\n")
	t.add(&tar.Header{Typeflag: tar.TypeDir, Name: "data", Mode: 0o755, Uid: 999, Gid: 999}, nil)
	return nil
}

// big is a layer of one file that does not compress to nothing.
func big(size int64) func(*tree) error {
	return func(t *tree) error {
		content := make([]byte, size)
		x := uint32(1)
		for i := range content {
			x = x*1664525 + 1013904223
			content[i] = byte(x>>24) & 0x3f
		}
		t.file("big", 0o644, content)
		return nil
	}
}
