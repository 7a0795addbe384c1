package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rkt-config": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		ContinueOnError:     true,
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("RKT_SYSTEM_CONFIG", e.WorkDir+"/usr")
			e.Setenv("RKT_LOCAL_CONFIG", e.WorkDir+"/etc")
			return nil
		},
	})
}
