package prepare

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/userns"
)

// giveUsers gives a pod a range of user IDs that no other pod has. Who sees another pod with the same range gives way, so that of two at
// the same moment at least one does.
func giveUsers(p *pod.Pod, pods pod.Pods) error {
	for range 1000 {
		users := userns.Random(rand.Uint32())
		if _, err := os.Lstat(fmt.Sprintf("/run/systemd/nspawn-uid/%d", users.Base)); err == nil { // of another container
			continue
		}
		if err := os.WriteFile(p.Path(pod.UsersFile), []byte(users.String()+"\n"), 0o600); err != nil {
			return err
		}
		taken, err := has(pods, p.UUID, users)
		if err != nil {
			return err
		}
		if !taken {
			return nil
		}
	}
	return errors.New("--private-users: all ranges of user IDs are taken")
}

// has tells whether a pod other than uuid has the range.
func has(pods pod.Pods, uuid string, users userns.Range) (bool, error) {
	all, err := pods.All()
	if err != nil {
		return false, err
	}
	for _, p := range all {
		if p.UUID == uuid {
			continue
		}
		if text, err := p.ReadFile(pod.UsersFile); err == nil && string(text) == users.String()+"\n" {
			return true, nil
		}
	}
	return false, nil
}
