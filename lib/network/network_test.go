package network

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestSelection(t *testing.T) {
	for _, test := range []struct {
		flags string // separated by spaces
		want  string // as String gives it
		wrong string
	}{
		{flags: "true", want: "default"}, // --net alone
		{flags: "default", want: "default"},
		{flags: "host", want: "host"},
		{flags: "none", want: "none"},
		{flags: "all,a:IP=1.2.3.4", want: "all,a:IP=1.2.3.4"},
		{flags: "a,b c", want: "a,b,c"},
		{flags: "n1,n2:IP=1.2.3.4;K=V", want: "n1,n2:IP=1.2.3.4;K=V"},
		{flags: "ptp:IP=172.16.28.101", want: "ptp:IP=172.16.28.101"},
		{flags: "a:IP=fd00::1", want: "a:IP=fd00::1"},
		{flags: "a:K=", want: "a:K="},
		{flags: "a:K=v=w", want: "a:K=v=w"},
		{flags: "a:", want: "a"},

		{flags: "a,", wrong: `"" ... a network's name`},
		{flags: ",", wrong: `"" ... a network's name`},
		{flags: ":K=V", wrong: `"" ... a network's name`},
		{flags: "-a", wrong: `"-a" ... a network's name`},
		{flags: "a/b", wrong: `"a/b" ... a network's name`},
		{flags: "é", wrong: `"é" ... a network's name`},
		{flags: "a,b,a", wrong: `network "a" is there twice`},
		{flags: "a a:K=V", wrong: `network "a" is there twice`},
		{flags: "host,a", wrong: `"host" and "none" stand alone`},
		{flags: "a none", wrong: `"host" and "none" stand alone`},
		{flags: "host none", wrong: `"host" and "none" stand alone`},
		{flags: "none:K=V", wrong: `"none" takes no arguments`},
		{flags: "all:K=V", wrong: `"all" takes no arguments`},
		{flags: "a:K", wrong: `network "a": "K" is not KEY=VALUE`},
		{flags: "a:=V", wrong: `network "a": "=V" is not KEY=VALUE`},
		{flags: "a:K=V;", wrong: `network "a": "" is not KEY=VALUE`},
		{flags: "a:K-L=V", wrong: `network "a": "K-L=V" is not KEY=VALUE`},
		{flags: "a:K=\x00", wrong: `network "a": "K=\x00" is not KEY=VALUE`},
	} {
		t.Run(test.flags, func(t *testing.T) {
			var s Selection
			var err error
			for value := range strings.SplitSeq(test.flags, " ") {
				if err == nil {
					err = s.Set(value)
				}
			}
			if test.wrong != "" {
				if !testkit.Says(err, test.wrong) {
					t.Fatalf("got %v, want %s", err, test.wrong)
				}
				return
			}
			if err != nil || s.String() != test.want {
				t.Fatalf("got %s, %v, want %s", s.String(), err, test.want)
			}
		})
	}
}

// FuzzSelection: what is taken is written as it would be taken again, and can go into an
// environment variable.
func FuzzSelection(f *testing.F) {
	for _, seed := range []string{"default", "a,b:IP=1.2.3.4;K=V", "all,x:K=", "a:K=v:w", ",", "host,a", "a:K=\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var s, again Selection
		if s.Set(value) != nil {
			if s != nil {
				t.Fatalf("%q: refused, and changed", value)
			}
			return
		}
		if err := again.Set(s.String()); err != nil || again.String() != s.String() {
			t.Fatalf("%q: %q, then %q, %v", value, s.String(), again.String(), err)
		}
		for _, r := range s {
			if strings.ContainsAny(r.Name+r.Args, "\x00\n,") || strings.Contains(r.Name, "/") {
				t.Fatalf("%q: %q", value, r)
			}
		}
	})
}

// FuzzConfig: a file that is taken is a list of plugins whose names stay in their directory, and it
// reads the same again.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		`{"name":"b","type":"ptp","ipMasq":true,"ipam":{"type":"host-local","subnet":"172.16.28.0/24"}}`,
		`{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"},{"type":"portmap"}]}`,
		`{"name":"a","plugins":[]}`, `{"name":"host","type":"x"}`, `{"name":"a","type":"../x"}`,
		`{"name":"a","plugins":null,"type":"x"}`, `{"Name":"a","TYPE":"x"}`, `[]`, `null`, `{"name":5}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q", err)
			}
			return
		}
		if !validName(c.Name) || c.Type == "" || strings.Contains(c.Type, "/") {
			t.Fatalf("%q: %+v", data, c)
		}
		again, err := parseConfig(c.List)
		if err != nil || again.Name != c.Name || again.Type != c.Type {
			t.Fatalf("%q: %+v, then %+v, %v", data, c, again, err)
		}
	})
}

// directory writes files, NAME then text, into a new directory.
func directory(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoad(t *testing.T) {
	user := directory(t, "50-b.conf", `{"name":"b","type":"user"}`)
	local := directory(t,
		"30-b.conf", `{"name":"b","type":"local"}`,
		"20-a.conflist", `{"name":"a","plugins":[{"type":"bridge"},{"type":"portmap"}]}`,
		"10-c.json", `{"name":"c","cniVersion":"0.3.1","type":"macvlan","master":"eth0"}`,
		"readme.txt", `not JSON`,
		"x.conf~", `not JSON`)
	system := directory(t, "40-default.conf", `{"name":"default","type":"bridge"}`, "05-z.conf",
		`{"name":"z","type":"z"}`)
	configs, err := Load(user, local, system, "/nonexistent")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range configs {
		got = append(got, c.Name+"/"+c.Type)
	}
	want := "z/z c/macvlan a/bridge default/bridge b/user default-restricted/ptp"
	if s := strings.Join(got, " "); s != want {
		t.Fatalf("got  %s\nwant %s", s, want)
	}
	if list := string(configs[1].List); list != `{"cniVersion":"0.3.1","name":"c","plugins":[{"cniVersion":"0.3.1",`+
		`"master":"eth0","name":"c","type":"macvlan"}]}` {
		t.Fatal(list)
	}
}

func TestLoadWrong(t *testing.T) {
	for _, test := range []struct{ text, wrong string }{
		{"", "unexpected end of JSON input"},
		{"{\n\"name\": \"a\",\n}", "line 3: invalid character '}'"},
		{`{"name":"a","type":"b"} x`, "line 1: invalid character 'x' after top-level value"},
		{`[]`, "array"},
		{`{"type":"b"}`, `no "name"`},
		{`{"name":"a"}`, `no "type"`},
		{`{"name":"a","plugins":[]}`, `no plugin in "plugins"`},
		{`{"name":"a","plugins":[{}]}`, `plugin 1: no "type"`},
		{`{"name":"a","plugins":[{"type":"x"},{"type":"../../bin/sh"}]}`,
			`plugin 2: "../../bin/sh" ... plugin's type`},
		{`{"name":"a/b","type":"b"}`, `"a/b" ... a network's name`},
		{`{"name":"host","type":"b"}`, `a network can't be named "host"`},
		{`{"name":5,"type":"b"}`, `"name" ... not a string`},
	} {
		t.Run(test.text, func(t *testing.T) {
			dir := directory(t, "10-x.conf", test.text)
			_, err := Load(dir)
			if !testkit.Says(err, filepath.Join(dir, "10-x.conf: ")) || !testkit.Says(err, test.wrong) {
				t.Fatalf("got %v, want %s", err, test.wrong)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	plain, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	own, err := Load(directory(t,
		"10-ptp0.conf", `{"name":"ptp0","type":"ptp"}`,
		"20-b0.conf", `{"name":"b0","type":"bridge"}`,
		"30-b1.conf", `{"name":"b1","type":"bridge"}`,
		"40-macvlan.conf", `{"name":"macvlan","type":"ipvlan"}`,
		"50-twin.conf", `{"name":"twin","type":"twin"}`,
		"60-twin.conf", `{"name":"twin","type":"twin"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		configs   []Config
		net, want string
		wrong     string
	}{
		{plain, "", "default", ""},
		{plain, "ptp:IP=1.2.3.4", "default:IP=1.2.3.4", ""},
		{plain, "all", "default,default-restricted", ""},
		{plain, "default-restricted,default", "default-restricted,default", ""},
		{plain, "none", "", ""},
		{plain, "host", "", ""},
		{own, "ptp:IP=1.2.3.4", "ptp0:IP=1.2.3.4", ""}, // the only one among the files
		{own, "b1,ptp0,b0", "b1,ptp0,b0", ""},
		{own, "macvlan", "macvlan", ""}, // a name goes before a type
		{own, "ipvlan", "macvlan", ""},

		{plain, "ptp,default", "", `network "default": chosen twice ... "default"`},
		{plain, "ptp0", "", `network "ptp0": no such network ... default, default-restricted`},
		{own, "bridge", "", `network "bridge": ... several have this type: `},
		{own, "twin", "", `network "twin": both `},
		{own, "all", "", `network "twin": both `},
	} {
		t.Run(test.net, func(t *testing.T) {
			var s, got Selection
			if test.net != "" {
				if err := s.Set(test.net); err != nil {
					t.Fatal(err)
				}
			}
			choices, err := s.Resolve(test.configs)
			if test.wrong != "" {
				if !testkit.Says(err, test.wrong) {
					t.Fatalf("got %v, want %s", err, test.wrong)
				}
				return
			}
			for _, c := range choices {
				got = append(got, Request{c.Name, c.Args, c.Aliases})
			}
			if err != nil || got.String() != test.want {
				t.Fatalf("got %s, %v, want %s", got.String(), err, test.want)
			}
		})
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	if networks, err := Read(dir); networks != nil || err != nil {
		t.Fatal(networks, err)
	}
	for file, text := range map[string]string{
		"eth0/config": `{"name":"default","plugins":[{"type":"sh"},{"type":"portmap"}]}`,
		"eth0/args":   "K=V\n",
		"eth0/result": `{"cniVersion":"0.4.0","ips":[{"address":"fd00::2/64"},{"version":"4",` +
			`"address":"172.16.28.2/20"}]}`,
		"path":         "/nosuch\n/bin\n",
		"eth10/config": `{"name":"old"}`,
		"eth10/result": `{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.2/16"},"ip6":{"ip":""}}`,
		"eth2/config":  `{"name":"lo"}`,
		"eth2/result":  `{"cniVersion":"0.4.0"}`,
		"eth3/config":  `{"name":"unanswered"}`,
		"eth4/result":  `{"cniVersion":"0.4.0"}`, // taken down, almost
		"eth01/config": `{"name":"not ours"}`,
		"netns":        "/run/rkt/netns/x\n",
	} {
		path := filepath.Join(dir, Dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	networks, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range networks {
		got = append(got, n.String())
	}
	if s := strings.Join(got, " "); s != "default:ip6=fd00::2,ip4=172.16.28.2 lo old:ip4=10.1.0.2" {
		t.Fatal(s)
	}
	// The names and the form of rkt's networking/netinfo.
	text, err := json.Marshal(networks[:2])
	want := `[{"netName":"default","netConf":"net/eth0/config","pluginPath":"/bin/sh","ifName":"eth0",` +
		`"ip":"172.16.28.2","args":"K=V","mask":"255.255.240.0","ips":["fd00::2","172.16.28.2"]},{"netName":"lo",` +
		`"netConf":"net/eth2/config","pluginPath":"","ifName":"eth2","ip":"","args":"","mask":"",` +
		`"ips":null}]`
	if string(text) != want || err != nil {
		t.Errorf("%s, %v; want\n%s", text, err, want)
	}
	if where, err := Namespace(dir); where != "/run/rkt/netns/x" || err != nil {
		t.Fatal(where, err)
	}
	if err := os.WriteFile(filepath.Join(dir, Dir, "eth0/result"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); !testkit.Says(err, "net/eth0: result: ") {
		t.Fatal(err)
	}
}
