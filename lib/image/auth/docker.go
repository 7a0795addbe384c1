package auth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/config"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"golang.org/x/sys/unix"
)

// dockerConfig is what counts here of Docker's config.json and of containers-auth.json(5).
type dockerConfig struct {
	Auths   map[string]dockerAuth `json:"auths"`
	Store   string                `json:"credsStore"`  // the helper for all hosts
	Helpers map[string]string     `json:"credHelpers"` // by host
}

type dockerAuth struct {
	Auth          string `json:"auth"` // base64 of USER:PASSWORD
	User          string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// fromDocker looks into the file that the environment names, else into those in the places where
// Docker and Podman write. The first that has something for the host counts.
func (k *Keychain) fromDocker(ctx context.Context, host, repository string) (Credentials, bool, error) {
	for _, path := range k.dockerFiles() {
		d, err := k.dockerFile(path)
		if (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)) && path != k.getenv("REGISTRY_AUTH_FILE") {
			continue
		}
		var c Credentials
		ok := false
		if err == nil {
			c, ok, err = d.find(ctx, host, repository)
		}
		if err != nil {
			return Credentials{}, false, fmt.Errorf("credentials of %s: %w", path, err)
		}
		if ok {
			c.From = cmp.Or(c.From, path)
			return c, true, nil
		}
	}
	return Credentials{}, false, nil
}

func (k *Keychain) dockerFiles() []string {
	if path := k.getenv("REGISTRY_AUTH_FILE"); path != "" { // Podman's
		return []string{path}
	}
	if dir := k.getenv("DOCKER_CONFIG"); dir != "" {
		return []string{filepath.Join(dir, "config.json")}
	}
	home := k.getenv("HOME")
	if home == "" { // as in a service of the system
		if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
			home = u.HomeDir
		}
	}
	configs := k.getenv("XDG_CONFIG_HOME")
	runtime := cmp.Or(k.getenv("XDG_RUNTIME_DIR"), "/run")
	list := []string{filepath.Join(runtime, "containers/auth.json"), fmt.Sprintf("/run/containers/%d/auth.json",
		os.Getuid())}
	if home != "" {
		list = append([]string{filepath.Join(home, ".docker/config.json")}, list...)
		configs = cmp.Or(configs, filepath.Join(home, ".config"))
	}
	if configs != "" {
		list = append(list, filepath.Join(configs, "containers/auth.json"))
	}
	return list
}

func (k *Keychain) dockerFile(path string) (*dockerConfig, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d, ok := k.docker[path]; ok {
		return d, nil
	}
	text, err := config.ReadFile(path)
	if err != nil {
		return nil, cause(err)
	}
	d, err := parseDocker(text)
	if err == nil {
		k.docker[path] = d
	}
	return d, err
}

// cause is an error without the path.
func cause(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

func parseDocker(text []byte) (*dockerConfig, error) {
	d := new(dockerConfig)
	if len(bytes.TrimSpace(text)) == 0 { // as Podman may leave it
		return d, nil
	}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, err
	}
	for key, a := range d.Auths {
		if a.Auth == "" {
			continue
		}
		plain, err := base64.StdEncoding.DecodeString(a.Auth)
		name, password, ok := strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
		if err != nil || !ok || name == "" {
			return nil, fmt.Errorf("auths, %q: auth is not base64 of USER:PASSWORD", key)
		}
		a.User, a.Password = name, password
		d.Auths[key] = a
	}
	for _, helper := range append(slices.Collect(maps.Values(d.Helpers)), d.Store) {
		if strings.ContainsAny(helper, "/\x00") {
			return nil, fmt.Errorf("%q is not the name of a credential helper", helper)
		}
	}
	return d, nil
}

// find asks the helper of the host, the one for all, and then the file itself.
func (d *dockerConfig) find(ctx context.Context, host, repository string) (Credentials, bool, error) {
	names := []string{host}
	if host == hub { // by the first of which Docker knows its Hub
		names = []string{"https://index.docker.io/v1/", "index.docker.io", "docker.io", hub}
	}
	var asks [][2]string // helper, server
	for _, name := range names {
		if helper := d.Helpers[name]; helper != "" {
			asks = append(asks, [2]string{helper, name})
			break
		}
	}
	if d.Store != "" {
		asks = append(asks, [2]string{d.Store, names[0]})
	}
	for _, ask := range asks {
		if c, ok, err := askHelper(ctx, ask[0], ask[1]); ok || err != nil {
			return c, ok, err
		}
	}
	a, ok := d.entry(names, repository)
	return Credentials{User: a.User, Password: a.Password, IdentityToken: a.IdentityToken, Token: a.RegistryToken},
		ok, nil
}

// entry gives that of the repository, or of the closest directory above it, or of the host
// (containers-auth.json(5)); an old Docker's keys are URLs.
func (d *dockerConfig) entry(hosts []string, repository string) (dockerAuth, bool) {
	for at := repository; at != "."; at = filepath.Dir(at) {
		for _, host := range hosts {
			if a, ok := d.Auths[host+"/"+at]; ok && a != (dockerAuth{}) {
				return a, true
			}
		}
	}
	for _, host := range hosts {
		for _, key := range []string{host, "https://" + host, "https://" + host + "/", "https://" + host + "/v1/",
			"https://" + host + "/v2/",
			host + "/v1/", host + "/v2/", "http://" + host, "http://" + host + "/v1/", "http://" + host + "/v2/"} {
			if a, ok := d.Auths[key]; ok && a != (dockerAuth{}) {
				return a, true
			}
		}
	}
	return dockerAuth{}, false
}

// helperTime is how long a helper may take, and maxAnswer how many bytes of its answer count.
const (
	helperTime = time.Minute // it may ask the user for a password
	maxAnswer  = 1 << 20
)

// askHelper runs docker-credential-NAME (github.com/docker/docker-credential-helpers): the server
// goes in by standard input.
func askHelper(ctx context.Context, name, server string) (Credentials, bool, error) {
	helper := "docker-credential-" + name
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	cmd := program.Command(ctx, helper, "get")
	cmd.Stdin = strings.NewReader(server)
	out := &bounded{max: maxAnswer}
	cmd.Stdout = out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	text := strings.TrimSpace(out.String())
	switch {
	case ctx.Err() != nil:
		return Credentials{}, false, fmt.Errorf("%s: %w", helper, ctx.Err())
	case err != nil && text == "credentials not found in native keychain":
		return Credentials{}, false, nil
	case errors.Is(err, program.ErrNotFound):
		return Credentials{}, false, err
	case err != nil && !strings.HasPrefix(text, "{"): // its words, but no credentials
		return Credentials{}, false, fmt.Errorf("%s: %w: %.200s", helper, err, text)
	case err != nil:
		return Credentials{}, false, fmt.Errorf("%s: %w", helper, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return Credentials{}, false, fmt.Errorf("%s: its answer is not the JSON of a credential helper", helper)
	}
	c := Credentials{User: answer.Username, Password: answer.Secret, From: helper}
	if c.User == "<token>" {
		c = Credentials{IdentityToken: answer.Secret, From: helper}
	}
	return c, answer.Secret != "", nil
}

// bounded keeps the first bytes of what is written to it.
type bounded struct {
	bytes.Buffer
	max int
}

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), b.max-b.Len())])
	return len(p), nil
}
