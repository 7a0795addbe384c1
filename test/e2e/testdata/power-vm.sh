# power-vm.sh NUMBER SURE, in a virtual machine whose second disk loses what nobody has flushed when it is killed
data=/data images=/images
. "$(dirname "$0")/power.sh"
say() { echo "did $*"; }
mkdir -p "$data"
mount -o commit=1 /dev/vdb "$data" || echo "WRONG: $1: mount"
exec 7>&2
cd /tmp
test "$1" = 0 || look "$1" "$2"
echo at work
work
