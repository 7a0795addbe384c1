package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each test that docs/security.md calls as a witness is there.
func TestSecurityPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	functions, err := exec.Command("grep", "-rhoE", "--include=*_test.go", "^func Test[A-Za-z0-9]+", "../..").Output()
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([-a-z0-9]+))?`").FindAllStringSubmatch(string(text), -1)
	for _, name := range named {
		if !strings.Contains(string(functions)+"\n", "func "+name[1]+"\n") {
			t.Errorf("docs/security.md: no test %s", name[1])
		}
		if name[2] == "" {
			continue
		}
		scripts, err := filepath.Glob("../../*/testdata/" + name[2] + ".txtar")
		sessions, err2 := filepath.Glob("../e2e/testdata/" + name[2] + ".txtar")
		if err != nil || err2 != nil || len(scripts)+len(sessions) == 0 {
			t.Errorf("docs/security.md: no script %s: %v, %v", name[2], err, err2)
		}
	}
	if len(named) < 20 {
		t.Errorf("docs/security.md names only %d tests", len(named))
	}
}
