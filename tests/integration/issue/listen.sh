#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# listen.sh PROGRAM: a listener for names, which needs no port 80: http-01 is not used, even where it
# would be the challenge that works.
. "$(dirname "$0")/common.sh"
program=$1
lab_up lab LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0

testd() { # ARG...
    ${cm_exec-} timeout 120 "$program" --storage "file://$work/store" --ca "$ACME_DIR" --ca-root "$LAB_CA" \
        --http-port "$HTTP01_PORT" "$@"
}
seen() { # NAME: does its certificate come?
    openssl s_client -connect "127.0.0.1:$TLSALPN_PORT" -servername "$1" -CAfile "$PEBBLE_ROOT" \
        -verify_hostname "$1" -verify_return_error </dev/null
}

cm_exec=exec testd --tls-port "$TLSALPN_PORT" l1.a.test l2.a.test >"$work/one.log" 2>&1 &
one=$!
pids+=($one)
check "it listens" wait_for 30 grep -qx "listening $TLSALPN_PORT" "$work/one.log"
check "the first name is served" wait_for 60 seen l1.a.test
check "the second name is served" wait_for 60 seen l2.a.test
check "the pair is good" pair_is_good l2.a.test
is "nobody was asked on the plain port" "$(grep -c "http://l[12].a.test" "$PEBBLE_LOG")" 0
kill "$one"
wait "$one"
is "it ends well" $? 0

# Where the CA cannot reach it: a config without a listener goes on to http-01, this one does not.
cm_exec=exec testd --tls-port "$FREE_PORT" l3.a.test >"$work/two.log" 2>&1 &
two=$!
pids+=($two)
check "where tls-alpn-01 fails the name fails" wait_for 60 grep -q '^failed l3.a.test' "$work/two.log"
like "and it says so" "$(cat "$work/two.log")" '^failed l3.a.test: .*tls-alpn-01'
is "nobody was asked on the plain port" "$(grep -c "http://l3.a.test" "$PEBBLE_LOG")" 0
check "by the same options without a listener http-01 gets it" testd --tls-port "$((FREE_PORT + 1))" \
    --obtain l4.a.test
is "on the plain port" "$(grep -c "http://l4.a.test" "$PEBBLE_LOG" | sed 's/[1-9].*/some/')" some
check "beside the listener, in another process" pair_is_good l4.a.test
kill "$two"
wait "$two"
fails "http-01 alone is refused" 1 'INVAL: .*leaves no challenge' testd --challenge 1 l5.a.test
fails "a listener needs names" 1 'INVAL: .*no names' testd --port "$FREE_PORT"
tap_done
