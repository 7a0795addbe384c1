package machined

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/program"
)

// Register has systemd-machined know a machine in the unit that its leader is in.
func Register(ctx context.Context, name, uuid string, leader int, root string) error {
	return call(ctx, "RegisterMachine", "sayssus", machine(name, uuid, leader, root))
}

// Create has systemd-machined know a machine, whose leader is moved into a scope that has these
// properties, NAME=VALUE: TasksMax.
func Create(ctx context.Context, name, uuid string, leader int, root string, properties []string) error {
	args := append(machine(name, uuid, leader, root), strconv.Itoa(len(properties)))
	for _, p := range properties {
		key, value, _ := strings.Cut(p, "=")
		if value == "max" {
			value = strconv.FormatUint(1<<64-1, 10)
		}
		args = append(args, key, "t", value)
	}
	return call(ctx, "CreateMachine", "sayssusa(sv)", args)
}

// machine are the arguments of both calls (org.freedesktop.machine1(5)).
func machine(name, uuid string, leader int, root string) []string {
	id := strings.ReplaceAll(uuid, "-", "")
	args := []string{name, strconv.Itoa(len(id) / 2)}
	for i := 0; i+2 <= len(id); i += 2 {
		n, _ := strconv.ParseUint(id[i:i+2], 16, 8)
		args = append(args, strconv.FormatUint(n, 10))
	}
	return append(args, "rkt", "container", strconv.Itoa(leader), root)
}

func call(ctx context.Context, method, signature string, args []string) error {
	argv := append([]string{"--quiet", "call", service, "/org/freedesktop/machine1", service + ".Manager",
		method, signature}, args...)
	if out, err := program.Command(ctx, "busctl", argv...).CombinedOutput(); err != nil {
		return fmt.Errorf("systemd-machined: %s: %s (%w)", args[0], strings.TrimSpace(string(out)), err)
	}
	return nil
}
