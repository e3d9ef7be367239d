#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The disk of PostgreSQL is full, that of the tables or that of its log. Who only reads does not notice;
# who writes is told; with room again all goes on.
kind=postgres
[ -n "${1:-}" ] || set -- postgres
. "$(dirname "$0")/full.sh"

# One small disk for its log, one for the tables.
fleet_up
backend_signal INT
wait "$backend_pid"
backend_pid=
wal=$work/postgres/data/pg_wal
mv "$wal" "$work/wal" && disk_up "$wal" 64m && cp -a "$work/wal/." "$wal/" && chown postgres "$wal" &&
    chmod 700 "$wal" && backend_start || { echo "Bail out! its log cannot be moved"; exit 1; }
disk_up "$work/tables" 8m
mkdir -m 700 "$disk/space"
chown postgres "$disk/space"
backend_ask "create tablespace small location '$disk/space'" >/dev/null &&
    backend_place full || { echo "Bail out! no place"; exit 1; }
place_url+="%20-cdefault_tablespace%3Dsmall"
stopped() {
    ! kill -0 "$backend_pid" 2>/dev/null
}
before=$(orders)
served_from "$place_url"
is "the tables lie on the small disk" \
    "$(backend_ask "select count(*) from pg_tables where schemaname = 'full' and tablespace = 'small'")" 3

# ---- the tables

refusals=0 steps=0 extra=0 n=0
for ((k = 0; k < $(size 10 4); k++)); do
    fill_disk $((k * 4096))
    # There is room in the pages that are there, for some names more or less.
    for ((i = 0; i < 40; i++)); do
        n=$((n + 1)) steps=$((steps + 1))
        began=$(orders)
        node 0 obtain --quiet "n$n.test" >"$work/refused" 2>&1
        rc=$?
        [ $rc = 0 ] || break
        asked_for=$((asked_for + 1))
    done
    serial=$(stored_serial o1.test)
    check "step $k: what is there is obtained" node 0 obtain --quiet o1.test o2.test
    check "step $k: and shown" node 0 show o1.test
    for node in 1 2; do
        is "step $k: node $node shows it" "$(wire_serial o1.test $node)" "$serial"
    done
    empty_disk
    [ $rc != 0 ] || continue
    refusals=$((refusals + 1))
    [ $rc = 5 ] && grep -q 'has no room on its disk: could not .*(53100)' "$work/refused"
    tap_result $? "step $k: refused and told why" "exit $rc: $(cat "$work/refused")"
    [ "$(wc -l <"$work/refused")" -le 2 ]
    tap_result $? "step $k: in few words" "$(cat "$work/refused")"
    check "step $k: no half of it is there" store_tool absent "n$n.test"
    check "step $k: it is obtained with room" node 0 obtain --quiet "n$n.test"
    check "step $k: and is whole" store_tool pair "n$n.test" "$PEBBLE_ROOT"
    made=$(($(orders) - began))
    [ $made -le 1 ] || extra=$((extra + 1))
    at_most "step $k: orders" $made 2
    asked_for=$((asked_for + made))
done
echo "# $steps names in ${k} steps, $refusals refusals, $extra with an order more than necessary"
[ $refusals -ge $((k / 2)) ]
tap_result $? "it was too full in at least every other step" "$refusals of $k"
recovers "room again" o1.test

# ---- its log: without it the server ends, and begins again when there is room

serial=$(stored_serial o2.test)
began=$(orders)
disk=$wal
fill_disk
for ((i = 0; i < 20; i++)); do
    backend_ask 'create table if not exists filler (n int); insert into filler values (1);
        select pg_switch_wal()' >/dev/null 2>&1 || break
done
wait_for 10 stopped
like "no log: that is why it ended" "$(tail -n 30 "$work/postgres/log")" 'PANIC.*No space left on device'
node 0 renew --force --quiet o2.test >"$work/refused" 2>&1
rc=$?
case $rc in 5 | 6) ;; *) false ;; esac
tap_result $? "no log: a renewal is refused" "exit $rc: $(cat "$work/refused")"
for node in 1 2; do
    is "no log: node $node shows what it has" "$(wire_serial o2.test $node)" "$serial"
done
new_orders "no log" "$began" 0
empty_disk
starts "room for the log: it starts"
is "room for the log: what was stored is whole" "$(stored_serial o2.test)" "$serial"
recovers "room for the log" o2.test
end_outages "no room" "$before"
tap_done
