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
		{"ExecStartPre=", "rkt-fetch IMAGE", "gets and verifies an image",
			[]string{"image store", "/var/lib/rkt/cas", "layers, manifests, names"}},
		{"ExecStartPre=", "rkt-prepare IMAGE", "resolves flags, users, volumes",
			[]string{"pod directory", "/var/lib/rkt/pods/UUID", "manifest, roots of the apps"}},
		{"ExecStartPre=", "rkt-net add self", "calls the CNI plugins",
			[]string{"network namespace", "/run/rkt/netns/UUID", "address, rules of ports"}},
		{"ExecStart=", "rkt-run-prepared self", "makes mounts, drops privileges",
			[]string{"the pod", "systemd-nspawn, by exec:", "the unit's main process"}},
		{"ExecStopPost=", "rkt-net del self", "gives the address back",
			[]string{"no rule, no address", "no interface and", "no namespace"}},
		{"ExecStopPost=", "rkt-gc self", "removes the pod",
			[]string{"nothing of the pod", "the image stays,", "and so do volumes"}},
	}
	for i, step := range steps {
		y := padding + i*gap
		program := []string{step.program, step.line, step.does}
		p.Boxes = append(p.Boxes, Box{X: padding, Y: y, Width: width, Program: true, Lines: program},
			Box{X: right, Y: y, Width: width, Lines: step.leaves})
		p.Arrows = append(p.Arrows,
			Arrow{FromX: padding + width, FromY: y + boxHeight/2, ToX: right, ToY: y + boxHeight/2, Word: "leaves"})
		if i > 0 {
			down := Arrow{FromX: padding + middle, FromY: y - gap + boxHeight, ToX: padding + middle, ToY: y}
			if step.program == "rkt-net del self" {
				down.Word = "the pod ends"
			}
			p.Arrows = append(p.Arrows, down)
		}
	}
	return p
}

// boxHeight is the height of a box with three lines.
const boxHeight = 3*lineHeight + padding

// pod is what runs while a pod of flavor host does.
func pod() Picture {
	const (
		width, between, step = 330, 40, 94
		second               = padding + width + between // the left side of the second column
		toHost               = second + width - 20
	)
	at := func(row, x int, lines ...string) Box {
		return Box{X: x, Y: padding + row*step, Width: width, Lines: lines}
	}
	down := func(row int, word string) Arrow {
		x := padding + 40
		from := padding + row*step
		return Arrow{FromX: x, FromY: from + boxHeight, ToX: x, ToY: from + step, Word: word}
	}
	podJournal := at(2, second, "systemd-journald of the pod", "journalctl -M MACHINE", "has it, too")
	podJournal.Width -= 80 // beside it an arrow goes up
	streams := at(3, second, "rkt-stage2 streams", "reads what the apps print", "starts with the first line")
	streams.Program = true
	return Picture{
		Title: "The processes of a pod",
		Boxes: []Box{
			at(0, padding, "systemd of the host, PID 1",
				"the unit, in machine.slice", "starts, stops, restarts the pod"),
			at(1, padding, "systemd-nspawn", "the unit's main process", "was rkt-run-prepared; has the lock"),
			at(2, padding, "systemd of the pod, its PID 1",
				"namespaces and users of its own", "starts apps, stops them in order"),
			at(3, padding, "the app", "was rkt-stage2, which gave up all", "that the app may not do"),
			at(0, second, "systemd-journald of the host", "journalctl -u UNIT", "has what the apps print"),
			podJournal,
			streams,
		},
		Arrows: []Arrow{
			down(0, "exec"), down(1, "clone"), down(2, "exec"),
			{FromX: padding + width, FromY: streams.Y + 32, ToX: second, ToY: streams.Y + 32, Dashed: true},
			{FromX: second + 60, FromY: streams.Y, ToX: second + 60, ToY: podJournal.Y + boxHeight, Dashed: true},
			{FromX: toHost, FromY: streams.Y, ToX: toHost, ToY: padding + boxHeight, Dashed: true},
		},
	}
}
