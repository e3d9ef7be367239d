# SPDX-License-Identifier: Apache-2.0
# What the tests of a fleet share: several processes, one storage of the kind that the first argument
# names, a CA.
# shellcheck shell=bash
# shellcheck source=tests/integration/life/common.sh
fleet=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$fleet/../life/common.sh"
. "$fleet/backends.sh"
: "${FAULT_STORE:?path of the program fault_store}"

kind=${1:?file, redis or postgres}
[ "${CM_FLEET_FULL:-}" = "" ] && full='' || full=yes

size() { # FULL SMALL: the number that fits
    [ -n "$full" ] && echo "$1" || echo "$2"
}

# fleet_up [KIND] [LAB_VAR=VALUE...]: the lab, and the server in it.
fleet_up() {
    local what=$kind rc
    case ${1:-} in *=* | '') ;; *) what=$1; shift ;; esac
    chmod 711 "$work"
    lab_up lab LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0 "$@"
    backend_up "$what" "$work/$what" "$FREE_PORT"
    rc=$?
    if [ $rc = 77 ] && [ -z "${CI:-}${CM_REQUIRE:-}" ]; then
        echo "1..0 # SKIP the server of $what is not installed"
        exit 77
    fi
    [ $rc = 0 ] || { echo "Bail out! $what does not start: $(tail -n 3 "$work/$what"/*log)"; exit 1; }
}

# The servers of a lab, as "PROGRAM FOLDER", that this script has started besides.
server_labs=()
fleet_clean_up() {
    local p l
    # A node that is stopped takes no other signal.
    for p in "${pids[@]}"; do kill -s CONT "$p" 2>/dev/null; kill "$p" 2>/dev/null; done
    for p in "${pids[@]}"; do wait "$p" 2>/dev/null; done
    pids=()
    for l in "${server_labs[@]}"; do
        # Before its folder goes, in which it says what there is to end.
        [ ! -d "${l#* }" ] || "${l%% *}" down "${l#* }" >/dev/null 2>&1
    done
    backend_down
    clean_up
}
trap fleet_clean_up EXIT

# node NUMBER SUBCOMMAND...: the command as the node of that number: 0 has the ports that the CA
# asks, others have $FREE_PORT and so on. In the background with cm_exec=exec.
node() {
    local number=$1 http=$HTTP01_PORT tls=$TLSALPN_PORT more=(--ca "$ACME_DIR" --ca-root "$LAB_CA")
    shift
    [ "$number" = 0 ] || { node_ports "$number"; http=$node_http tls=$node_tls; }
    case $1 in
    obtain | renew | serve)
        more+=(--email ops@a.test --agree --listen 127.0.0.1 --http-port "$http" --tls-port "$tls"
            --rate off) ;;
    show | list | clean) more=() ;;
    esac
    ${cm_exec-} "$CERTMESH" "$@" --storage "$place_url" "${more[@]}"
}

# The server, if there is one, has the first of the eight free ports; three nodes have two each.
node_ports() { # NUMBER from 1 to 3: sets node_http, node_tls
    node_http=$((FREE_PORT + 2 * $1 - 1)) node_tls=$((FREE_PORT + 2 * $1))
}

store_tool() { # WHAT WORD...: what is stored, from outside
    local what=$1
    shift
    "$FAULT_STORE" "$what" "$place_url" "$@"
}

# nothing_left NAME...: no journal, token or registration, and all locks are to be had.
nothing_left() {
    check "no lock, token or journal is left" store_tool clean "$@"
    # Locks of the dead are taken over in any case; but here nobody died.
    is "no lock object is left" "$(backend_locks)" 0
}

milliseconds() {
    date +%s%3N
}
