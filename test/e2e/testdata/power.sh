# Work whose power is cut, and a look at what is there afterwards. $data is the data directory, $images has the images; say prints a line that
# outlives the cut, errors go to descriptor 7.
export RKT_INSECURE_OPTIONS=image RKT_DIR=$data

# What a program has done by its exit status 0 is said, and before it is taken away, that.
work() {
	local round=0
	set +e
	while test ! -e stop; do
		rkt-fetch "oci:$images/busybox" >/dev/null 2>&7 && say image
		# In every other round another program has written more than SyncTree would wait for.
		test $((round++ % 2)) = 0 || head -c 16M /dev/zero >"$data/other"
		for i in 1 2 3; do
			uuid=$(rkt-prepare "oci:$images/busybox" --exec=/bin/true 2>&7) && say pod "$uuid"
		done
		rkt-fetch "$images/busybox.aci" >/dev/null 2>&7 && say aci
		say taken
		rkt-gc --expire-prepared=0s >/dev/null 2>&7
		rkt-image gc --grace-period=0s >/dev/null 2>&7
	done
}

# whole DIR: a prepared pod has its files, and none of them is empty or of zeros.
whole() {
	test -s "$1/mounts" && test -s "$1/stage1/rootfs/etc/systemd/system/default.target" && test -L "$1/overlay/"*/lower/0 &&
		test -z "$(grep -rLa '[[:graph:]]' "$1" | grep -v '/stage1/rootfs/rkt/stage2$' | tee out)" # an empty mount point
}

# look NUMBER SURE: what is wrong after the cut of that number. SURE are lines that say has printed.
look() {
	images_there=$(rkt-image list --no-legend --full --fields=id) || echo "WRONG: $1: list"
	test -z "$images_there" || rkt-image verify $images_there >out 2>&1 || echo "WRONG: $1: $(cat out)"
	while read -r what uuid; do
		case $what in
		image) rkt-image verify "oci:$images/busybox" >out 2>&1 ;;
		aci) rkt-image verify "$images/busybox.aci" >out 2>&1 ;;
		pod) rkt-cat-manifest "$uuid" >out 2>&1 && whole "$data/pods/$uuid" ;;
		esac || echo "WRONG: $1: $what ${uuid-} was done and is lost: $(cat out)"
	done <"$2"
	rkt-list --no-legend --full --fields=uuid,state >there 2>out
	pods=$(wc -l <there)
	test ! -s out || echo "WRONG: $1: $(cat out)"
	for uuid in $(sed -n 's/\tprepared.*//p' there); do
		whole "$data/pods/$uuid" || echo "WRONG: $1: pod $uuid is not whole: $(cat out)"
	done
	rkt-prepare "oci:$images/busybox" >out 2>&1 || echo "WRONG: $1: the next prepare: $(cat out)"
	rkt-gc --expire-prepared=0s >out 2>&1 || echo "WRONG: $1: gc: $(cat out)"
	rkt-image gc --grace-period=0s >out 2>&1 || echo "WRONG: $1: image gc: $(cat out)"
	left=$(find "$data/pods" "$data/garbage" "$data/tmp" "$data/cas/tmp" "$data/cas/layer" "$data/cas/image" "$data/cas/blob" -mindepth 1 -maxdepth 1 2>/dev/null)
	test -z "$left" || echo "WRONG: $1: left: $left"
	echo "seen $(echo "$images_there" | grep -c .) $pods $(wc -l <"$2")"
}
