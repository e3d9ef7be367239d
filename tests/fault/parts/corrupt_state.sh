#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Damage to what is not a certificate: lock and guard, commit record, registration, and to what a
# running server reads. Locks block nobody for ever and fences never go back; a commit record that
# cannot be read stops nothing; a server serves nobody else's certificate, and serves the others.
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../damage.sh"

base=$work/base
mkdir -m 700 "$base"
cm_in "$base" obtain a.test b.test c.test --quiet
report "$rc" "set-up: $(cat "$out")"

# ---------------------------------------------------------- locks and guards

fence_of() { # STORE NAME
    sed -n 's/^fence 0*//p' "$1/certmesh/locks/issue_cert_$2.guard" 2>/dev/null
}

# The lock of a process that is gone, as a peer leaves it.
abandoned() { # FILE SECONDS-AGO
    local at
    at=$(date -u -d "@$(($(date +%s) - $2))" +%Y-%m-%dT%H:%M:%S.000000000Z)
    mkdir -p -m 700 "$(dirname "$1")"
    printf '{"created":"%s","updated":"%s"}\n' "$at" "$at" >"$1"
    chmod 600 "$1"
}

# One store each, all at the same time: most of them wait. The lock file is as old as just now, so
# that its content or the watching decides.
one_lock() { # FILE KIND DIR
    local file=$1 kind=$2 s=$3 case rc out=$3.out after limit=40
    local code
    case="$file, $kind"
    cm_in "$s" renew a.test --force
    after=$(fence_of "$s" a.test)
    code=$rc
    if [[ $kind = directory* ]]; then
        [ "$code" != 0 ] && grep -q "issue_cert_a.test" "$out"
        echo "RC=$? $case: a directory in its place is not named ($code): $(tr '\n' ' ' <"$out")"
    else
        echo "RC=$code $case: renew ends with $code: $(tr '\n' ' ' <"$out")"
        sound "$s" a.test
        echo "RC=$? $case: the pair is not sound"
        [ "${after:-0}" -gt "$fence_before" ]
        echo "RC=$? $case: the fence went from $fence_before to '$after'"
    fi
    cm_in "$s" renew b.test --force
    echo "RC=$rc $case: the lock of another name is not free ($rc)"
}

locks() { # FILE(below the store)
    local kind n=0 pids=() line
    for kind in "${picked[@]}"; do
        case="$1, $kind"
        [ -f "$base.lock/$1" ] || abandoned "$base.lock/$1" 0
        broken "$base.lock" "$kind" "$1" "$base.lock/other.lock" "$base.lock/old.lock" || continue
        [ ! -f "$s/$1" ] || touch "$s/$1"
        mv "$s" "$work/lock.$n"
        (one_lock "$1" "$kind" "$work/lock.$n" >"$work/lock.$n.said" 2>&1) &
        pids+=($!)
        n=$((n + 1))
    done
    wait "${pids[@]}"
    cat "$work"/lock.*.said >"$work/said"
    while read -r line; do
        if [[ $line = RC=* ]]; then
            line=${line#RC=}
            report "${line%% *}" "${line#* }"
        elif [[ $line = FAILED* ]]; then
            report 1 "${line#FAILED: }"
        fi
    done <"$work/said"
    rm -rf "$work"/lock.*
}

began_failed=$failed
cp -a "$base" "$base.lock"
cm_in "$base.lock" renew a.test b.test --force --quiet
fence_before=$(fence_of "$base.lock" a.test)
[ "${fence_before:-0}" -gt 0 ]
report $? "set-up: no fence: '$fence_before'"
abandoned "$base.lock/other.lock" 3600
abandoned "$base.lock/old.lock" -3600 # from the future
pick
locks certmesh/locks/issue_cert_a.test.guard
abandoned "$base.lock/locks/issue_cert_a.test.lock" 0
pick
locks locks/issue_cert_a.test.lock
echo "locks and guards: $damages damages, $((failed - began_failed)) failures"

# -------------------------------------------------------------- commit record

# A real one: the process is killed once its commit is past the point of no return.
half=$work/half
for ((n = 1; n < 200; n++)); do
    rm -rf "$half"
    cp -a "$base" "$half"
    { ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o "$work/strace" -e trace=renameat,renameat2 \
        -e inject=renameat,renameat2:signal=KILL:when=$n \
        "$CERTMESH" renew a.test --force --internal --quiet --root "$half" >"$out" 2>&1; } 2>/dev/null
    [ $? = 137 ] || break
    record=$(find "$half/certmesh/redo" -type f 2>/dev/null | head -n 1)
    sound "$half" a.test || [ -z "$record" ] || break
done
[ -n "${record:-}" ]
report $? "set-up: no commit was interrupted in the middle"
record=${record#"$half/"}

began_failed=$failed damages=0
pick
for kind in "${picked[@]}"; do
    case="commit record, $kind"
    broken "$half" "$kind" "$record" "$base/certmesh/ca/local/root.crt" "-" || continue
    cm "$s" list
    report "$rc" "$case: list ends with $rc: $(cat "$out")"
    [ "$(grep -cE '^(b|c)\.test .*internal' "$out")" = 2 ]
    report $? "$case: list does not show the others: $(cat "$out")"
    if [ "$kind" != missing ]; then
        grep -q "certmesh/redo/\|$(basename "$record")" "$out"
        report $? "$case: nobody names the record: $(cat "$out")"
    fi
    cm_in "$s" obtain a.test
    report "$rc" "$case: obtain ends with $rc: $(cat "$out")"
    sound "$s" a.test
    report $? "$case: after obtain the pair is not sound"
    if [[ $kind != directory* ]]; then
        [ -z "$(find "$s/certmesh/redo" -mindepth 1)" ]
        report $? "$case: the record is still there"
    fi
    cm_in "$s" renew a.test --force
    report "$rc" "$case: renew ends with $rc: $(cat "$out")"
    sound "$s" a.test && sound "$s" b.test && sound "$s" c.test
    report $? "$case: after renew some pair is not sound"
done
echo "commit record: $damages damages, $((failed - began_failed)) failures"

# ------------------------------------------------------------------- a server

. "$root/tests/fault/server.sh"
finish
