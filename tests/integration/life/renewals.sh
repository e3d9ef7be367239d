#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Certificates that live seconds, renewed again and again under a server that is busy: nobody who
# connects notices, and tickets from before a renewal resume after it.
#   LIFE_RENEWALS=3   how many of each name to wait for
#   LIFE_VALIDITY=12  seconds that a certificate lives
. "$(dirname "$0")/common.sh"

renewals=${LIFE_RENEWALS:-3} validity=${LIFE_VALIDITY:-12}
mapfile -t names < <(seq -f 'n%g.a.test' 10)
lab_up lab LAB_VALIDITY="$validity"

start_serve serve "${names[@]}"
check "all names are up" wait_for 30 grep -q 'all 10 names are up' "$work/serve.log"
before=$(orders)
# A renewal is due when a third of the life is left; the limit is far beyond what it may take.
run_load "$renewals" $((renewals * validity * 2 + 30)) 60 "${names[@]}"
made=$(($(orders) - before))

least=$(loaded 'min(d["renewals"].values())')
[ "$least" -ge "$renewals" ]
tap_result $? "each name was renewed $renewals times on the wire" \
    "$(loaded 'd["renewals"], d["failed"][:5]') $(tail -n 5 "$work/serve.log")"
is "no handshake failed" "$(loaded 'd["failed"]')" "[]"
is "every ticket resumed" "$(loaded 'd["not_resumed"]')" 0
[ "$(loaded 'd["resumed_across"]')" -ge "$renewals" ]
tap_result $? "some of them after a renewal" "$(loaded 'd["resumed_across"]')"
[ "$(loaded 'd["full"]')" -ge $((renewals * 10)) ]
tap_result $? "there were full handshakes, too" "$(loaded 'd["full"]')"
# What is under way when the load ends is one for each name at most.
seen=$(loaded 'sum(d["renewals"].values())')
at_most "no order that was not needed" "$made" $((seen + 10))
stop_serve serve
is "the server ends well" "$served_rc" 0
is "no lock is left" "$(find "$work/store/locks" -name '*.lock' | wc -l)" 0
is "no token is left" "$(find "$work/store/acme" -path '*challenge_tokens*' -type f | wc -l)" 0
echo "# $seen renewals in $(loaded 'd["seconds"]') s, $made orders; $(loaded \
    'd["full"], d["resumed"], d["resumed_across"], d["slowest_ms"]') full, resumed, after a renewal, slowest ms"
tap_done
