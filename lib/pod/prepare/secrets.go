package prepare

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// AddSecret reads rkt's NAME,source=FILE[,target=PATH][,mode=OCTAL][,uid=N][,gid=N]: a file of the
// host that the app gets when it starts.
func (a *App) AddSecret(s string) error {
	name, rest, ok := strings.Cut(s, ",")
	if !ok {
		return errors.New("not NAME,source=FILE[,target=PATH][,mode=0400][,uid=N][,gid=N]")
	}
	secret := stage1.Secret{Name: name}
	if err := eachSetting(rest, secretSetting(&secret)); err != nil {
		return fmt.Errorf("secret %q: %w", name, err)
	}
	if secret.Source == "" {
		return fmt.Errorf("secret %q: has no source=FILE", name)
	}
	before, _ := a.Annotations.Get(stage1.SecretsAnnotation)
	secrets, err := stage1.ParseSecrets(before)
	if err != nil {
		return err
	}
	text, err := json.Marshal(append(secrets, secret))
	if err == nil {
		_, err = stage1.ParseSecrets(string(text))
	}
	a.Annotations.Set(stage1.SecretsAnnotation, string(text))
	return err
}

// secretSetting sets one setting of a secret.
func secretSetting(secret *stage1.Secret) func(key, value string) error {
	return func(key, value string) (err error) {
		switch key {
		case "source":
			secret.Source, err = source(value)
			return err
		case "target":
			secret.Target, err = target(value)
			return err
		case "mode":
			secret.Mode, err = idOrMode(value, 8, 0o777)
		case "uid":
			secret.UID, err = idOrMode(value, 10, maxID)
		case "gid":
			secret.GID, err = idOrMode(value, 10, maxID)
		default:
			return fmt.Errorf("%q is not one of source, target, mode, uid, gid", key)
		}
		if err != nil {
			return fmt.Errorf("%s=%s: not a valid value", key, value)
		}
		return nil
	}
}

// maxID is the last user or group; the next is none to the kernel.
const maxID = 1<<32 - 2

func idOrMode(s string, base int, most uint64) (*uint32, error) {
	n, err := strconv.ParseUint(s, base, 32)
	if err == nil && n > most {
		err = strconv.ErrRange
	}
	value := uint32(n)
	return &value, err
}

// secrets checks the secrets that annotations of an app say: their sources are there now, and read
// when the pod starts.
func secrets(annotations types.Annotations) (text string, err error) {
	text, _ = annotations.Get(stage1.SecretsAnnotation)
	all, err := stage1.ParseSecrets(text)
	if err != nil {
		return "", err
	}
	for _, s := range all {
		info, err := os.Stat(s.Source)
		switch {
		case err != nil:
			return "", fmt.Errorf("secret %q: %w", s.Name, err)
		case !info.Mode().IsRegular():
			return "", fmt.Errorf("secret %q: source %s: not a file", s.Name, s.Source)
		case info.Size() > stage1.MaxSecret:
			return "", fmt.Errorf("secret %q: source %s: larger than %d bytes", s.Name, s.Source, stage1.MaxSecret)
		}
	}
	return text, nil
}
