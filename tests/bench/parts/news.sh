#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# How soon one node shows the certificate that another has stored: from the end of the commit to the
# end of the first handshake with it, clients coming all the time. "told" is when the storage told
# the node, "served" when it would be served next: medians.
. "$(dirname "$0")/../common.sh"
. "$here/servers.sh"

names=$(pick 5 100 1000)
rounds=$(pick 10 200 1000)
line() { # WHAT TOLD SERVED P50 P99 WORST AIM
    printf '%-32s %8s %8s %8s %8s %8s   %s\n' "$@"
}

servers_up
urls=("file" "file://$work/store")
for server in "${servers[@]}"; do
    for how in unix tcp tls; do
        urls+=("$server-$how" "$(servers_url "$server-$how")")
    done
done
line "$rounds renewals, ms until" told served p50 p99 worst 'aim (p99)'
for ((i = 0; i < ${#urls[@]}; i += 2)); do
    servers_place
    "$BENCH_TOOLS/bench-news" "${urls[i + 1]}" "$names" "$rounds" >"$work/out" ||
        die "${urls[i]} failed"
    read -r p50 p99 worst told served <"$work/out"
    line "${urls[i]}" "$told" "$served" "$p50" "$p99" "$worst" 50
done
