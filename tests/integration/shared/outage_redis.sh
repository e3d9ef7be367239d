#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Redis is killed, hangs, forgets everything, comes back with what it had an hour ago, fails over,
# while servers serve. What they have they serve all the time, and they go on when it is back.
kind=redis
set -- redis
. "$(dirname "$0")/outage.sh"

# ---- one server that keeps what it is told

one_server

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

old_copy o1.test backend_kill appendonlydir

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
end_outages "one server"

# ---- sentinels

several_servers redis-lab sentinel REDIS_URL
lab signal master KILL
recovers "the master is dead" o1.test
end_outages sentinels
lab down
tap_done
