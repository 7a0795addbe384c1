// Package certs finds the authorities that vouch for a server, and the certificate that is shown to
// it: in directories HOST[:PORT] of certs.d, as Docker and Podman have it (containers-certs.d(5)).
// *.crt are authorities besides those of the system, NAME.cert and NAME.key a certificate to show
// and its key.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rkt-toolkit/rkt/lib/config"
)

// Shared are the directories of Podman and Docker.
var Shared = []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}

// Directories are the certs.d of the configuration directories, of which a later one wins, and
// those of Podman and Docker, in the order in which they are looked at.
func Directories(dirs ...string) []string {
	var list []string
	for _, dir := range dirs {
		if dir != "" {
			list = append([]string{filepath.Join(dir, "certs.d")}, list...)
		}
	}
	return append(list, Shared...)
}

// Transport gives each host the authorities and the certificate that the first directory has that
// knows it. Without one the transport is used as it is.
func Transport(base *http.Transport, directories []string) http.RoundTripper {
	return &transport{base: base, directories: directories, hosts: map[string]*http.Transport{}}
}

type transport struct {
	base        *http.Transport
	directories []string

	mu    sync.Mutex
	hosts map[string]*http.Transport
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return t.base.RoundTrip(r)
	}
	host := strings.ToLower(r.URL.Host)
	if name, port, err := net.SplitHostPort(host); err == nil && port == "443" {
		host = name
	}
	next, err := t.of(host)
	if err != nil {
		return nil, err
	}
	answer, err := next.RoundTrip(r)
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown && len(t.directories) > 0 {
		err = fmt.Errorf("%w (the authority's own belongs into %s)", err,
			filepath.Join(t.directories[0], host, "ca.crt"))
	}
	return answer, err
}

// of makes the transport for a host.
func (t *transport) of(host string) (*http.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if next, ok := t.hosts[host]; ok {
		return next, nil
	}
	next := t.base
	for _, directory := range t.directories {
		own := new(tls.Config)
		if t.base.TLSClientConfig != nil {
			own = t.base.TLSClientConfig.Clone()
		}
		err := add(own, filepath.Join(directory, host))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		next = t.base.Clone()
		next.TLSClientConfig = own
		break
	}
	t.hosts[host] = next
	return next, nil
}

// add adds what a directory has.
func add(c *tls.Config, directory string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(directory, e.Name())
		switch filepath.Ext(path) {
		case ".crt":
			text, err := read(path)
			if err != nil {
				return err
			}
			if c.RootCAs == nil {
				if c.RootCAs, err = x509.SystemCertPool(); err != nil {
					return err
				}
			}
			if !c.RootCAs.AppendCertsFromPEM(text) {
				return fmt.Errorf("%s: no certificate in it", path)
			}
		case ".cert":
			text, err := read(path)
			if err != nil {
				return err
			}
			key, err := read(strings.TrimSuffix(path, ".cert") + ".key")
			if err != nil {
				return err
			}
			pair, err := tls.X509KeyPair(text, key)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			c.Certificates = append(c.Certificates, pair)
		}
	}
	return nil
}

// read is an error of another kind if there is a directory and the file is missing.
func read(path string) ([]byte, error) {
	text, err := config.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing", path)
	}
	return text, err
}
