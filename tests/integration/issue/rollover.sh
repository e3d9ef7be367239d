#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Another key for the account: what the CA and storage know in between, in each of the states that a
# crash can leave, and nodes that have the old key in memory.
. "$(dirname "$0")/common.sh"

peer=${1:?the program of the other node}
lab_up lab LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0
export STORE=roll

key() { find "$work/$STORE/acme" -path '*/users/*' -name '*.key'; }
next() { # the key that is kept aside
    key | sed -E 's|(.*)/acme/([^/]*)/users/([^/]*)/.*|\1/certmesh/acme/\2/\3.nextkey|'
}
accounts() { grep -c 'accounts in memory' "$PEBBLE_LOG"; }
told() { cm account show 2>&1 | sed -n "s/^$1 *//p"; }

fails "without an account there is nothing to change" 7 "no account" cm account rollover
check "register" cm account register
url=$(told Account) print=$(told Thumbprint)
cp "$(key)" "$work/first.key"
check "rollover" cm account rollover
is "the account is the same" "$(told Account)" "$url"
check "its key is another" test "$(told Thumbprint)" != "$print"
check "nothing is left aside" test ! -e "$(next)"
check "rollover to RSA" cm account rollover --key-type rsa2048
like "the key is one" "$(openssl pkey -in "$(key)" -noout -text | head -n 1)" '2048 bit'
check "and back" cm account rollover
check "a certificate with it" cm obtain a1.a.test
openssl ecparam -name prime256v1 -genkey -noout -out "$work/own.key"
fails "a key that was given is not changed" 4 "is given" cm account rollover --account-key "$work/own.key"

# ---- the CA has heard of it, storage has not
undone() { # as a process leaves it that was killed before the commit
    cp "$(key)" "$work/old.key"
    cm account rollover >/dev/null || return 1
    cp "$(key)" "$work/new.key"
    cp "$work/new.key" "$(next)"
    cp "$work/old.key" "$(key)"
}
check "killed after the request" undone
check "who needs the account finishes it" cm obtain a2.a.test
is "the new key is in storage" "$(cat "$(key)")" "$(cat "$work/new.key")"
check "nothing is left aside" test ! -e "$(next)"
check "killed after the request" undone
check "account show finishes it" cm account show
is "the new key is in storage" "$(cat "$(key)")" "$(cat "$work/new.key")"
check "killed after the request" undone
check "rollover finishes it and makes no other" cm account rollover
is "the new key is in storage" "$(cat "$(key)")" "$(cat "$work/new.key")"
check "killed after the request" undone
rm "$(key | sed 's/key$/json/')"
check "with half of the account lost" cm obtain a3.a.test
is "the new key is in storage" "$(cat "$(key)")" "$(cat "$work/new.key")"
check "killed after the key was stored, before the end of the record" cp "$(key)" "$(next)"
check "the next one goes on" cm account rollover
check "nothing is left aside" test ! -e "$(next)"

# ---- the CA has not heard of it
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/planned.key" 2>/dev/null
(umask 077 && cp "$work/planned.key" "$(next)")
check "killed before the request: the old key is used" cm obtain a4.a.test
check "and kept aside is the next one" test -e "$(next)"
check "the next rollover takes that one" cm account rollover
is "it is the planned one" "$(openssl pkey -in "$(key)" -pubout)" \
    "$(openssl pkey -in "$work/planned.key" -pubout)"
(umask 077 && echo rubbish >"$(next)")
check "a damaged one is replaced" cm account rollover
is "all that time there was one account" "$(accounts)" 1

# ---- nodes that have the old key in memory
check "a node goes on with the key that another one has stored" "$peer" "file://$work/peers" \
    p1.a.test p2.a.test p3.a.test
is "and registers nothing" "$(accounts)" 2
STORE=peers
check "the stored key is the account's" cm account show

# ---- a key from elsewhere, and its account
STORE=own
check "register with a key of one's own" cm account register --account-key "$work/own.key"
is "it is in storage" "$(openssl pkey -in "$(key)" -pubout)" \
    "$(openssl pkey -in "$work/own.key" -pubout)"

STORE=moved
more_before=$(accounts)
check "the account of a key is found, nothing is agreed to anew" "$CERTMESH" account register --ca "$ACME_DIR" \
    --ca-root "$LAB_CA" --email ops@a.test --account-key "$work/own.key" \
    --storage "file://$work/moved"
is "and none is registered" "$(accounts)" "$more_before"

# ---- the CA has lost its state: nodes that notice it at once register one account
STORE=roll
"$here/tests/util/lab" restart "$LAB_DIR"
more_before=$(accounts)
nodes=()
for name in n1 n2 n3; do
    cm obtain $name.a.test >"$work/$name.log" 2>&1 &
    nodes+=($!)
done
failed_nodes=0
for node in "${nodes[@]}"; do wait "$node" || failed_nodes=$((failed_nodes + 1)); done
is "three nodes at a CA that forgot the account: all are served" "$failed_nodes" 0
[ "$failed_nodes" = 0 ] || sed 's/^/# /' "$work"/n?.log
is "by one new account" "$(accounts)" $((more_before + 1))

tap_done
