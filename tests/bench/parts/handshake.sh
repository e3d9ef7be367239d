#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A full TLS 1.3 handshake, through both doors, against GnuTLS alone; through the OpenSSL adapter, against
# OpenSSL alone; and against nginx, haproxy and hitch.
#
# Instructions are counted in user mode by callgrind, in the server alone, where the client takes its
# time, so that every handshake takes the same steps; what is left (0.1 %) is where on the heap things
# lie, so the limit is the mean of two runs (--full: four). CPU time is the server process's own clock,
# in rounds that take turns, as a ratio within each round. The server is on CPU 0, the client on CPU 1.
. "$(dirname "$0")/../common.sh"

servers=() # LABEL:BASE:PORT:PID:NAMES

end_of() { # PID
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

start_server() { # LABEL BASE NAMES COMMAND...: a program that prints its port
    local label=$1 base=$2 names=$3 port='' pid i
    shift 3
    : >"$work/$label.port" # another server may have had this label before
    "$@" >"$work/$label.port" 2>"$work/$label.err" &
    pid=$!
    at_exit end_of "$pid"
    for ((i = 0; i < 6000; i++)); do
        read -r port <"$work/$label.port" && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.02
    done
    [ -n "$port" ] || die "$label did not start: $(cat "$work/$label.err")"
    servers+=("$label:$base:$port:$pid:$names")
}

# ---- instructions

# Each name three times before it counts: some things are made at the first handshake with a
# certificate, some kept at the second.
callgrind() { # LABEL KIND N NAMES: the instructions of one handshake, into $counted
    local label=$1 out=$work/callgrind.$1 names=$4 warm=$((3 * $4 + 20)) n port pid
    n=$(pick 5 100 400)
    servers=()
    start_server "$label" "$label" "$names" valgrind --tool=callgrind --instr-atstart=no \
        --callgrind-out-file="$out" "$BENCH_TOOLS/bench-server" "$2" "$3" "$warm" \
        $((warm + n))
    IFS=: read -r _ _ port pid _ <<<"${servers[0]}"
    # The process id is left out: nothing is timed. One more, so that the last counted has ended.
    "$BENCH_TOOLS/bench-client" 1 $((warm + n + 1)) 1 0 "$label:$label:$port:0:$names" \
        >/dev/null || die "$label under callgrind failed"
    end_of "$pid"
    counted=$(awk -v n="$n" '/^(summary|totals):/ { if ($2 > all) all = $2 }
        END { if (all < n * 100000) exit 1; printf "%.0f\n", all / n }' "$out".*) ||
        die "callgrind counted nothing for $label"
}

# A working set that is used over and over: what is made once per certificate is no part of it.
working_set() { # N
    local most
    most=$(pick 3 20 200)
    echo $(($1 < most ? $1 : most))
}

head_row 'instructions (limit: GnuTLS alone)'
for pair in 'bare-epoll gate' 'bare-block hook'; do
    read -r bare door <<<"$pair"
    limit=0 runs=$(pick 1 2 4)
    for ((run = 0; run < runs; run++)); do
        callgrind "$bare.counted" "$bare" 1 1
        limit=$((limit + counted / runs))
    done
    for n in $(pick 1 '1 1000' '1 1000 100000'); do
        callgrind "$door-$n.counted" "$door" "$n" "$(working_set "$n")"
        row "$door, $n certificate(s), $((counted - limit)) more" "$limit" "$counted" \
            "$(calc "$counted / $limit" %.4f)" 1.005
    done
done

# ---- CPU time

# Peers: servers of others, with one certificate of the same kind and the same curve, on CPU 0.
peer_store=$work/peer.store
peer_base=$peer_store/certificates/certmesh-local/n0000000.bench.test/n0000000.bench.test

conf_of_nginx() { # PORT
    cat <<N
daemon off;
master_process off;
pid $work/nginx.pid;
error_log $work/nginx.log crit;
events { worker_connections 1024; }
http {
    access_log off;
    server {
        listen 127.0.0.1:$1 ssl;
        ssl_certificate $peer_base.crt;
        ssl_certificate_key $peer_base.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ecdh_curve X25519;
    }
}
N
}

conf_of_haproxy() { # PORT
    cat <<H
global
    nbthread 1
    maxconn 1024
    tune.ssl.cachesize 0
defaults
    mode http
    timeout client 10s
frontend bench
    bind 127.0.0.1:$1 ssl crt $work/peer.pem curves X25519 ssl-min-ver TLSv1.2
    http-request return status 204
H
}

conf_of_hitch() { # PORT
    cat <<H
frontend = "[127.0.0.1]:$1"
backend = "[127.0.0.1]:9"
pem-file = "$work/peer.pem"
workers = 1
tls-protos = TLSv1.2 TLSv1.3
ecdh-curve = "X25519"
daemon = off
quiet = on
user = "$(id -un)"
H
}

run_peer() { # NAME
    case $1 in
    nginx) exec taskset -c 0 nginx -p "$work" -c "$work/nginx.conf" ;;
    haproxy) exec taskset -c 0 haproxy -db -f "$work/haproxy.conf" ;;
    hitch) exec taskset -c 0 hitch --config="$work/hitch.conf" ;;
    esac
}

# Of hitch it is the worker that is measured, not who looks after it.
working_pid() { # NAME PID
    local child
    child=$([ "$1" = hitch ] && ps -o pid= --ppid "$2" | head -n 1)
    echo "${child:-$2}" | tr -d ' '
}

start_peer() { # NAME
    local port pid i name=$1
    for ((i = 0; i < 20; i++)); do
        port=$((20000 + RANDOM % 10000))
        "conf_of_$name" "$port" >"$work/$name.conf"
        run_peer "$name" >"$work/$name.err" 2>&1 &
        pid=$!
        for _ in $(seq 100); do
            if (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
                at_exit end_of "$pid"
                servers+=("$name:bare-epoll:$port:$(working_pid "$name" "$pid"):1")
                return
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.02
        done
        end_of "$pid"
    done
    die "$name did not start: $(cat "$work/$name.err" "$work/$name.log" 2>/dev/null)"
}

peers=()
start_peers() {
    local name
    "$BENCH_TOOLS/bench-load" make "$peer_store" 1 || die 'no certificate for peers'
    cat "$peer_base.crt" "$peer_base.key" >"$work/peer.pem"
    for name in nginx haproxy hitch; do
        command -v "$name" >/dev/null || continue
        start_peer "$name"
        peers+=("$name")
    done
}

servers=()
start_server bare-epoll bare-epoll 1 "$BENCH_TOOLS/bench-server" bare-epoll 1
start_server bare-again bare-epoll 1 "$BENCH_TOOLS/bench-server" bare-epoll 1
for n in $(pick 1 '1 1000' '1 1000 100000'); do
    start_server "gate-$n" bare-epoll "$(working_set "$n")" "$BENCH_TOOLS/bench-server" gate "$n"
done
if [ -x "$BENCH_TOOLS/bench-server-openssl" ]; then
    start_server bare-openssl bare-openssl 1 "$BENCH_TOOLS/bench-server-openssl" bare 1
    start_server openssl-1 bare-openssl 1 "$BENCH_TOOLS/bench-server-openssl" adapter 1
fi
start_peers
signing=()
start_signing() { # KEY LABEL: the gate door, GnuTLS signing and libcrypto signing
    start_server "$2" "$2" 1 "$BENCH_TOOLS/bench-server" "gate:$1" 1
    start_server "$2-libcrypto" "$2" 1 "$BENCH_TOOLS/bench-server-signing" "gate:$1" 1
    signing+=("${servers[@]: -2}")
    unset 'servers[-1]' 'servers[-1]' # they are measured in a run of their own
}
if [ -x "$BENCH_TOOLS/bench-server-signing" ]; then
    start_signing p256 p256
    start_signing rsa2048 rsa2048
    for peer in "${servers[@]}"; do
        case $peer in
        nginx:* | haproxy:* | hitch:*) signing+=("${peer/bare-epoll/p256}") ;;
        esac
    done
fi
start_server bare-block bare-block 1 "$BENCH_TOOLS/bench-server" bare-block 1
for n in $(pick 1 '1 1000' '1 1000 100000'); do
    start_server "hook-$n" bare-block "$(working_set "$n")" "$BENCH_TOOLS/bench-server" hook "$n"
done

rounds=$(pick 1 9 15)
"$BENCH_TOOLS/bench-client" "$rounds" "$(pick 20 300 1000)" 8 0 "${servers[@]}" >"$work/cpu" ||
    die 'handshakes failed'
us_of() { # LABEL
    awk -v l="$1" '$1 == l { print $2 }' "$work/cpu"
}
head_row "CPU us, $rounds rounds (limit: GnuTLS alone)"
while read -r label us ratio q1 q3; do
    aim=1.02 base=bare-epoll
    case $label in
    bare-epoll | bare-block | bare-openssl) continue ;;
    bare-again) aim='(the noise)' ;;
    nginx | haproxy | hitch) aim='(a peer)' ;;
    openssl-*) base='bare-openssl' aim=1.10 ;;
    hook-*) base='bare-block' ;;
    esac
    row "$label  [$q1-$q3]" "$(us_of "$base")" "$us" "$ratio" "$aim"
done <"$work/cpu"
for peer in "${peers[@]}"; do
    row "gate-1, peer: $peer" "$(us_of "$peer")" "$(us_of gate-1)" \
        "$(calc "$(us_of gate-1) / $(us_of "$peer")")" 0.90
    [ -z "$(us_of openssl-1)" ] || row "openssl-1, peer: $peer" "$(us_of "$peer")" \
        "$(us_of openssl-1)" "$(calc "$(us_of openssl-1) / $(us_of "$peer")")" ''
done
head_row 'handshakes per second and core'
for label in gate-1 openssl-1; do
    [ -n "$(us_of "$label")" ] || continue
    for peer in "${peers[@]}"; do
        row "$label, peer: $peer" "$(calc "1e6 / $(us_of "$peer")" %.0f)" \
            "$(calc "1e6 / $(us_of "$label")" %.0f)" \
            "$(calc "$(us_of "$peer") / $(us_of "$label")")" ''
    done
done

# ---- GnuTLS or libcrypto signs

if [ ${#signing[@]} -gt 0 ]; then
    "$BENCH_TOOLS/bench-client" "$rounds" "$(pick 20 300 1000)" 8 0 "${signing[@]}" \
        >"$work/signing" || die 'handshakes failed'
    declare -A per_s
    while read -r label us ratio q1 q3; do
        per_s[$label]=$(calc "1e6 / $us" %.0f)
    done <"$work/signing"
    head_row 'per second and core, libcrypto signs (limit: GnuTLS signs)'
    while read -r label us ratio q1 q3; do
        case $label in
        *-libcrypto)
            key=${label%-libcrypto}
            row "gate door, $key  [$(calc "1 / $q3")-$(calc "1 / $q1")]" "${per_s[$key]}" \
                "${per_s[$label]}" "$(calc "1 / $ratio")" ''
            ;;
        nginx | haproxy | hitch)
            row "gate door, p256, libcrypto, peer: $label" "${per_s[$label]}" \
                "${per_s[p256-libcrypto]}" \
                "$(calc "${per_s[p256-libcrypto]} / ${per_s[$label]}")" ''
            ;;
        esac
    done <"$work/signing"
fi

# ---- nine of ten resumed

few=()
for server in "${servers[@]}"; do
    case $server in
    bare-epoll:* | gate-1:* | nginx:*) few+=("$server") ;;
    esac
done
"$BENCH_TOOLS/bench-client" "$(pick 1 5 15)" "$(pick 40 400 1000)" 8 9 "${few[@]}" \
    >"$work/resumed" || die 'resumption failed'
head_row 'CPU us, 9 of 10 resumed'
bare_us=$(awk '$1 == "bare-epoll" { print $2 }' "$work/resumed")
while read -r label us ratio q1 q3; do
    [ "$label" = bare-epoll ] || row "$label  [$q1-$q3]" "$bare_us" "$us" "$ratio" ''
done <"$work/resumed"
