#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Staples, from a responder that says what it is told to say, on the wire of a server that runs: the
# truth is stapled and nothing else, and neither handshakes nor renewals wait for it.
. "$(dirname "$0")/common.sh"

# Servers do without the CA's suggestions: Pebble's window is all of a certificate's life, and one that
# is renewed in the middle of its test has another staple.
lab_up lab LAB_OCSP=1 LAB_VALIDITY=3600 LAB_NONCEREJECT=0
lab=$here/tests/util/lab

# ---- the truth, on the wire

start_node 0 --no-ari a.test b.test
for name in a.test b.test; do
    for version in -tls1_2 -tls1_3; do
        check "$name: a good staple with $version" wait_for 20 shows good wire_staple "$name" 0 "$version"
    done
done
check "a client that verifies it agrees" client_accepts a.test 0
is "each certificate was asked about once" "$(ocsp_state 'sorted(d["hits_by_serial"].values())')" "[1, 1]"
is "by POST" "$(ocsp_state 'd["methods"]')" "{'POST': 2}"
is "with the issuer's hashes" "$(ocsp_state 'd["foreign"]')" 0
is "stored for the fleet" "$(find "$work/store/ocsp" -type f | wc -l)" 2
openssl s_client -connect "127.0.0.1:${node_port[0]}" -servername a.test </dev/null >"$work/plain" 2>&1
is "nothing for who does not ask" "$(grep -c 'OCSP Response' "$work/plain")" 0

# What is stored serves a start, and a peer, without the responder.
stop_serve node.0
is "the server ends well" "$served_rc" 0
ocsp_ctl 'reset=1'
start_node 1 --no-ari a.test b.test
wait_for 20 shows good wire_staple a.test 1
is "a peer staples what is stored" "$(wire_staple b.test 1)" good
is "and asks nobody" "$(ocsp_state 'd["hits"]')" 0
stop_serve node.1
"$lab" stop "$LAB_DIR" ocspd
start_node 0 --no-ari a.test b.test
check "started without a responder: stapled all the same" wait_for 20 shows good wire_staple a.test 0
is "the other, too" "$(wire_staple b.test 0 -tls1_2)" good
stop_serve node.0
"$lab" start "$LAB_DIR" ocspd

# ---- lies: a server for each, so that no failure keeps the next from being asked

# MODE WHAT IS STAPLED
cat >"$work/modes" <<'M'
truth good
delegated good
nonext good
slow good
revoked none
unknown none
expired none
future none
backwards none
wrongserial none
wrongissuer none
two none
badsig none
delegated_bad none
trylater none
unauthorized none
garbage none
empty none
html500 none
truncated none
trailing none
hang none
reset none
big none
redirect none
M
names=()
while read -r mode _; do names+=("m-${mode/_/-}.test"); done <"$work/modes"
STORE=lies
check "a certificate for each" cm obtain "${names[@]}"
# Who has just got one may have asked already, before any lie was told.
rm -rf "$work/lies/ocsp"
serial_of() {
    openssl x509 -in "$(stored "$1" crt)" -noout -serial | cut -d= -f2 | tr A-F a-f | sed 's/^0*//'
}
was_asked() { # SERIAL
    [ "$(ocsp_state "d['hits_by_serial'].get('$1', 0)")" -ge 1 ]
}
ocsp_ctl 'mode=truth&delay=1&reset=1'
lie() { # NUMBER MODE WANTED: one server, started already
    local name=m-${2/_/-}.test serial
    serial=$(serial_of "$name")
    wait_for 20 node_is_ready "$1" && wait_for 20 was_asked "$serial"
    tap_result $? "$2: the responder was asked" "$(tail -n 3 "$work/node.$1.log")"
    if [ "$3" = good ]; then
        check "$2: stapled" wait_for 20 shows "$serial good" wire "$name" "$1"
        check "$2: a client agrees" client_accepts "$name" "$1"
    else
        # It was told, and has had the time to make something of it.
        check "$2: served" wait_for 20 shows "$serial" wire_serial "$name" "$1"
        sleep 0.5
        like "$2: nothing is stapled, in TLS 1.2" "$(wire "$name" "$1" -tls1_2)" ' none$'
        like "$2: nor in TLS 1.3" "$(wire "$name" "$1" -tls1_3)" ' none$'
        [ "$2" = revoked ] || [ "$2" = hang ] || is "$2: nor stored" \
            "$(find "$work/lies/ocsp" -name "$name-*" 2>/dev/null | wc -l)" 0
    fi
}
# A certificate that is said to be revoked is replaced, so that is a test of its own.
grep -v '^revoked' "$work/modes" >"$work/lies.todo"
while read -r mode _; do
    ocsp_ctl "mode=$mode&serial=$(serial_of "m-${mode/_/-}.test")"
done <"$work/lies.todo"
batch=() wanted=()
flush() {
    local i
    for i in "${!batch[@]}"; do lie "$i" "${batch[i]}" "${wanted[i]}"; done
    for i in "${!batch[@]}"; do stop_serve "node.$i"; done
    batch=() wanted=()
}
while read -r mode want <&3; do
    start_node "${#batch[@]}" --no-ari "m-${mode/_/-}.test"
    batch+=("$mode") wanted+=("$want")
    [ ${#batch[@]} -lt 4 ] || flush
done 3<"$work/lies.todo"
flush
is "a server that is asked to end while the responder hangs ends" "$served_rc" 0

# ---- lies after the truth: the old staple to its end, then none

STORE=later
check "certificates that have a staple" cm obtain later1.test later2.test
# Answers that are good for so short a time are asked for anew after ten seconds.
ocsp_ctl 'mode=truth&validity=22&reset=1'
start_node 0 --no-ari later1.test later2.test
check "stapled" wait_for 20 shows good wire_staple later1.test 0
check "the other, too" wait_for 20 shows good wire_staple later2.test 0
ocsp_ctl 'mode=wrongserial&reset=1'
seen=
for _ in $(seq 300); do
    seen+="$(wire_staple later1.test 0) $(wire_staple later2.test 0) "
    [[ $seen == *none*none* ]] && break
    sleep 0.1
done
like "it was asked again before the end" "$(ocsp_state 'd["hits"] > 0')" True
like "first the old staple" "$seen" '^good good '
like "in the end none" "$seen" 'none'
is "never anything else" "$(tr ' ' '\n' <<<"$seen" | sort -u | tr '\n' ' ')" " good none "
stop_serve node.0

# ---- a responder that hangs

STORE=hang
ocsp_ctl 'mode=hang&validity=3600&reset=1'
"$lab" down "$LAB_DIR" >/dev/null
labs=()
lab_up short LAB_OCSP=1 LAB_VALIDITY=14
ocsp_ctl 'mode=hang'
start_node 0 --no-ari h1.test h2.test h3.test
check "a responder that hangs: served at once" wait_for 20 shows none wire_staple h1.test 0
PORT=${node_port[0]} run_load 2 90 40 h1.test h2.test h3.test
[ "$(loaded 'min(d["renewals"].values())')" -ge 2 ]
tap_result $? "renewed in time, twice" "$(loaded 'd["renewals"]') $(tail -n 3 "$work/node.0.log")"
is "no handshake failed" "$(loaded 'd["failed"]')" '[]'
at_most "none waited for the responder (ms)" "$(loaded 'd["slowest_ms"]')" 3000
like "it was asked all the time" "$(ocsp_state 'd["hits"] > 0')" True
stop_serve node.0
is "the server ends well, and soon" "$served_rc" 0

# ---- what these tests look by must see what is wrong

leaf=$(stored h1.test crt)
curl -s -A test --cacert "$LAB_CA" "$PEBBLE_MGMT/intermediates/0" >"$work/issuer.pem"
openssl ocsp -no_nonce -issuer "$work/issuer.pem" -cert "$leaf" -reqout "$work/request" >/dev/null 2>&1
for mode in wrongserial expired revoked; do
    ocsp_ctl "mode=$mode"
    curl -s --data-binary "@$work/request" -o "$work/$mode.der" "$OCSP_URL/"
    rm -f "$work/s_server"
    openssl s_server -accept "127.0.0.1:${node_port[0]}" -cert "$leaf" -cert_chain "$leaf" \
        -key "$(stored h1.test key)" -status_file "$work/$mode.der" -www >"$work/s_server" 2>&1 &
    pids+=($!)
    wait_for 10 grep -q ACCEPT "$work/s_server"
    is "control: $mode is seen on the wire" "$(wire_staple h1.test 0)" \
        "$([ $mode = revoked ] && echo revoked || echo wrong)"
    fails "control: $mode is no good to the client that verifies" 1 . client_accepts h1.test 0
    kill $!
    wait $! 2>/dev/null
done
tap_done
