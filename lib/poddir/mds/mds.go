// Package mds registers a pod with the metadata service (appc spec, ace.md, "App Container Metadata
// Service"): the service has no state of its own, a registration is a file of the pod's directory
// with the URL that the pod's apps are told, and the host has a key to sign with.
package mds

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// Port is where the service listens, on the host, and Socket is there as long as it does.
const (
	Port   = 18112
	Socket = "/run/rkt/metadata-svc.sock"
)

// keyFile is below the data directory: what the pods' signatures are made with, in hexadecimal
// digits. Who has it can pretend to be any pod of the host.
const keyFile = "metadata-key"

// Register writes a pod's file for the service, with a token that nobody can guess, and the host's
// key if it has none yet. It returns the URL for the pod's apps. The pod has its network by now.
func Register(p *poddir.Pod) (url string, err error) {
	conn, err := net.DialTimeout("unix", Socket, 5*time.Second) // by which the service starts while the pod does
	if err != nil {
		return "", errors.New("the metadata service does not listen (systemctl start rkt-metadata.socket)")
	}
	conn.Close()
	address, err := hostAddress(p.Dir())
	if err != nil {
		return "", err
	}
	if err := makeKey(p.DataDir()); err != nil {
		return "", err
	}
	if err := enroll(p); err != nil {
		return "", err
	}
	url = fmt.Sprintf("http://%s/%s/%s", netip.AddrPortFrom(address, Port), p.UUID, random(32))
	return url, durable.WriteFile(p.Path(poddir.MetadataFile), []byte(url+"\n"), 0o600)
}

// enroll makes the pod's link, and removes those of pods that are gone.
func enroll(p *poddir.Pod) error {
	data, err := filepath.Abs(p.DataDir())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(poddir.Registrations, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(poddir.Registrations)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := os.Lstat(filepath.Join(poddir.In(DataDir(e.Name())).Path(), e.Name())); errors.Is(err,
			fs.ErrNotExist) || e.Name() == p.UUID {
			os.Remove(filepath.Join(poddir.Registrations, e.Name())) // or another program has
		}
	}
	err = os.Symlink(data, filepath.Join(poddir.Registrations, p.UUID))
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return err
}

// DataDir is the data directory of the pod of that UUID, if it is registered; "" otherwise.
func DataDir(uuid string) string {
	if !poddir.ValidUUID(uuid) {
		return ""
	}
	data, _ := os.Readlink(filepath.Join(poddir.Registrations, uuid))
	return data
}

// URL is what the pod's apps were told; "" if the pod is not registered.
func URL(p *poddir.Pod) string {
	text, _ := p.ReadFile(poddir.MetadataFile)
	return strings.TrimSuffix(string(text), "\n")
}

// Knows reports whether a token is the pod's.
func Knows(p *poddir.Pod, token string) bool {
	url := URL(p)
	return url != "" && subtle.ConstantTimeCompare([]byte(url[strings.LastIndexByte(url, '/')+1:]), []byte(token)) == 1
}

// Key is the host's key.
func Key(data string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(data, keyFile))
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSuffix(string(text), "\n"))
	if err != nil || len(key) < 32 {
		return nil, fmt.Errorf("%s: is no key", filepath.Join(data, keyFile))
	}
	return key, nil
}

// makeKey makes the host's key, if another program does not at the same time.
func makeKey(data string) error {
	path := filepath.Join(data, keyFile)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp := filepath.Join(data, "tmp", keyFile+"-"+random(8)) // where rkt-gc sweeps
	if err := os.MkdirAll(filepath.Dir(tmp), 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(tmp, []byte(random(64)+"\n"), 0o600); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err == nil {
		return durable.SyncDir(data)
	}
	if errRemove := os.Remove(tmp); err == unix.EEXIST {
		return errRemove
	}
	return &fs.PathError{Op: "rename", Path: path, Err: err}
}

func random(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// hostAddress is an address of the host by which a pod reaches it: the gateway of one of its
// networks.
func hostAddress(podDir string) (netip.Addr, error) {
	namespace, err := network.Namespace(podDir)
	if err != nil {
		return netip.Addr{}, err
	}
	if namespace == "host" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	attachments, err := network.Attachments(podDir)
	if err != nil {
		return netip.Addr{}, err
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range attachments {
		for _, gateway := range gateways(a.Result) {
			for _, address := range own {
				prefix, err := netip.ParsePrefix(address.String())
				if err == nil && prefix.Addr() == gateway {
					return gateway, nil
				}
			}
		}
	}
	return netip.Addr{}, errors.New("none of the pod's networks has the host for a gateway, as ptp and bridge have")
}

// gateways are those in the answer of a CNI plugin.
func gateways(result []byte) (found []netip.Addr) {
	type ip struct{ Gateway string }
	var r struct {
		IPs      []ip
		IP4, IP6 ip // before CNI 0.3.0
	}
	if json.Unmarshal(result, &r) != nil {
		return nil
	}
	for _, i := range append(r.IPs, r.IP4, r.IP6) {
		if address, err := netip.ParseAddr(i.Gateway); err == nil {
			found = append(found, address)
		}
	}
	return found
}
