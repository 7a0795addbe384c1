package cni

import (
	"crypto/rand"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mendBridge gives a bridge an address of its own that has none. The bridge plugin fixes the
// address of a bridge it has made only after the first pod is plugged in: one that was killed
// before leaves a bridge that loses its address with its last port, and to which no bridge plugin
// can add a pod ever after.
func mendBridge(name string) error {
	if name == "" {
		name = "cni0" // the plugin's default
	}
	if len(name) >= unix.IFNAMSIZ {
		return nil // the plugin's to refuse
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	var request struct { // struct ifreq of netdevice(7)
		name    [unix.IFNAMSIZ]byte
		family  uint16
		address [6]byte
		_       [16]byte
	}
	copy(request.name[:], name)
	control := func(what uintptr) unix.Errno {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), what, uintptr(unsafe.Pointer(&request)))
		return errno
	}
	if control(unix.SIOCGIFHWADDR) != 0 || request.family != unix.ARPHRD_ETHER || request.address != [6]byte{} {
		return nil // not there, or well
	}
	rand.Read(request.address[:])
	request.address[0] = request.address[0]&^1 | 2 // of one device, and local (IEEE 802)
	if errno := control(unix.SIOCSIFHWADDR); errno != 0 {
		return fmt.Errorf("giving the bridge %s an address: %w", name, errno)
	}
	return nil
}
