# make            build the programs into bin/
# make toolkit    all programs as one file, with links to it, in bin/toolkit: for small hosts (GOARCH=arm64, arm, riscv64)
# make install    install them, their manual pages and units (DESTDIR, PREFIX); TOOLKIT=1: as one file
# make uninstall  remove what make install has installed; images, pods and configuration stay
# make deb        a package for Debian 12 and 13, in bin/dist
# make tarball    the toolkit as a tarball, and as a system extension image (systemd-sysext), in bin/dist
# make cni        build the CNI plugins of the CNI project and install them for the toolkit (DESTDIR, PREFIX), for hosts that have none
# make demo       the main job, from nothing to a redis that answers and is gone again
# make shell      a shell in a disposable host that has the toolkit and two images
# make test       all tests
# make test-releases   the sessions on hosts of other releases of Debian; prints a table, and writes it into docs/systemd.md
# make test-vm-releases   some sessions in virtual machines with the kernels and files of these releases
# make torture    the long runs, CI's long form: hundreds of kills, make race, make fuzz
# make cross      build everything for arm64, arm and riscv64, and run tests of these emulated
# make race       the tests of packages that have goroutines, with the race detector
# make fuzz       each fuzz target for 30 seconds (FUZZTIME)
# make pictures   have the pictures in docs/systemd.md drawn anew by its test
# make bench      whole processes side by side; writes the tables and the chart of docs/performance.md
# make bench-check   a short form of it, which fails if a ratio is a quarter worse than in docs/performance.json
# make table      write what is generated: lib/cli/table.go (each program has the flags of the others), after a flag has changed,
#                 and parts of docs/architecture.md and docs/dependencies.md, after an import has changed
# make lint       gofmt, go vet, staticcheck (staticcheck.conf)
# make deps       install the Debian packages that tests and bench need

PREFIX   ?= /usr/local
DESTDIR  ?=
GO       ?= go
COMMIT   := $(shell git describe --always --dirty --exclude='*' 2>/dev/null)
VERSION  ?= 2.0.0-devel$(COMMIT:%=+%)
PROGRAMS := rkt $(patsubst %/,%,$(wildcard rkt-*/))
UNITS    := rkt-fetch.socket rkt-fetch@.service rkt-gc.service rkt-gc.timer rkt-metadata.service rkt-metadata.socket rkt-update.service rkt-update.timer rkt@.service

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# program:package pairs: what to look for, and what to install when it is not there. A demo, or a shell in a disposable host,
# needs the first list, and the test bench both.
DEMO_NEEDS := systemd-nspawn:systemd-container dbus-daemon:dbus iptables:iptables docker-registry:docker-registry \
	redis-server:redis-server redis-cli:redis-tools busybox:busybox-static ps:procps ip:iproute2 nsenter:util-linux findmnt:mount \
	systemctl:systemd
DEMO_FILES := /usr/lib/cni/ptp:containernetworking-plugins
NEEDS := $(DEMO_NEEDS) pgrep:procps jq:jq \
	xz:xz-utils bzip2:bzip2 zstd:zstd skopeo:skopeo podman:podman umoci:umoci setfattr:attr setcap:libcap2-bin \
	dnsmasq:dnsmasq-base etcd:etcd-server socat:socat curl:curl time:time systemd-analyze:systemd groff:groff-base \
	apparmor_parser:apparmor secilc:secilc zsh:zsh fish:fish lintian:lintian mksquashfs:squashfs-tools \
	mmdebstrap:mmdebstrap gpg:gpg gpg-agent:gpg-agent openssl:openssl qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs mkfs.xfs:xfsprogs nft:nftables
NEEDS_FILES := $(DEMO_FILES)

# Releases of Debian whose systemd the sessions are run with, besides the machine's own, and what a tree of one has.
RELEASES := trixie forky
RELEASE_PACKAGES := attr bsdutils busybox-static ca-certificates containernetworking-plugins curl dbus dnsmasq-base docker-registry e2fsprogs \
	etcd-server gpg gpg-agent groff-base iproute2 iptables jq libcap2-bin libpam-systemd mount nftables openssl procps redis-server \
	redis-tools secilc skopeo socat systemd systemd-container time umoci util-linux xfsprogs xz-utils bzip2 zstd
# Sessions that tell most of a release; make test runs these, make torture all.
RELEASE_SESSIONS := attach closed devices enter firewalls guide health isolation logs masks redis-service reload soft-reboot terminal units users volumes

# Sessions that a kernel tells most of; make test-vm-releases runs them.
VM_SESSIONS := unit isolation devices vm/apparmor vm/clock vm/closed vm/ipvlan vm/limits vm/selinux vm/tasks

# Of packages: where they go, and the time of the commit, so that packing it twice gives the same bytes.
DIST     ?= bin/dist
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)

.PHONY: all toolkit man install uninstall deb tarball cni demo demo-deps shell test releases test-releases test-vm-releases torture cross race fuzz pictures table bench bench-check \
	lint deps modules clean

LDFLAGS  := -s -w -X github.com/rkt-toolkit/rkt/lib/command/rkt.Version=$(VERSION)

all:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='$(LDFLAGS)' -o bin/ $(addprefix ./,$(PROGRAMS))

# Small before fast (docs/embedded.md): no HTTP/2, which no registry insists on, functions packed closely, and inlined only where an image is
# unpacked or the Go runtime is at work.
SMALL := -tags=nethttpomithttp2 -ldflags='$(LDFLAGS) -funcalign=1' -gcflags=all=-l \
	$(patsubst %,-gcflags=%/...=,runtime internal compress github.com/klauspost/compress archive bufio)

toolkit:
	CGO_ENABLED=0 $(GO) build -trimpath $(SMALL) -o bin/toolkit/rkt ./toolkit
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='$(LDFLAGS)' -o bin/toolkit/ ./rkt-attach ./rkt-stage2
	for program in $(filter-out rkt rkt-attach rkt-stage2,$(PROGRAMS)); do ln -sf rkt bin/toolkit/$$program || exit; done

man:
	$(GO) run ./docs/mkman bin/man

install: $(if $(TOOLKIT),toolkit,all) man
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	$(if $(TOOLKIT),cp -P bin/toolkit/*,install -m 0755 $(addprefix bin/,$(PROGRAMS))) $(DESTDIR)$(PREFIX)/bin
	install -m 0644 $(patsubst %,bin/man/%.1,$(PROGRAMS) rkt-run) $(DESTDIR)$(PREFIX)/share/man/man1
	install -D -m 0644 lib/command/rkt/completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/rkt
	install -D -m 0644 lib/command/rkt/completion.zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_rkt
	install -D -m 0644 lib/command/rkt/completion.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/rkt.fish
	install -d $(addprefix $(DESTDIR)$(PREFIX)/lib/,systemd/system tmpfiles.d sysusers.d sysctl.d)
	for unit in $(UNITS); do \
		sed 's,/usr/bin/rkt,$(PREFIX)/bin/rkt,' units/$$unit | install -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit; \
	done
	install -m 0644 units/tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/rkt.conf
	install -m 0644 units/sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/rkt.conf
	install -D -m 0644 units/apparmor $(DESTDIR)/etc/apparmor.d/rkt-default
	install -m 0644 units/sysctl.conf $(DESTDIR)$(PREFIX)/lib/sysctl.d/10-rkt.conf

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PROGRAMS)) $(patsubst %,$(DESTDIR)$(PREFIX)/share/man/man1/%.1,$(PROGRAMS) rkt-run)
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/,$(UNITS))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,lib/tmpfiles.d/rkt.conf lib/sysusers.d/rkt.conf lib/sysctl.d/10-rkt.conf \
		share/bash-completion/completions/rkt share/zsh/site-functions/_rkt share/fish/vendor_completions.d/rkt.fish)
	rm -f $(DESTDIR)/etc/apparmor.d/rkt-default

deb tarball: export SOURCE_DATE_EPOCH := $(SOURCE_DATE_EPOCH)
deb tarball: export VERSION := $(VERSION)
deb:
	dist/deb/build.sh $(DIST) $(VERSION)

tarball:
	dist/tarball.sh $(DIST) $(VERSION)

cni:
	install -d $(DESTDIR)$(PREFIX)/libexec/rkt/cni
	for module in cni cni/flannel; do \
		CGO_ENABLED=0 $(GO) -C $$module build -trimpath -ldflags='-s -w' -o $(abspath $(DESTDIR)$(PREFIX)/libexec/rkt/cni)/ tool || exit; \
	done

# virtiofsd has a package of its own from Debian 13 on; before, qemu's packages have it.
deps:
	@$(call install,$(NEEDS),$(NEEDS_FILES),test -e /usr/lib/qemu/virtiofsd -o -e /usr/libexec/virtiofsd || missing="$$missing virtiofsd")
	@$(MAKE) --silent bin/vm bin/_inits

demo-deps:
	@$(call install,$(DEMO_NEEDS),$(DEMO_FILES),:)

# install installs what is missing: program:package pairs, file:package pairs, and a command that adds to $missing. The packages'
# own services are not wanted: where systemd would start them, they are masked for the time of the installation.
services := redis-server.service docker-registry.service etcd.service
define install
	missing=; \
	for need in $(1); do command -v $${need%%:*} >/dev/null || missing="$$missing $${need##*:}"; done; \
	for need in $(2); do test -e $${need%%:*} || missing="$$missing $${need##*:}"; done; \
	$(3); \
	test -n "$$missing" || exit 0; \
	echo "make $@: installing$$missing"; \
	test ! -d /run/systemd/system || systemctl mask --runtime $(services); \
	DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; \
	{ apt-get update -q && { apt-cache show virtiofsd || missing=$${missing% virtiofsd}; } && \
		apt-get install -q -y --no-install-recommends $$missing; } >/tmp/make-deps.log 2>&1 \
		|| { tail -20 /tmp/make-deps.log; exit 1; }; \
	test ! -d /run/systemd/system || systemctl unmask --runtime $(services)
endef

# Some tests build programs where there is no network.
modules:
	@$(GO) mod download
	@cd cni && $(GO) mod download
	@cd cni/flannel && $(GO) mod download
	@cd cni/before-1.9 && $(GO) mod download
	@cd test/runtimetest && $(GO) mod download

# The kernel of the virtual machine, and those of other releases.
bin/vm:
	@test/kernel.sh $@

bin/vm-%:
	@test/kernel.sh $@ $*

# runit and OpenRC, for hosts of the tests without systemd.
bin/_inits:
	@test/inits.sh $(abspath $@)

demo: demo-deps all
	test/demo.sh

shell: demo-deps
	@test/shell.sh

test: deps modules releases
	RKT_RELEASES=$(abspath bin/_releases) RKT_RELEASES_SESSIONS='$(RELEASE_SESSIONS)' $(GO) test -count=1 -timeout 80m ./...

releases: deps $(RELEASES:%=bin/_releases/%)

# From where the machine has its own packages. That place may be a day behind, with lists that are out of date.
bin/_releases/%:
	@echo "make releases: making a tree of Debian's $*"
	@rm -rf $@.new && mkdir -p $(@D)
	@from=$$(apt-get indextargets --format '$$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -1); \
		mmdebstrap --quiet --mode=root --variant=apt --include="$(RELEASE_PACKAGES)" --aptopt='Acquire::Check-Valid-Until "false"' \
			$* $@.new "deb $$from $* main" >/tmp/make-release-$*.log 2>&1 || { tail -20 /tmp/make-release-$*.log; exit 1; }
	@mv $@.new $@

test-releases: deps modules releases
	RKT_RELEASES=$(abspath bin/_releases) RKT_RELEASES_TABLE=$(abspath docs/systemd.md) $(GO) test -count=1 -v -timeout 120m -run 'TestReleases$$' ./test/e2e

# Sessions in virtual machines with the kernels and files of the other releases.
test-vm-releases: deps modules releases $(RELEASES:%=bin/vm-%)
	RKT_RELEASES=$(abspath bin/_releases) RKT_VM_RELEASES='$(RELEASES)' RKT_VM_SESSIONS='$(VM_SESSIONS)' \
		$(GO) test -count=1 -v -timeout 150m -run 'TestSessionsVM$$' ./test/e2e

# That everything builds for other kinds of machines, its tests too, and tests that qemu-user can run.
cross: modules
	for arch in arm64 arm riscv64; do CGO_ENABLED=0 GOARCH=$$arch $(GO) vet ./... && test/foreign.sh $$arch || exit; done

torture: deps modules releases test-vm-releases race fuzz cross
	RKT_RELEASES=$(abspath bin/_releases) $(GO) test -count=1 -v -timeout 120m -run 'TestReleases$$' ./test/e2e
	RKT_TORTURE=1 $(GO) test -count=1 -v -timeout 120m -run 'Killed|Torture|Many' ./...
	RKT_TORTURE=1 $(GO) test -count=1 -v -timeout 120m -run 'TestSessionsInit$$' ./test/e2e
	FAULTS=40 SESSION_TIMEOUT=80m $(GO) test -count=1 -v -timeout 90m -run 'TestSessions/faults$$' ./test/e2e
	ROUNDS=500 SESSION_TIMEOUT=80m $(GO) test -count=1 -v -timeout 90m -run 'TestSessions/soak$$' ./test/e2e
	ROUNDS=220 SESSION_TIMEOUT=80m $(GO) test -count=1 -v -timeout 90m -run 'TestSessions/early$$' ./test/e2e
	RKT_RELEASES=$(abspath bin/_releases) RKT_RELEASES_SESSIONS=early ROUNDS=220 SESSION_TIMEOUT=80m \
		$(GO) test -count=1 -v -timeout 90m -run 'TestReleases$$' ./test/e2e
	FUZZ_ROUNDS=500 $(GO) test -count=1 -v -run 'TestSessions/fuzz$$' ./test/e2e
	PODS=100 RKT_VM_SESSIONS=many $(GO) test -count=1 -v -timeout 60m -run 'TestSessionsVM$$' ./test/e2e
	RKT_VM_SESSIONS='guide systemd-page units unit activation redis-service notify stop status terminal apps' $(GO) test -count=1 -v -timeout 150m -run 'TestSessionsVM$$' ./test/e2e

# The race detector needs cgo. The tests of networks and of disposable hosts are processes that wait for others: nothing races there.
race: deps modules
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 40m $$(grep -rlE '^\s*go (func|[a-z])' --include='*.go' lib rkt* | xargs -n1 dirname | sort -u | \
		grep -v '^rkt-net$$\|^lib/testkit$$' | sed 's,^,./,')

FUZZTIME ?= 30s
fuzz: deps modules
	test/fuzz.sh $(FUZZTIME)

pictures: deps
	RKT_PICTURES=$(abspath docs) $(GO) test -count=1 -run 'TestSessions/systemd-page$$' ./test/e2e

# Twice: "rkt run" has flags of other programs by the table.
table:
	for i in 1 2; do RKT_WRITE_TABLE=1 $(GO) test -count=1 -run TestTable ./lib/command/all; done
	UPDATE=1 $(GO) test -count=1 -run 'TestRoomsPicture|TestDependenciesTable' ./test/house

bench: deps all
	test/bench.sh --record=$(abspath docs)
	UPDATE=1 $(GO) test -count=1 ./test/bench
	test/bench-fetch.sh

# Whether ratios have become a quarter worse than those of docs/performance.json.
bench-check: deps all
	test/bench.sh --short --check=$(abspath docs)

lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

clean:
	rm -rf bin
