package config

import (
	"encoding/json"
	"maps"
	"slices"
)

// entry is an entry of the configuration as it is printed, which could stand in a file.
type entry struct {
	Version string `json:"rktVersion"`
	Kind    string `json:"rktKind"`

	Domains     []string     `json:"domains,omitempty"`
	Registries  []string     `json:"registries,omitempty"`
	Type        string       `json:"type,omitempty"`
	Credentials *credentials `json:"credentials,omitempty"`

	*Paths
	*Stage1
}

// Print gives the configuration of these directories as rkt printed it, secrets and all: JSON with
// an entry for each host, in the order of their names, one with the paths, and one of stage1 if
// anything is configured. data is the data directory where no file names one.
func Print(data string, dirs ...string) ([]byte, error) {
	servers, registries, err := ReadAuth(dirs...)
	if err != nil {
		return nil, err
	}
	paths, err := ReadPaths(dirs...)
	if err != nil {
		return nil, err
	}
	stage1, err := ReadStage1(dirs...)
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, host := range slices.Sorted(maps.Keys(servers)) {
		a := servers[host]
		all = append(all, entry{Version: "v1", Kind: "auth", Domains: []string{host}, Type: a.Type,
			Credentials: a.credentials()})
	}
	for _, host := range slices.Sorted(maps.Keys(registries)) {
		all = append(all, entry{Version: "v1", Kind: "dockerAuth", Registries: []string{host},
			Credentials: registries[host].credentials()})
	}
	if paths.Data == "" {
		paths.Data = data
	}
	all = append(all, entry{Version: "v1", Kind: "paths", Paths: &paths})
	if stage1 != (Stage1{}) {
		all = append(all, entry{Version: "v1", Kind: "stage1", Stage1: &stage1})
	}
	return json.Marshal(map[string][]entry{"stage0": all})
}

func (a Auth) credentials() *credentials {
	return &credentials{a.User, a.Password, a.Token, a.AccessKeyID, a.SecretAccessKey, a.Region}
}
