package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// PullPolicy is what --pull-policy says together with --store-only and --no-store, rkt's older
// names of never and update. words are the flags of the command line, which take precedence over
// variables and rkt.conf: there, two that say different things are an error.
func PullPolicy(words []string, policy string, storeOnly, noStore bool) (string, error) {
	given := func(name string) bool {
		return slices.ContainsFunc(words, func(word string) bool {
			typed, _, _ := strings.Cut(word, "=")
			return strings.HasPrefix(word, "-") && strings.TrimLeft(typed, "-") == name
		})
	}
	older, named := "", ""
	switch {
	case given("pull-policy") && !given("store-only") && !given("no-store"):
	case storeOnly && noStore:
		return "", errors.New("both --store-only and --no-store specified; use one of them")
	case storeOnly:
		older, named = "--store-only", "never"
	case noStore:
		older, named = "--no-store", "update"
	}
	if named != "" && named != policy && given("pull-policy") {
		return "", fmt.Errorf("%s is --pull-policy=%s, and --pull-policy=%s is given too; use one of them",
			older, named, policy)
	}
	if named != "" {
		policy = named
	}
	if !slices.Contains([]string{"never", "new", "update"}, policy) {
		return "", fmt.Errorf("--pull-policy=%s: is not one of never, new, update", policy)
	}
	return policy, nil
}
