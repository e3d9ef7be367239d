#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What issuing costs, against a Pebble that answers without delay, rejects no nonce, reuses no
# authorization and asks for no pause. Requests are counted in its log. The peers get few names, as
# each certificate is a process of its own for them, and costs the same every time.
. "$(dirname "$0")/../common.sh"

lab=$root/tests/util/lab
vars=$(env LAB_OWNER=$$ LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0 LAB_RETRY_AFTER=0 \
    LAB_KEY_ALGORITHM=ecdsa "$lab" up "$work/lab") || die 'no CA to measure against'
at_exit "$lab" down "$work/lab"
eval "$vars"

requests=0 ms=0 cpu=0 # of the last command, in all
measure() { # COMMAND...
    local before t0 t1
    before=$("$lab" requests "$LAB_DIR")
    t0=$(date +%s%N)
    TIMEFORMAT='%U %S'
    cpu=$({ time "$@" >"$work/out" 2>&1; } 2>&1) || die "$* failed: $(tail -n 5 "$work/out")"
    t1=$(date +%s%N)
    requests=$(($("$lab" requests "$LAB_DIR") - before))
    ms=$(calc "($t1 - $t0) / 1e6" %.1f)
    cpu=$(calc "(${cpu% *} + ${cpu#* }) * 1000" %.1f)
}

cm() { # SUBCOMMAND NAME...
    "$CERTMESH" "$@" --quiet --storage "file://$work/store" --ca "$ACME_DIR" --ca-root "$LAB_CA" \
        --email bench@a.test --agree --challenge http-01 --listen 127.0.0.1 \
        --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT"
}

median() {
    sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# ---- the peers

lego_one() { # NAME
    LEGO_CA_CERTIFICATES=$LAB_CA lego --server "$ACME_DIR" --accept-tos --email bench@a.test \
        --path "$work/lego" --http --http.port "127.0.0.1:$HTTP01_PORT" --domains "$1" run
}

# It trusts what the system trusts; so it sees another file in that place.
uacme_do() { # ARG...
    # shellcheck disable=SC2016
    unshare --map-root-user --mount sh -c \
        'mount --bind "$0" /etc/ssl/certs/ca-certificates.crt && exec uacme "$@"' \
        "$LAB_CA" -a "$ACME_DIR" -c "$work/uacme" -y "$@"
}

start_uacme() {
    local dir=$work/www/.well-known/acme-challenge pid
    mkdir -p "$dir" "$work/uacme"
    cat >"$work/hook" <<H
#!/bin/sh
[ "\$2" = http-01 ] || exit 1
case \$1 in
begin) printf %s "\$5" >"$dir/\$4" ;;
*) rm -f "$dir/\$4" ;;
esac
H
    chmod +x "$work/hook"
    python3 -m http.server "$HTTP01_PORT" --bind 127.0.0.1 --directory "$work/www" \
        >"$work/www.log" 2>&1 &
    pid=$!
    at_exit stop_www "$pid"
    uacme_pid=$pid
    for _ in $(seq 200); do
        (: <>"/dev/tcp/127.0.0.1/$HTTP01_PORT") 2>/dev/null && return
        sleep 0.02
    done
    die "no web server for uacme: $(cat "$work/www.log")"
}

stop_www() { # PID
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

declare -A peer_ms peer_requests peer_cpu
measure_peer() { # LABEL COMMAND: $few certificates, a process each, with a known account
    local label=$1 i all_ms='' all_requests=0 all_cpu=0
    for ((i = 0; i < few; i++)); do
        measure "$2" "$label$i.a.test"
        all_ms+="$ms"$'\n'
        all_requests=$((all_requests + requests))
        all_cpu=$(calc "$all_cpu + $cpu" %.3f)
    done
    peer_ms[$label]=$(printf %s "$all_ms" | median)
    peer_requests[$label]=$(calc "$all_requests / $few")
    peer_cpu[$label]=$(calc "$all_cpu / $few" %.1f)
}

uacme_one() { # NAME
    uacme_do -h "$work/hook" issue "$1"
}

# Peers are there to be compared with: not where times do not count.
few=$(pick 0 3 10) peers=()
if [ "$few" -gt 0 ]; then
    peers=(uacme lego)
    measure lego_one lego.a.test # makes its account
    measure_peer lego lego_one
    start_uacme
    measure uacme_do new bench@a.test
    measure_peer uacme uacme_one
    stop_www "$uacme_pid"
fi

# ---- ours

is_there() { # NAME...
    local name
    for name; do
        [ -s "$(echo "$work"/store/certificates/*/"$name/$name.crt")" ] || die "no certificate for $name"
    done
}

rounds=$(pick 1 5 15)
many=$(pick 10 100 100)
times='' cpus=''
measure cm obtain cold.a.test
is_there cold.a.test
cold_ms=$ms cold_requests=$requests
for ((i = 0; i < rounds; i++)); do
    measure cm obtain "warm$i.a.test"
    is_there "warm$i.a.test"
    times+="$ms"$'\n'
    cpus+="$cpu"$'\n'
    warm_requests=$requests
done
warm_ms=$(printf %s "$times" | median) warm_cpu=$(printf %s "$cpus" | median)

head_row 'one certificate, a process'
row 'requests, new account (limit: RFC 8555)' 10 "$cold_requests" \
    "$(calc "$cold_requests / 10")" 10
row 'requests, known account (limit: RFC 8555)' 9 "$warm_requests" "$(calc "$warm_requests / 9")" 9
row 'ms, new account' - "$cold_ms" - ''
for peer in "${peers[@]}"; do
    row "requests, known account; peer: $peer" "${peer_requests[$peer]}" "$warm_requests" \
        "$(calc "$warm_requests / ${peer_requests[$peer]}")" ''
    row "ms, known account; peer: $peer" "${peer_ms[$peer]}" "$warm_ms" \
        "$(calc "$warm_ms / ${peer_ms[$peer]}" %.3f)" 30
    row "CPU ms, known account; peer: $peer" "${peer_cpu[$peer]}" "$warm_cpu" \
        "$(calc "$warm_cpu / ${peer_cpu[$peer]}" %.3f)" ''
done

head_row "$many certificates, one process"
times='' cpus='' all=''
for ((i = 0; i < $(pick 1 3 7); i++)); do
    mapfile -t names < <(seq -f "n$i-%g.a.test" "$many")
    measure cm obtain "${names[@]}"
    is_there "${names[@]}"
    times+="$ms"$'\n'
    cpus+="$cpu"$'\n'
    all+="$requests"$'\n'
done
total=$(printf %s "$times" | median)
each=$(calc "$(printf %s "$all" | median) / $many")
each_cpu=$(calc "$(printf %s "$cpus" | median) / $many")
row 'requests each (limit: RFC 8555, async)' 7 "$each" "$(calc "$each / 7")" 7.1
row 's, all' - "$(calc "$total / 1000" %.3f)" - 1.0
row 'CPU ms each' - "$each_cpu" - 1.5
for peer in "${peers[@]}"; do
    row "s, all; peer: $peer one after the other" "$(calc "${peer_ms[$peer]} * $many / 1000")" \
        "$(calc "$total / 1000" %.3f)" "$(calc "$total / ${peer_ms[$peer]} / $many" %.4f)" ''
done
measure cm obtain "${names[@]}"
row 'requests when all are there' 0 "$requests" - 0
[ "$requests" = 0 ] || die 'the CA was asked although nothing was due'
row 'ms when all are there' - "$ms" - ''
