// Package bus keeps pods from starting that the system bus has no connection left for:
// systemd-nspawn holds one for each machine that is registered with systemd-machined, and without
// it ends when half of the pod is there.
package bus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Socket is where the system bus listens (D-Bus specification, "System message bus").
const Socket = "/run/dbus/system_bus_socket"

// limits is a file in which an administrator may raise limits of the bus.
const limits = "/etc/dbus-1/system.d/pods.conf"

// waitLimit is how long the bus may take. One that takes longer is left to systemd-nspawn.
const waitLimit = 5 * time.Second

// Reserve connects to the bus at a socket. It returns an error, which names the limit, if the bus
// refuses that since a limit is reached; any other failure is none, and the connection is nil.
// While the connection is open it counts as one of the user's; exec(2) closes it.
func Reserve(socket string) (io.Closer, error) {
	end := time.Now().Add(waitLimit)
	connection, err := net.DialTimeout("unix", socket, waitLimit)
	if err != nil {
		return nil, nil
	}
	connection.SetDeadline(end)
	answer, err := hello(connection)
	refused := limitsExceeded(answer)
	if err == nil && refused == "" {
		return connection, nil
	}
	connection.Close()
	if refused == "" {
		return nil, nil
	}
	return nil, tooMany(refused)
}

// tooMany says what the bus has said, and how to raise the limit that it means (dbus-daemon(1));
// the value is not told. "systemctl reload" would need a connection itself.
func tooMany(said string) error {
	name, usual := "max_completed_connections", 2048
	if strings.Contains(said, "for UID") {
		name, usual = "max_connections_per_user", 256
	}
	return fmt.Errorf("the system bus has no connection left for it: %s (%s, %d unless configured); raise that limit: "+
		`echo '<busconfig><limit name="%s">%d</limit></busconfig>' >%s; systemctl kill --signal=HUP dbus`,
		strings.Join(strings.Fields(said), " "), name, usual, name, 8*usual, limits)
}

// hello introduces the process to the bus, and returns its answer to that.
func hello(connection net.Conn) ([]byte, error) {
	// D-Bus specification, "Authentication Protocol": the user ID in decimal, in hexadecimal.
	if _, err := fmt.Fprintf(connection, "\x00AUTH EXTERNAL %x\r\n", strconv.Itoa(os.Geteuid())); err != nil {
		return nil, err
	}
	answer := make([]byte, 4096)
	n, err := connection.Read(answer)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(answer[:n], []byte("OK ")) {
		return nil, fmt.Errorf("system bus: %q", answer[:n])
	}
	if _, err := connection.Write(append([]byte("BEGIN\r\n"), helloMessage()...)); err != nil {
		return nil, err
	}
	n, err = connection.Read(answer)
	return answer[:n], err
}

// Types of messages, and codes of header fields (D-Bus specification, "Message Protocol").
const (
	methodCall   = 1
	errorMessage = 3

	pathField        = 1
	interfaceField   = 2
	memberField      = 3
	destinationField = 6
	signatureField   = 8
)

// Unregister has systemd-machined forget a machine, by the bus at a socket. It waits for an answer,
// whatever that is, for as long as wait.
func Unregister(socket, machine string, wait time.Duration) error {
	end := time.Now().Add(wait)
	connection, err := net.DialTimeout("unix", socket, wait)
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(end)
	if _, err := hello(connection); err != nil {
		return err
	}
	if _, err := connection.Write(unregisterMessage(machine)); err != nil {
		return err
	}
	for answer := make([]byte, 4096); ; {
		n, err := connection.Read(answer)
		if err != nil {
			return err
		}
		if bytes.Contains(answer[:n], []byte{replyField, 1, 'u', 0, unregisterSerial, 0, 0, 0}) {
			return nil
		}
	}
}

// replyField is the code of the header field of an answer that has the serial number of the call.
const replyField = 5

// unregisterSerial is that of unregisterMessage.
const unregisterSerial = 2

// unregisterMessage is the call of UnregisterMachine (org.freedesktop.machine1(5)).
func unregisterMessage(machine string) []byte {
	body := binary.LittleEndian.AppendUint32(nil, uint32(len(machine)))
	body = append(append(body, machine...), 0)
	return append(message(unregisterSerial, len(body), []field{
		{pathField, 'o', "/org/freedesktop/machine1"}, {interfaceField, 's', "org.freedesktop.machine1.Manager"},
		{memberField, 's', "UnregisterMachine"}, {destinationField, 's', "org.freedesktop.machine1"},
		{signatureField, 'g', "s"},
	}), body...)
}

// helloMessage is the call of org.freedesktop.DBus.Hello, the first message of every connection.
func helloMessage() []byte {
	return message(1, 0, []field{
		{pathField, 'o', "/org/freedesktop/DBus"}, {interfaceField, 's', "org.freedesktop.DBus"},
		{memberField, 's', "Hello"}, {destinationField, 's', "org.freedesktop.DBus"},
	})
}

// field is a field of a message's header.
type field struct {
	code, kind byte
	value      string
}

// message is a call without its body.
func message(serial uint32, body int, header []field) []byte {
	var fields []byte
	for _, f := range header {
		fields = append(align(fields), f.code, 1, f.kind, 0)
		if f.kind == 'g' { // a signature has a length of one byte
			fields = append(fields, byte(len(f.value)))
		} else {
			fields = binary.LittleEndian.AppendUint32(fields, uint32(len(f.value)))
		}
		fields = append(append(fields, f.value...), 0)
	}
	message := []byte{'l', methodCall, 0, 1} // little-endian, no flags, protocol 1
	message = binary.LittleEndian.AppendUint32(message, uint32(body))
	message = binary.LittleEndian.AppendUint32(message, serial)
	message = binary.LittleEndian.AppendUint32(message, uint32(len(fields)))
	return align(append(message, fields...))
}

// align fills up to a multiple of 8 bytes.
func align(b []byte) []byte { return append(b, make([]byte, (8-len(b)%8)%8)...) }

// limitsExceeded is the text of a message that is the error LimitsExceeded, or "".
func limitsExceeded(message []byte) string {
	const head = 16
	if len(message) < head || message[0] != 'l' || message[1] != errorMessage ||
		!bytes.Contains(message, []byte("\x00org.freedesktop.DBus.Error.LimitsExceeded\x00")) {
		return ""
	}
	fields := binary.LittleEndian.Uint32(message[12:])
	body := head + (uint64(fields)+7)/8*8
	if body+4 > uint64(len(message)) {
		return "it has reached a limit"
	}
	size := uint64(binary.LittleEndian.Uint32(message[body:]))
	return string(message[body+4 : min(body+4+size, uint64(len(message)))])
}
