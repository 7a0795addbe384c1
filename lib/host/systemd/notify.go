package systemd

import (
	"fmt"
	"net"
)

// Notify sends a message, with what belongs to it (unix(7), "Ancillary messages"), to the socket of
// a systemd.
func Notify(to string, text, control []byte) error {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return err
	}
	defer socket.Close()
	if _, _, err := socket.WriteMsgUnix(text, control, &net.UnixAddr{Name: to, Net: "unixgram"}); err != nil {
		return fmt.Errorf("notification to %s: %w", to, err)
	}
	return nil
}
