#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A server is told to end at any moment of its maintenance, which never rests here: gone within five
# seconds, nothing left. A small share of what ./dev fault shutdown does; under TSan, too.
. "$(dirname "$0")/common.sh"

lab_up lab LAB_OCSP=1 LAB_VALIDITY=8 LAB_RETRY_AFTER=0
ocsp_ctl 'validity=20'
names=(e1.test e2.test e3.test)
busy=0
for moment in 0.3 2.9 4.1 5.3; do
    start_node 0 --interval 1 "${names[@]}"
    wait_for 20 node_is_ready 0
    tap_result $? "$moment s: it is ready" "$(tail -n 5 "$work/node.0.log")"
    sleep "$moment"
    began=$(date +%s%N)
    stop_serve node.0
    is "$moment s: ends well" "$served_rc" 0
    at_most "$moment s: within five seconds (ms)" $((($(date +%s%N) - began) / 1000000)) 5000
    is "$moment s: no lock, no token" \
        "$(find "$work/store/locks" "$work"/store/acme/*/challenge_tokens -type f 2>/dev/null)" ""
    busy=$((busy + $(events cert_obtained)))
    like "$moment s: no finding of a sanitizer" \
        "$(grep -cE 'Sanitizer|runtime error' "$work/node.0.log")" '^0$'
done
[ "$busy" -ge 4 ]
tap_result $? "it was busy: certificates came" "$busy"
tap_done
