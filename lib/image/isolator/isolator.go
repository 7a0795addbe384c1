// Package isolator knows the isolators that appc's library does not: one that appc planned, for
// which it registers a type with the library when it is imported, and the names of those that
// nobody knows.
package isolator

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/appc/spec/schema/types"
)

// AppArmorName is the name of the isolator that appc planned.
const AppArmorName = "os/linux/apparmor-profile"

// AppArmor is os/linux/apparmor-profile: {"profile": "NAME"}, a profile that is loaded on the host.
type AppArmor struct {
	types.LinuxNoNewPrivileges // has what the interface does not export
	Profile                    string
}

func init() {
	types.AddIsolatorValueConstructor(AppArmorName, func() types.IsolatorValue { return &AppArmor{} })
}

// UnmarshalJSON reads the isolator's value.
func (a *AppArmor) UnmarshalJSON(b []byte) error {
	var v struct{ Profile string }
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	a.Profile = v.Profile
	return nil
}

// AssertValid reports whether the value is a name that a unit file can hold.
func (a AppArmor) AssertValid() error {
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '%' }
	if a.Profile == "" || a.Profile[0] == '-' || strings.ContainsFunc(a.Profile, odd) {
		return fmt.Errorf("%q is no profile's name", a.Profile)
	}
	return nil
}

// Unknown names the first isolator in the manifest of an image or a pod that is not known, which
// appc's library refuses without a name; "" is none.
func Unknown(manifest []byte) string {
	type section struct {
		Isolators []struct{ Name types.ACIdentifier }
	}
	var m struct {
		section
		App  section
		Apps []struct{ App section }
	}
	if json.Unmarshal(manifest, &m) != nil {
		return ""
	}
	all := append(m.Isolators, m.App.Isolators...)
	for _, a := range m.Apps {
		all = append(all, a.App.Isolators...)
	}
	for _, i := range all {
		known := types.Isolator{}
		text, err := json.Marshal(map[string]any{"name": i.Name, "value": struct{}{}})
		if err == nil && json.Unmarshal(text, &known) == nil && known.Value() == nil {
			return i.Name.String()
		}
	}
	return ""
}
