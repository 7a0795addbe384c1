package config

import (
	"errors"
	"fmt"
	"maps"
	"strings"
)

// Auth are the credentials for one host: one entry of a file in auth.d, of the kind auth or
// dockerAuth.
type Auth struct {
	Type                                 string // basic, oauth or aws
	User, Password                       string // basic
	Token                                string // oauth
	AccessKeyID, SecretAccessKey, Region string // aws

	File string // that it is from
}

// String keeps secrets out of what is printed by mistake.
func (a Auth) String() string { return "credentials of " + a.File }

// GoString is String.
func (a Auth) GoString() string { return a.String() }

// credentials are those of the format, of all types.
type credentials struct {
	User            string `json:"user,omitempty"`
	Password        string `json:"password,omitempty"`
	Token           string `json:"token,omitempty"`
	AccessKeyID     string `json:"accessKeyID,omitempty"`
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
	Region          string `json:"awsRegion,omitempty"`
}

// other returns the name of a credential that is not of the type, or "".
func (c credentials) other(kind string) string {
	for _, v := range []struct{ kind, name, value string }{
		{"basic", "user", c.User}, {"basic", "password", c.Password}, {"oauth", "token", c.Token},
		{"aws", "accessKeyID", c.AccessKeyID},
		{"aws", "secretAccessKey", c.SecretAccessKey}, {"aws", "awsRegion", c.Region},
	} {
		if v.value != "" && v.kind != kind {
			return v.name
		}
	}
	return ""
}

// ReadAuth reads auth.d of configuration directories: the credentials for web servers and for
// registries, by HOST[:PORT] as it is written there. A host in a later directory wins; one that is
// in two files of one directory is an error.
func ReadAuth(dirs ...string) (servers, registries map[string]Auth, err error) {
	servers, registries = map[string]Auth{}, map[string]Auth{}
	for _, dir := range dirs {
		files, err := Files(dir, "auth.d", "auth", "dockerAuth")
		if err != nil {
			return nil, nil, err
		}
		here := map[string]map[string]Auth{"auth": {}, "dockerAuth": {}}
		for _, f := range files {
			if err := f.auth(here[f.Kind]); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", f.Path, err)
			}
		}
		maps.Copy(servers, here["auth"])
		maps.Copy(registries, here["dockerAuth"])
	}
	return servers, registries, nil
}

// auth adds what a file has.
func (f File) auth(known map[string]Auth) error {
	var file struct {
		head
		Domains     []string    `json:"domains"`
		Registries  []string    `json:"registries"`
		Type        string      `json:"type"`
		Credentials credentials `json:"credentials"`
	}
	if err := decode(f.JSON, &file, "domains or registries, type, credentials (user, password, token, accessKeyID, "+
		"secretAccessKey, awsRegion)"); err != nil {
		return err
	}
	hosts, field := file.Domains, "domains"
	switch {
	case f.Kind == "auth" && file.Registries != nil:
		return errors.New("registries: is for rktKind dockerAuth; auth has domains")
	case f.Kind == "dockerAuth" && file.Domains != nil:
		return errors.New("domains: is for rktKind auth; dockerAuth has registries")
	case f.Kind == "dockerAuth" && file.Type != "" && file.Type != "basic":
		return fmt.Errorf("type %q: dockerAuth has user and password only", file.Type)
	case f.Kind == "dockerAuth":
		hosts, field, file.Type = file.Registries, "registries", "basic"
	}
	a, err := file.Credentials.of(file.Type)
	if err != nil {
		return err
	}
	a.File = f.Path
	if len(hosts) == 0 {
		return fmt.Errorf("no %s", field)
	}
	for _, host := range hosts {
		if host == "" || strings.ContainsAny(host, "/@ ") {
			return fmt.Errorf("%s: %q is not HOST[:PORT]", field, host)
		}
		host = strings.ToLower(host)
		if old, ok := known[host]; ok {
			return fmt.Errorf("%s: %s is in %s too", field, host, old.File)
		}
		known[host] = a
	}
	return nil
}

// of returns what a type of credentials needs, and refuses what is of another.
func (c credentials) of(kind string) (Auth, error) {
	a := Auth{Type: kind}
	switch kind {
	case "basic":
		if c.User == "" || c.Password == "" {
			return Auth{}, errors.New("credentials: user and password are needed")
		}
		a.User, a.Password = c.User, c.Password
	case "oauth":
		if c.Token == "" {
			return Auth{}, errors.New("credentials: a token is needed")
		}
		a.Token = c.Token
	case "aws":
		if c.AccessKeyID == "" || c.SecretAccessKey == "" {
			return Auth{}, errors.New("credentials: accessKeyID and secretAccessKey are needed")
		}
		a.AccessKeyID, a.SecretAccessKey, a.Region = c.AccessKeyID, c.SecretAccessKey, c.Region
	default:
		return Auth{}, fmt.Errorf("type %q is not one of basic, oauth, aws", kind)
	}
	if other := c.other(kind); other != "" {
		return Auth{}, fmt.Errorf("credentials: %s is not for type %s", other, kind)
	}
	return a, nil
}
