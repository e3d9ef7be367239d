#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The CA is gone, or says nothing, at the start and while a server runs. What there is is served all
# the time, and renewed when the CA is back.
. "$(dirname "$0")/common.sh"

lab=$here/tests/util/lab

# ---- no CA at the start

lab_up lab LAB_NONCEREJECT=0 LAB_VALIDITY=3600
check "certificates" cm obtain o1.test o2.test
cp "$PEBBLE_ROOT" "$work/root.1.pem"
for how in stop STOP; do
    if [ $how = stop ]; then "$lab" stop "$LAB_DIR" pebble; else "$lab" signal "$LAB_DIR" pebble STOP; fi
    start_node 0 --no-ocsp --no-ari o1.test o2.test
    check "no CA at the start ($how): the server is ready" wait_for 10 node_is_ready 0
    check "no CA at the start ($how): served" wait_for 10 shows none wire_staple o2.test 0
    start_load 3 o1.test o2.test
    end_load "no CA at the start ($how)"
    stop_serve node.0
    is "no CA ($how): ends well" "$served_rc" 0
    if [ $how = stop ]; then "$lab" start "$LAB_DIR" pebble; else "$lab" signal "$LAB_DIR" pebble CONT; fi
done

# ---- the CA goes away while a renewal is due

lab_up short LAB_NONCEREJECT=0 LAB_VALIDITY=50
cp "$PEBBLE_ROOT" "$work/root.2.pem"
STORE=short
start_node 0 --no-ocsp --no-ari c1.test c2.test
check "served" wait_for 20 shows none wire_staple c1.test 0
check "the other, too" wait_for 20 shows none wire_staple c2.test 0
first=$(wire_serial c1.test 0)
start_load 60 c1.test c2.test
"$lab" stop "$LAB_DIR" pebble
failed_twice() {
    [ "$(events cert_failed)" -ge 2 ]
}
check "renewals are tried and fail" wait_for 40 failed_twice
is "and go on being served" "$(wire_serial c1.test 0)" "$first"
# A CA with another root: the clients of this test trust both.
"$lab" start "$LAB_DIR" pebble
kill "$load_pid"
wait "$load_pid"
is "while the CA was gone: no handshake failed" "$(loaded 'd["failures"], d["failed"][:3]')" "(0, [])"
start_load 40 c1.test c2.test
renewed() {
    [ "$(wire_serial c1.test 0)" != "$first" ] && [ "$(events cert_obtained 'renewal=1')" -ge 2 ]
}
check "the CA is back: renewed before the end" wait_for 45 renewed
kill "$load_pid"
end_load "the CA is back"
stop_serve node.0
tap_done
