#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# PostgreSQL is killed, hangs, cuts connections, comes back with what it had an hour ago, is replaced by
# its standby, while servers serve. What they have they serve all the time, and they go on when it is
# back.
kind=postgres
set -- postgres
. "$(dirname "$0")/outage.sh"

# ---- one server

fleet_up
backend_place outage || { echo "Bail out! no place"; exit 1; }
before=$(orders)
served_from "$place_url"

backend_kill
sleep 1
starts "killed: it starts again"
recovers killed o1.test

backend_signal QUIT
wait "$backend_pid"
backend_pid=
sleep 1
starts "shut down at once: it starts again"
recovers "shut down at once" o2.test

backend_ask "select pg_terminate_backend(pid) from pg_stat_activity
    where backend_type = 'client backend' and pid <> pg_backend_pid()" >/dev/null
recovers "connections cut" o3.test

# Those that serve connections are stopped, and then go on.
stop_all() { # SIGNAL
    local p
    for p in $(pgrep -P "$backend_pid") "$backend_pid"; do kill -s "$1" "$p" 2>/dev/null; done
}
stop_all STOP
sleep "$(size 30 4)"
stop_all CONT
recovers "it hangs" o1.test

# What was stored last is lost: an old copy of its files comes back.
backend_signal QUIT
wait "$backend_pid"
backend_pid=
cp -a "$backend_dir/data" "$work/backup"
backend_start
recovers "stopped and started" o2.test
serial=$(stored_serial o2.test)
backend_signal QUIT
wait "$backend_pid"
backend_pid=
rm -rf "$backend_dir/data"
mv "$work/backup" "$backend_dir/data"
starts "an old copy: it starts"
[ "$(stored_serial o2.test)" != "$serial" ]
tap_result $? "an old copy: what is stored is older"
keeps "an old copy" o2.test "$serial" 4
recovers "an old copy" o2.test
end_outages "one server" "$before"

# ---- a standby

vars=$(env LAB_OWNER=$$ "$here/tests/util/pg-lab" up "$work/both" standby) ||
    { echo "Bail out! the standby does not start"; exit 1; }
url=$(sed -n "s/^export PG_BOTH_URL='\(.*\)'/\1/p" <<<"$vars")
before=$(orders) asked_for=0
served_from "$url"
"$here/tests/util/pg-lab" kill "$work/both" server
"$here/tests/util/pg-lab" promote "$work/both"
recovers "the standby was promoted" o1.test
end_outages standby "$before"
"$here/tests/util/pg-lab" down "$work/both"
tap_done
