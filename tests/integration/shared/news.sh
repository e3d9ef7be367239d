#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# news.sh KIND: a certificate is renewed on one node; how long until the others show it? From when it
# was stored until the first handshake with it. CM_FLEET_FULL=1: 300 renewals.
. "$(dirname "$0")/common.sh"

rounds=$(size 300 25)
late_s=5 # where others are told it is some 50 ms; a busy machine has its pauses
fleet_up
backend_place news || { echo "Bail out! no place"; exit 1; }

# The local CA: what is measured is the way through the storage.
local_ca() { # SUBCOMMAND...
    ${cm_exec-} "$CERTMESH" "$@" --internal --storage "$place_url"
}
check "a certificate" local_ca obtain --quiet news.test
store_tool get certmesh/ca/local/root.crt >"$work/root.pem"
for n in 1 2; do
    node_ports $n
    cm_exec=exec local_ca serve --quiet --no-ocsp --no-http --listen 127.0.0.1 \
        --tls-port "$node_tls" news.test >"$work/news.$n.log" 2>&1 </dev/null &
    pids+=($!)
    ports+=("$node_tls")
done

cat >"$work/renew" <<X
#!/bin/sh
"$CERTMESH" renew --force --quiet --internal --storage '$place_url' news.test &&
    "$FAULT_STORE" age '$place_url' news.test
X
chmod +x "$work/renew"
python3 "$fleet/news.py" "$work/root.pem" news.test "$rounds" $late_s "${ports[@]}" -- "$work/renew" \
    >"$work/news.json" 2>"$work/news.err"
tap_result $? "$rounds renewals" "$(cat "$work/news.err" "$work"/news.?.log)"
echo "# $kind: $(cat "$work/news.json")"

figure() { # NAME
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \
        "$work/news.json" "$1"
}
is "two servers were looked at each time" "$(figure rounds)" $((2 * rounds))
is "all of them were shown in time" "$(figure late)" 0
is "no handshake failed" "$(figure failures)" 0
check "both servers are there" kill -0 "${pids[@]}"
tap_done
