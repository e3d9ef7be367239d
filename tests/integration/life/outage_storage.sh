#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The storage is gone, while a server runs and at its start. What there is is served all the time, and
# renewed when the storage is back.
. "$(dirname "$0")/common.sh"

# ---- while it runs; by a user for whom modes count

lab_up lab LAB_NONCEREJECT=0 LAB_VALIDITY=120
STORE=gone
mkdir -m 700 "$work/gone"
if [ "$(id -u)" = 0 ]; then
    chmod 711 "$work"
    chown -R 65534 "$work/gone"
    chmod 755 "$LAB_DIR"
    chmod 644 "$LAB_CA"
    node_under="setpriv --reuid=65534 --clear-groups --"
fi
# Due twelve seconds after it was issued, and good for long enough to be tried for again and again.
start_node 0 --no-ocsp --no-ari --ratio 0.9 s1.test s2.test
check "served from storage that works" wait_for 20 shows none wire_staple s1.test 0
check "the other, too" wait_for 20 shows none wire_staple s2.test 0
first=$(wire_serial s1.test 0)
before=$(orders)
chmod 000 "$work/gone"
start_load 60 s1.test s2.test
check "the program is told that storage is down" wait_for 40 shows 1 events storage_down
is "served all the same" "$(wire_serial s1.test 0)" "$first"
is "nothing is ordered that could not be stored" "$(($(orders) - before))" 0
chmod 700 "$work/gone"
both_stored() {
    [ -n "$(stored s1.test crt)" ] && [ -n "$(stored s2.test crt)" ] &&
        [ "$(events cert_obtained 'renewal=1')" -ge 2 ]
}
check "storage is back: renewed" wait_for 45 both_stored
check "the program is told that, too" wait_for 10 shows 1 events storage_up
check "the new one is served" wait_for 10 node_serves_another s1.test "$first"
kill "$load_pid"
end_load "storage down and up"
check "the pair is good" pair_is_good s1.test
stop_serve node.0
is "ends well" "$served_rc" 0
is "no lock is left" "$(find "$work/gone/locks" -name '*.lock' | wc -l)" 0

# At the start: a server that cannot read its storage says so, and serves when it can.
chmod 000 "$work/gone"
before=$(orders)
start_node 0 --no-ocsp --no-ari s1.test s2.test
says_why() {
    grep -q 'ermission denied' "$work/node.0.log"
}
check "no storage at the start: it says so" wait_for 20 says_why
is "and nothing is ordered in its place" "$(($(orders) - before))" 0
chmod 700 "$work/gone"
check "it serves what is stored when it is back" wait_for 60 shows none wire_staple s1.test 0
check "both" wait_for 60 shows none wire_staple s2.test 0
stop_serve node.0
is "it ends well, too" "$served_rc" 0
tap_done
