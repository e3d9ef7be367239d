#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Each system call of obtain, renew and revoke fails once, with each error that it may give: no
# crash, no hang, a documented exit code and a reason; what was stored before is whole, and when the
# command is run again it succeeds. Every third run is one with sanitizers. A flush that failed is
# never taken for good because the next one on the same file does not fail; writes and reads may be
# as short as one byte.
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../storage.sh"

limit_s=60 # for one run under strace and with sanitizers on a busy machine; most take 50 ms
faults='openat:EIO,EMFILE,ENFILE,ENOMEM,EROFS,EPERM,ESTALE,ENOSPC,EINTR openat2:EIO,EMFILE,ESTALE,EPERM,EAGAIN
    newfstatat:EIO,ENOMEM,ESTALE getdents64:EIO,ESTALE read:EIO,EINTR,EAGAIN,ESTALE pread64:EIO,EINTR
    write:ENOSPC,EIO,EDQUOT,EINTR,EAGAIN pwrite64:ENOSPC,EIO,EDQUOT,EINTR
    fsync:EIO,ENOSPC,EDQUOT,EINTR close:EIO,EDQUOT,EINTR renameat:ENOSPC,EIO,EDQUOT,EROFS,EPERM,ESTALE
    linkat:ENOSPC,EIO,EDQUOT,EPERM unlinkat:EIO,EROFS,EPERM mkdirat:ENOSPC,EDQUOT,EROFS,EIO
    ftruncate:EIO,ENOSPC fchmod:EPERM,EIO,EROFS utimensat:EPERM,EIO fcntl:EIO,ENOLCK,EAGAIN,EINTR
    clone3:EAGAIN,ENOMEM eventfd2:EMFILE,ENOMEM epoll_create1:EMFILE'
network='socket:EMFILE,ENOMEM connect:ECONNREFUSED,ENETUNREACH sendto:ECONNRESET,EPIPE
    recvfrom:ECONNRESET,EIO poll:EINTR accept4:EMFILE,ECONNABORTED bind:EADDRINUSE listen:EADDRINUSE'

prepare() {
    fresh_storage
    case $scenario in
    renew | revoke) cm obtain $name ;;
    obtain) [ "$ca" = local ] || cm account register ;;
    esac || report 1 "$scenario: set-up: $(said)"
    before=$(pair 2>/dev/null)
    mark
}

command_of() { # sets words
    case $scenario in
    obtain) command_for obtain $name ;;
    renew) command_for renew $name --force ;;
    revoke) command_for revoke $name --yes ;;
    esac
}

# run_with PROGRAM STRACE_OPTION...: sets rc; its words are in $work/out, its calls in strace.log.
run_with() {
    local program=$1
    shift
    command_of
    (
        timeout -k 5 "$limit_s" strace -f -qq -y -o "$work/strace.log" "$@" "$program" \
            "${words[@]}" >"$work/out" 2>&1
        exit $?
    ) 2>/dev/null
    rc=$?
}

ended_well() { # a documented exit code, no finding of a sanitizer, a reason if it failed
    ! grep -qE 'Sanitizer|runtime error:|Assertion' "$work/out" || return 1
    case $rc in
    0) return 0 ;;
    1 | [3-8]) [ -s "$work/out" ] ;;
    *) return 1 ;;
    esac
}

# What is there now is what was there before, or all of the new.
check_stored() {
    local now out
    if now=$(pair); then
        # Success is not claimed of what did not happen.
        [ "$scenario" != renew ] || [ $rc != 0 ] || [ "$now" != "$before" ]
        report $? "$point: exit 0, but nothing was renewed"
        [ "$scenario" != revoke ] || [ $rc != 0 ]
        report $? "$point: exit 0, but it is still there"
        return
    fi
    [ "$scenario" != renew ]
    report $? "$point: exit $rc: $now"
    [ "$scenario" != obtain ] || [ $rc != 0 ]
    report $? "$point: exit 0, but: $now"
    out=$(look absent $name)
    report $? "$point: exit $rc: $now; $out"
}

run_again() {
    local out= again
    hours_pass
    case $scenario in
    obtain) cm obtain $name ;;
    renew) cm renew $name --force ;;
    revoke)
        cm revoke $name --yes
        again=$?
        [ $again = 0 ] || [ $again = 7 ]
        ;;
    esac
    report $? "$point: run again: $(said)"
    cm obtain $name && out=$(pair) && out=$(clean)
    report $? "$point: afterwards: $(said) $out"
    no_temporaries
    report $? "$point: the sweep left $(ls "$store/certmesh/tmp")"
}

fail_at() { # PROGRAM CALL FAULT WHEN
    point="$ca $scenario, $2 $4: $3"
    prepare
    run_with "$1" -e trace="$2" -e inject="$2:$3:when=$4"
    if ! grep -q INJECTED "$work/strace.log"; then
        missed=$((missed + 1))
        drop_storage
        return
    fi
    fired=$((fired + 1))
    [ $rc != 0 ] || survived=$((survived + 1))
    ended_well
    report $? "$point: exit $rc: $(said)"
    check_stored
    run_again
    drop_storage
}

# ---- the plan of a sweep: "PROGRAM CALL FAULT WHEN", spread over all that there is

plan() { # PROGRAM LOG FAULTS...
    local program=$1 log=$2 item call error from to
    shift 2
    for item; do
        call=${item%%:*}
        points "$log" "$call" | while read -r call from to; do
            for error in ${item#*:}; do
                seq -f "$program $call error=$error %.0f" "$from" "$to"
            done
        done
    done
}

sweep() { # SCENARIO LIMIT FAULTS...
    local limit=$2 list calls began=$failed program call fault when
    scenario=$1 fired=0 missed=0 survived=0
    shift 2
    set -- "${@//,/ }"
    calls=("${@%%:*}")
    for program in "$CERTMESH" "$CERTMESH_ASAN"; do
        prepare
        command_of
        measure "$work/calls.log" "$program" "${calls[@]}"
        report $? "$scenario: undisturbed: $(said)"
        plan "$program" "$work/calls.log" "$@" >"$work/plan"
        drop_storage
        # Two thirds for the build that people use.
        if [ "$program" = "$CERTMESH" ]; then
            take $((limit * 2 / 3)) <"$work/plan" >"$work/todo"
        else
            take $((limit / 3)) <"$work/plan" >>"$work/todo"
        fi
    done
    while read -r program call fault when; do
        [ "$mode" != full ] || [ $((fired % 100)) != 99 ] || echo "  $ca $scenario: $fired faults ..."
        fail_at "$program" "$call" "$fault" "$when" </dev/null
    done <"$work/todo"
    [ $((missed * 3)) -le $((fired + missed)) ]
    report $? "$scenario: $missed of $((fired + missed)) faults did not strike"
    echo "$ca $scenario: $fired faults, $survived of them overcome, $missed that did not strike," \
        "$((failed - began)) failures"
    total=$((total + fired))
}

# ---- flushes: what was not flushed was not stored

# A file whose flush failed and that was then flushed with success, with nothing written between.
flushed_again() { # LOG
    awk '
        function path(s) { sub(/^[^<]*</, "", s); sub(/>.*/, "", s); return s }
        $2 ~ /^fsync\(/ && path($2) ~ /\/(tmp|locks)\/[^\/]+$/ {
            file = path($2)
            if (/INJECTED/) bad[file] = 1
            else if (/= 0$/ && file in bad) found = 1
        }
        $2 ~ /^p?write(64)?\(/ { delete bad[path($2)] }
        END { exit !found }' "$1"
}

flushes() {
    local n last
    for scenario in obtain renew; do
        prepare
        command_of
        measure "$work/calls.log" "$CERTMESH" fsync
        report $? "$scenario: undisturbed: $(said)"
        last=0
        read -r _ _ last < <(points "$work/calls.log" fsync)
        [ "$last" -ge 10 ]
        report $? "$scenario: only $last flushes"
        drop_storage
        for ((n = 1; n <= last; n++)); do
            point="$scenario, fsync $n fails once"
            prepare
            run_with "$CERTMESH" -e trace=fsync,write,pwrite64 -e inject="fsync:error=EIO:when=$n"
            grep -q INJECTED "$work/strace.log"
            report $? "$point: it did not strike"
            ! flushed_again "$work/strace.log"
            report $? "$point: a file was flushed again, not written again"
            check_stored
            drop_storage
        done
        point="$scenario, every fsync fails"
        prepare
        run_with "$CERTMESH" -e trace=fsync -e inject=fsync:error=EIO
        [ $rc != 0 ] && ended_well
        report $? "$point: exit $rc: $(said)"
        check_stored
        run_again
        drop_storage
        echo "$scenario: $last flushes that fail once, and all of them"
    done
}

# ---- lookups: what a commit could not see is not what is not there

lookups() {
    local n last count=0 began=$failed
    scenario=obtain fired=0 missed=0 survived=0
    prepare
    command_of
    measure "$work/calls.log" "$CERTMESH" newfstatat
    report $? "$scenario: undisturbed: $(said)"
    read -r _ _ last < <(points "$work/calls.log" newfstatat)
    drop_storage
    # The commit of the certificate is the last that it does.
    for ((n = last - $(sample 120 24); n <= last; n++)); do
        fail_at "$CERTMESH" newfstatat error=ESTALE "$n"
        count=$((count + 1))
    done
    [ $fired = $count ]
    report $? "lookups: $((count - fired)) did not strike"
    echo "obtain: the last $fired lookups, $survived of them overcome, $((failed - began)) failures"
}

# ---- as little as one byte at a time

short() {
    local what n runs=0
    # Who obtains for the first time finds nothing to read.
    for what in 'obtain WRITE' 'renew WRITE' 'renew READ'; do
        scenario=${what% *} what=${what#* }
        for n in 1 7 100; do
            point="$scenario, every ${what,,} takes $n bytes"
            prepare
            command_of
            rm -f "$work/struck"
            env LD_PRELOAD="$FAULT_TOOLS/short_io.so" SHORT_IO_DIR="$store" \
                "SHORT_IO_$what=$n" SHORT_IO_LOG="$work/struck" \
                "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
            rc=$?
            [ $rc = 0 ] && [ -s "$work/struck" ]
            report $? "$point: exit $rc: $(said)"
            check_stored
            run_again
            drop_storage
            runs=$((runs + 1))
        done
    done
    echo "short writes and reads: $runs runs"
}

total=0
# shellcheck disable=SC2086
sweep obtain "$(sample 400 30)" $faults
# shellcheck disable=SC2086
sweep renew "$(sample 600 45)" $faults
# These are about files.
if [ -z "${CM_FAULT_STORAGE:-}" ]; then
    flushes
    lookups
    short
fi

# Detectors that cannot fail prove nothing.
printf '%s\n' '7 fsync(5</s/certmesh/tmp/new-1>) = -1 EIO (Input/output error) (INJECTED)' \
    '7 fsync(5</s/certmesh/tmp/new-1>) = 0' >"$work/again.log"
flushed_again "$work/again.log"
report $? "negative control: a second flush was not noticed"
sed -i '1a 7 pwrite64(5</s/certmesh/tmp/new-1>, "x", 1, 0) = 1' "$work/again.log"
! flushed_again "$work/again.log"
report $? "negative control: what was written again was taken for flushed again"
rc=139
echo >"$work/out"
! ended_well
report $? "negative control: a crash was not noticed"

use_pebble
# shellcheck disable=SC2086
sweep renew "$(sample 400 30)" $faults $network
# shellcheck disable=SC2086
sweep revoke "$(sample 200 15)" $faults $network
[ "$total" -ge "$(sample 1000 90)" ]
report $? "only $total faults in all"

finish
