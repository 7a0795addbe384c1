package stage1

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// SecretsDir is where an app has its credentials, one file each: $CREDENTIALS_DIRECTORY.
const SecretsDir = "/run/secrets"

// SecretsAnnotation is the name of an annotation of an app, in its configuration and in a pod's
// manifest: a JSON array of Secret.
const SecretsAnnotation = "coreos.com/rkt/stage2/secrets"

// MaxSecret bounds a credential, bytes, as systemd does.
const MaxSecret = 1 << 20

// Secret is a file of the host whose content an app gets when it starts. What it says is in no file
// of the pod's.
type Secret struct {
	Name   string  `json:"name"` // in SecretsDir
	Source string  `json:"source"`
	Target string  `json:"target,omitempty"` // where the app has it besides
	Mode   *uint32 `json:"mode,omitempty"`   // 0400
	UID    *uint32 `json:"uid,omitempty"`    // the app's
	GID    *uint32 `json:"gid,omitempty"`    // the app's
}

// Secrets reads the SecretsAnnotation of a configuration.
func Secrets(config *specs.Spec) ([]Secret, error) {
	return ParseSecrets(config.Annotations[SecretsAnnotation])
}

// ParseSecrets reads a SecretsAnnotation; "" is none.
func ParseSecrets(text string) (secrets []Secret, err error) {
	if text == "" {
		return nil, nil
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&secrets); err != nil {
		return nil, fmt.Errorf("%s: %w", SecretsAnnotation, err)
	}
	seen := map[string]bool{}
	for _, s := range secrets {
		err := CheckSecretName(s.Name)
		if err == nil && seen[s.Name] {
			err = errors.New("is there twice")
		}
		if err == nil && !strings.HasPrefix(s.Source, "/") {
			err = fmt.Errorf("source %q: is not absolute", s.Source)
		}
		if err == nil && s.Target != "" && !strings.HasPrefix(s.Target, "/") {
			err = fmt.Errorf("target %q: is not absolute", s.Target)
		}
		if err != nil {
			return nil, fmt.Errorf("secret %q: %w", s.Name, err)
		}
		seen[s.Name] = true
	}
	return secrets, nil
}

// CheckSecretName refuses what is not the name of a credential (systemd.exec(5)): a file name
// without odd characters.
func CheckSecretName(name string) error {
	isOdd := func(r rune) bool { return r == '/' || !unicode.IsPrint(r) }
	if name == "" || name == "." || name == ".." || len(name) > 255 || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, isOdd) {
		return errors.New("not a file name of at most 255 bytes")
	}
	return nil
}
