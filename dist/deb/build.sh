#!/bin/sh
# Makes OUT/rkt_VERSION_ARCH.deb, for Debian 12 and 13. "make deb" calls it, and sets SOURCE_DATE_EPOCH to the time of
# the commit.
#
#	dist/deb/build.sh OUT VERSION
#
# VERSION is one of the toolkit, such as 2.0.0-devel+0123abc.
set -eu
umask 022
here=$(dirname "$0") out=$1
# What comes before a release sorts before it, and a later commit after an earlier one.
version=$(echo "$2" | sed "s/-devel.*/~devel$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M)&/; s/-devel+/.g/; s/-dirty/.dirty/; s/-devel//; s/\$/-1/")
arch=$(dpkg --print-architecture)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
"$here/../tree.sh" "$tree"

doc=$tree/usr/share/doc/rkt
install -D -m 0644 "$here/copyright" "$doc/copyright"
install -m 0644 "$here/../../README.md" "$doc/README.md"
install -D -m 0644 "$here/lintian-overrides" "$tree/usr/share/lintian/overrides/rkt"
gzip -9nc "$here/../../CHANGELOG.md" >"$doc/changelog.gz"
maintainer=$(sed -n 's/^Maintainer: //p' "$here/control")
printf 'rkt (%s) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' \
	"$version" "$maintainer" "$(date --utc --date="@$SOURCE_DATE_EPOCH" -R)" | gzip -9n >"$doc/changelog.Debian.gz"

mkdir "$tree/DEBIAN"
install -m 0755 "$here/postinst" "$here/prerm" "$here/postrm" "$tree/DEBIAN/"
(cd "$tree" && find etc -type f | sort | sed 's,^,/,') >"$tree/DEBIAN/conffiles"
(cd "$tree" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$tree/DEBIAN/md5sums"
size=$(cd "$tree" && find usr etc -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/" "$here/control" >"$tree/DEBIAN/control"
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$out"
dpkg-deb --root-owner-group --build "$tree" "$out/rkt_${version}_$arch.deb"
