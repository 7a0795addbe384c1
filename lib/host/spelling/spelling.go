// Package spelling finds what somebody who has misspelt a name probably meant.
package spelling

import (
	"slices"
	"strings"
)

// Near returns the name that a misspelt or shortened one probably is, or "" if none is like it.
func Near(typed string, names []string) string {
	best, least, shortest := "", min(2, len(typed)/3)+1, ""
	slices.Sort(names)
	for _, name := range names {
		if n := distance(typed, name); n < least {
			best, least = name, n
		}
		if len(typed) > 3 && strings.HasPrefix(name, typed) && (shortest == "" || len(name) < len(shortest)) {
			shortest = name
		}
	}
	if best == "" {
		return shortest
	}
	return best
}

// distance is how many letters have to be added, removed, replaced, or swapped with the next, to
// make a of b.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replace := last[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(replace, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
