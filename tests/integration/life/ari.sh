#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A CA that wants certificates renewed (RFC 9773): a fleet of four renews each once.
. "$(dirname "$0")/common.sh"

lab_up lab LAB_NONCEREJECT=0 LAB_VALIDITY=7776000
lab=$here/tests/util/lab
names=(r1.test r2.test r3.test r4.test r5.test)
check "certificates that are far from their end" cm obtain "${names[@]}"
case " $PEBBLE_FEATURES " in
*" set-ari "*) ;;
*)
    # This one cannot be told what to suggest. That nothing is renewed without a suggestion is
    # what it can show, and the control of what follows.
    before=$(orders)
    for i in 0 1 2 3; do start_node $i "${names[@]}"; done
    for i in 0 1 2 3; do check "node $i is ready" wait_for 20 node_is_ready $i; done
    for i in 0 1 2 3; do
        check "node $i serves" wait_for 20 shows "$(wire_serial r1.test 0)" wire_serial r1.test $i
    done
    sleep 2
    is "nothing is renewed" "$(($(orders) - before))" 0
    for i in 0 1 2 3; do stop_serve node.$i; done
    tap_done
    ;;
esac

serial_stored() {
    openssl x509 -in "$(stored "$1" crt)" -noout -serial | cut -d= -f2 | tr A-F a-f | sed 's/^0*//'
}
# Whoever asked for the window already will not ask again for hours.
forget_windows() {
    python3 - "$work/store" <<'P'
import json, pathlib, sys
for path in pathlib.Path(sys.argv[1], "certificates").rglob("*.json"):
    meta = json.loads(path.read_text())
    if (meta.get("issuer_data") or {}).pop("renewal_info", None) is not None:
        path.write_text(json.dumps(meta, indent="\t"))
P
}

# ---- nothing is due

before=$(orders)
for i in 0 1 2 3; do start_node $i "${names[@]}"; done
for i in 0 1 2 3; do check "node $i is ready" wait_for 20 node_is_ready $i; done
for i in 0 1 2 3; do
    check "node $i serves" wait_for 20 shows "$(serial_stored r1.test)" wire_serial r1.test $i
done
asked() {
    [ "$(grep -c 'renewalInfo' "$PEBBLE_LOG")" -ge "$1" ]
}
check "the CA is asked for its suggestions" wait_for 20 asked ${#names[@]}
sleep 1
at_most "once for each name, by whomever" "$(grep -c 'renewalInfo' "$PEBBLE_LOG")" $((2 * ${#names[@]}))
is "no order" "$(($(orders) - before))" 0
for i in 0 1 2 3; do stop_serve node.$i; done
grep -q '_selectedTime' "$(stored r1.test json)"
tap_result $? "the window and the time chosen in it are stored" "$(cat "$(stored r1.test json)")"

# ---- a CA that wants what it has just issued renewed: whoever obeyed would never come to an end

declare -A old
for name in "${names[@]}"; do
    old[$name]=$(serial_stored "$name")
    "$lab" ari "$LAB_DIR" "$(stored "$name" crt)" '-2 hours' '-1 hour' || echo "Bail out! no window"
done
forget_windows
before=$(orders)
start_node 0 "${names[@]}"
not_obeyed() {
    [ "$(grep -c ari_senseless "$work/node.0.log")" = ${#names[@]} ]
}
check "such a suggestion is noticed" wait_for 20 not_obeyed
stop_serve node.0
is "and not followed" "$(($(orders) - before))" 0

# ---- the window has begun long ago, and ends soon

for name in "${names[@]}"; do
    "$lab" ari "$LAB_DIR" "$(stored "$name" crt)" '-30 days' '+3 minutes' ||
        echo "Bail out! no window"
done
forget_windows
before=$(orders)
for i in 0 1 2 3; do start_node $i "${names[@]}"; done
all_renewed() {
    local name
    for name in "${names[@]}"; do [ "$(serial_stored "$name")" != "${old[$name]}" ] || return 1; done
}
check "all are renewed" wait_for 30 all_renewed
for name in "${names[@]}"; do
    for i in 0 1 2 3; do
        # Who found a peer asking waits for at most a minute until it looks again.
        wait_for 75 shows "$(serial_stored "$name")" wire_serial "$name" $i
        tap_result $? "$name: node $i serves the new one" \
            "$(wire_serial "$name" $i), stored $(serial_stored "$name"), was ${old[$name]};
$(grep "$name" "$work/node.$i" "$work/node.$i.log")"
    done
done
sleep 2
is "one order for each name, of the fleet" "$(($(orders) - before))" ${#names[@]}
for i in 0 1 2 3; do
    stop_serve node.$i
    is "node $i ends well" "$served_rc" 0
done
is "no lock is left" "$(find "$work/store/locks" -name '*.lock' | wc -l)" 0
tap_done
