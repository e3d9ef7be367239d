# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck source=tests/integration/shared/outage.sh
# What the tests of a server without room share: a small disk of its own, two nodes that serve, and
# what must hold of a command that finds no room: it says why, nothing of what was there is touched, and
# when there is room again it goes on by itself.

# Mounts of our own, that nobody else sees and that go with us. A server of PostgreSQL needs a root who
# can become somebody else.
if [ -z "${CM_FULL_MOUNTS:-}" ]; then
    export CM_FULL_MOUNTS=own
    if [ "$(id -u)" = 0 ]; then
        exec unshare -m bash "$0" "$@"
    elif [ "$kind" != postgres ] && unshare -rm true 2>/dev/null; then
        exec unshare -rm bash "$0" "$@"
    fi
    [ -n "${CI:-}${CM_REQUIRE:-}" ] || { echo "1..0 # SKIP a disk can be mounted by root only"; exit 77; }
    echo "Bail out! a disk can be mounted by root only"
    exit 1
fi
. "$(dirname "${BASH_SOURCE[0]}")/outage.sh"

full_clean_up() {
    fleet_clean_up 2>/dev/null # a mount is in its way
    umount -q "${disks[@]}"
    rm -rf "$work"
}
disks=()

# disk_up PATH SIZE: an empty one, of all sizes in pages
disk_up() {
    disk=$1
    mkdir -p "$disk" && mount -t tmpfs -o "size=$2,mode=711" tmpfs "$disk" ||
        { echo "Bail out! a tmpfs cannot be mounted"; exit 1; }
    disks+=("$disk")
    trap full_clean_up EXIT
}

fill_disk() { # [BYTES TO LEAVE]
    local left=$(($(stat -f -c '%a * %S' "$disk") - ${1:-0}))
    [ $left -le 0 ] || head -c $left /dev/zero >"$disk/filler" 2>/dev/null
}

empty_disk() {
    rm -f "$disk/filler"
}

# refused LABEL PATTERN SUBCOMMAND...: it must fail as storage does (exit 5), say why, and all at once.
refused() {
    local label=$1 pattern=$2 rc
    shift 2
    node 0 "$@" >"$work/refused" 2>&1
    rc=$?
    is "$label: refused" "$rc" 5
    like "$label: and told why" "$(cat "$work/refused")" "$pattern"
    [ "$(wc -l <"$work/refused")" -le 2 ]
    tap_result $? "$label: in few words" "$(cat "$work/refused")"
}

# untouched LABEL NAME SERIAL: whole in storage as it was, and shown by both nodes.
untouched() {
    is "$1: what was stored is whole" "$(stored_serial "$2")" "$3"
    for n in 1 2; do
        is "$1: node $n shows it" "$(wire_serial "$2" $n)" "$3"
    done
}

# new_orders LABEL BEFORE WANTED: and from now on these count as asked for.
new_orders() {
    local made=$(($(orders) - $2))
    at_most "$1: orders" $made "$3"
    asked_for=$((asked_for + made))
}
