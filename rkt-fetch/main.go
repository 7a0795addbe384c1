// Rkt-fetch: fetch images into the store.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/fetch"
)

func main() { cli.Main(fetch.Command) }
