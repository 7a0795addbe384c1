package process

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Real-time signals by number (signal(7)); the C library keeps the first two.
const rtMin, rtMax = 34, 64

// ParseSignal reads the name of a signal, with or without SIG and in any case, or its number.
func ParseSignal(s string) (unix.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	base := 0
	switch {
	case strings.HasPrefix(name, "RTMIN"):
		base, name = rtMin, strings.TrimPrefix(name[len("RTMIN"):], "+")
	case strings.HasPrefix(name, "RTMAX"):
		base, name = rtMax, name[len("RTMAX"):]
	}
	if base != 0 && name == "" {
		return unix.Signal(base), nil
	}
	if n := unix.SignalNum("SIG" + name); base == 0 && n != 0 {
		return n, nil
	}
	n, err := strconv.Atoi(name)
	n += base
	if err != nil || n < 1 || n > rtMax || base != 0 && n < rtMin {
		return 0, errors.New("not a signal; write a name such as HUP or USR1, or a number from 1 to 64")
	}
	return unix.Signal(n), nil
}
