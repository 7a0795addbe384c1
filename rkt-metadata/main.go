// Rkt-metadata: serve appc's metadata to apps over HTTP.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/metadata"
)

func main() { cli.Main(metadata.Command) }
