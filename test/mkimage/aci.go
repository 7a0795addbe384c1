package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// aci writes an ACI (appc spec, aci.md) with the content and the command of an OCI image. What
// follows is its name, and ports.
func aci(dir, file string, more []string) (err error) {
	img, err := read(dir)
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	m := schema.BlankImageManifest()
	name, version := "example.com/"+strings.TrimSuffix(path.Base(file), ".aci"), "1.0.0"
	var ports []types.Port
	var isolators types.Isolators
	app := "{}"
	if len(more) > 0 {
		name, version, _ = strings.Cut(more[0], ":")
		for _, spec := range more[1:] {
			if text, ok := strings.CutPrefix(spec, "APP="); ok {
				app = text
				continue
			}
			if text, ok := strings.CutPrefix(spec, "ANNOTATIONS="); ok {
				if err := json.Unmarshal([]byte(text), &m.Annotations); err != nil {
					return err
				}
				continue
			}
			if strings.HasPrefix(spec, "{") {
				var i types.Isolator
				if err := json.Unmarshal([]byte(spec), &i); err != nil {
					return err
				}
				isolators = append(isolators, i)
				continue
			}
			spec, activated := strings.CutSuffix(spec, "/activated")
			of, rest, _ := strings.Cut(spec, "=")
			number, protocol, _ := strings.Cut(rest, "/")
			port, err := types.PortFromString(of + ",protocol=" + protocol + ",count=1,port=" + number)
			if err != nil {
				return err
			}
			port.SocketActivated = activated
			ports = append(ports, *port)
		}
	}
	m.Name = types.ACIdentifier(name)
	if version != "" {
		m.Labels = append(m.Labels, types.Label{Name: "version", Value: version})
	}
	m.Labels = append(m.Labels, types.Labels{{Name: "os", Value: "linux"}, {Name: "arch", Value: goarch}}...)
	m.App = &types.App{
		Exec: append(config.Config.Entrypoint, config.Config.Cmd...), User: "0", Group: "0",
		WorkingDirectory: config.Config.WorkingDir, Ports: ports, Isolators: isolators,
	}
	for _, v := range config.Config.Env {
		name, value, _ := strings.Cut(v, "=")
		m.App.Environment.Set(name, value)
	}
	var also map[string]json.RawMessage
	if err := json.Unmarshal([]byte(app), &also); err != nil {
		return err
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if manifest, err = merge(manifest, also); err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	w := tar.NewWriter(z)
	when := time.Unix(1e9, 0)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "manifest", Mode: 0o644, Size: int64(len(manifest)), ModTime: when},
		{Typeflag: tar.TypeDir, Name: "rootfs/", Mode: 0o755, ModTime: when},
	} {
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if h.Name == "manifest" {
			if _, err := w.Write(manifest); err != nil {
				return err
			}
		}
	}
	flat := mutate.Extract(img)
	defer flat.Close()
	for r := tar.NewReader(flat); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		h.Name = "rootfs/" + strings.TrimPrefix(h.Name, "/")
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
	}
	for _, close := range []func() error{w.Close, z.Close, out.Close} {
		if err := close(); err != nil {
			return err
		}
	}
	return nil
}

// merge replaces fields of a manifest's app.
func merge(manifest []byte, also map[string]json.RawMessage) ([]byte, error) {
	var m, app map[string]json.RawMessage
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(m["app"], &app); err != nil {
		return nil, err
	}
	maps.Copy(app, also)
	var err error
	if m["app"], err = json.Marshal(app); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}
