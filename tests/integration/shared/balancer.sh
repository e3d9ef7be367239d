#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# balancer.sh KIND: four servers behind a balancer that hands out connections in turn. It is told
# never to give a challenge to the server that asked for it: another one answers, out of the storage
# that they share. CM_FLEET_FULL=1: 100 names for each type of challenge.
. "$(dirname "$0")/common.sh"

if ! command -v haproxy >/dev/null; then
    [ -z "${CI:-}${CM_REQUIRE:-}" ] || { echo "Bail out! haproxy is missing"; exit 1; }
    echo "1..0 # SKIP haproxy is not installed"
    exit 77
fi

nodes=4
per_node=$(size 25 3) # 12 names in the small size
fleet_up
backend_place balancer || { echo "Bail out! no place"; exit 1; }

# Ports for eight doors and the balancer's page of figures: sixteen in a row, of a lab that is asked
# for nothing else.
first=$FREE_PORT http=$HTTP01_PORT tls=$TLSALPN_PORT ca=$ACME_DIR ca_root=$LAB_CA log=$PEBBLE_LOG
pebble_root=$PEBBLE_ROOT
door_http() { echo $((first + 2 * $1 - 1)); } # NODE from 1 to 3
door_tls() { echo $((first + 2 * $1)); }

# The fourth takes ports of a second lab.
lab_up more
fourth=$FREE_PORT
HTTP01_PORT=$http TLSALPN_PORT=$tls ACME_DIR=$ca LAB_CA=$ca_root PEBBLE_LOG=$log PEBBLE_ROOT=$pebble_root
door() { # NODE http|tls
    if [ "$1" = 4 ]; then
        [ "$2" = http ] && echo "$fourth" || echo $((fourth + 1))
    elif [ "$2" = http ]; then
        door_http "$1"
    else
        door_tls "$1"
    fi
}

balancer_config() {
    local asker other what
    cat <<C
global
    stats socket $work/haproxy.sock level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend http
    bind 127.0.0.1:$http
    tcp-request inspect-delay 5s
    tcp-request content accept if { req.payload(0,0) -m sub Host: }
C
    # Names say who asks for them: aN-... is node N's.
    for ((asker = 1; asker <= nodes; asker++)); do
        echo "    use_backend http_not_$asker if { req.payload(0,0) -m sub \"Host: a$asker-\" }"
    done
    echo "    default_backend http_all"
    cat <<C
frontend tls
    bind 127.0.0.1:$tls
    tcp-request inspect-delay 5s
    tcp-request content accept if { req.ssl_hello_type 1 }
C
    for ((asker = 1; asker <= nodes; asker++)); do
        echo "    use_backend tls_not_$asker if { req.ssl_sni -m beg a$asker- }"
    done
    echo "    default_backend tls_all"
    for what in http tls; do
        for asker in 1 2 3 4 0; do
            [ $asker = 0 ] && echo "backend ${what}_all" || echo "backend ${what}_not_$asker"
            echo "    balance roundrobin"
            for ((other = 1; other <= nodes; other++)); do
                [ $other = $asker ] || echo "    server n$other 127.0.0.1:$(door $other $what)"
            done
        done
    done
}
balancer_config >"$work/haproxy.cfg"
check "the balancer takes its configuration" haproxy -c -f "$work/haproxy.cfg"
haproxy -db -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
pids+=($!)

figures() { # the balancer's, as CSV
    python3 - "$work/haproxy.sock" <<'PY'
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    s.sendall(b"show stat\n")
    while True:
        part = s.recv(65536)
        if not part:
            break
        sys.stdout.write(part.decode())
PY
}

sessions() { # BACKEND-PATTERN SERVER-PATTERN: how many connections they were given
    awk -F, -v backend="$1" -v server="$2" '$1 ~ backend && $2 ~ server { n += $8 } END { print n + 0 }' \
        "$work/figures"
}

check "the balancer runs" wait_for 10 test -S "$work/haproxy.sock"

# ---- each node asks for names of its own, all at once

all=()
start_nodes() { # TYPE
    local type=$1 node names
    for ((node = 1; node <= nodes; node++)); do
        names=$(seq -f "a$node-%g.${type%%-*}.test" 1 "$per_node")
        # shellcheck disable=SC2206
        all+=($names)
        # shellcheck disable=SC2086
        "$CERTMESH" serve --quiet --storage "$place_url" --ca "$ca" --ca-root "$ca_root" \
            --email ops@a.test --agree --listen 127.0.0.1 --rate off --no-ocsp \
            --http-port "$(door $node http)" --tls-port "$(door $node tls)" --challenge "$type" \
            --parallel 4 $names >"$work/$type.$node.log" 2>&1 </dev/null &
        servers+=($!)
        pids+=($!)
    done
}

door_is_open() { # PORT
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

all_stored() {
    store_tool pairs "$PEBBLE_ROOT" "${all[@]}"
}

run() { # TYPE http|tls
    local type=$1 what=$2 node before failed_before began count
    all=() servers=()
    count=$((nodes * per_node))
    before=$(orders)
    failed_before=$(grep -c 'set INVALID' "$PEBBLE_LOG")
    figures >"$work/figures"
    local was
    was=$(sessions "^${what}_not_" '^n[1-4]$')
    began=$(milliseconds)
    start_nodes "$type"
    check "$type: all names are obtained" wait_for 90 all_stored
    echo "# $kind, $type: $count names in $(($(milliseconds) - began)) ms"
    [ "$tap_failed" = 0 ] || tail -n 5 "$work/$type".*.log | sed 's/^/# /'
    is "$type: an order for each" "$(($(orders) - before))" "$count"
    is "$type: no validation failed" "$(($(grep -c 'set INVALID' "$PEBBLE_LOG") - failed_before))" 0
    figures >"$work/figures"
    [ $(($(sessions "^${what}_not_" '^n[1-4]$') - was)) -ge "$count" ]
    tap_result $? "$type: the balancer gave each challenge to another server" "$(sessions "^${what}_not_" '^n[1-4]$') connections, $was before"
    for ((node = 1; node <= nodes; node++)); do
        is "$type: none of server $node's to itself" "$(sessions "^${what}_not_$node\$" "^n$node\$")" 0
        [ "$(sessions "^${what}_not_" "^n$node\$")" -ge 1 ]
        tap_result $? "$type: server $node answered for others"
    done
    # Through the balancer every server has every name: what it does not serve it refuses.
    check "$type: served, too" curl -s -o /dev/null --cacert "$PEBBLE_ROOT" --resolve \
        "${all[0]}:$(door 1 tls):127.0.0.1" "https://${all[0]}:$(door 1 tls)/"
    kill "${servers[@]}"
    wait "${servers[@]}"
    nothing_left "${all[@]}"
}

run http-01 http
run tls-alpn-01 tls

# Somebody must have been asked for the balancer to count anything.
is "the figures know a server that is not there" "$(sessions '^http_not_1$' '^n9$')" 0
tap_done
