// Package random gives bytes of the kernel's random number generator. So does crypto/rand, which brings along ciphers whose set-up is up to a
// millisecond of each program's start.
package random

import (
	"encoding/hex"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bytes are n random bytes, fit for secrets: getrandom(2) waits, at a host's first start, until the kernel has collected enough.
func Bytes(n int) []byte {
	b := make([]byte, n)
	for done := 0; done < n; {
		got, err := unix.Getrandom(b[done:], 0)
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprintf("getrandom: %v", err)) // which no kernel since 3.17 does
		}
		done += max(got, 0)
	}
	return b
}

// Hex is n random bytes as text of twice the length.
func Hex(n int) string { return hex.EncodeToString(Bytes(n)) }
