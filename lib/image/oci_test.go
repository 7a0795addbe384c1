package image

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/appc/spec/schema"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func manifest(t *testing.T, config, ref string) *schema.ImageManifest {
	t.Helper()
	r, err := ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	m, err := FromOCI([]byte(config), r)
	if err != nil {
		t.Fatalf("%s: %v", config, err)
	}
	return m
}

func TestFromOCI(t *testing.T) {
	m := manifest(t,
		`{"os":"linux","architecture":"arm64","variant":"v8","created":"2024-01-02T03:04:05.678Z","author":"me",
		"config":{"User":"redis","ExposedPorts":{"6379/tcp":{},"53/udp":{},"80":{},"80/tcp":{},"8000-8010/tcp":{}},
		"Env":["PATH=/bin","A=1","FOO.BAR=x","A=2","1X=y","NOVALUE","=z","E="],"Entrypoint":["/e","a b"],"Cmd":["c"],
		"Volumes":{"/data":{},"/a_b":{},"/a-b":{},"rel/x":{}},"WorkingDir":"work",
		"Labels":{"k":"v"},"StopSignal":"SIGINT"}}`,
		"docker://redis:7")
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "acKind": "ImageManifest",
 "acVersion": "0.8.11",
 "name": "registry-1.docker.io/library/redis",
 "labels": [
  {
   "name": "version",
   "value": "7"
  },
  {
   "name": "os",
   "value": "linux"
  },
  {
   "name": "arch",
   "value": "aarch64"
  }
 ],
 "app": {
  "exec": [
   "/e",
   "a b",
   "c"
  ],
  "user": "redis",
  "group": "0",
  "workingDirectory": "/work",
  "environment": [
   {
    "name": "PATH",
    "value": "/bin"
   },
   {
    "name": "A",
    "value": "2"
   },
   {
    "name": "FOO.BAR",
    "value": "x"
   },
   {
    "name": "E",
    "value": ""
   }
  ],
  "mountPoints": [
   {
    "name": "volume-a-b",
    "path": "/a-b"
   },
   {
    "name": "volume-a-b-2",
    "path": "/a_b"
   },
   {
    "name": "volume-data",
    "path": "/data"
   },
   {
    "name": "volume-rel-x",
    "path": "/rel/x"
   }
  ],
  "ports": [
   {
    "name": "53-udp",
    "protocol": "udp",
    "port": 53,
    "count": 1,
    "socketActivated": false
   },
   {
    "name": "6379-tcp",
    "protocol": "tcp",
    "port": 6379,
    "count": 1,
    "socketActivated": false
   },
   {
    "name": "80-tcp",
    "protocol": "tcp",
    "port": 80,
    "count": 1,
    "socketActivated": false
   },
   {
    "name": "8000-8010-tcp",
    "protocol": "tcp",
    "port": 8000,
    "count": 11,
    "socketActivated": false
   }
  ],
  "userLabels": {
   "k": "v"
  }
 },
 "annotations": [
  {
   "name": "appc.io/docker/cmd",
   "value": "[\"c\"]"
  },
  {
   "name": "appc.io/docker/entrypoint",
   "value": "[\"/e\",\"a b\"]"
  },
  {
   "name": "appc.io/docker/environment",
   "value": "[\"1X=y\",\"NOVALUE\",\"=z\"]"
  },
  {
   "name": "appc.io/docker/stopsignal",
   "value": "SIGINT"
  },
  {
   "name": "appc.io/docker/user",
   "value": "redis"
  },
  {
   "name": "authors",
   "value": "me"
  },
  {
   "name": "created",
   "value": "2024-01-02T03:04:05.678Z"
  }
 ]
}`
	if string(text) != want {
		t.Errorf("got %s", text)
	}
}

func TestUserGroup(t *testing.T) {
	for _, c := range []struct{ docker, user, group, appcGroup string }{
		{"", "0", "0", "0"},
		{"redis", "redis", "", "0"},
		{"redis:", "redis", "", "0"},
		{"999", "999", "", "0"},
		{"999:998", "999", "998", "998"},
		{"redis:www", "redis", "www", "www"},
		{":www", "0", "www", "www"},
	} {
		m := manifest(t, `{"config":{"User":"`+c.docker+`"}}`, "docker://x")
		if user, group := UserGroup(m); user != c.user || group != c.group || m.App.Group != c.appcGroup {
			t.Errorf("%q: %q:%q, appc group %q", c.docker, user, group, m.App.Group)
		}
	}
	if user, group := UserGroup(schema.BlankImageManifest()); user != "0" || group != "0" {
		t.Errorf("no app: %q:%q", user, group)
	}
}

func TestFromOCIPlatformAndName(t *testing.T) {
	for _, c := range []struct{ config, ref, name, labels string }{
		{`{"os":"linux","architecture":"amd64","variant":"v2"}`, "docker://h.x:1/a_b", "h.x_1/a_b",
			"version=latest os=linux arch=amd64"},
		{`{"os":"linux","architecture":"riscv64"}`, "oci:/srv/My App:1", "my_app", "version=1 os=linux"},
		{`{}`, "oci-archive:/srv/app.tar.gz:1", "app", "version=1"},
		{`{}`, "docker-archive:/srv/.tar", "tar", ""},
		{`{"os":"plan9","architecture":"386"}`, "oci:/srv/app", "app", ""},
		{`{"os":"linux","architecture":"arm","variant":"v7"}`, "oci:/srv/app", "app", "os=linux arch=armv7l"},
		{`{}`, "docker://a@sha256:" + strings.Repeat("0", 64), "registry-1.docker.io/library/a", "version=sha256:" +
			strings.Repeat("0", 64)},
	} {
		m := manifest(t, c.config, c.ref)
		var labels []string
		for _, l := range m.Labels {
			labels = append(labels, string(l.Name)+"="+l.Value)
		}
		if m.Name.String() != c.name || strings.Join(labels, " ") != c.labels {
			t.Errorf("%s: %s %v", c.ref, m.Name, labels)
		}
	}
}

// TestFromOCIEmpty has what tools leave in a configuration that says nothing; Docker and Podman run
// such images.
func TestFromOCIEmpty(t *testing.T) {
	none := manifest(t, `{"config":{}}`, "docker://x")
	for _, c := range []string{
		`{}`, `{"config":null}`, `{"config":{},"Config":null}`, `null`,
		`{"config":{"Entrypoint":null,"Cmd":null,"Env":null,"Labels":null,"Volumes":null,"ExposedPorts":null}}`,
		`{"config":{"Entrypoint":[],"Cmd":[],"Env":[],"Labels":{},"Volumes":{},"ExposedPorts":{},"User":"",` +
			`"WorkingDir":"","StopSignal":""}}`, `{"config":{"Entrypoint":[""]}}`, `{"config":{"Cmd":[""]}}`,
		`{"config":{"Entrypoint":[""],"Cmd":[""]}}`, `{"config":{"Env":[""]}}`,
		`{"config":{"Volumes":{"":{}},"ExposedPorts":{"":{}}}}`, `{"config":{"Healthcheck":null}}`,
		`{"created":"","author":""}`,
	} {
		got := manifest(t, c, "docker://x")
		x, err1 := json.Marshal(none)
		y, err2 := json.Marshal(got)
		if err1 != nil || err2 != nil || string(x) != string(y) {
			t.Errorf("%s:\n%s\nand not\n%s", c, y, x)
		}
	}
	for c, want := range map[string][]string{
		`{"config":{"Entrypoint":[""],"Cmd":["/c","x"]}}`: {"/c", "x"},
		`{"config":{"Entrypoint":["/e"],"Cmd":[""]}}`:     {"/e", ""},
		`{"config":{"Entrypoint":["/e",""],"Cmd":[]}}`:    {"/e", ""},
	} {
		if got := manifest(t, c, "docker://x"); !slices.Equal(got.App.Exec, want) {
			t.Errorf("%s: %q", c, got.App.Exec)
		}
	}
	for c, want := range map[string][2]string{`:`: {"0", ""}, `0:`: {"0", ""}, `:0`: {"0", "0"}} {
		user, group := UserGroup(manifest(t, `{"config":{"User":"`+c+`"}}`, "docker://x"))
		if user != want[0] || group != want[1] {
			t.Errorf("%q: %q:%q", c, user, group)
		}
	}
}

func TestFromOCIRefuses(t *testing.T) {
	for config, want := range map[string]string{
		`{`:  "image config: unexpected end of JSON input",
		`[]`: "image config: json: cannot unmarshal",
		`{"config":{"ExposedPorts":{"http/tcp":{}}}}`:     `image config: exposed port "http/tcp" is not PORT/PROTOCOL`,
		`{"config":{"ExposedPorts":{"0/tcp":{}}}}`:        "exposed port",
		`{"config":{"ExposedPorts":{"2-1/tcp":{}}}}`:      "exposed port",
		`{"config":{"ExposedPorts":{"65536/tcp":{}}}}`:    "exposed port",
		`{"config":{"ExposedPorts":{"80/\u0000":{}}}}`:    "exposed port",
		`{"config":{"Volumes":{"/":{}}}}`:                 `image config: volume "/" is not a path`,
		`{"config":{"Volumes":{"/a\u0000":{}}}}`:          "volume",
		`{"config":{"Env":"x"}}`:                          "image config: json: cannot unmarshal",
		`{"config":{"Entrypoint":"sh","User":{"a":"b"}}}`: "image config",
	} {
		_, err := FromOCI([]byte(config), Reference{Kind: OCILayout, Path: "/x"})
		if !testkit.Says(err, want) {
			t.Errorf("%s: %v", config, err)
		}
	}
}

func FuzzFromOCI(f *testing.F) {
	f.Add([]byte(`{"os":"linux","config":{"User":":","Env":["A=1"],"Volumes":{"/../..":{},"v":{}},` +
		`"ExposedPorts":{"1-65535/udp":{}}}}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		m, err := FromOCI(config, Reference{Kind: OCILayout, Path: "/x", Tag: "1"})
		if err != nil {
			return
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(text) {
			t.Fatalf("%q", text)
		}
		if err := json.Unmarshal(text, new(schema.ImageManifest)); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

func TestFromOCIRefusesEndlessLists(t *testing.T) {
	ref, err := ParseReference("docker://x")
	if err != nil {
		t.Fatal(err)
	}
	many := strings.Repeat(`"A=b",`, maxList) + `"A=b"`
	if _, err := FromOCI([]byte(`{"config":{"Env":[`+many+`]}}`), ref); !testkit.Says(err, "more than 4096") {
		t.Errorf("%d variables: %v", maxList+1, err)
	}
}
