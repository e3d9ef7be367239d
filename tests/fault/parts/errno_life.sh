#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Each system call of the maintenance, and of a handshake on demand, fails once, with each error that it may give: no crash, no hang;
# the pair is whole, no bad staple is stored, and the next run does what was to be done. Every third
# run is one with sanitizers.
. "$(dirname "$0")/../common.sh"
CM_FAULT_STORAGE=
. "$here/life.sh"

limit_s=60
faults='openat:EIO,EMFILE,ENOMEM,EROFS,EPERM,ESTALE,ENOSPC openat2:EIO,EMFILE,ESTALE,EAGAIN
    newfstatat:EIO,ESTALE getdents64:EIO read:EIO,EINTR pread64:EIO write:ENOSPC,EIO,EDQUOT
    pwrite64:ENOSPC,EIO fsync:EIO,ENOSPC close:EIO renameat:ENOSPC,EIO,EROFS linkat:ENOSPC,EIO
    unlinkat:EIO,EROFS mkdirat:ENOSPC,EIO fcntl:EIO,ENOLCK clone3:EAGAIN eventfd2:EMFILE
    epoll_create1:EMFILE socket:EMFILE connect:ECONNREFUSED,ENETUNREACH sendto:ECONNRESET,EPIPE
    recvfrom:ECONNRESET poll:EINTR'

# run_with PROGRAM STRACE_OPTION...: sets rc; its words are in $work/out, its calls in strace.log.
run_with() {
    local program=$1
    shift
    life_command
    (
        timeout -k 5 "$limit_s" strace -f -qq -o "$work/strace.log" "$@" "$program" "${words[@]}" \
            >"$work/out" 2>&1
        exit $?
    ) 2>/dev/null
    rc=$?
}

ended_well() { # an exit code of its own, no finding of a sanitizer
    ! grep -qE 'Sanitizer|runtime error:|Assertion' "$work/out" && { [ $rc = 0 ] || [ $rc = 1 ]; }
}

fail_at() { # PROGRAM CALL FAULT WHEN
    point="$scenario, $2 $4: $3"
    prepare_life
    run_with "$1" -e trace="$2" -e inject="$2:$3:when=$4"
    if ! grep -q INJECTED "$work/strace.log"; then
        missed=$((missed + 1))
        drop_storage
        return
    fi
    fired=$((fired + 1))
    ended_well
    report $? "$point: exit $rc: $(said)"
    check_life
    # A failure is remembered for the next run, which would wait: here that time has passed, and so
    # has that until the next cleaning.
    rm -rf "$store/certmesh/retry" "$store/certmesh/ca" "$store/last_clean.json"
    rerun_life
    check_orders
    check_life_done
    drop_storage
}

sweep() { # SCENARIO LIMIT
    local limit=$2 item program call error wrong from to fault when began=$failed calls
    scenario=$1 fired=0 missed=0 point="$1, undisturbed"
    # shellcheck disable=SC2086
    set -- $faults
    calls=("${@%%:*}")
    : >"$work/plan"
    for program in "$served" "$served_asan"; do
        prepare_life
        life_command
        measure "$work/calls.log" "$program" "${calls[@]}"
        report $? "$point: $(said)"
        for item; do
            points "$work/calls.log" "${item%%:*}" | while read -r call from to; do
                wrong=${item#*:}
                for error in ${wrong//,/ }; do
                    seq -f "$program $call error=$error %.0f" "$from" "$to"
                done
            done
        done >"$work/all"
        drop_storage
        # Two thirds for the build that people use.
        if [ "$program" = "$served" ]; then
            take $((limit * 2 / 3)) <"$work/all" >>"$work/plan"
        else
            take $((limit / 3)) <"$work/all" >>"$work/plan"
        fi
    done
    while read -r program call fault when; do
        fail_at "$program" "$call" "$fault" "$when" </dev/null
    done <"$work/plan"
    [ $((missed * 3)) -le $((fired + missed)) ]
    report $? "$scenario: $missed of $((fired + missed)) faults did not strike"
    echo "$scenario: $fired faults, $missed that did not strike, $((failed - began)) failures"
}

use_pebble LAB_OCSP=1
build_served
sweep renew "$(sample 300 18)"
sweep staple "$(sample 300 18)"
sweep replace "$(sample 300 18)"
sweep clean "$(sample 300 12)"
sweep ondemand "$(sample 300 12)"
finish
