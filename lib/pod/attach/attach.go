// Package attach connects a terminal, or pipes, of the host with an app that runs in a pod. Client
// is the host's side, Serve the pod's: one process for each app that was given a stream to attach
// to, which reads what the app prints and writes what it reads.
//
// The two speak in packets over a unix socket in the pod that no app can see. A packet is a byte
// that tells its kind, and up to maxData bytes. The client sends kinds attach (the names of the
// endpoints that it wants, in answer to which it gets the same or refused), input, endOfInput and
// windowSize; it gets output, errorOutput, endOfInput (all input is with the app) and ended. What
// comes from the pod is not believed: the client writes it to its standard output or error, or
// ends.
package attach

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Endpoints of an app: its pipes, and the two directions of its terminal.
const (
	stdin  = "stdin"
	stdout = "stdout"
	stderr = "stderr"
	ttyIn  = "tty-in"
	ttyOut = "tty-out"
)

// Kinds of packets.
const (
	attach      = 'A' // names of endpoints
	input       = 'I'
	endOfInput  = 'E' // "close" if the app's standard input is to be closed
	windowSize  = 'W' // rows and columns, two bytes each, the higher one first
	output      = 'O'
	errorOutput = 'R'
	refused     = 'X' // why
	ended       = 'Z' // the app has, and has said no more
)

// maxData is the most that a packet carries beside its kind, in bytes.
const maxData = 32 << 10

// waitLimit is how long a side waits for an answer of the other, and a client that takes nothing
// holds up the app.
const (
	answerTimeout = 5 * time.Second
	outputTimeout = 10 * time.Second
	endTimeout    = time.Second
)

// find reads the app of that name, or the pod's one app, from the pod's manifest.
func find(p *poddir.Pod, name string) (*poddir.ManifestApp, error) {
	manifest, err := p.Manifest()
	if err != nil {
		return nil, err
	}
	i, err := p.ChooseApp(manifest.AppNames(), name)
	if err != nil {
		return nil, err
	}
	return &manifest.Apps[i], nil
}

// streamsOf are the streams of an app, by stdin, stdout and stderr.
func streamsOf(a *poddir.ManifestApp) func(name string) stage1.Stream {
	return func(name string) stage1.Stream { return stage1.Stream(a.Annotation(stage1.StreamAnnotation + name)) }
}

// endpoints are what the streams of an app, by stdin, stdout and stderr, can be attached to by.
func endpoints(stream func(name string) stage1.Stream) (found []string) {
	if stream(stdin) == stage1.TTY {
		found = append(found, ttyIn)
	}
	if stream(stdout) == stage1.TTY || stream(stderr) == stage1.TTY {
		found = append(found, ttyOut)
	}
	for _, name := range []string{stdin, stdout, stderr} {
		if stream(name) == stage1.Attached {
			found = append(found, name)
		}
	}
	return found
}

// missing are the flags without which an app was started that lacks an endpoint.
var missing = map[string]string{
	stdin: "--stdin=stream", stdout: "--stdout=stream", stderr: "--stderr=stream", ttyIn: "--stdin=tty",
	ttyOut: "--stdout=tty",
}

// choose are the endpoints of those found that a mode means: rkt's auto, tty, or a list of
// endpoints.
func choose(mode string, found []string) ([]string, error) {
	if len(found) == 0 {
		return nil,
			errors.New("can't be attached to: it was started without --stdin, --stdout or --stderr being stream or tty")
	}
	var wanted []string
	switch mode {
	case "auto", "list", "":
		return found, nil
	case "tty":
		wanted = []string{ttyIn, ttyOut}
	default:
		wanted = strings.Split(mode, ",")
	}
	for i, endpoint := range wanted {
		if missing[endpoint] == "" || slices.Contains(wanted[:i], endpoint) {
			return nil,
				fmt.Errorf("--mode=%s: is not one of auto, list, tty, tty-in, tty-out, or some of stdin,stdout,stderr",
					mode)
		}
	}
	for _, endpoint := range wanted {
		if !slices.Contains(found, endpoint) {
			return nil, fmt.Errorf("has no %s to attach to: it was started without %s", endpoint, missing[endpoint])
		}
	}
	return wanted, nil
}

// List names what of an app can be attached to, as rkt called it: tty, tty-in, tty-out, stdin,
// stdout, stderr.
func List(p *poddir.Pod, name string) ([]string, error) {
	a, err := find(p, name)
	if err != nil {
		return nil, err
	}
	found, err := choose("list", endpoints(streamsOf(a)))
	if err != nil {
		return nil, fmt.Errorf("pod %s: app %q: %w", p.UUID, a.Name, err)
	}
	if len(found) > 1 && found[1] == ttyOut {
		found = append([]string{"tty"}, found[2:]...)
	}
	return found, nil
}
