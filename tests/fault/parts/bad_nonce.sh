#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A CA that refuses good nonces: none, some, most, all. Up to one in two nobody notices; beyond that
# the command succeeds or ends soon with the reason, and has not asked more often than it may.
. "$(dirname "$0")/../common.sh"

certmesh=$CERTMESH_ASAN
runs=$(sample 6 3)
limit=60    # seconds; a refused request is sent 10 times at once and 10 times with a pause
retries=20  # of one request

attempt() { # PER_CENT: one obtain on a fresh storage; sets $rc $seconds $asked
    fresh_storage
    local before
    before=$("$root/tests/util/lab" requests "$work/lab")
    SECONDS=0
    timeout -k 5 "$limit" "$certmesh" obtain nonce.test --ca "$ACME_DIR" --ca-root "$LAB_CA" \
        --agree --email ops@a.test --storage "file://$work/store.$stores" --listen 127.0.0.1 \
        --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" >"$work/out" 2>&1
    rc=$?
    seconds=$SECONDS
    asked=$(($("$root/tests/util/lab" requests "$work/lab") - before))
}

fits() {
    local crt key
    crt=$(find "$work/store.$stores/certificates" -name nonce.test.crt)
    key=$(find "$work/store.$stores/certificates" -name nonce.test.key)
    [ -n "$crt" ] && [ -n "$key" ] &&
        [ "$(openssl x509 -in "$crt" -noout -pubkey)" = "$(openssl pkey -in "$key" -pubout)" ]
}

for per_cent in 0 5 50 90 100; do
    vars=$(LAB_OWNER=$$ LAB_NONCEREJECT=$per_cent LAB_ALWAYS_VALID=1 \
        "$root/tests/util/lab" up "$work/lab") || { echo "fault: no CA to test against" >&2; exit 1; }
    eval "$vars"
    good=0 refused=0 most=0
    for ((i = 0; i < runs; i++)); do
        attempt "$per_cent"
        [ "$asked" -le "$most" ] || most=$asked
        if [ "$rc" = 0 ]; then
            good=$((good + 1))
            fits
            report $? "$per_cent per cent: key and certificate do not fit"
        else
            refused=$((refused + 1))
            [ "$rc" = 4 ] && grep -q badNonce "$work/out"
            report $? "$per_cent per cent: exit $rc after $seconds s: $(tail -n 3 "$work/out")"
        fi
        # What it takes without refusals is less than 20 requests.
        [ "$asked" -gt 0 ] && [ "$asked" -le $((20 + 20 * retries)) ]
        report $? "$per_cent per cent: $asked requests"
    done
    # The fault fired: refusals are what the requests beyond those of an honest run are.
    case $per_cent in
    0)
        honest=$most
        [ "$good" = "$runs" ]
        ;;
    5) [ "$good" = "$runs" ] ;;
    50) [ "$good" = "$runs" ] && [ "$most" -gt "$honest" ] ;;
    90) [ "$most" -gt "$honest" ] ;;
    100) [ "$good" = 0 ] && [ "$most" -le $((4 + retries)) ] ;;
    esac
    report $? "$per_cent per cent: $good of $runs obtained, at most $most requests"
    echo "bad nonces, $per_cent per cent: $good obtained, $refused refused, at most $most requests"
    "$root/tests/util/lab" down "$work/lab"
done

finish
