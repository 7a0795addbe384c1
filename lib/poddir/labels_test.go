package poddir

import (
	"os"
	"testing"
)

func TestLabels(t *testing.T) {
	p, lock, err := In(t.TempDir()).Create(NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if l, err := p.Labels(); l != nil || err != nil {
		t.Errorf("of a pod without: %v, %v", l, err)
	}
	const process, file = "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"
	for _, test := range []struct {
		text string
		ok   bool
	}{
		{process + " " + file + "\n", true},
		{process + " " + file + " asked\n", true},
		{process + " " + file + " other\n", false},
		{process + "\n", false},
		{"", false},
		{process + " x\n", false},
		{process + "\" " + file + "\n", false},
	} {
		if err := os.WriteFile(p.Path(LabelsFile), []byte(test.text), 0o640); err != nil {
			t.Fatal(err)
		}
		l, err := p.Labels()
		if (err == nil) != test.ok || test.ok && l.String() != test.text {
			t.Errorf("%q: %v, %v", test.text, l, err)
		}
	}
}
