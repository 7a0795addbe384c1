#!/bin/sh
# kernel.sh DIR [RELEASE]: unpack the kernel for a virtual machine into DIR: the one of the machine's own release of Debian, or of another one.
# Nothing is installed. A kernel is one package, or from Debian 14 on several; its modules are in one place then, and uncompressed.
set -eu
dir=$1 release=${2-}
log=/tmp/make-kernel-$(basename "$dir").log
rm -rf "$dir.new"
mkdir -p "$dir.new"
cd "$dir.new"
if test -n "$release"; then # lists of that release only, which are the machine's no longer than this takes
	mkdir -p apt/lists/partial apt/archives/partial
	from=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
	echo "deb $from $release main" >apt/sources.list
	: >apt/status
	cat >apt/conf <<-CONF
		Dir::State "$PWD/apt";
		Dir::State::status "$PWD/apt/status";
		Dir::Cache "$PWD/apt";
		Dir::Etc::SourceList "$PWD/apt/sources.list";
		Dir::Etc::SourceParts "/nonexistent";
		Acquire::Check-Valid-Until "false";
		APT::Sandbox::User "root";
	CONF
	export APT_CONFIG="$PWD/apt/conf"
	apt-get update -q >"$log" 2>&1 || { tail "$log"; exit 1; }
fi
packages() { apt-cache depends --recurse --important linux-image-cloud-amd64 | grep -xE 'linux-(image|binary|modules)-[0-9].*'; }
{ apt-get download -q $(packages) || { apt-get update -q && apt-get download -q $(packages); }; } >>"$log" 2>&1 || { tail "$log"; exit 1; }
rm -rf apt
for package in *.deb; do
	dpkg-deb -x "$package" .
	rm "$package"
done
if test -d usr/lib/modules; then
	mkdir -p lib
	mv usr/lib/modules lib
fi
for image in lib/modules/*/vmlinuz; do
	test -e "$image" || continue
	mkdir -p boot
	mv "$image" boot/vmlinuz-"$(basename "$(dirname "$image")")"
done
find lib/modules -name '*.ko.xz' -exec xz -d {} +
mv "../$(basename "$dir").new" "../$(basename "$dir")"
