#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Certificates for names that clients ask for: the command with a real CA and a URL that decides.
# With CM_FULL=1 the herd is 1000 clients instead of 30.
# shellcheck source=tests/integration/life/common.sh
# shellcheck disable=SC2034,SC2154
. "$(dirname "$0")/../life/common.sh"

lab_up ondemand
clients=30
[ "${CM_FULL:-}" != 1 ] || clients=1000

python3 "$(dirname "$0")/ask.py" "$work/asked" >"$work/ask.port" 2>/dev/null &
ask_pid=$!
pids+=("$ask_pid")
wait_for 20 test -s "$work/ask.port" || { echo "Bail out! nobody to ask"; exit 1; }
ask=http://127.0.0.1:$(cat "$work/ask.port")/allowed

asked() { # NAME: how often
    grep -cx -- "$1" "$work/asked" 2>/dev/null
}
shake() { # NAME [s_client option...]: names of the certificate, or the alert
    local name=$1 text
    shift
    text=$(timeout 20 openssl s_client -connect "127.0.0.1:$TLSALPN_PORT" -servername "$name" \
        -CAfile "$PEBBLE_ROOT" -verify_return_error "$@" </dev/null 2>&1)
    openssl x509 -noout -ext subjectAltName <<<"$text" 2>/dev/null | sed -n 's/.*DNS://p'
    sed -n 's/.*SSL alert number \([0-9]*\).*/alert \1/p' <<<"$text" | head -n 1
}

# A busy machine may need longer than a handshake waits, or a decision may: that is no fault. So what
# is to be served gets some more chances.
served() { # NAME [s_client option...]
    local got
    for _ in 1 2 3 4; do
        got=$(shake "$@")
        [ "$got" != "$1" ] || break
        sleep 11 # past the memory of a denial
    done
    echo "$got"
}

start_serve first --on-demand --ask "$ask" -v
check "it comes up without any name" wait_for 30 grep -q 'serving HTTPS' "$work/first.log"
is "a name that is allowed gets its certificate in the first handshake" \
    "$(served yes.ondemand.test)" yes.ondemand.test
is "by TLS 1.2 as well" "$(served yes12.ondemand.test -tls1_2)" yes12.ondemand.test
is "and is served from then on without a question" \
    "$(shake yes.ondemand.test) $(asked yes.ondemand.test)" "yes.ondemand.test 1"
check "the stored pair is good" pair_is_good yes.ondemand.test
before=$(orders)
is "one that is denied gets unrecognized_name" "$(shake no.ondemand.test)" "alert 112"
is "and is not asked about again at once" "$(shake no.ondemand.test) $(asked no.ondemand.test)" \
    "alert 112 1"
is "an answer that does not come in two seconds is a no" "$(shake slow.ondemand.test)" "alert 112"
is "who hangs up says no" "$(shake dies.ondemand.test)" "alert 112"
is "who does not stop talking says no" "$(shake talks.ondemand.test)" "alert 112"
is "none of them is an order" "$(orders)" "$before"
like "gnutls-cli is served, too" "$(gnutls-cli --x509cafile "$PEBBLE_ROOT" -p "$TLSALPN_PORT" \
    --sni-hostname yes-gnutls.ondemand.test --verify-hostname yes-gnutls.ondemand.test 127.0.0.1 \
    </dev/null 2>&1)" 'Handshake was completed'

# All at once; the decision alone takes a second.
herd() { # NAME WANTED
    local i good=0 waiting=()
    for ((i = 0; i < clients; i++)); do
        shake "$1" >"$work/herd.$i" &
        waiting+=($!)
    done
    wait "${waiting[@]}"
    for ((i = 0; i < clients; i++)); do
        [ "$(cat "$work/herd.$i")" != "$2" ] || good=$((good + 1))
    done
    echo "$good"
}
for try in 1 2 3; do
    before=$(orders)
    good=$(herd "herd$try.ondemand.test" "herd$try.ondemand.test")
    [ "$good" != "$clients" ] || break
done
is "$clients clients at once are all served" "$good" "$clients"
is "with one question and one order" "$(asked "herd$try.ondemand.test") $(($(orders) - before))" \
    "1 1"
is "$clients clients at once are all refused" "$(herd no-herd.ondemand.test 'alert 112')" "$clients"
is "with one question" "$(asked no-herd.ondemand.test)" 1
like "status knows the name" \
    "$("$CERTMESH" status --ca "$ACME_DIR" --storage "file://$work/store" --json 2>&1)" '"yes.ondemand.test"'
check "storage is in order" "$CERTMESH" storage check --storage "file://$work/store"

stop_serve first
is "it ends as it should" "$served_rc" 0

# What is served is decided about again; a URL that is out of order decides nothing.
start_serve again --on-demand --ask "$ask" --on-demand-recheck 1s
wait_for 30 grep -q 'serving HTTPS' "$work/again.log"
is "--on-demand-recheck: with a yes it is served" "$(served yes12.ondemand.test)" yes12.ondemand.test
echo 503 >"$work/asked.status"
sleep 1.2
is "... and when who decides is out of order" "$(shake yes12.ondemand.test)" yes12.ondemand.test
like "... which is told" "$(cat "$work/again.log")" "'yes12.ondemand.test' may still be served cannot"
echo 403 >"$work/asked.status"
denied() {
    [ "$(shake yes12.ondemand.test)" = "alert 112" ]
}
check "... after a no it is refused" wait_for 30 denied
is "... by TLS 1.2 as well" "$(shake yes12.ondemand.test -tls1_2)" "alert 112"
rm "$work/asked.status"
stop_serve again

before=$(orders)
start_serve second --on-demand --ask "$ask"
wait_for 30 grep -q 'serving HTTPS' "$work/second.log"
is "after a restart storage has the certificate" \
    "$(served yes.ondemand.test) $(($(orders) - before))" "yes.ondemand.test 0"
is "and there was one question again" "$(asked yes.ondemand.test)" 2
kill "$ask_pid"
wait "$ask_pid" 2>/dev/null
is "when nobody can be asked, new names are refused" "$(shake yes-later.ondemand.test)" "alert 112"
is "and what is served is served" "$(served yes.ondemand.test)" yes.ondemand.test
stop_serve second

# Orders of the hour so far count; so does the note of who ordered them, which goes here.
rm -f "$work/store/certmesh/ondemand/orders"
start_serve third --on-demand --allow-suffix list.test --allow one.test --on-demand-rate 20/1h
wait_for 30 grep -q 'serving HTTPS' "$work/third.log"
is "--allow-suffix" "$(served a.b.list.test)" a.b.list.test
is "--allow" "$(served one.test)" one.test
is "nothing else" "$(shake list.test) $(shake a.one.test)" "alert 112 alert 112"
like "one client has a tenth of --on-demand-rate" "$(shake b.list.test)" 'alert 80'
stop_serve third

fails "--on-demand for anybody" 2 'anybody' cm serve --on-demand
fails "--ask without --on-demand" 2 'without --on-demand' cm serve --ask "$ask" a.test
fails "--on-demand-rate off" 2 '1 to 1000' cm serve --on-demand --ask "$ask" --on-demand-rate off
fails "--on-demand-rate without --on-demand" 2 'without --on-demand' cm serve \
    --on-demand-rate 5/1h a.test
fails "--on-demand-recheck without --ask" 2 'needs --ask' cm serve --on-demand --allow a.test \
    --on-demand-recheck 1m
fails "--on-demand-recheck of more than a day" 2 'a day at most' cm serve --on-demand --ask "$ask" \
    --on-demand-recheck 25h
fails "--ask of no URL" 2 'ask_url' cm serve --on-demand --ask /path
tap_done
