#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The disk fills up at each step of obtain and of a renewal: no room, no inodes, mounted read-only.
# What was stored before is whole and can be read meanwhile, the error names what and why, nothing
# half-written stays, and when there is room again the command succeeds.
#
# A tmpfs counts pages of 4 KiB; in between, a preloaded object says at which byte there is no room.

# Mounts of our own, that nobody else sees and that go with us.
if [ -z "${CM_FAULT_MOUNTS:-}" ]; then
    export CM_FAULT_MOUNTS=own
    if [ "$(id -u)" = 0 ]; then
        exec unshare -m bash "$0"
    fi
    exec unshare -rm bash "$0"
fi
. "$(dirname "$0")/../common.sh"
CM_FAULT_STORAGE= # files are what this is about
. "$(dirname "$0")/../storage.sh"

disk=$work/disk
mkdir "$disk"
at_exit umount -q "$disk"

fresh_disk() { # [MOUNT_OPTION]
    umount "$disk" 2>/dev/null
    if ! mount -t tmpfs -o "size=1m,mode=700${1:+,$1}" tmpfs "$disk"; then
        echo "fault: a tmpfs cannot be mounted here: run as root" >&2
        exit 1
    fi
    store=$disk/store
    storage=file://$store
    mkdir -m 700 "$store"
}

prepare() { # a pair that must not suffer: that of the name itself, or of another one
    local first=$name
    [ "$scenario" = renew ] || first=other.test
    cm obtain $first
    report $? "$point: set-up: $(said)"
    before=$(pair_of $first)
    report $? "$point: set-up: $before"
    mark
}

pair_of() { # NAME
    name=$1 pair
}

old_is_whole() {
    local first=$name now
    [ "$scenario" = renew ] || first=other.test
    now=$(pair_of $first) && [ "$now" = "$before" ]
    report $? "$point: the old pair: $now instead of $before"
    [ "$scenario" = renew ] || now=$(look absent $name)
    report $? "$point: $now"
}

harmed() { # runs what is to fail; 0 if it did
    case $scenario in
    obtain) command_for obtain $name ;;
    renew) command_for renew $name --force ;;
    esac
    timeout -k 5 "$wall_s" env "$@" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
    rc=$?
    [ $rc != 0 ]
}

# What a failed run must have said and left. REASON
failed_well() {
    # The CA's answer cannot be kept, or the work cannot begin: storage (5) it is in any case.
    [ $rc = 5 ]
    report $? "$point: exit $rc: $(said)"
    grep -q "'.*$1" "$work/out"
    report $? "$point: neither what nor why: $(said)"
    # What went wrong, and perhaps what to do.
    [ "$(grep -c '^certmesh: ' "$work/out")" = 1 ] && [ "$(wc -l <"$work/out")" -le 2 ]
    report $? "$point: more than an error and a hint: $(said)"
    old_is_whole
    no_temporaries
    report $? "$point: left behind: $(ls "$store/certmesh/tmp")"
}

recovers() {
    local out
    case $scenario in
    obtain) cm obtain $name ;;
    renew) cm renew $name --force ;;
    esac
    report $? "$point: when there is room again: $(said)"
    out=$(pair) && out=$(clean)
    report $? "$point: when there is room again: $out"
    if [ "$ca" = pebble ]; then
        ! order_after_finalize
        report $? "$point: a second order after finalize"
    fi
}

# Leave exactly so many pages or inodes.
leave_pages() {
    local free
    free=$(stat -f -c %a "$disk")
    head -c $(((free - $1) * 4096)) /dev/zero >"$disk/filler"
}

leave_inodes() {
    local free i
    free=$(stat -f -c %d "$disk")
    mkdir "$disk/filler"
    for ((i = 1; i < free - $1; i++)); do
        : >"$disk/filler/$i"
    done
}

# One after the other until there is enough: pages KIND MOUNT_OPTION
fill() { # pages|inodes
    local n began=$failed points=0
    for ((n = 0; n < 200; n++)); do
        point="$ca $scenario, $n $1 left"
        if [ "$1" = pages ]; then fresh_disk; else fresh_disk nr_inodes=120; fi
        prepare
        "leave_$1" "$n"
        if ! harmed; then
            break
        fi
        points=$((points + 1))
        failed_well 'No space left on device'
        rm -rf "$disk/filler"
        recovers
    done
    [ $points -ge 5 ]
    report $? "$ca $scenario: only $points times too few $1"
    echo "$ca $scenario: $points steps with too few $1, $((failed - began)) failures"
}

bytes() { # STEP
    local n began=$failed points=0
    for ((n = 0; n < 100000; n += $1)); do
        point="$ca $scenario, $n bytes left"
        fresh_disk
        prepare
        rm -f "$work/struck"
        if ! harmed LD_PRELOAD="$FAULT_TOOLS/short_io.so" SHORT_IO_DIR="$store" \
            SHORT_IO_ROOM="$n" SHORT_IO_LOG="$work/struck"; then
            break
        fi
        [ -s "$work/struck" ]
        report $? "$point: it did not strike"
        points=$((points + 1))
        failed_well 'No space left on device'
        recovers
    done
    # Commit record, new values, copies of the old ones: some kilobytes.
    [ $points -ge $((2048 / $1)) ]
    report $? "$ca $scenario: only $points steps of $1 bytes"
    echo "$ca $scenario: $points steps of $1 bytes, $((failed - began)) failures"
}

read_only() {
    point="$ca $scenario, mounted read-only"
    fresh_disk
    prepare
    mount -o remount,ro "$disk"
    harmed
    report $? "$point: it succeeded"
    failed_well 'Read-only file system'
    mount -o remount,rw "$disk"
    recovers
    echo "$ca $scenario: read-only"
}

step=$(sample 256 1024)
for scenario in obtain renew; do
    bytes "$step"
    fill pages
    fill inodes
    read_only
done

# Detectors that cannot fail prove nothing: what fills the disk does, and a lost key is seen.
scenario=renew point='negative control'
fresh_disk
prepare
leave_pages 0
! head -c 1 /dev/zero 2>/dev/null >"$disk/one" || [ ! -s "$disk/one" ]
report $? "negative control: the full disk took a byte"
rm -f "$store/certificates/certmesh-local/$name/$name.key"
! pair >/dev/null
report $? "negative control: a lost key was not noticed"

use_pebble
for scenario in obtain renew; do
    bytes "$step"
done

finish
