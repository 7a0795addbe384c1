// Mkman writes the manual pages of the programs, from their Commands.
//
//	go run ./docs/mkman DIR
//
// The pages go to DIR as PROGRAM.1.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/command/all"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkman:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: mkman DIR")
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	for _, c := range slices.Concat(all.Programs(), all.Pages) {
		name := strings.ReplaceAll(c.Name, " ", "-")
		if err := os.WriteFile(filepath.Join(args[0], name+".1"), []byte(all.ManualPage(c)), 0o644); err != nil {
			return err
		}
	}
	return nil
}
