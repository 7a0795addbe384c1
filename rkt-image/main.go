// Rkt-image: list, show, export, verify and remove images.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/image"
)

func main() { cli.Main(image.Command) }
