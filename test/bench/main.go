// Bench times whole processes side by side, on one host in one run, and prints what it found as a
// table. Every command is shown as it is run.
//
//	bench --dir=DIR [--short] [--only=GROUP,…] [--record=DIR] [--check=DIR]
//
// It runs as root on a host with the toolkit in $PATH: make bench boots a disposable one. With
// --record it writes performance.json and the chart start.svg to DIR, with --check it compares the
// ratios with those of performance.json there, and fails if one is a quarter worse.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	short := flag.Bool("short", false, "a few rounds, without the groups that take minutes")
	only := flag.String("only", "", "NAME,...: these groups")
	record := flag.String("record", "", "DIR: write performance.json and the charts there")
	check := flag.String("check", "", "DIR: compare with performance.json there")
	dir := flag.String("dir", "", "DIR: an empty one, on the file system that the data directory is on")
	flag.Parse()
	if os.Geteuid() != 0 {
		return errors.New("needs root; make bench runs it in a disposable host")
	}
	b, err := newBench(*dir, *short)
	if err != nil {
		return err
	}
	defer b.close()
	report := Report{Host: hostFacts()}
	for _, g := range groups {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), g.Name) || g.Long && *short {
			continue
		}
		result, err := b.measure(g)
		if err != nil {
			return fmt.Errorf("%s: %w", g.Name, err)
		}
		result.print(os.Stdout)
		report.Groups = append(report.Groups, result)
	}
	if *record != "" {
		if err := report.write(*record); err != nil {
			return err
		}
	}
	if *check != "" {
		return report.compare(*check)
	}
	return nil
}
