#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# How fast staples come in for a process that has none: fetched, verified, stored. The limit is curl,
# which asks the same responder the same questions, as many at a time, and looks at nothing.
. "$(dirname "$0")/../common.sh"

n=$(pick 10 100 400)
parallel=8
served=$BENCH_TOOLS/../integration/life/life_served
vars=$(LAB_OWNER=$$ LAB_OCSP=1 LAB_NONCEREJECT=0 LAB_RETRY_AFTER=0 LAB_ALWAYS_VALID=1 \
    "$root/tests/util/lab" up "$work/lab") || die "no lab: $vars"
at_exit "$root/tests/util/lab" down "$work/lab"
eval "$vars"
curl -s -d '' "$OCSP_URL/ctl?keep=3600" >/dev/null # so that its answers cost it little

mapfile -t names < <(seq -f 'b%g.test' "$n")
"$CERTMESH" obtain --quiet --storage "file://$work/store" --ca "$ACME_DIR" --ca-root "$LAB_CA" --agree \
    --listen 127.0.0.1 --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" "${names[@]}" \
    >"$work/log" 2>&1 || die "no certificates: $(tail -n 3 "$work/log")"
curl -s -A bench --cacert "$LAB_CA" "$PEBBLE_MGMT/intermediates/0" >"$work/issuer.pem"
i=0
for crt in "$work"/store/certificates/*/*/*.crt; do
    i=$((i + 1))
    openssl ocsp -no_nonce -issuer "$work/issuer.pem" -cert "$crt" -reqout "$work/request.$i" \
        >/dev/null 2>&1
    [ $i = 1 ] || echo next
    printf 'url = "%s/"\ndata-binary = "@%s"\noutput = "%s"\nheader = "%s"\n' "$OCSP_URL" \
        "$work/request.$i" "$work/answer.$i" 'Content-Type: application/ocsp-request'
done >"$work/curl.config"

now_s() {
    date +%s.%N
}
hits() {
    curl -s "$OCSP_URL/ctl" | python3 -c 'import json, sys; print(json.load(sys.stdin)["hits"])'
}
# Twice: the responder asks the CA and signs the first time, as it would for whoever comes first.
for _ in 1 2; do
    began=$(now_s)
    curl -s -Z --parallel-max $parallel -K "$work/curl.config" 2>"$work/curl.err" || die 'curl failed'
    limit=$(calc "$(now_s) - $began" %.4f)
done
[ "$(hits)" = $((2 * n)) ] || die "curl asked $(hits) times, not $((2 * n))"
[ "$(find "$work" -name 'answer.*' -size +200c | wc -l)" = "$n" ] || die 'curl got no answers'

rounds=$(pick 1 3 5)
for ((r = 0; r < rounds; r++)); do
    rm -rf "$work/store/ocsp"
    before=$(hits)
    began=$(now_s)
    "$served" --storage "file://$work/store" --ca "$ACME_DIR" --ca-root "$LAB_CA" --no-ari \
        --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" "${names[@]}" \
        >"$work/served" 2>"$work/served.log" </dev/null &
    pid=$!
    for ((i = 0; i < 12000; i++)); do
        [ "$(find "$work/store/ocsp" -type f 2>/dev/null | wc -l)" -lt "$n" ] || break
        sleep 0.005
    done
    took=$(calc "$(now_s) - $began" %.4f)
    cpu=$(awk '{ print ($14 + $15) * 10 }' "/proc/$pid/stat")
    kill "$pid"
    wait "$pid" || die "the server failed: $(tail -n 3 "$work/served.log")"
    [ "$(find "$work/store/ocsp" -type f | wc -l)" = "$n" ] || die 'not all staples came'
    [ $(($(hits) - before)) = "$n" ] || die "asked $(($(hits) - before)) times for $n staples"
    echo "$took $cpu"
done | sort -g >"$work/rounds"
read -r took cpu < <(sed -n "$(((rounds + 1) / 2))p" "$work/rounds")
head_row "$n staples from nothing (limit: curl)"
row 'staples a second, with the start' "$(calc "$n / $limit" %.0f)" "$(calc "$n / $took" %.0f)" \
    "$(calc "$limit / $took")" ''
row 'CPU ms of a staple, with the start' - "$(calc "$cpu / $n")" - ''
