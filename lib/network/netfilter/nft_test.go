package netfilter

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// What nft 1.0.6 and 1.1.7 print of the rules in testdata/rules.nft.
func TestParseNFT(t *testing.T) {
	text, err := os.ReadFile("testdata/rules.json")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := parseNFT(text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rules {
		if r.Jumps() {
			got = append(got, r.Chain+" jumps")
		}
		for _, f := range r.Forwards() {
			got = append(got, fmt.Sprintf("%s %s%s %d-%d %s", strings.TrimSpace(r.Delete()), f.Protocol, f.Address,
				f.First, f.Last, f.To))
		}
	}
	want := []string{
		"delete rule ip cni_hostport hostports handle 3 tcp 8080-8080 172.16.28.2:80",
		"delete rule ip cni_hostport hostports handle 4 udp192.0.2.1 53-53 172.16.28.2:5353",
		"prerouting jumps",
		"delete rule inet fw pre handle 3 tcp 443-443 10.0.0.2",
		"delete rule inet fw pre handle 3 tcp 7000-7002 10.0.0.2",
		"delete rule inet fw pre handle 8 tcp 84-84 [fd00::2]:84",
		"delete rule inet fw pre handle 9 tcp 85-85 10.0.0.2:85",
		"delete rule inet fw pre handle 10 tcp 86-86 10.0.0.2:86",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if rules[0].Comment != "0ed5c2f6-2ec4-4c6b-8b31-0a1f6a7f3b11" {
		t.Errorf("comment %q", rules[0].Comment)
	}
}

// FuzzParseNFT: whatever nft prints, what is read of it are ports.
func FuzzParseNFT(f *testing.F) {
	text, err := os.ReadFile("testdata/rules.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := parseNFT(text)
		for _, r := range rules {
			for _, forward := range r.Forwards() {
				if err != nil || forward.First < 0 || forward.Last > 1<<16-1 {
					t.Fatal(forward, err)
				}
			}
		}
	})
}
