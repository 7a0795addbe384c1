// Schemacheck reads JSON from standard input and compares it with a schema. Objects may have no
// more properties than the schema has: what a program prints is documented.
//
//	schemacheck SCHEMA <JSON
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/jsonschema-go/jsonschema"
)

func main() {
	if err := check(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "schemacheck:", err)
		os.Exit(1)
	}
}

func check(args []string, in io.Reader) error {
	if len(args) != 1 {
		return errors.New("usage: schemacheck SCHEMA <JSON")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	shut(&schema)
	resolved, err := schema.Resolve(nil)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	text, err = io.ReadAll(in)
	if err != nil {
		return err
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return fmt.Errorf("standard input: %w: %s", err, text)
	}
	if err := resolved.Validate(value); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, text)
	}
	return nil
}

// shut refuses properties that the schema does not have.
func shut(s *jsonschema.Schema) {
	if s.Items != nil {
		shut(s.Items)
	}
	if s.Properties == nil {
		return
	}
	s.AdditionalProperties = &jsonschema.Schema{Not: &jsonschema.Schema{}}
	for _, p := range s.Properties {
		shut(p)
	}
}
