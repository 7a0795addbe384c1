package rkt

import (
	"testing"

	"github.com/appc/spec/schema"
)

func TestAppcVersion(t *testing.T) {
	if want := schema.AppContainerVersion.String(); appcVersion != want {
		t.Errorf("appcVersion = %s, the library's is %s", appcVersion, want)
	}
}
