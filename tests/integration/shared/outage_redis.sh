#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Redis is killed, hangs, forgets everything, comes back with what it had an hour ago, fails over,
# while servers serve. What they have they serve all the time, and they go on when it is back.
kind=redis
set -- redis
. "$(dirname "$0")/outage.sh"

# ---- one server that keeps what it is told

fleet_up
backend_place outage || { echo "Bail out! no place"; exit 1; }
before=$(orders)
served_from "$place_url"

backend_kill
sleep 2
starts "killed: it starts again"
recovers killed o1.test

backend_ask client kill type normal >/dev/null
backend_ask client kill type pubsub >/dev/null
recovers "connections cut" o2.test

backend_ask debug sleep "$(size 30 4)" >/dev/null 2>&1 &
sleep 1
recovers "it hangs" o3.test

# What was stored last is lost: an old copy of its files comes back.
backend_kill
cp -a "$backend_dir/appendonlydir" "$work/backup"
backend_start
recovers "stopped and started" o1.test
serial=$(stored_serial o1.test)
backend_kill
rm -rf "$backend_dir/appendonlydir"
mv "$work/backup" "$backend_dir/appendonlydir"
starts "an old copy: it starts"
[ "$(stored_serial o1.test)" != "$serial" ]
tap_result $? "an old copy: what is stored is older"
keeps "an old copy" o1.test "$serial" 4
recovers "an old copy" o1.test

# Nothing of what was stored is left, accounts neither.
serial=$(wire_serial o2.test 1)
backend_ask flushall >/dev/null
keeps "all forgotten" o2.test "$serial" 3
check "all forgotten: certificates" node 0 obtain --quiet "${names[@]}"
check "all forgotten: pairs" store_tool pairs "$PEBBLE_ROOT" "${names[@]}"
recovers "all forgotten" o2.test

# The same by a kill of one that has kept nothing.
backend_kill
rm -rf "$backend_dir/appendonlydir"
starts "nothing was kept: it starts"
keeps "nothing was kept" o3.test "$(wire_serial o3.test 1)" 2
check "nothing was kept: certificates" node 0 obtain --quiet "${names[@]}"
# Twice everything was gone: so each name had to be ordered once for each time, and no more.
asked_for=$((asked_for + ${#names[@]}))
recovers "nothing was kept" o3.test
end_outages "one server" "$before"

# ---- sentinels

vars=$(env LAB_OWNER=$$ "$here/tests/util/redis-lab" up "$work/sentinels" sentinel) ||
    { echo "Bail out! the sentinels do not start"; exit 1; }
url=$(sed -n "s/^export REDIS_URL='\(.*\)'/\1/p" <<<"$vars")
before=$(orders) asked_for=0
served_from "$url"
"$here/tests/util/redis-lab" signal "$work/sentinels" master KILL
recovers "the master is dead" o1.test
end_outages sentinels "$before"
"$here/tests/util/redis-lab" down "$work/sentinels"
tap_done
