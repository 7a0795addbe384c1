package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// environment is a getenv of NAME=VALUE pairs.
func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for _, pair := range pairs {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

// told is all of credentials, in words.
func told(c Credentials, ok bool, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case !ok:
		return "none"
	}
	return strings.Join([]string{c.User, c.Password, c.Token, c.IdentityToken, c.AWS.ID, c.AWS.Secret, c.AWS.Region},
		"|") + " " + filepath.Base(c.From)
}

const (
	basic = `{"rktKind":"auth","rktVersion":"v1","domains":["example.com","Other.example.com:8080"],"type":"basic",` +
		`"credentials":{"user":"foo","password":"bar"}}`
	oauth = `{"rktKind":"auth","rktVersion":"v1","domains":["example.com"],"type":"oauth",` +
		`"credentials":{"token":"tok"}}`
	aws = `{"rktKind":"auth","rktVersion":"v1","domains":["s3.amazonaws.com"],"type":"aws",` +
		`"credentials":{"accessKeyID":"id","secretAccessKey":"key","awsRegion":"eu"}}`
	quay = `{"rktKind":"dockerAuth","rktVersion":"v1","registries":["index.docker.io","quay.io"],` +
		`"credentials":{"user":"u","password":"p"}}`
)

func TestRktFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/usr/auth.d/basic.json", basic)
	write(t, dir+"/usr/auth.d/aws.json", aws)
	write(t, dir+"/usr/auth.d/README", "not JSON")
	write(t, dir+"/usr/auth.d/directory.json/x", "")
	write(t, dir+"/usr/auth.d/quay.json", quay)
	write(t, dir+"/etc/auth.d/oauth.json", oauth)
	write(t, dir+"/user/auth.d/quay.json", strings.NewReplacer(`"index.docker.io",`, "", `"u"`, `"mine"`).Replace(quay))
	k := New(environment("REGISTRY_AUTH_FILE=/dev/null"), dir+"/usr", dir+"/etc", "", dir+"/user", dir+"/none")
	for host, want := range map[string]string{
		"example.com":            "||tok|||| oauth.json",
		"other.example.com:8080": "foo|bar||||| basic.json",
		"other.example.com":      "none",
		"sub.example.com":        "none",
		"s3.amazonaws.com":       "||||id|key|eu aws.json",
		"quay.io":                "none",
	} {
		if got := told(k.Server(host)); got != want {
			t.Errorf("server %s: %s, want %s", host, got, want)
		}
	}
	for host, want := range map[string]string{
		"registry-1.docker.io": "u|p||||| quay.json",
		"docker.io":            "u|p||||| quay.json",
		"quay.io":              "mine|p||||| quay.json",
		"example.com":          "none",
	} {
		if got := told(k.Registry(t.Context(), host, "team/app")); got != want {
			t.Errorf("registry %s: %s, want %s", host, got, want)
		}
	}
	var none *Keychain
	if got := told(none.Server("x")) + told(none.Registry(t.Context(), "x", "y")); got != "nonenone" {
		t.Error(got)
	}
}

func TestBrokenRktFiles(t *testing.T) {
	for text, want := range map[string]string{
		"{":                                     "a.json: unexpected end of JSON input",
		`{"rktVersion":"v1"}`:                   "a.json: no rktKind",
		`{"rktKind":"auth","rktVersion":"v2"}`:  `a.json: rktVersion "v2": only v1 is known`,
		`{"rktKind":"paths","rktVersion":"v1"}`: `a.json: rktKind "paths" has no place in auth.d`,
		strings.Replace(basic, "basic", "digest", 1): `a.json: type "digest" is not one of basic, ` +
			`oauth, aws`,
		strings.Replace(basic, `"foo"`, `""`, 1): "a.json: credentials: user and password are needed",
		strings.Replace(oauth, `"tok"`, `""`, 1): "a.json: credentials: a token is needed",
		strings.Replace(aws, `"key"`, `""`, 1): "a.json: credentials: accessKeyID and " +
			"secretAccessKey are needed",
		strings.Replace(oauth, `"example.com"`, ``, 1): "a.json: no domains",
		strings.Replace(quay, "registries", "indices", 1): `a.json: unknown field "indices"; there are ` +
			`domains or registries, type, credentials (user, password, token, accessKeyID, secretAccessKey, awsRegion)`,
		strings.Replace(quay, "registries", "domains", 1): "a.json: domains: is for rktKind auth; " +
			"dockerAuth has registries",
		strings.Replace(oauth, `["example.com"]`, `"x"`, 1):        "a.json: domains: must be a list, not string",
		strings.Replace(oauth, `"token"`, `"user":"u","token"`, 1): "a.json: credentials: user is not for type oauth",
		strings.Replace(oauth, `example.com`, `a.b/c`, 1):          `a.json: domains: "a.b/c" is not HOST[:PORT]`,
		strings.Replace(oauth, `example.com`, ``, 1):               `a.json: domains: "" is not HOST[:PORT]`,
		strings.Replace(oauth, `"tok"`, `17`, 1):                   "a.json: token: must be a string, not number",
		strings.Replace(oauth, `"tok"`, `"s3cret`+"\x01",
			1): "a.json: invalid character '\\x01' in string literal",
		strings.Repeat(" ", 1<<20+1): "a.json: larger than 1048576 bytes",
	} {
		dir := t.TempDir()
		write(t, dir+"/auth.d/a.json", text)
		got := told(New(environment(), dir).Server("example.com"))
		if !strings.HasPrefix(got, dir+"/auth.d/a.json: ") || !strings.HasSuffix(got, want) {
			t.Errorf("%.100s: %s, want %s", text, got, want)
		}
		if got := told(New(environment(), dir).Registry(t.Context(), "quay.io", "x")); !strings.HasSuffix(got, want) {
			t.Errorf("%.100s: %s, want %s", text, got, want)
		}
	}
	dir := t.TempDir()
	write(t, dir+"/auth.d/a.json", basic)
	write(t, dir+"/auth.d/b.json", oauth)
	want := fmt.Sprintf("%s/auth.d/b.json: domains: example.com is in %s/auth.d/a.json too", dir, dir)
	if got := told(New(environment(), dir).Server("other.example.com:8080")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func login(user, password string) string {
	return fmt.Sprintf(`{"auth":"%s"}`, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func TestDockerFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/bin/docker-credential-good", `#!/bin/sh
test "$*" = get || exit 9
read -r server
case $server in
helped.example.com) echo '{"ServerURL":"x","Username":"h","Secret":"'$server'"}' ;;
token.example.com) echo '{"Username":"<token>","Secret":"idtok"}' ;;
https://index.docker.io/v1/) echo '{"Username":"hub","Secret":"hubpw"}' ;;
broken.example.com) echo 'the keyring is locked'; exit 3 ;;
leak.example.com) echo '{"Username":"x","Secret":"s3cret"}'; exit 3 ;;
noise.example.com) echo 's3cret' ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
`)
	t.Setenv("PATH", dir+"/bin:"+os.Getenv("PATH"))
	for _, c := range []struct{ name, file, host, repository, want string }{
		{"host", `{"auths":{"quay.io":` + login("u", "p:w") + `}}`, "quay.io", "team/app", "u|p:w||||| config.json"},
		{"another host", `{"auths":{"quay.io":` + login("u", "p") + `}}`, "evil.io", "team/app", "none"},
		{"part of a host", `{"auths":{"quay.io":` + login("u", "p") + `}}`, "quay.io.evil.io", "team/app", "none"},
		{"port", `{"auths":{"quay.io:5000":` + login("u", "p") + `}}`, "quay.io", "team/app", "none"},
		{"old URL", `{"auths":{"https://quay.io/v1/":` + login("u", "p") + `}}`, "quay.io", "team/app",
			"u|p||||| config.json"},
		{"Hub", `{"auths":{"https://index.docker.io/v1/":` + login("u", "p") + `}}`, "registry-1.docker.io",
			"library/redis", "u|p||||| config.json"},
		{"Podman's Hub", `{"auths":{"docker.io":` + login("u", "p") + `}}`, "registry-1.docker.io", "library/redis",
			"u|p||||| config.json"},
		{"directory", `{"auths":{"quay.io/team":` + login("u", "p") + `,"quay.io":` + login("v", "q") + `}}`, "quay.io",
			"team/app", "u|p||||| config.json"},
		{"repository", `{"auths":{"quay.io/team":` + login("u", "p") + `,"quay.io/team/app":` + login("v", "q") + `}}`,
			"quay.io", "team/app", "v|q||||| config.json"},
		{"another directory", `{"auths":{"quay.io/team":` + login("u", "p") + `}}`, "quay.io", "team2/app", "none"},
		{"in the clear", `{"auths":{"quay.io":{"username":"u","password":"p"}}}`, "quay.io", "a",
			"u|p||||| config.json"},
		{"identity token", `{"auths":{"quay.io":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("u:")) +
			`","identitytoken":"i"}}}`, "quay.io", "a", "u|||i||| config.json"},
		{"registry token", `{"auths":{"quay.io":{"registrytoken":"r"}}}`, "quay.io", "a", "||r|||| config.json"},
		{"empty entry", `{"auths":{"quay.io":{}}}`, "quay.io", "a", "none"},
		{"empty file", "\n", "quay.io", "a", "none"},
		{"helper of a host", `{"credHelpers":{"helped.example.com":"good"}}`, "helped.example.com", "a",
			"h|helped.example.com||||| docker-credential-good"},
		{"helper of another host", `{"credHelpers":{"helped.example.com":"good"}}`, "token.example.com", "a", "none"},
		{"helper", `{"credsStore":"good","auths":{"token.example.com":{}}}`, "token.example.com", "a",
			"|||idtok||| docker-credential-good"},
		{"helper and the Hub", `{"credsStore":"good"}`, "docker.io", "a", "hub|hubpw||||| docker-credential-good"},
		{"helper without", `{"credsStore":"good"}`, "quay.io", "a", "none"},
		{"helper without, file with", `{"credsStore":"good","auths":{"quay.io":` + login("u", "p") + `}}`, "quay.io",
			"a", "u|p||||| config.json"},
		{"helper is missing", `{"credsStore":"none-of-that-name"}`, "quay.io", "a",
			"docker-credential-none-of-that-name: not found in $PATH"},
		{"helper fails", `{"credsStore":"good"}`, "broken.example.com", "a",
			"docker-credential-good: exit status 3: the keyring is locked"},
		{"helper fails and tells all the same", `{"credsStore":"good"}`, "leak.example.com", "a",
			"docker-credential-good: exit status 3"},
		{"helper makes no sense", `{"credsStore":"good"}`, "noise.example.com", "a",
			"docker-credential-good: its answer is not the JSON of a credential helper"},
		{"helper is a path", `{"credsStore":"../good"}`, "quay.io", "a",
			`"../good" is not the name of a credential helper`},
		{"helper of a host is a path", `{"credHelpers":{"x":"a/b"}}`, "quay.io", "a",
			`"a/b" is not the name of a credential helper`},
		{"not base64", `{"auths":{"quay.io":{"auth":"s3cret!"}}}`, "quay.io", "a",
			`auths, "quay.io": auth is not base64 of USER:PASSWORD`},
		{"no colon", `{"auths":{"quay.io":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("s3cret")) + `"}}}`,
			"quay.io", "a", `auths, "quay.io": auth is not base64 of USER:PASSWORD`},
		{"not JSON", `{"auths":`, "quay.io", "a", "unexpected end of JSON input"},
	} {
		write(t, dir+"/docker/config.json", c.file)
		k := New(environment("DOCKER_CONFIG=" + dir + "/docker"))
		got := told(k.Registry(t.Context(), c.host, c.repository))
		if rest, ok := strings.CutPrefix(got, "credentials of "+dir+"/docker/config.json: "); ok {
			got = rest
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if strings.Contains(got, "s3cret") {
			t.Errorf("%s: a secret in %s", c.name, got)
		}
	}
}

// A helper that hangs is ended with the fetch.
func TestHelperHangs(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/bin/docker-credential-hang", "#!/bin/sh\nexec sleep 100\n")
	write(t, dir+"/config.json", `{"credsStore":"hang"}`)
	t.Setenv("PATH", dir+"/bin:"+os.Getenv("PATH"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	got := told(New(environment("DOCKER_CONFIG="+dir)).Registry(ctx, "quay.io", "a"))
	if want := "credentials of " + dir +
		"/config.json: docker-credential-hang: context deadline exceeded"; got != want ||
		time.Since(begin) > 20*time.Second {
		t.Errorf("%s after %v, want %s", got, time.Since(begin), want)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command("pgrep", "-f", "-P", strconv.Itoa(os.Getpid()), "sleep 100").Output()
		if err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("left behind: %s", out)
		}
	}
}

// Where the files are, and which wins.
func TestDockerPlaces(t *testing.T) {
	dir := t.TempDir()
	file := func(path, user string) {
		write(t, dir+path, `{"auths":{"quay.io":`+login(user, "p")+`}}`)
	}
	get := func(want string, env ...string) {
		t.Helper()
		if got, _, _ := strings.Cut(told(New(environment(env...)).Registry(t.Context(), "quay.io", "a")),
			"|"); got != want {
			t.Errorf("%v: %s, want %s", env, got, want)
		}
	}
	all := []string{"HOME=" + dir + "/home", "XDG_RUNTIME_DIR=" + dir + "/run"}
	get("none", all...)
	file("/home/.config/containers/auth.json", "config")
	get("config", all...)
	get("none", append(all, "XDG_CONFIG_HOME="+dir+"/xdg")...)
	file("/xdg/containers/auth.json", "xdg")
	get("xdg", append(all, "XDG_CONFIG_HOME="+dir+"/xdg")...)
	file("/run/containers/auth.json", "run")
	get("run", all...)
	file("/home/.docker/config.json", "docker")
	get("docker", all...)
	write(t, dir+"/home/.docker/config.json", `{"auths":{"other.io":`+login("x", "y")+`}}`)
	get("run", all...)
	get("none", append(all, "DOCKER_CONFIG="+dir+"/none")...)
	file("/dc/config.json", "named")
	get("named", append(all, "DOCKER_CONFIG="+dir+"/dc")...)
	file("/auth.json", "podman")
	get("podman", append(all, "DOCKER_CONFIG="+dir+"/dc", "REGISTRY_AUTH_FILE="+dir+"/auth.json")...)
	get("credentials of "+dir+"/nothing: no such file or directory",
		append(all, "REGISTRY_AUTH_FILE="+dir+"/nothing")...)
	get("run", "HOME=/dev/null", all[1])
}

// The transport gives each host its own credentials, on redirects too.
func TestTransport(t *testing.T) {
	sent := make(chan string, 10)
	record := func(name string, next http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sent <- name + " " + r.Header.Get("Authorization") + r.Header.Get("Referer")
			next(w, r)
		})
	}
	other := httptest.NewServer(record("other", func(http.ResponseWriter, *http.Request) {}))
	defer other.Close()
	to := other.URL
	first := httptest.NewServer(record("first", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/end" {
			http.Redirect(w, r, to, http.StatusFound)
		}
	}))
	defer first.Close()
	secure := httptest.NewTLSServer(record("secure", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, first.URL+"/end", http.StatusFound)
	}))
	defer secure.Close()
	dir := t.TempDir()
	host := strings.TrimPrefix(first.URL, "http://")
	write(t, dir+"/auth.d/a.json", strings.Replace(oauth, "example.com", host+`","`+strings.TrimPrefix(secure.URL,
		"https://"), 1))
	client := &http.Client{Transport: New(environment(), dir).Transport(secure.Client().Transport)}
	get := func(url string, want ...string) {
		t.Helper()
		answer, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		for _, w := range want {
			if got := <-sent; strings.TrimSpace(got) != w {
				t.Errorf("%s: %q, want %q", url, got, w)
			}
		}
	}
	get(first.URL+"/x?secret=1", "first Bearer tok", "other")
	to = first.URL + "/end"
	get(first.URL, "first Bearer tok", "first Bearer tok")
	get(secure.URL, "secure Bearer tok", "first") // by TLS to plain
	if len(sent) != 0 {
		t.Error("more was asked")
	}
	for address, want := range map[string]string{"https://A.example:443/": "a.example",
		"http://a.example:80": "a.example", "http://a.example:443": "a.example:443", "https://[::1]:443/": "[::1]",
		"https://[::1]:44/": "[::1]:44", "https://a/": "a"} {
		r, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostOf(r); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	c := Credentials{User: "u", Password: "s3cret", Token: "s3cret", IdentityToken: "s3cret",
		AWS: AWS{Secret: "s3cret"}, From: "f"}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s", c, c, c, c), fmt.Sprint(&c),
		Refused("x", c, "y")} {
		if strings.Contains(text, "s3cret") {
			t.Error(text)
		}
	}
}

func FuzzDocker(f *testing.F) {
	for _, text := range []string{`{"auths":{"a":{"auth":"dTpw"}},"credsStore":"x","credHelpers":{"b":"y"}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if d, err := parseDocker(text); err == nil {
			d.entry([]string{"a"}, "b/c")
		}
	})
}
