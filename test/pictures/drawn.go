package pictures

// All are the pictures, by the names of their files in docs/pictures.
var All = map[string]Picture{"chain.svg": chain(), "pod.svg": pod()}

// chain is what the lines of a unit do, and what they leave for each other.
func chain() Picture {
	const (
		width, right, gap = 290, 400, 96
		middle            = width / 2
	)
	p := Picture{Title: "The lines of a unit, the program of each, and what it leaves for the next one"}
	steps := []struct {
		line, program, does string
		leaves              []string
	}{
		{"ExecStartPre=", "rkt-fetch IMAGE", "gets and verifies an image", []string{"image store", "/var/lib/rkt/cas", "layers, manifests, names"}},
		{"ExecStartPre=", "rkt-prepare IMAGE", "resolves flags, users, volumes", []string{"pod directory", "/var/lib/rkt/pods/UUID", "manifest, roots of the apps"}},
		{"ExecStartPre=", "rkt-net add self", "calls the CNI plugins", []string{"network namespace", "/run/rkt/netns/UUID", "address, rules of ports"}},
		{"ExecStart=", "rkt-run-prepared self", "makes mounts, drops privileges", []string{"the pod", "systemd-nspawn, by exec:", "the unit's main process"}},
		{"ExecStopPost=", "rkt-net del self", "gives the address back", []string{"no rule, no address", "no interface and", "no namespace"}},
		{"ExecStopPost=", "rkt-gc self", "removes the pod", []string{"nothing of the pod", "the image stays,", "and so do volumes"}},
	}
	for i, step := range steps {
		y := padding + i*gap
		p.Boxes = append(p.Boxes, Box{X: padding, Y: y, Width: width, Program: true, Lines: []string{step.program, step.line, step.does}},
			Box{X: right, Y: y, Width: width, Lines: step.leaves})
		p.Arrows = append(p.Arrows, Arrow{FromX: padding + width, FromY: y + 32, ToX: right, ToY: y + 32, Word: "leaves"})
		if i > 0 {
			p.Arrows = append(p.Arrows, Arrow{FromX: padding + middle, FromY: y - gap + 64, ToX: padding + middle, ToY: y, Word: map[bool]string{true: "the pod ends"}[i == 4]})
		}
	}
	return p
}

// pod is what runs while a pod of flavor host does.
func pod() Picture {
	const width, step = 330, 94
	at := func(row, column int, program bool, lines ...string) Box {
		return Box{X: padding + column*(width+40), Y: padding + row*step, Width: width, Lines: lines, Program: program}
	}
	down := func(row, column int, word string) Arrow {
		x := padding + column*(width+40) + 40
		return Arrow{FromX: x, FromY: padding + row*step + 64, ToX: x, ToY: padding + (row+1)*step, Word: word}
	}
	podJournal := at(2, 1, false, "systemd-journald of the pod", "journalctl -M MACHINE", "has it, too")
	podJournal.Width -= 80 // beside it an arrow goes up
	return Picture{
		Title: "The processes of a pod",
		Boxes: []Box{
			at(0, 0, false, "systemd of the host, PID 1", "the unit, in machine.slice", "starts, stops, restarts the pod"),
			at(1, 0, false, "systemd-nspawn", "the unit's main process", "was rkt-run-prepared; has the lock"),
			at(2, 0, false, "systemd of the pod, its PID 1", "namespaces and users of its own", "starts apps, stops them in order"),
			at(3, 0, false, "the app", "was rkt-stage2, which gave up all", "that the app may not do"),
			at(0, 1, false, "systemd-journald of the host", "journalctl -u UNIT", "has what the apps print"),
			podJournal,
			at(3, 1, true, "rkt-stage2 streams", "reads what the apps print", "starts with the first line"),
		},
		Arrows: []Arrow{
			down(0, 0, "exec"), down(1, 0, "clone"), down(2, 0, "exec"),
			{FromX: padding + width, FromY: padding + 3*step + 32, ToX: padding + width + 40, ToY: padding + 3*step + 32, Dashed: true},
			{FromX: padding + width + 40 + 60, FromY: padding + 3*step, ToX: padding + width + 40 + 60, ToY: padding + 2*step + 64, Dashed: true},
			{FromX: padding + 2*width + 20, FromY: padding + 3*step, ToX: padding + 2*width + 20, ToY: padding + 64, Dashed: true},
		},
	}
}
