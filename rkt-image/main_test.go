package main

import (
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rkt-image": main})
}

// TestScripts runs the sessions in testdata, with a store of their own.
func TestScripts(t *testing.T) {
	for program, pkg := range map[string]string{"tar": "tar", "setfattr": "attr", "setcap": "libcap2-bin",
		"umoci": "umoci", "skopeo": "skopeo"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: run make deps, or install Debian's package %s", program, pkg)
		}
	}
	programs := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", programs, "../rkt-fetch", "../rkt", "../test/mkimage",
		"../test/fault").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		ContinueOnError:     true,
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("RKT_DIR", e.WorkDir+"/rkt")
			e.Setenv("RKT_INSECURE_OPTIONS", "image")
			e.Setenv("RKT_LOCAL_CONFIG", e.WorkDir+"/etc")
			e.Setenv("PATH", programs+":"+e.Getenv("PATH"))
			return nil
		},
	})
}
