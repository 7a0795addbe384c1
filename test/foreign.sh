#!/bin/sh
# foreign.sh ARCH: runs tests as programs for another kind of machine (arm64, arm or riscv64), emulated by qemu-user. Packages are left out
# that make system calls which it does not emulate: openat2, mount_setattr, open_tree, seccomp, bpf, and clone with namespaces.
set -eu
cd "$(dirname "$0")/.."
case $1 in
arm64) machine=aarch64 ;;
*) machine=$1 ;;
esac
qemu=bin/_qemu/usr/bin/qemu-$machine-static
if ! test -e "$qemu"; then
	mkdir -p bin/_qemu
	(cd bin/_qemu && { apt-get download -q qemu-user-static || { apt-get update -q && apt-get download -q qemu-user-static; }; } >download.log 2>&1 &&
		dpkg-deb -x qemu-user-static*.deb . && rm ./*.deb) || { tail bin/_qemu/download.log; exit 1; }
fi
packages=$(go list ./lib/... | grep -vE '/lib/(host/(confine|devfilter|netns|openat|overlay|process|seccomp|sysctl|userns)|poddir|stage2/(app|reaper)|'\
'image/(fetch|index|member|recipe|unpack|verify)|pod/(attach|copy|enter|export|prepare|run)|stage1/(flavor|host|host/inotify|host/systree))$')
CGO_ENABLED=0 GOARCH=$1 go test -exec "$(realpath "$qemu")" $packages
