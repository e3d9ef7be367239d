#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# SIGTERM at points of the maintenance: certificates live seconds, so that it renews, staples and asks
# for renewal information all the time. The server is gone within five seconds with exit
# code 0, no lock and no challenge token is left, the pair is whole, and the next one starts.
. "$(dirname "$0")/../common.sh"
CM_FAULT_STORAGE=
. "$here/life.sh"

points=$(sample 50 8)
validity=8
use_pebble LAB_OCSP=1 LAB_VALIDITY=$validity LAB_RETRY_AFTER=0
build_served
curl -s -d '' "$OCSP_URL/ctl?validity=20" >/dev/null
calls=$(python3 "$here/at_point.py" --calls)

serve_words() {
    served_words --interval 1 $name second.test
}

prepare_serve() {
    fresh_storage
    serve_words
    cm obtain $name && cm obtain second.test
    report $? "set-up: $(said)"
}

leftovers() {
    find "$store/locks" "$store"/acme/*/challenge_tokens -type f 2>/dev/null
}

# How far its busiest thread comes in two lifetimes, and what it does meanwhile.
prepare_serve
timeout -s TERM $((validity * 2)) strace -f -qq -y -o "$work/calls" -e trace="$calls" "$served" \
    "${words[@]}" >"$work/out" 2>&1
last=$(awk '/\(/ { if (++n[$1] > most) most = n[$1] } END { print int(most * 9 / 10) }' "$work/calls")
[ "${last:-0}" -ge 100 ]
report $? "undisturbed it made only $last calls: $(tail -n 5 "$work/out")"
[ "$(grep -c '^cert_obtained.*renewal=1' "$work/out")" -ge 2 ]
report $? "undisturbed it renewed nothing: $(cat "$work/out")"
[ "$(find "$store/ocsp" -type f | wc -l)" -ge 1 ]
report $? "undisturbed it stapled nothing"
drop_storage

hit=0 slowest=0
for ((i = 0; i < points; i++)); do
    n=$((1 + i * last / points))
    prepare_serve
    read -r fired status seconds < <(python3 "$here/at_point.py" $n TERM "$work/strace.log" \
        "$served" "${words[@]}" 2>"$work/out")
    point="SIGTERM at call $n"
    if [ "$fired" != 1 ]; then
        drop_storage
        continue
    fi
    hit=$((hit + 1))
    [ "$status" = 0 ]
    report $? "$point: exit $status: $(tail -n 5 "$work/out")"
    python3 -c 'import sys; sys.exit(float(sys.argv[1]) > 5)' "$seconds"
    report $? "$point: took $seconds s to leave: $(tail -n 5 "$work/out")"
    slowest=$(printf '%s\n%s\n' "$slowest" "$seconds" | sort -g | tail -n 1)
    [ -z "$(leftovers)" ]
    report $? "$point left $(leftovers): $(tail -n 5 "$work/out")"
    out=$(pair)
    report $? "$point: the pair: $out"
    out=$(staples_are_good)
    report $? "$point: a staple: $out"
    cm obtain $name && out=$(pair)
    report $? "$point: the next run: $(said) $out"
    drop_storage
done
[ "$hit" -ge $((points * 8 / 10)) ]
report $? "only $hit of $points signals were sent"
echo "SIGTERM at $hit points of the maintenance, gone within $slowest s at most"

# A detector that cannot fail proves nothing: kill -9 leaves what is looked for.
for n in 40 60 80 100 120 140; do
    prepare_serve
    rm -rf "$store/certificates"
    python3 "$here/at_point.py" $n KILL "$work/strace.log" "$served" "${words[@]}" >/dev/null 2>&1
    [ -z "$(leftovers)" ] || break
    drop_storage
done
[ -n "$(leftovers)" ]
report $? "negative control: kill -9 left no lock and no token"
finish
