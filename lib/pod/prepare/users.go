package prepare

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// giveUsers gives a pod a range of user IDs that no other pod has, and nobody else on the host. Who sees another pod
// with the same range gives way, so that of two at the same moment at least one does.
func giveUsers(p *poddir.Pod, pods poddir.Pods) error {
	taken, err := userns.Taken("/")
	if err != nil {
		return err
	}
	for users := range userns.Free(rand.Uint32(), taken) {
		if _, err := os.Lstat(fmt.Sprintf("/run/systemd/nspawn-uid/%d", users.Base)); err == nil { // of another container
			continue
		}
		if err := os.WriteFile(p.Path(poddir.UsersFile), []byte(users.String()+"\n"), 0o600); err != nil {
			return err
		}
		other, err := has(pods, p.UUID, users)
		if err != nil {
			return err
		}
		if !other {
			return nil
		}
	}
	return errors.New("--private-users: no range of 65536 user IDs is free between 524288 and 1879048191 " +
		"(see /etc/subuid, /etc/subgid and the pods of rkt list)")
}

// has tells whether a pod other than uuid has the range.
func has(pods poddir.Pods, uuid string, users userns.Range) (bool, error) {
	all, err := pods.All()
	if err != nil {
		return false, err
	}
	for _, p := range all {
		if p.UUID == uuid {
			continue
		}
		if text, err := p.ReadFile(poddir.UsersFile); err == nil && string(text) == users.String()+"\n" {
			return true, nil
		}
	}
	return false, nil
}
