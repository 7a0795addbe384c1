// Package config reads rkt's own configuration: JSON files in the folders paths.d, auth.d and stage1.d of a configuration directory
// (rkt 1.30, Documentation/configuration.md).
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds a configuration file, bytes.
const maxFile = 1 << 20

// File is a configuration file.
type File struct {
	Path string
	Kind string // rktKind
	JSON []byte
}

// Files reads the files of the folder sub of a configuration directory, in the order of their names: those that end in ".json". Each
// must be of one of the kinds. A folder that is not there has none, and so has the directory "".
func Files(dir, sub string, kinds ...string) ([]File, error) {
	if dir == "" {
		return nil, nil
	}
	folder := filepath.Join(dir, sub)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		if !strings.HasSuffix(path, ".json") {
			continue
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			if err != nil {
				return nil, err
			}
			continue
		}
		text, err := ReadFile(path)
		if err != nil {
			return nil, err
		}
		kind, err := kindOf(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if !slices.Contains(kinds, kind) {
			return nil, fmt.Errorf("%s: rktKind %q has no place in %s", path, kind, sub)
		}
		files = append(files, File{Path: path, Kind: kind, JSON: text})
	}
	return files, nil
}

func kindOf(text []byte) (string, error) {
	var head struct {
		Kind    string `json:"rktKind"`
		Version string `json:"rktVersion"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return "", err
	}
	switch {
	case head.Kind == "":
		return "", errors.New("no rktKind")
	case head.Version != "v1":
		return "", fmt.Errorf("rktVersion %q: only v1 is known", head.Version)
	}
	return head.Kind, nil
}

// ReadFile reads a configuration file of at most 1 MiB.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return text, err
}
