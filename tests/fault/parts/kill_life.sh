#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# kill -9 at the system calls of the maintenance: a renewal, the refresh of a staple, the replacement
# of what is revoked with its key put aside, a cleaning; and of the first handshake for a name on
# demand. The pair is whole at any moment, no staple
# that is stored is a bad one, and the next run does the rest.
. "$(dirname "$0")/../common.sh"
CM_FAULT_STORAGE= # the file of a key put aside is looked at
. "$here/life.sh"

calls=(openat openat2 write pwrite64 fsync fdatasync close renameat renameat2 linkat unlinkat mkdirat
    ftruncate fcntl flock socket connect sendto recvfrom sendmsg recvmsg poll)

kill_once() { # CALL INDEX: 0 if it hit
    local rc
    life_command
    # In a shell of its own, whose remark that something was killed nobody needs.
    (
        timeout -k 5 "$wall_s" strace -f -qq -o "$work/strace.log" -e trace="$1" \
            -e inject="$1:signal=KILL:when=$2" "$served" "${words[@]}" >"$work/out" 2>&1
        exit $?
    ) 2>/dev/null
    rc=$?
    [ $rc = 137 ] && grep -q 'killed by SIGKILL' "$work/strace.log" && return 0
    [ $rc = 0 ] || report 1 "$point: it ended with exit $rc: $(said)"
    return 1
}

kill_at() { # CALL INDEX
    point="$scenario, killed at $1 $2"
    prepare_life
    if ! kill_once "$1" "$2"; then
        missed=$((missed + 1))
        drop_storage
        return
    fi
    fired=$((fired + 1))
    check_life
    rerun_life
    check_orders
    check_life_done
    drop_storage
}

sweep() { # SCENARIO LIMIT
    local limit=$2 call index from to began=$failed list
    scenario=$1 fired=0 missed=0 point="$1, undisturbed"
    prepare_life
    life_command
    measure "$work/calls.log" "$served" "${calls[@]}"
    report $? "$point: $(said)"
    check_life
    check_life_done
    list=$(points "$work/calls.log" "${calls[@]}" | while read -r call from to; do
        seq -f "$call %.0f" "$from" "$to"
    done | take "$limit")
    drop_storage
    while read -r call index; do
        kill_at "$call" "$index" </dev/null
    done <<<"$list"
    # How often a socket is read, and which thread comes first to a call, is not the same each time.
    [ $((missed * 3)) -le $((fired + missed)) ]
    report $? "$scenario: $missed of $((fired + missed)) kills did not hit"
    echo "$scenario: $fired kills, $missed came too late, $((failed - began)) failures"
}

use_pebble LAB_OCSP=1
build_served
sweep renew "$(sample 300 14)"
sweep staple "$(sample 300 14)"
sweep replace "$(sample 300 14)"
sweep clean "$(sample 300 8)"
sweep ondemand "$(sample 300 8)"

# Detectors that cannot fail prove nothing: a bad staple, a key that was not put aside.
scenario=replace point='negative control'
prepare_life
head -c 300 /dev/urandom >"$work/junk"
look put "ocsp/$name-00000000" <"$work/junk"
! staples_are_good >/dev/null
report $? "negative control: a staple of noise was not noticed"
now=another
out=$(quarantined_at_most_once)
[[ $out == *FAILED* ]]
report $? "negative control: a key that was not put aside was not noticed"

finish
