#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# kill -9 at the storage-changing system calls of obtain and of a renewal, one after the other, and
# see that nothing is lost: the pair that was there still fits, a plain rerun succeeds, no lock and
# no leftover stays. Every kill must have hit. The local CA issues, so no network is needed.
. "$(dirname "$0")/../common.sh"

certmesh=$CERTMESH
step=$(sample 1 4)
export ASAN_OPTIONS=detect_leaks=0 # a leak check cannot run under strace

command -v strace >/dev/null || { echo "fault: strace is missing" >&2; exit 1; }

calls=write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat
calls+=,mkdir,mkdirat,ftruncate,rmdir

fits() { # STORE: the stored key fits the stored leaf, the chain leads to the root
    local crt key
    crt=$(find "$1/certificates" -name fault.test.crt | head -n 1)
    key=$(find "$1/certificates" -name fault.test.key | head -n 1)
    [ -n "$crt" ] && [ -n "$key" ] &&
        [ "$(openssl x509 -in "$crt" -noout -pubkey)" = "$(openssl pkey -in "$key" -pubout)" ] &&
        openssl verify -CAfile "$1/certmesh/ca/local/root.crt" -untrusted "$crt" "$crt" >/dev/null
}

leftovers() { # STORE: locks and journals that a finished run must not leave
    find "$1/locks" -name '*fault.test.lock' 2>/dev/null
    find "$1/certmesh/journal" -type f 2>/dev/null
}

cm() { # STORE SUBCOMMAND...
    local store=$1
    shift
    "$certmesh" "$@" --internal --quiet --storage "file://$store"
}

# sweep NAME BASE ARGS...: kill `certmesh ARGS` at each point, beginning with a copy of BASE.
sweep() {
    local name=$1 base=$2 n rc points=0 log
    shift 2
    for ((n = 1; n < 2000; n += step)); do
        rm -rf "$work/s"
        cp -a "$base" "$work/s"
        log=$work/strace.log
        strace -f -qq -o "$log" -e trace="$calls" -e inject="$calls:signal=KILL:when=$n" \
            "$certmesh" "$@" --internal --quiet --storage "file://$work/s" \
            >"$work/out" 2>&1
        rc=$?
        if [ "$rc" = 0 ]; then
            break # no call of that number any more
        elif [ "$rc" != 137 ]; then
            report 1 "$name: point $n ended with exit $rc: $(cat "$work/out")"
            break
        fi
        points=$((points + 1))
        grep -q 'killed by SIGKILL' "$log"
        report $? "$name: kill $n did not hit (exit $rc)"
        # The rerun completes what was begun; before it, an old pair must be readable as a pair.
        if [ "$name" != obtain ]; then
            cm "$work/s" show fault.test >"$work/out" 2>&1
            report $? "$name: after kill $n the old certificate cannot be shown: $(cat "$work/out")"
        fi
        cm "$work/s" obtain fault.test >"$work/out" 2>&1
        report $? "$name: after kill $n the rerun fails: $(cat "$work/out")"
        fits "$work/s"
        report $? "$name: after kill $n and the rerun key and certificate do not fit"
        # A lock of the dead process is taken over at once, not waited for.
        SECONDS=0
        cm "$work/s" renew fault.test --force >"$work/out" 2>&1
        report $? "$name: after kill $n a renewal fails: $(cat "$work/out")"
        [ "$SECONDS" -le 2 ]
        report $? "$name: after kill $n the renewal took $SECONDS s"
        fits "$work/s"
        report $? "$name: after kill $n and a renewal key and certificate do not fit"
        [ -z "$(leftovers "$work/s")" ]
        report $? "$name: after kill $n there is left: $(leftovers "$work/s")"
    done
    [ "$points" -ge $((12 / step)) ]
    report $? "$name: only $points points, the sweep did not reach the storage"
    echo "$name: $points kill points"
}

mkdir -p -m 700 "$work/empty" "$work/full"
sweep obtain "$work/empty" obtain fault.test
cm "$work/full" obtain fault.test >"$work/out" 2>&1
report $? "set-up: $(cat "$work/out")"
sweep renew "$work/full" renew fault.test --force

# A detector that cannot fail proves nothing: a torn pair must be seen.
cp -a "$work/full" "$work/torn"
openssl ecparam -name prime256v1 -genkey -noout \
    -out "$(find "$work/torn/certificates" -name fault.test.key | head -n 1)"
! fits "$work/torn"
report $? "negative control: a foreign key was not noticed"

finish
