# power-copies.sh DIR BIN IMAGES ROUNDS, in a mount namespace of its own
set -eu
dir=$1 images=$3 rounds=$4 data=$1/data here=$(dirname "$0")
export PATH=$2:$PATH
. "$here/power.sh"
cd "$dir"
mkdir disks data
truncate -s 1G xfs
mkfs.xfs -q -m reflink=1 xfs
mount -o loop xfs disks
truncate -s 192M disks/disk
mke2fs -q -t ext4 disks/disk
mount -o loop,commit=1 disks/disk data

say() { echo "$@" >>said; }
: >said
exec 7>errors
work &
worker=$!
trap 'touch "$dir/stop"' EXIT # however it ends
# copy NUMBER FILE: what a reboot finds, in a mount namespace where the copy is in the place of the disk
copy() {
	umount "$data"
	mount -o loop "$2" "$data"
	look "$1" sure
}
sleep 1
for n in $(seq $rounds); do
	sleep 0.$(printf %03d $((RANDOM % 1000)))
	cp said before
	cp --reflink=always disks/disk disks/copy
	cp said after
	# It was done before the cut, and nobody had begun to take it away after it.
	test "$(grep -c taken before)" = "$(grep -c taken after)" && tac before | sed '/^taken/,$d' >sure || : >sure
	export -f copy look whole
	export data images
	unshare --mount --propagation=private bash -c 'copy "$@"' bash $n "$dir/disks/copy" | tee -a seen
	rm disks/copy
done
touch stop
wait $worker
test ! -s errors || sed 's/^/WRONG: at work: /' errors
awk '/^seen/ { n++; images += $2; pods += $3; sure += $4 } END { printf "cut the power %d times: %d images, %d pods found, %d things that had been done\n", n, images, pods, sure }' seen
umount data disks
