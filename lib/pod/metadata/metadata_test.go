package metadata

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

const (
	uuid  = "11111111-2222-4333-8444-555555555555"
	other = "99999999-2222-4333-8444-555555555555"
	token = "secret-token"
)

// service serves a data directory with one running pod, whose registration has the token. reports
// has what is not a client's fault.
func service(t *testing.T) (server *httptest.Server, pod *poddir.Pod, stop func(), reports *[]string) {
	t.Helper()
	data := t.TempDir()
	images, err := store.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	image := schema.BlankImageManifest()
	image.Name = "example.com/app"
	image.Annotations.Set("from", "image")
	image.Annotations.Set("both", "image")
	id := fmt.Sprintf("sha512-%0128x", 1)
	if err := images.AddImage(t.Context(), id, image, nil, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	pod, lock, err := poddir.In(data).Create(uuid)
	if err != nil {
		t.Fatal(err)
	}
	manifest := `{"acVersion":"0.8.11","acKind":"PodManifest","annotations":[{"name":"a/b","value":"of the pod"}],` +
		`"apps":[{"name":"web","image":{"id":"` + id + `"},"annotations":[{"name":"both","value":"pod"}]}]}`
	for name, text := range map[string]string{
		poddir.ManifestFile: manifest, poddir.StartedFile: "", poddir.MetadataFile: "http://127.0.0.1:18112/" + uuid +
			"/" + token + "\n",
	} {
		if err := os.WriteFile(pod.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(data, "metadata-key"), []byte(strings.Repeat("ab", 64)+"\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	reports = new([]string)
	handler, err := New(data, func(line string) { *reports = append(*reports, line) })
	if err != nil {
		t.Fatal(err)
	}
	server = httptest.NewServer(handler)
	t.Cleanup(server.Close)
	t.Cleanup(func() { lock.Close() })
	return server, pod, func() { lock.Close() }, reports
}

// ask returns the status and body of an answer; path is what follows acMetadata/v1/. A form is
// posted.
func ask(t *testing.T, server *httptest.Server, who, path string, form url.Values) (int, string, http.Header) {
	t.Helper()
	address := server.URL + "/" + who + "/acMetadata/v1/" + path
	var answer *http.Response
	var err error
	if form == nil {
		answer, err = http.Get(address)
	} else {
		answer, err = http.PostForm(address, form)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text), answer.Header
}

func TestAnswers(t *testing.T) {
	server, _, _, reports := service(t)
	for _, c := range []struct {
		path   string
		status int
		says   string
	}{
		{"pod/uuid", 200, uuid},
		{"pod/annotations", 200, `[{"name":"a/b","value":"of the pod"}]`},
		{"pod/annotations/a/b", 200, "of the pod"},
		{"pod/annotations/none", 404, "no such annotation"},
		{"pod/manifest", 200, `"acKind":"PodManifest"`},
		{"apps/web/annotations/from", 200, "image"},
		{"apps/web/annotations/both", 200, "pod"},
		{"apps/web/image/id", 200, fmt.Sprintf("sha512-%0128x", 1)},
		{"apps/web/image/manifest", 200, `"name":"example.com/app"`},
		{"apps/none/image/id", 404, "no such app"},
		{"apps/NO NAME/image/id", 404, "no such app"},
		{"nosuch", 404, ""},
	} {
		status, text, header := ask(t, server, uuid+"/"+token, c.path, nil)
		if status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %q, want %d %q", c.path, status, text, c.status, c.says)
		}
		if status == 200 && (header.Get("Metadata-Flavor") != "AppContainer" ||
			header.Get("Cache-Control") != "no-store") {
			t.Errorf("%s: headers %v", c.path, header)
		}
	}
	if len(*reports) > 0 {
		t.Errorf("reported: %q", *reports)
	}
}

// Nothing tells an unknown pod from a wrong token, and a pod that does not run any more has none.
func TestUnknown(t *testing.T) {
	server, _, stop, _ := service(t)
	status, want, _ := ask(t, server, uuid+"/wrong", "pod/uuid", nil)
	if status != 401 {
		t.Errorf("a wrong token: %d", status)
	}
	for _, who := range []string{other + "/" + token, "no-uuid/" + token, uuid + "/secret-toke",
		uuid + "/" + token + "x"} {
		if status, text, _ := ask(t, server, who, "pod/uuid", nil); status != 401 || text != want {
			t.Errorf("%s: %d %q, want 401 %q", who, status, text, want)
		}
	}
	stop()
	if status, text, _ := ask(t, server, uuid+"/"+token, "pod/uuid", nil); status != 401 || text != want {
		t.Errorf("an exited pod: %d %q", status, text)
	}
}

// What a pod has signed is verified as that pod's, and as no other's.
func TestSign(t *testing.T) {
	server, _, _, _ := service(t)
	who := uuid + "/" + token
	status, signature, _ := ask(t, server, who, "pod/hmac/sign", url.Values{"content": {"text"}})
	if raw, err := base64.StdEncoding.DecodeString(signature); status != 200 || err != nil || len(raw) != 64 {
		t.Fatalf("%d %q", status, signature)
	}
	for _, c := range []struct {
		form   url.Values
		status int
	}{
		{url.Values{"content": {"text"}, "uuid": {uuid}, "signature": {signature}}, 200},
		{url.Values{"content": {"other"}, "uuid": {uuid}, "signature": {signature}}, 403},
		{url.Values{"content": {"text"}, "uuid": {other}, "signature": {signature}}, 403},
		{url.Values{"content": {"text"}, "uuid": {"no uuid"}, "signature": {signature}}, 403},
		{url.Values{"content": {"text"}, "uuid": {uuid}, "signature": {"!"}}, 403},
		{url.Values{"content": {"text"}, "uuid": {uuid}}, 400},
	} {
		if status, text, _ := ask(t, server, who, "pod/hmac/verify", c.form); status != c.status {
			t.Errorf("%v: %d %q, want %d", c.form, status, text, c.status)
		}
	}
	if status, _, _ := ask(t, server, who, "pod/hmac/sign",
		url.Values{"content": {strings.Repeat("x", maxForm+1)}}); status != 400 {
		t.Errorf("more than is signed: %d", status)
	}
}

// What goes wrong on the host is for its log, without the token, and not for the app.
func TestReports(t *testing.T) {
	server, pod, _, reports := service(t)
	if err := os.WriteFile(pod.Path(poddir.ManifestFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, text, _ := ask(t, server, uuid+"/"+token, "pod/annotations", nil)
	if status != 500 || strings.Contains(text, "JSON") {
		t.Errorf("%d %q", status, text)
	}
	if len(*reports) != 1 || !strings.HasPrefix((*reports)[0], "GET /acMetadata/v1/pod/annotations: ") ||
		strings.Contains((*reports)[0], token) {
		t.Errorf("reported: %q", *reports)
	}
}
