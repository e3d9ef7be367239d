#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Redis has no memory (maxmemory, noeviction), cannot append to its file, cannot save, as its disk is
# full. Who only reads does not notice; who writes is told; with room again all goes on.
kind=redis
[ -n "${1:-}" ] || set -- redis
. "$(dirname "$0")/full.sh"

disk_up "$work/redis" 16m
fleet_up
backend_place full || { echo "Bail out! no place"; exit 1; }
before=$(orders)
served_from "$place_url"

field() { # NAME: of INFO
    backend_ask info all | tr -d '\r' | sed -n "s/^$1://p"
}

refuses_writes() {
    backend_ask set written "$RANDOM" 2>&1 | grep -q MISCONF
}

takes_writes() {
    [ "$(backend_ask set written "$RANDOM" 2>&1)" = OK ]
}

# ---- memory: less and less of it is missing, until it is enough

serial=$(stored_serial o1.test)
began=$(orders)
backend_ask config set maxmemory 1mb >/dev/null
refused "no memory" 'maxmemory' renew --force --quiet o1.test
untouched "no memory" o1.test "$serial"
refused "no memory, a new name" 'maxmemory' obtain --quiet new1.test
check "no memory: what is there is obtained" node 0 obtain --quiet o1.test
check "no memory: and shown" node 0 show o1.test
new_orders "no memory" "$began" 0
# A node that begins now serves what there is.
cm_exec=exec node 3 serve --no-ocsp --no-ari o1.test o2.test >"$work/node.3.log" 2>&1 </dev/null &
pids+=($!)
node_ports 3
node_port[3]=$node_tls
check "no memory: a node that begins serves" wait_for 20 shows "$serial" wire_serial o1.test 3
backend_ask config set maxmemory 0 >/dev/null
recovers "memory again" o1.test

# To and fro where it is just not enough, so that it lacks now here and now there.
refusals=0 steps=0 extra=0 more=0
for ((k = 0; k < $(size 40 12); k++)); do
    serial=$(stored_serial o2.test)
    began=$(orders)
    # What connections need comes and goes, so it is no exact measure.
    backend_ask config set maxmemory $(($(field used_memory) + more)) >/dev/null
    steps=$((steps + 1))
    node 0 renew --force --quiet o2.test >"$work/refused" 2>&1
    rc=$?
    backend_ask config set maxmemory 0 >/dev/null
    if [ $rc = 0 ]; then
        more=$((more > 2100 ? more - 2100 : 0))
    else
        more=$((more + 700))
        refusals=$((refusals + 1))
        [ $rc = 5 ] && grep -q maxmemory "$work/refused"
        tap_result $? "step $k: refused and told why" "exit $rc: $(cat "$work/refused")"
        sed -n "s/: Redis has used up.*//; s/^certmesh: /# step $k: /p" "$work/refused" | head -n 1
        is "step $k: what was stored is whole" "$(stored_serial o2.test)" "$serial"
        check "step $k: it is renewed with memory" node 0 renew --force --quiet o2.test
    fi
    [ "$(stored_serial o2.test)" != "$serial" ]
    tap_result $? "step $k: it was renewed"
    made=$(($(orders) - began))
    [ $made -le 1 ] || extra=$((extra + 1))
    at_most "step $k: orders" $made 2
    asked_for=$((asked_for + made))
done
echo "# $steps steps of memory, $refusals refusals, $extra with an order more than necessary"
[ $refusals -ge 1 ] && [ $refusals -lt $steps ]
tap_result $? "some of the steps were too small, and some were not" "$refusals of $steps"

# ---- the append-only file cannot grow

serial=$(stored_serial o3.test)
began=$(orders)
fill_disk
# The write that fails first has been answered before Redis knows.
check "no disk: it notices" wait_for 20 refuses_writes
like "no disk: the file is why" "$(field aof_last_write_status)" err
refused "no disk" 'cannot write to its disk' renew --force --quiet o3.test
untouched "no disk" o3.test "$serial"
check "no disk: what is there is obtained" node 0 obtain --quiet o3.test
new_orders "no disk" "$began" 1
empty_disk
check "disk again: it notices" wait_for 20 takes_writes
recovers "disk again" o3.test

# ---- it cannot be saved

backend_ask config set appendonly no >/dev/null
fill_disk
backend_ask config set save '1 1' >/dev/null
serial=$(stored_serial o1.test)
began=$(orders)
check "not saved: it notices" wait_for 20 refuses_writes
like "not saved: that is why" "$(field rdb_last_bgsave_status)" err
refused "not saved" 'cannot write to its disk' renew --force --quiet o1.test
untouched "not saved" o1.test "$serial"
new_orders "not saved" "$began" 1
empty_disk
check "saved again: it notices" wait_for 20 takes_writes
recovers "saved again" o1.test
end_outages "no room" "$before"
tap_done
