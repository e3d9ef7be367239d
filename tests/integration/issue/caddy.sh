#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A Go peer on the same storage: Caddy (CertMagic) and certmesh use each other's account,
# certificates and challenge tokens.
. "$(dirname "$0")/common.sh"

caddy=$("$here/tests/util/get-caddy") || {
    echo "Bail out! no caddy to test against"
    exit 1
}
# This Caddy does not understand a Retry-After that is a date, as a newer Pebble sends at random.
lab_up peer LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0 LAB_RETRY_AFTER=0
STORE=shared

check "certmesh makes the account and a certificate" cm obtain ours.a.test
cat >"$work/caddy.json" <<J
{"admin": {"disabled": true},
 "storage": {"module": "file_system", "root": "$work/shared"},
 "apps": {
  "http": {"http_port": $HTTP01_PORT, "https_port": $TLSALPN_PORT, "servers": {"s": {
   "listen": ["127.0.0.1:$TLSALPN_PORT"],
   "routes": [{"match": [{"host": ["ours.a.test", "theirs.a.test"]}],
               "handle": [{"handler": "static_response", "body": "by caddy"}]}]}}},
  "tls": {"automation": {"policies": [{"issuers": [{"module": "acme", "ca": "$ACME_DIR",
   "email": "ops@a.test", "trusted_roots_pem_files": ["$LAB_CA"],
   "challenges": {"http": {"alternate_port": $HTTP01_PORT},
                  "tls-alpn": {"alternate_port": $TLSALPN_PORT}}}]}]}}}}
J
page() { # NAME: what is served for it, trusting the CA's root alone
    curl -s --max-time 5 --cacert "$PEBBLE_ROOT" --resolve "$1:$TLSALPN_PORT:127.0.0.1" \
        "https://$1:$TLSALPN_PORT/"
}

before=$(orders)
HOME=$work XDG_DATA_HOME=$work XDG_CONFIG_HOME=$work "$caddy" run --config "$work/caddy.json" \
    >"$work/caddy.log" 2>&1 &
pids+=($!)
wait_for 20 page theirs.a.test
is "Caddy serves our certificate" "$(page ours.a.test)" "by caddy"
is "Caddy serves one of its own" "$(page theirs.a.test)" "by caddy"
is "Caddy ordered only its own" "$(($(orders) - before))" 1
is "with the account that certmesh made" "$(find "$work/shared/acme" -name '*.key' | wc -l)" 1

# Caddy holds both ports: it has to answer for certmesh from the tokens in storage.
check "http-01: Caddy answers our challenge" cm obtain http.a.test --challenge http-01
check "http-01: the pair is good" pair_is_good http.a.test
check "tls-alpn-01: Caddy answers our challenge" cm obtain alpn.a.test --challenge tls-alpn-01
check "tls-alpn-01: the pair is good" pair_is_good alpn.a.test

kill "${pids[0]}"
wait "${pids[0]}" 2>/dev/null
pids=()
before=$(orders)
cm_exec=exec cm serve theirs.a.test >"$work/serve.log" 2>&1 &
pids+=($!)
check "certmesh serves Caddy's certificate" wait_for 20 page theirs.a.test
is "without an order" "$(($(orders) - before))" 0
like "and lists it" "$(cm list 2>&1)" 'theirs.a.test'
tap_done
