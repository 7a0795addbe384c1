// Package metadata is the appc metadata service (ace.md, "App Container Metadata Service"): it
// tells the apps of a pod of the pod, by the pod's directory and the image store, and signs for it.
package metadata

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/mds"
)

// The media types that the spec has.
const (
	jsonType = "application/json"
	textType = "text/plain; charset=us-ascii"
)

// maxForm bounds what is to be signed or verified, in bytes.
const maxForm = 1 << 20

// Service answers requests /UUID/TOKEN/acMetadata/v1/…, the first part of which a pod knows by
// $AC_METADATA_URL.
type Service struct {
	data   string
	report func(line string)
}

// New is the service for the pods of a data directory, and of all others that pods are registered
// in. report is told of what went wrong and is not the client's fault.
func New(data string, report func(line string)) (http.Handler, error) {
	if _, err := store.Open(data); err != nil {
		return nil, err
	}
	s := &Service{data, report}
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*request) error{
		"GET pod/annotations":                  (*request).podAnnotations,
		"GET pod/annotations/{name...}":        (*request).podAnnotation,
		"GET pod/manifest":                     (*request).podManifest,
		"GET pod/uuid":                         (*request).podUUID,
		"GET apps/{app}/annotations":           (*request).appAnnotations,
		"GET apps/{app}/annotations/{name...}": (*request).appAnnotation,
		"GET apps/{app}/image/manifest":        (*request).imageManifest,
		"GET apps/{app}/image/id":              (*request).imageID,
		"POST pod/hmac/sign":                   (*request).sign,
		"POST pod/hmac/verify":                 (*request).verify,
	} {
		var method, path string
		fmt.Sscan(pattern, &method, &path)
		mux.HandleFunc(method+" /{uuid}/{token}/acMetadata/v1/"+path,
			func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, answer) })
	}
	return mux, nil
}

// request is one of a pod that is known.
type request struct {
	*Service
	w   http.ResponseWriter
	r   *http.Request
	pod *poddir.Pod
}

// refusal is an error that the client is told, with a status of HTTP.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

func (s *Service) serve(w http.ResponseWriter, r *http.Request, answer func(*request) error) {
	w.Header().Set("Metadata-Flavor", "AppContainer")
	w.Header().Set("Cache-Control", "no-store")
	p, err := s.find(r.PathValue("uuid"), r.PathValue("token"))
	if err == nil {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		err = answer(&request{s, w, r, p})
	}
	if told, ok := errors.AsType[refusal](err); ok {
		http.Error(w, told.text, told.status)
	} else if err != nil {
		s.report(fmt.Sprintf("%s %s: %v", r.Method, r.URL.Path[len(r.URL.Path)-len(rest(r)):], err))
		http.Error(w, "the service could not answer; its journal tells why", http.StatusInternalServerError)
	}
}

// rest is a request's path without the token, which no log is to have.
func rest(r *http.Request) string {
	return r.URL.Path[len("/"+r.PathValue("uuid")+"/"+r.PathValue("token")):]
}

// find is the running pod that has the token. Nothing tells an unknown pod from a wrong token.
func (s *Service) find(uuid, token string) (*poddir.Pod, error) {
	unknown := refusal{http.StatusUnauthorized, "no running pod has this token"}
	if !poddir.ValidUUID(uuid) {
		return nil, unknown
	}
	p, err := poddir.In(s.dataOf(uuid)).Find(uuid, "")
	if errors.Is(err, poddir.ErrNotFound) {
		return nil, unknown
	}
	if err != nil {
		return nil, err
	}
	if state, err := p.State(); err != nil || state != poddir.Running || !mds.Knows(p, token) {
		return nil, unknown
	}
	return p, nil
}

// dataOf is the data directory that a pod is in: the one that its registration says, or else the
// service's own.
func (s *Service) dataOf(uuid string) string { return cmp.Or(mds.DataDir(uuid), s.data) }

func (r *request) write(kind string, body []byte) error {
	r.w.Header().Set("Content-Type", kind)
	_, err := r.w.Write(body)
	return err
}

func (r *request) writeJSON(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return r.write(jsonType, text)
}

// writeAnnotations writes null for an empty list, as the manifest has it: appc's validator compares
// the two.
func (r *request) writeAnnotations(a types.Annotations) error {
	if len(a) == 0 {
		return r.write(jsonType, []byte("null"))
	}
	return r.writeJSON(a)
}

func (r *request) manifest() (*schema.PodManifest, error) {
	text, err := r.pod.ReadFile(poddir.ManifestFile)
	if err != nil {
		return nil, err
	}
	m := new(schema.PodManifest)
	return m, json.Unmarshal(text, m)
}

func (r *request) podUUID() error { return r.write(textType, []byte(r.pod.UUID)) }

func (r *request) podManifest() error {
	text, err := r.pod.ReadFile(poddir.ManifestFile)
	if err != nil {
		return err
	}
	return r.write(jsonType, text)
}

// writeAnnotation writes the value of the annotation that the request names.
func (r *request) writeAnnotation(a types.Annotations) error {
	value, ok := a.Get(r.r.PathValue("name"))
	if !ok {
		return refusal{http.StatusNotFound, "there is no such annotation"}
	}
	return r.write("text/plain; charset=utf-8", []byte(value))
}

func (r *request) podAnnotation() error {
	m, err := r.manifest()
	if err != nil {
		return err
	}
	return r.writeAnnotation(m.Annotations)
}

func (r *request) podAnnotations() error {
	m, err := r.manifest()
	if err != nil {
		return err
	}
	return r.writeAnnotations(m.Annotations)
}

// app is the app that the request is about, and its image.
func (r *request) app() (*schema.RuntimeApp, *store.Image, error) {
	m, err := r.manifest()
	if err != nil {
		return nil, nil, err
	}
	name, err := types.NewACName(r.r.PathValue("app"))
	if err != nil {
		return nil, nil, refusal{http.StatusNotFound, "the pod has no such app"}
	}
	app := m.Apps.Get(*name)
	if app == nil {
		return nil, nil, refusal{http.StatusNotFound, "the pod has no such app"}
	}
	images, err := store.Open(r.pod.DataDir())
	if err != nil {
		return nil, nil, err
	}
	img, err := images.Image(app.Image.ID.String())
	if err != nil {
		return nil, nil, fmt.Errorf("image %s: %w", app.Image.ID, err)
	}
	return app, img, nil
}

// merged are the annotations of the app: its image's, and the pod's for it in their place.
func (r *request) merged() (types.Annotations, error) {
	app, img, err := r.app()
	if err != nil {
		return nil, err
	}
	merged := img.Manifest.Annotations
	for _, a := range app.Annotations {
		merged.Set(a.Name, a.Value)
	}
	return merged, nil
}

func (r *request) appAnnotations() error {
	merged, err := r.merged()
	if err != nil {
		return err
	}
	return r.writeAnnotations(merged)
}

func (r *request) appAnnotation() error {
	merged, err := r.merged()
	if err != nil {
		return err
	}
	return r.writeAnnotation(merged)
}

func (r *request) imageManifest() error {
	_, img, err := r.app()
	if err != nil {
		return err
	}
	return r.writeJSON(img.Manifest)
}

func (r *request) imageID() error {
	app, _, err := r.app()
	if err != nil {
		return err
	}
	return r.write(textType, []byte(app.Image.ID.String()))
}

// signature is of what a pod says: the pod's UUID is of a fixed length, so that no two pods sign
// the same.
func (r *request) signature(uuid, content string) ([]byte, error) {
	key, err := mds.Key(r.dataOf(uuid))
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha512.New, key)
	mac.Write([]byte(uuid + content))
	return mac.Sum(nil), nil
}

// form reads fields of a form, all of which it must have.
func (r *request) form(names ...string) ([]string, error) {
	if err := r.r.ParseForm(); err != nil {
		return nil, refusal{http.StatusBadRequest, err.Error()}
	}
	var values []string
	for _, name := range names {
		if !r.r.PostForm.Has(name) {
			return nil, refusal{http.StatusBadRequest, name + " is missing in the form"}
		}
		values = append(values, r.r.PostForm.Get(name))
	}
	return values, nil
}

func (r *request) sign() error {
	fields, err := r.form("content")
	if err != nil {
		return err
	}
	signature, err := r.signature(r.pod.UUID, fields[0])
	if err != nil {
		return err
	}
	return r.write(textType, []byte(base64.StdEncoding.EncodeToString(signature)))
}

func (r *request) verify() error {
	fields, err := r.form("content", "uuid", "signature")
	if err != nil {
		return err
	}
	wrong := refusal{http.StatusForbidden, "the signature is not that pod's"}
	given, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || !poddir.ValidUUID(fields[1]) {
		return wrong
	}
	right, err := r.signature(fields[1], fields[0])
	if errors.Is(err, fs.ErrNotExist) {
		return wrong
	}
	if err != nil {
		return err
	}
	if !hmac.Equal(given, right) {
		return wrong
	}
	return r.write(textType, nil)
}
