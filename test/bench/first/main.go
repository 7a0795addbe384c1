// First prints the time in nanoseconds since 1970, as soon as it runs.
package main

import (
	"os"
	"strconv"
	"time"
)

func main() { os.Stdout.WriteString(strconv.FormatInt(time.Now().UnixNano(), 10) + "\n") }
