# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck source=tests/integration/shared/common.sh
# What the outages of each kind of server share: two nodes that serve three names, clients that never
# stop, and a count of orders.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

names=(o1.test o2.test o3.test)
before=0    # orders when the fleet came
asked_for=0 # and those that this script has asked for since

# served_from URL: two nodes on that storage, and a load on the first.
served_from() {
    local n
    place_url=$1
    check "certificates" node 0 obtain --quiet "${names[@]}"
    asked_for=$((asked_for + ${#names[@]}))
    for n in 1 2; do
        cm_exec="exec" node $n serve --no-ocsp --no-ari "${names[@]}" >"$work/node.$n.log" 2>&1 \
            </dev/null &
        pids+=($!)
        served_pid[node.$n]=$!
        node_ports $n
        node_port[n]=$node_tls
    done
    node_port[0]=${node_port[1]}
    for n in 1 2; do
        check "node $n serves" wait_for 20 shows "$(stored_serial o3.test)" wire_serial o3.test $n
    done
    start_load 600 "${names[@]}"
}

# one_server: a fleet on a server of its own.
one_server() {
    fleet_up
    backend_place outage || { echo "Bail out! no place"; exit 1; }
    before=$(orders)
    served_from "$place_url"
}

# several_servers LAB KIND VARIABLE: a fleet on servers of a lab, which is called by lab() from then on;
# VARIABLE is what the lab calls their URL.
several_servers() {
    local vars lab_kind=$2
    lab_tool=$here/tests/util/$1 lab_dir=$work/$2
    server_labs+=("$lab_tool $lab_dir")
    vars=$(env LAB_OWNER=$$ "$lab_tool" up "$lab_dir" "$lab_kind") ||
        { echo "Bail out! the servers ($lab_kind) do not start"; exit 1; }
    before=$(orders) asked_for=0
    served_from "$(sed -n "s/^export $3='\(.*\)'/\1/p" <<<"$vars")"
}

lab() { # VERB ARGUMENT...
    "$lab_tool" "$1" "$lab_dir" "${@:2}"
}

# The same form as what is on the wire.
stored_serial() { # NAME
    local serial
    serial=$(store_tool pair "$1" "$PEBBLE_ROOT") || { echo none; return; }
    sed 's/^0*//' <<<"$serial"
}

# starts LABEL: in this shell, as a server goes with the one that started it.
starts() {
    backend_start
    tap_result $? "$1"
}

# recovers LABEL NAME: the storage answers again; what is renewed now is shown by both nodes.
recovers() {
    local serial n
    check "$1: the storage is back" wait_for 30 store_tool list
    check "$1: a renewal" node 0 renew --force --quiet "$2"
    asked_for=$((asked_for + 1))
    serial=$(stored_serial "$2")
    for n in 1 2; do
        check "$1: node $n shows it" wait_for 15 shows "$serial" wire_serial "$2" $n
    done
}

# keeps LABEL NAME SERIAL SECONDS: both nodes show it all the time.
keeps() {
    local end=$((SECONDS + $4)) n bad=''
    while [ $SECONDS -lt $end ]; do
        for n in 1 2; do
            [ "$(wire_serial "$2" $n)" = "$3" ] || bad+="$n "
        done
        sleep 0.2
    done
    is "$1: both nodes keep the newer one" "$bad" ''
}

# old_copy NAME STOP DATA: what was stored last is lost, an old copy of DATA comes back. STOP ends the
# server.
old_copy() {
    local serial
    "$2"
    cp -a "$backend_dir/$3" "$work/backup"
    backend_start
    recovers "stopped and started" "$1"
    serial=$(stored_serial "$1")
    "$2"
    rm -rf "${backend_dir:?}/$3"
    mv "$work/backup" "$backend_dir/$3"
    starts "an old copy: it starts"
    [ "$(stored_serial "$1")" != "$serial" ]
    tap_result $? "an old copy: what is stored is older"
    keeps "an old copy" "$1" "$serial" 4
    recovers "an old copy" "$1"
}

# end_outages LABEL: of those since one_server or several_servers.
end_outages() {
    sleep 2 # a failover may be over before clients have met it often
    kill "$load_pid"
    end_load "$1"
    is "$1: no older certificate came back" "$(loaded 'd["went_back"]')" 0
    echo "# $1: $(loaded 'd["full"] + d["resumed"]') handshakes, slowest $(loaded 'd["slowest_ms"]') ms," \
        "$(($(orders) - before - asked_for)) orders that nobody asked for"
    at_most "$1: at most one extra order for each name" "$(($(orders) - before - asked_for))" ${#names[@]}
    for n in 1 2; do
        stop_serve node.$n
        is "$1: node $n ends well" "$served_rc" 0
    done
}
