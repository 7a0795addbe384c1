// Package config reads rkt's own configuration: JSON files in the directories paths.d, auth.d and
// stage1.d of a configuration directory (rkt 1.30, Documentation/configuration.md).
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
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

// Files reads the files of the directory sub of a configuration directory, in the order of their
// names: those that end in ".json". Each must be of one of the kinds. A directory that is not there
// has none, and so has the directory "".
func Files(dir, sub string, kinds ...string) ([]File, error) {
	if dir == "" {
		return nil, nil
	}
	directory := filepath.Join(dir, sub)
	entries, err := os.ReadDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		path := filepath.Join(directory, e.Name())
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

// head are the fields that each file has.
type head struct {
	Kind    string `json:"rktKind"`
	Version string `json:"rktVersion"`
}

// decode reads JSON into a struct. A field that it does not have is an error, since it may be a
// misspelt one. fields are those that it has.
func decode(text []byte, into any, fields string) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		return nil
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok { // no type of its own
		return fmt.Errorf("unknown field %s; there are %s", name, fields)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		field, want := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:], "an object"
		switch wrong.Type.Kind() {
		case reflect.String:
			want = "a string"
		case reflect.Slice:
			want = "a list"
		}
		return fmt.Errorf("%s: must be %s, not %s", field, want, wrong.Value)
	}
	return err
}

func kindOf(text []byte) (string, error) {
	var head head
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
	text, err := Read(f)
	if errors.Is(err, errTooLarge) {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return text, err
}

var errTooLarge = fmt.Errorf("larger than %d bytes", maxFile)

// Read reads an opened configuration file, and returns an error if it is larger than any is.
func Read(file io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errTooLarge
	}
	return text, err
}
