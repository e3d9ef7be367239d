#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# PostgreSQL is killed, hangs, cuts connections, comes back with what it had an hour ago, is replaced by
# its standby, while servers serve. What they have they serve all the time, and they go on when it is
# back.
kind=postgres
set -- postgres
. "$(dirname "$0")/outage.sh"

# ---- one server

one_server

backend_kill
sleep 1
starts "killed: it starts again"
recovers killed o1.test

shut_down() {
    backend_signal QUIT
    wait "$backend_pid"
    backend_pid=
}
shut_down
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

old_copy o2.test shut_down data
end_outages "one server"

# ---- a standby

several_servers pg-lab standby PG_BOTH_URL
lab kill server
lab promote
recovers "the standby was promoted" o1.test
end_outages standby
lab down
tap_done
