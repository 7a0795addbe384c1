package prepare

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
)

// isolatorFields are the fields of the values of isolators, by their names. Other values are no
// objects, or may have any field.
var isolatorFields = map[string][]string{
	"os/linux/apparmor-profile":        {"profile"},
	"os/linux/capabilities-remove-set": {"set"},
	"os/linux/capabilities-retain-set": {"set"},
	"os/linux/seccomp-remove-set":      {"errno", "set"},
	"os/linux/seccomp-retain-set":      {"errno", "set"},
	"os/linux/selinux-context":         {"level", "role", "type", "user"},
	"resource/block-bandwidth":         {"default", "limit", "request"},
	"resource/block-iops":              {"default", "limit", "request"},
	"resource/cpu":                     {"default", "limit", "request"},
	"resource/memory":                  {"default", "limit", "request"},
	"resource/network-bandwidth":       {"default", "limit", "request"},
}

// checkFields returns an error for a field of a pod manifest that appc does not have. appc's
// library passes over it, and so what it was to say, such as that a root is read-only, would be
// silently without effect.
func checkFields(manifest []byte) error {
	var value any
	if err := json.Unmarshal(manifest, &value); err != nil {
		return err
	}
	return checkValue(value, reflect.TypeFor[schema.PodManifest](), "")
}

// checkValue compares a value with the type that appc's library reads it into.
func checkValue(value any, of reflect.Type, at string) error {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch v := value.(type) {
	case []any:
		if of.Kind() != reflect.Slice {
			return nil
		}
		for i, item := range v {
			if err := checkValue(item, of.Elem(), fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		if of.Kind() != reflect.Struct { // a map, whose keys are anybody's
			return nil
		}
		return checkObject(v, of, at)
	}
	return nil
}

func checkObject(object map[string]any, of reflect.Type, at string) error {
	fields := map[string]reflect.Type{}
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if name != "" {
			fields[name] = of.Field(i).Type
		}
	}
	known := slices.Sorted(maps.Keys(fields))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		i := slices.IndexFunc(known, func(s string) bool { return strings.EqualFold(s, name) }) // as encoding/json does
		if i < 0 {
			return unknownField(at, name, known)
		}
		if err := checkValue(object[name], fields[known[i]], strings.TrimPrefix(at+"."+name, ".")); err != nil {
			return err
		}
	}
	if of == reflect.TypeFor[types.Isolator]() {
		return checkIsolator(object, at)
	}
	return nil
}

func checkIsolator(object map[string]any, at string) error {
	name, _ := object["name"].(string)
	value, _ := object["value"].(map[string]any)
	known, ok := isolatorFields[name]
	if !ok {
		return nil
	}
	for _, field := range slices.Sorted(maps.Keys(value)) {
		if !slices.ContainsFunc(known, func(s string) bool { return strings.EqualFold(s, field) }) {
			return unknownField(at+".value", field, known)
		}
	}
	return nil
}

func unknownField(at, name string, known []string) error {
	err := fmt.Errorf("unknown field %q; there are %s", name, strings.Join(known, ", "))
	if at != "" {
		err = fmt.Errorf("%s: %w", at, err)
	}
	return err
}
