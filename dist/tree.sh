#!/bin/sh
# Installs the toolkit below TREE as its packages have it: below /usr, manual pages compressed, the same bytes and times
# whenever the same commit is packed.
#
#	dist/tree.sh TREE
set -eu
umask 022
tree=$1
make --no-print-directory -C "$(dirname "$0")/.." install DESTDIR="$tree" PREFIX=/usr >/dev/null
gzip -9n "$tree"/usr/share/man/man1/*.1
mkdir -p "$tree/usr/share/doc/rkt"
"$(dirname "$0")/licenses.sh" | gzip -9n >"$tree/usr/share/doc/rkt/licenses.gz"
install -D -m 0644 "$(dirname "$0")/rkt.conf" "$tree/etc/rkt/rkt.conf"
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
