package testkit

import "strings"

// Says reports whether an error's text has the parts of want, which " ... " separates, in their
// order. With an empty want there must be no error. A test names what makes an error this one: the
// object, and the word or flag that says what to type next. The sentence between can improve.
func Says(err error, want string) bool {
	if err == nil || want == "" {
		return err == nil && want == ""
	}
	return Has(err.Error(), want)
}

// Has reports whether what a program has said has the parts of want, which " ... " separates, in
// their order. With an empty want it must have said nothing.
func Has(said, want string) bool {
	if want == "" {
		return said == ""
	}
	rest := said
	for part := range strings.SplitSeq(want, " ... ") {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return true
}

// Gives reports whether a call gave want, or, if it failed, whether its error says that.
func Gives(got string, err error, want string) bool {
	if err != nil {
		return want != "" && Says(err, want)
	}
	return got == want
}
