# SPDX-License-Identifier: Apache-2.0
# What the tests of the life of certificates share, beyond those that issue one.
# shellcheck shell=bash
# shellcheck source=tests/integration/issue/common.sh
life=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$life/../issue/common.sh"

ocsp_ctl() { # QUERY: tell the responder, see tests/util/ocspd
    curl -s -f -d '' "$OCSP_URL/ctl?$1" >/dev/null || echo "Bail out! the responder does not take $1"
}

ocsp_state() { # EXPRESSION over its report d
    curl -s "$OCSP_URL/ctl" | python3 -c 'import json, sys
d = json.load(sys.stdin)
print(eval(sys.argv[1]))' "$1"
}

declare -A served_pid=()

# start_serve LABEL [OPTION...] NAME...: the command as a server on the ports that the CA asks, its
# log in $work/LABEL.log.
start_serve() {
    local label=$1
    shift
    cm_exec="exec" cm serve "$@" >"$work/$label.log" 2>&1 </dev/null &
    served_pid[$label]=$!
    pids+=($!)
}

stop_serve() { # LABEL: sets served_rc
    kill "${served_pid[$1]}" 2>/dev/null
    wait "${served_pid[$1]}"
    served_rc=$?
    unset "served_pid[$1]"
}

# run_load RENEWALS SECONDS PER_SECOND NAME...: see load.py; its report is for loaded()
run_load() {
    python3 "$life/load.py" "${PORT:-$TLSALPN_PORT}" "${TRUST:-$PEBBLE_ROOT}" "$@" \
        >"$work/load.json"
}

loaded() { # EXPRESSION over the report d
    python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
print(eval(sys.argv[2]))' "$work/load.json" "$1"
}

# start_node NUMBER [OPTION...] NAME...: life_served, which has more options and tells every event.
# Number 0 has the ports that the CA asks, 1 to 3 have others. Events are in $work/node.NUMBER, what
# it logs in $work/node.NUMBER.log.
start_node() {
    local number=$1 http=$HTTP01_PORT tls=$TLSALPN_PORT
    shift
    if [ "$number" != 0 ]; then
        http=$((FREE_PORT + 2 * number - 2)) tls=$((FREE_PORT + 2 * number - 1))
    fi
    ${node_under-} "$LIFE_SERVED" --storage "file://$work/${STORE:-store}" --ca "$ACME_DIR" \
        --ca-root "$LAB_CA" --http-port "$http" --tls-port "$tls" "$@" \
        >"$work/node.$number" 2>"$work/node.$number.log" </dev/null &
    served_pid[node.$number]=$!
    pids+=($!)
    node_port[number]=$tls
}
node_port=()

node_is_ready() { # NUMBER
    grep -qx ready "$work/node.$1"
}

events() { # TYPE [PATTERN]: how many of them all nodes told
    cat "$work"/node.[0-9] | grep "^$1 " | grep -cE -- "${2:-.}"
}

# What is on the wire for NAME at node NUMBER: "SERIAL STAPLE", the staple good, revoked, unknown,
# none or other. A staple about another certificate, or past its time, is 'wrong'; no certificate is
# 'no certificate'.
wire() { # NAME NUMBER [s_client option]
    openssl s_client -connect "127.0.0.1:${node_port[$2]}" -servername "$1" -status \
        ${3:+"$3"} </dev/null 2>/dev/null >"$work/wire"
    python3 "$life/wire.py" <"$work/wire"
}

wire_serial() {
    local said
    said=$(wire "$@")
    echo "${said%% *}"
}
wire_staple() {
    local said
    said=$(wire "$@")
    echo "${said##* }"
}

shows() { # WANTED COMMAND...: for wait_for
    local wanted=$1
    shift
    [ "$("$@")" = "$wanted" ]
}

# A client that verifies what is stapled, and takes none for an answer.
client_accepts() { # NAME NUMBER
    gnutls-cli --x509cafile "$PEBBLE_ROOT" --sni-hostname "$1" --verify-hostname "$1" \
        -p "${node_port[$2]}" 127.0.0.1 </dev/null
}

node_serves_another() { # NAME THAN
    [ "$(wire_serial "$1" 0)" != "$2" ]
}

# start_load SECONDS NAME...: handshakes with node 0 in the background, until end_load
start_load() {
    local seconds=$1
    shift
    # A CA that is started anew has another root.
    cat "$PEBBLE_ROOT" "$work"/root.*.pem >"$work/trust.pem" 2>/dev/null
    python3 "$life/load.py" "${node_port[0]}" "$work/trust.pem" 0 "$seconds" 30 "$@" \
        >"$work/load.json" &
    load_pid=$!
}
end_load() { # DESCRIPTION
    wait "$load_pid"
    is "$1: no handshake failed" "$(loaded 'd["failures"], d["failed"][:3]')" "(0, [])"
    [ "$(loaded 'd["full"]')" -ge 20 ]
    tap_result $? "$1: and there were many" "$(loaded 'd["full"]')"
}
