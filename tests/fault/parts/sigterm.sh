#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Signals at many points of obtain, renew and serve, with Pebble for a CA. After SIGTERM the command
# is gone within five seconds with the code that the manual tells; no lock and no challenge token is
# left; a plain rerun has its certificate, and at most one order was lost. Then what other signals
# do, and a clock signal a thousand times a second, so that every call that can be interrupted is.
. "$(dirname "$0")/../common.sh"

points=$(sample 40 8)

vars=$(LAB_OWNER=$$ LAB_NONCEREJECT=0 LAB_RETRY_AFTER=0 "$root/tests/util/lab" up "$work/lab") || {
    report 1 "no lab: $vars"
    finish
}
at_exit "$root/tests/util/lab" down "$work/lab"
eval "$vars"
with_ca=(--ca "$ACME_DIR" --ca-root "$LAB_CA" --email ops@a.test --agree --listen 127.0.0.1
    --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT")

pair_fits() { # STORE
    local crt key
    crt=$(find "$1/certificates" -name a.test.crt 2>/dev/null | head -n 1)
    key=$(find "$1/certificates" -name a.test.key 2>/dev/null | head -n 1)
    [ -n "$crt" ] && [ -n "$key" ] &&
        [ "$(openssl x509 -in "$crt" -noout -pubkey)" = "$(openssl pkey -in "$key" -pubout)" ]
}

leftovers() { # STORE: what an interrupted run takes back
    find "$1/locks" "$1"/acme/*/challenge_tokens -type f 2>/dev/null
}

orders() {
    grep -c 'Added order' "$PEBBLE_LOG"
}

# calls_of BASE COMMAND...: how many calls its busiest thread makes, less what may differ.
calls_of() {
    local base=$1
    shift
    rm -rf "$work/s"
    cp -a "$base" "$work/s"
    strace -f -qq -o "$work/calls" -e trace="$(python3 "$here/at_point.py" --calls)" \
        "$CERTMESH" "$@" --root "$work/s" "${with_ca[@]}" >"$work/out" 2>&1
    awk '/\(/ { if (++n[$1] > most) most = n[$1] } END { print int(most * 9 / 10) }' "$work/calls"
}

# interrupt NAME BASE WANTED LAST COMMAND...: SIGTERM at points up to the LAST call that a thread of
# it makes; exit status WANTED.
interrupt() {
    local name=$1 base=$2 want=$3 last=$4 n i fired status seconds hit=0 tried=0 slowest=0 before lost=0
    shift 4
    for ((i = 0; i < points; i++)); do
        n=$((1 + i * last / points))
        rm -rf "$work/s"
        cp -a "$base" "$work/s"
        before=$(orders)
        read -r fired status seconds < <(python3 "$here/at_point.py" $n TERM "$work/strace" \
            "$CERTMESH" "$@" --root "$work/s" "${with_ca[@]}" 2>"$work/out")
        tried=$((tried + 1))
        if [ "$fired" = 1 ]; then
            hit=$((hit + 1))
        else
            # Beyond its last call: a command is done by then, a server goes on for ever.
            [ "$status" = "$([ "$name" = serve ] && echo no_exit || echo 0)" ]
            report $? "$name: no signal at call $n, and yet exit $status: $(cat "$work/out")"
            break
        fi
        [ "$status" = "$want" ] || [ "$status" = 0 ] # it was done already
        report $? "$name: SIGTERM at call $n: exit $status, wanted $want: $(cat "$work/out")"
        python3 -c 'import sys; sys.exit(float(sys.argv[1]) > 5)' "$seconds"
        report $? "$name: SIGTERM at call $n: took $seconds s to leave: $(cat "$work/out")"
        slowest=$(printf '%s\n%s\n' "$slowest" "$seconds" | sort -g | tail -n 1)
        [ -z "$(leftovers "$work/s")" ]
        report $? "$name: SIGTERM at call $n left $(leftovers "$work/s"): $(cat "$work/out")"
        [ "$name" != renew ] || pair_fits "$work/s"
        report $? "$name: SIGTERM at call $n: the old pair is gone"
        "$CERTMESH" obtain a.test --quiet --root "$work/s" "${with_ca[@]}" >"$work/out" 2>&1
        report $? "$name: after SIGTERM at call $n the rerun fails: $(cat "$work/out")"
        pair_fits "$work/s"
        report $? "$name: after SIGTERM at call $n and a rerun the pair does not fit"
        lost=$(($(orders) - before))
        [ "$lost" -le 2 ]
        report $? "$name: SIGTERM at call $n: $lost orders for one certificate"
    done
    [ "$hit" -ge $((points * 8 / 10)) ]
    report $? "$name: only $hit of $points signals were sent"
    echo "$name: SIGTERM at $hit points, gone within $slowest s at most"
}

mkdir -m 700 "$work/empty"
cp -a "$work/empty" "$work/full"
"$CERTMESH" obtain a.test --quiet --root "$work/full" "${with_ca[@]}" >"$work/out" 2>&1
report $? "set-up: $(cat "$work/out")"
interrupt obtain "$work/empty" 143 "$(calls_of "$work/empty" obtain a.test)" obtain a.test
interrupt renew "$work/full" 143 "$(calls_of "$work/full" renew a.test --force)" renew a.test --force
interrupt serve "$work/empty" 0 76 serve a.test

# ---- other signals, and more than one. SIGPIPE is ignored; SIGHUP ends like SIGTERM.
signals() { # WANTED-STATUS SIGNALS CALL COMMAND...
    local want=$1 names=$2 call=$3 fired status seconds
    shift 3
    rm -rf "$work/s"
    read -r fired status seconds < <(python3 "$here/at_point.py" "$call" "$names" "$work/strace" \
        "$CERTMESH" "$@" --root "$work/s" "${with_ca[@]}" 2>"$work/out")
    [ "$fired" = 1 ] && [ "$status" = "$want" ] && [ "${seconds%.*}" -lt 5 ]
    report $? "$1 with $names: fired $fired, exit $status (wanted $want) after $seconds s: $(cat \
        "$work/out")"
    [ "$names" = INT,INT ] || [ -z "$(leftovers "$work/s")" ]
    report $? "$1 with $names left $(leftovers "$work/s")"
}
signals 130 INT 60 obtain a.test
signals 130 INT,INT 60 obtain a.test # the second does not wait for locks
signals 143 TERM,TERM 60 obtain a.test
signals 129 HUP 60 obtain a.test
signals 0 PIPE 60 obtain a.test
signals 0 TERM,TERM 60 serve a.test
signals 0 HUP 60 serve a.test
signals 0 PIPE,TERM 60 serve a.test

# ---- EINTR everywhere: SIGALRM a thousand times a second, in every thread that takes it.
# LD_PRELOAD starts the clock before main().
LD_PRELOAD=$FAULT_TOOLS/libtick.so TICK_LOG=$work/ticks "$CERTMESH" obtain a.test --root "$work/t" \
    "${with_ca[@]}" >"$work/out" 2>&1
report $? "obtain with a signal every millisecond: $(cat "$work/out")"
pair_fits "$work/t"
report $? "obtain with a signal every millisecond: the pair does not fit"
LD_PRELOAD=$FAULT_TOOLS/libtick.so TICK_LOG=$work/ticks "$CERTMESH" serve a.test --root "$work/t" \
    "${with_ca[@]}" >"$work/served" 2>&1 &
server=$!
for ((i = 0; i < 100; i++)); do
    ! grep -qs ' is up' "$work/served" || break
    sleep 0.1
done
good=0
for ((i = 0; i < 20; i++)); do
    ! curl -s --max-time 5 --cacert "$PEBBLE_ROOT" --resolve "a.test:$TLSALPN_PORT:127.0.0.1" \
        "https://a.test:$TLSALPN_PORT/" -o /dev/null || good=$((good + 1))
done
kill "$server"
wait "$server"
rc=$?
[ $rc = 0 ] && [ $good = 20 ]
report $? "serve with a signal every millisecond: exit $rc, $good of 20 requests: $(cat \
    "$work/served")"
ticks=$(awk '{ n += $1 } END { print n + 0 }' "$work/ticks")
[ "$ticks" -ge 100 ]
report $? "only $ticks ticks were taken: nothing was interrupted"
echo "itimer: obtain, and 20 requests to serve, with $ticks interruptions"

# ---- a detector that cannot fail proves nothing: kill -9 leaves what is looked for.
for n in 40 60 80 100; do
    rm -rf "$work/s"
    python3 "$here/at_point.py" $n KILL "$work/strace" "$CERTMESH" obtain a.test --root "$work/s" \
        "${with_ca[@]}" >/dev/null 2>&1
    [ -z "$(leftovers "$work/s")" ] || break
done
[ -n "$(leftovers "$work/s")" ]
report $? "negative control: kill -9 left no lock and no token"
finish
