#!/bin/sh
# Makes OUT/rkt-VERSION-linux-ARCH.tar.gz, which is unpacked into / of a host, or below /var/lib/extensions/rkt of one whose
# /usr is read-only; and OUT/rkt-VERSION-linux-ARCH.raw, the same as a system extension image (systemd-sysext(8)). "make
# tarball" calls it, and sets SOURCE_DATE_EPOCH to the time of the commit.
#
#	dist/tarball.sh OUT VERSION
set -eu
umask 022
here=$(dirname "$0") out=$1 name=rkt-$2-linux-$(go env GOARCH)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
"$here/tree.sh" "$tree"
mkdir -p "$out" "$tree/usr/lib/extension-release.d" "$tree/usr/share/doc/rkt"
# The name of this file is that of the extension: /var/lib/extensions/rkt, or rkt.raw.
printf '%s\n' ID=_any EXTENSION_RELOAD_MANAGER=1 >"$tree/usr/lib/extension-release.d/extension-release.rkt"
cp "$here/../LICENSE" "$here/../README.md" "$tree/usr/share/doc/rkt/"
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
tar --create --directory="$tree" --sort=name --owner=0 --group=0 --numeric-owner --format=ustar usr etc | gzip -9n >"$out/$name.tar.gz"
# An extension has /usr only. What is in /etc is a profile of AppArmor and a file of comments.
rm -r "$tree/etc"
rm -f "$out/$name.raw"
mksquashfs "$tree" "$out/$name.raw" -quiet -no-progress -all-root -noappend -comp zstd >/dev/null
