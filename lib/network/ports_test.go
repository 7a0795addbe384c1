package network

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestPodPorts(t *testing.T) {
	const apps = `"apps":[{"name":"a","app":{"ports":[{"name":"http","protocol":"tcp","port":80,"count":1},` +
		`{"name":"dns","protocol":"udp","port":53}]}},{"name":"b","app":{"ports":[{"name":"range","protocol":"tcp",` +
		`"port":7000,"count":3},{"name":"odd","protocol":"ipx","port":1}]}},{"name":"c","app":null}]`
	for _, test := range []struct{ ports, want, wrong string }{
		{``, "", ""},
		{`{"name":"http","hostPort":8080}`, "8080/tcp>80", ""},
		{`{"name":"http","hostPort":8080},{"name":"dns","hostPort":8080,"hostIP":"10.0.0.1"}`,
			"8080/tcp>80 10.0.0.1:8080/udp>53", ""},
		{`{"name":"http","hostPort":8080,"hostIP":"fd00:0::1"}`, "[fd00::1]:8080/tcp>80", ""},
		{`{"name":"http","hostPort":8080,"hostIP":"10.0.0.1"},{"name":"range","hostPort":8080,"hostIP":"10.0.0.2"}`,
			"10.0.0.1:8080/tcp>80 10.0.0.2:8080/tcp>7000 10.0.0.2:8081/tcp>7001 10.0.0.2:8082/tcp>7002", ""},
		{`{"name":"any","hostPort":1,"podPort":{"name":"any","protocol":"tcp","port":9,"count":1}}`, "1/tcp>9", ""},
		{`{"name":"http","hostPort":1,"podPort":{"name":"http","protocol":"udp","port":9,"count":2}}`,
			"1/udp>9 2/udp>10", ""},

		{`{"name":"ftp","hostPort":21}`, "", `port "ftp": ... declares it`},
		{`{"name":"http","hostPort":0}`, "", `not within 1 to 65535`},
		{`{"name":"range","hostPort":65534}`, "", `not within 1 to 65535`},
		{`{"name":"http","hostPort":1,"hostIP":"nowhere"}`, "", `port "http": `},
		{`{"name":"odd","hostPort":1}`, "", `protocol "ipx" can't be forwarded`},
		{`{"name":"range","hostPort":80},{"name":"http","hostPort":82}`, "", `port "http": 82/tcp is forwarded twice`},
		{`{"name":"http","hostPort":80,"hostIP":"0.0.0.0"},{"name":"range","hostPort":80,"hostIP":"10.0.0.1"}`, "",
			"10.0.0.1:80/tcp is forwarded twice"},
		{`{"name":"x","hostPort":1,"podPort":{"name":"x","protocol":"tcp","port":1,"count":30000}}`, "",
			"more than 1024 ports"},
		{`{"name":5}`, "", "cannot unmarshal number"},
	} {
		t.Run(test.ports, func(t *testing.T) {
			ports, err := parsePorts([]byte(`{"ports":[` + test.ports + `],` + apps + `}`))
			if test.wrong != "" {
				if !testkit.Says(err, test.wrong) {
					t.Fatalf("got %v, want %s", err, test.wrong)
				}
				return
			}
			var got []string
			for _, p := range ports {
				got = append(got, fmt.Sprintf("%s>%d", p, p.ContainerPort))
			}
			if err != nil || strings.Join(got, " ") != test.want {
				t.Fatalf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

// FuzzPodPorts: whatever a manifest asks for is a number of ports that can be forwarded.
func FuzzPodPorts(f *testing.F) {
	f.Add([]byte(`{"ports":[{"name":"x","hostPort":1,"podPort":{"name":"x","protocol":"tcp","port":1,"count":3}}]}`))
	f.Add([]byte(`{"ports":[{"name":"x","hostPort":65535}],"apps":[{"app":{"ports":[{"name":"x","protocol":"udp",` +
		`"port":1}]}}]}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		ports, err := parsePorts(manifest)
		if len(ports) > maxPorts {
			t.Fatal(len(ports))
		}
		for _, p := range ports {
			if err == nil && (p.HostPort < 1 || p.HostPort > 65535 || p.ContainerPort < 1 || p.ContainerPort > 65535) {
				t.Fatal(p)
			}
		}
	})
}

func parsePorts(text []byte) ([]Port, error) {
	m, err := poddir.ParseManifest(text)
	if err != nil {
		return nil, err
	}
	return PodPorts(m)
}
