#!/bin/sh
# inits.sh DIR: unpack runit and OpenRC into DIR, as files that can lie over a host's. Nothing is installed.
set -eu
dir=$1 log=/tmp/make-inits.log
rm -rf "$dir.new"
mkdir -p "$dir.new"
cd "$dir.new"
packages='runit openrc librc1 libeinfo1'
{ apt-get download -q $packages || { apt-get update -q && apt-get download -q $packages; }; } >"$log" 2>&1 || { tail "$log"; exit 1; }
for package in *.deb; do
	dpkg-deb -x "$package" .
	rm "$package"
done
for old in bin sbin lib; do # which are links into usr on a host
	mkdir -p usr/$old
	cp -a $old/. usr/$old
	rm -r $old
done
mkdir -p etc/runlevels/sysinit etc/runlevels/boot etc/runlevels/default
touch etc/insserv.conf
cd ..
mv "$dir.new" "$dir"
