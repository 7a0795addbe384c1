// Package update takes new images of services into use, and goes back to the old ones if the new
// ones are not good.
//
// What is about to be done is recorded in update/UNIT.json of the data directory before it is done,
// so that after a kill the next run goes on where the last one was; update/UNIT.last.json has what
// came of the last update, for the way back.
package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Options are what an update needs of its caller.
type Options struct {
	Pods     poddir.Pods
	Store    *store.Store
	Settle   time.Duration // a service runs so long before it is good
	Patience time.Duration // so long a first health check may take
	DryRun   bool

	// Fetch asks the registry, with variables of the service.
	Fetch func(ctx context.Context, name string, env []string) (id string, err error)
	// Health is that of each app that has a check.
	Health func(p *poddir.Pod) ([]string, error)
	Say    func(format string, args ...any)
}

// Image is an image of a service, by its name and by IDs.
type Image struct {
	Name string `json:"name"` // as the service has it
	Old  string `json:"old"`  // the ID of the image that ran
	New  string `json:"new"`  // the ID of the image that the name means now
}

// Result is what came of one service.
type Result struct {
	Unit   string  `json:"unit"`   // the service
	Policy string  `json:"policy"` // registry or local
	Result string  `json:"result"` // current, pending, updated, rolled-back, refused or failed
	Images []Image `json:"images"` // of the service
	// why the service was not updated, or was rolled back
	Error string `json:"error,omitempty"`
}

// What came of a service.
const (
	Current    = "current"     // no name means another image
	Pending    = "pending"     // there is a new image, which a run without --dry-run takes
	Updated    = "updated"     // the new image runs
	RolledBack = "rolled-back" // the new image was not good, the old one runs
	Refused    = "refused"     // the new image was not good before
	Failed     = "failed"      // see Error
)

// Steps of an update, as they are recorded.
const (
	stepFetch    = "fetch"
	stepRestart  = "restart"
	stepRollback = "rollback"
)

// record is an update that is not over.
type record struct {
	Step   string   `json:"step"`
	Policy string   `json:"policy"`
	Images []Image  `json:"images"`
	Bound  []string `json:"bound"` // units that ran, and that end with the service
	Why    string   `json:"why"`   // the new image is not good
}

func (o *Options) dir() string { return filepath.Join(o.Pods.DataDir(), "update") }

func (o *Options) file(unit string) string { return filepath.Join(o.dir(), unit+".json") }

func (o *Options) lastFile(unit string) string { return filepath.Join(o.dir(), unit+".last.json") }

// Lock keeps other runs out. Closing the file lets go.
func (o *Options) Lock() (*os.File, error) {
	if err := os.MkdirAll(o.dir(), 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.Lock(o.dir(), time.Second)
	if errors.Is(err, durable.ErrLocked) {
		return nil, fmt.Errorf("another rkt-update runs: %w", err)
	}
	return lock, err
}

// read reads a record; there is none if the error is fs.ErrNotExist.
func read(path string, v any) error {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	return err
}

func write(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o600)
}

// Unfinished are the services whose update was begun and is not over.
func (o *Options) Unfinished() (units []string, err error) {
	entries, err := os.ReadDir(o.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		name := e.Name()
		if filepath.Ext(name) == ".json" && filepath.Ext(name[:len(name)-5]) != ".last" {
			units = append(units, name[:len(name)-5])
		}
	}
	return units, err
}

// Unit updates a service, if it asks for that. ok is false if it does not.
func (o *Options) Unit(ctx context.Context, unit string) (result Result, ok bool) {
	var rec record
	err := read(o.file(unit), &rec)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(Result{Unit: unit, Images: []Image{}}, err), true
	}
	switch {
	case rec.Step == stepRestart && !o.DryRun:
		o.Say("%s: goes on with the update that was begun", unit)
		return o.restart(ctx, unit, rec), true
	case rec.Step == stepRollback && !o.DryRun:
		o.Say("%s: goes on with the way back that was begun", unit)
		return o.rollback(ctx, unit, rec), true
	}
	s, err := o.service(ctx, unit)
	result = Result{Unit: unit, Policy: s.policy, Images: []Image{}}
	if err == nil && s.policy == "" {
		return result, false
	}
	begun := rec.Images
	if err == nil {
		rec = record{Step: stepFetch, Policy: s.policy}
		rec.Images, err = o.images(s, begun)
	}
	if err == nil && !o.DryRun {
		err = write(o.file(unit), rec)
	}
	if err != nil {
		return failed(result, err), true
	}
	return o.look(ctx, unit, s, rec), true
}

// look asks for the images that the names mean now, and takes them into use.
func (o *Options) look(ctx context.Context, unit string, s service, rec record) Result {
	result := Result{Unit: unit, Policy: s.policy}
	var err error
	for i := range rec.Images {
		img := &rec.Images[i]
		if s.policy == "registry" {
			img.New, err = o.Fetch(ctx, img.Name, s.environment)
		} else {
			img.New, err = o.lookup(img.Name)
		}
		if err != nil {
			err = fmt.Errorf("image %s: %w", img.Name, err)
			break
		}
	}
	result.Images = rec.Images
	same := !slices.ContainsFunc(rec.Images, func(i Image) bool { return i.New != "" && i.New != i.Old })
	var last Result
	lastErr := read(o.lastFile(unit), &last)
	switch {
	case err != nil:
		return failed(result, errors.Join(err, o.name(ctx, rec.Images), o.over(unit)))
	case same:
		result.Result, err = Current, o.over(unit)
	case lastErr == nil && last.Result == RolledBack && slices.Equal(last.Images, rec.Images):
		result.Result, err = Refused, errors.Join(o.name(ctx, rec.Images), o.over(unit))
	case o.DryRun:
		result.Result, err = Pending, o.name(ctx, rec.Images)
	default:
		rec.Step = stepRestart
		if rec.Bound, err = bound(ctx, unit); err == nil {
			err = write(o.file(unit), rec)
		}
		if err == nil {
			return o.restart(ctx, unit, rec)
		}
		err = errors.Join(err, o.name(ctx, rec.Images))
	}
	if err != nil {
		return failed(result, err)
	}
	return result
}

// restart starts the service with the new images, and goes back if they are not good.
func (o *Options) restart(ctx context.Context, unit string, rec record) Result {
	result := Result{Unit: unit, Policy: rec.Policy, Images: rec.Images}
	err := o.runs(unit, rec.Images)
	if err != nil { // it does not run them yet
		err = again(ctx, "restart", unit)
	}
	if err == nil {
		err = o.good(ctx, unit)
	}
	if ctx.Err() != nil { // interrupted: the next run goes on
		return failed(result, ctx.Err())
	}
	if err != nil {
		rec.Step, rec.Why = stepRollback, err.Error()
		if err := write(o.file(unit), rec); err != nil {
			return failed(result, err)
		}
		return o.rollback(ctx, unit, rec)
	}
	result.Result = Updated
	err = errors.Join(start(ctx, rec.Bound), write(o.lastFile(unit), result), o.over(unit))
	if err != nil {
		return failed(result, err)
	}
	return result
}

// rollback has the names mean the old images again, and starts the service and what has ended with
// it.
func (o *Options) rollback(ctx context.Context, unit string, rec record) Result {
	result := Result{Unit: unit, Policy: rec.Policy, Images: rec.Images, Result: RolledBack, Error: rec.Why}
	o.Say("%s: the new image is not good (%s): back to the old one", unit, rec.Why)
	err := o.name(ctx, rec.Images)
	if err == nil {
		err = again(ctx, "restart", unit)
	}
	if err == nil {
		err = errors.Join(start(ctx, rec.Bound), write(o.lastFile(unit), result), o.over(unit))
	}
	if err != nil { // the record stays: the next run tries again
		return failed(result, fmt.Errorf("%s; and the way back: %w", rec.Why, err))
	}
	return result
}

// Back goes back to the images that a service had before its last update.
func (o *Options) Back(ctx context.Context, unit string) Result {
	var last Result
	result := Result{Unit: unit, Images: []Image{}}
	err := read(o.lastFile(unit), &last)
	if errors.Is(err, fs.ErrNotExist) || err == nil && last.Result != Updated {
		return failed(result, fmt.Errorf("%s: no update that could be taken back", unit))
	}
	if err != nil {
		return failed(result, err)
	}
	rec := record{Step: stepRollback, Policy: last.Policy, Images: last.Images, Why: "rkt rollback"}
	for _, img := range rec.Images {
		if _, err := o.Store.Image(img.Old); err != nil {
			return failed(result, fmt.Errorf("%s: the old image %.19s: %w", img.Name, img.Old, err))
		}
	}
	if rec.Bound, err = bound(ctx, unit); err == nil {
		err = write(o.file(unit), rec)
	}
	if err != nil {
		return failed(result, err)
	}
	return o.rollback(ctx, unit, rec)
}

// name has the names mean the old images.
func (o *Options) name(ctx context.Context, images []Image) (err error) {
	for _, img := range images {
		if img.New == "" || img.New == img.Old {
			continue
		}
		ref, bad := image.ParseReference(img.Name)
		if bad == nil {
			_, bad = o.Store.Image(img.Old)
		}
		if bad == nil {
			bad = o.Store.SetRef(ctx, ref, img.Old)
		}
		if bad != nil {
			err = errors.Join(err, fmt.Errorf("image %s: %w", img.Name, bad))
		}
	}
	return err
}

// over removes the record.
func (o *Options) over(unit string) error {
	err := os.Remove(o.file(unit))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (o *Options) lookup(name string) (string, error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return "", err
	}
	return o.Store.Lookup(ref)
}

func failed(r Result, err error) Result {
	r.Result, r.Error = Failed, err.Error()
	return r
}
