#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Keys in a PKCS#11 token: SoftHSM, with the local CA, and an account key with Pebble where there is
# one. What is served by it, what renews, and what happens without the token.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

if ! command -v softhsm2-util >/dev/null || ! command -v p11tool >/dev/null; then
    [ -z "${CI:-}${CM_REQUIRE:-}" ] || { echo "Bail out! no softhsm2-util or p11tool"; exit 1; }
    echo "1..0 # SKIP no softhsm2-util or p11tool"
    exit 0
fi

mkdir "$work/tokens"
export SOFTHSM2_CONF=$work/softhsm.conf
printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' \
    "$work/tokens" >"$SOFTHSM2_CONF"
pin=48151623
(umask 077; echo $pin >"$work/pin")
softhsm2-util --init-token --free --label edge --pin $pin --so-pin 12345678 >/dev/null || {
    echo "Bail out! no token"
    exit 1
}
token="pkcs11:token=edge?pin-source=file:$work/pin"
objects() { # type
    p11tool --login --set-pin $pin --list-all 'pkcs11:token=edge' 2>/dev/null |
        grep -c "URL:.*type=$1"
}

export CERTMESH_STORAGE=file:$work/store CERTMESH_CA=internal

# ---- made there
run obtain --key-url "$token" a.test
is "a key is made in the token" "$rc/$(objects private)" 0/1
key=$(find "$work/store" -name a.test.key)
like "its URL is stored" "$(head -n 1 "$key")" \
    '^pkcs11:token=edge;id=(%[0-9a-f]{2}){16};object=a\.test;type=private\?pin-source=file:'
is "and no key" "$(grep -c 'PRIVATE KEY' "$key")" 0
run obtain --key-url "$token" --key-type rsa2048 r.test
is "an RSA key" "$rc/$(objects private)" 0/2
run obtain --key-url "$token" --key-type p384 p.test
is "a P-384 key" "$rc" 0
before=$(cat "$key")
run renew --force --key-url "$token" a.test
is "a renewal makes another" "$rc/$(objects private)" 0/4
check "which is stored" test "$before" != "$(cat "$key")"
run list
is "they are listed" "$(grep -cE 'internal .* (p256|p384|rsa2048)$' <<<"$out")" 3
run show a.test
is "and shown" "$rc" 0

# ---- what is refused
fails "a PIN in the URL" 2 'holds a PIN' cm obtain --key-url "pkcs11:token=edge?pin-value=$pin" x.test
fails "a module in the URL" 2 'names a module' \
    cm obtain --key-url 'pkcs11:token=edge?module-path=/tmp/x.so' x.test
fails "an object in the URL" 2 'names an object' cm obtain --key-url 'pkcs11:token=edge;object=x' x.test
fails "no URL" 2 'begin with pkcs11:' cm obtain --key-url /dev/null x.test
run obtain --key-url 'pkcs11:token=none' x.test
like "a token that is not there" "$rc: $(tr '\n' ' ' <<<"$err$out")" '^[1-9].*is the token there'
chmod 0644 "$work/pin"
run obtain --key-url "$token" x.test
like "a PIN that others can read" "$rc: $(tr '\n' ' ' <<<"$err$out")" '^[1-9].*others can read.*chmod 0600'
chmod 0600 "$work/pin"
(umask 077; echo 9999 >"$work/wrong")
run obtain -v --key-url "pkcs11:token=edge?pin-source=$work/wrong" x.test
like "a wrong PIN" "$rc: $(tr '\n' ' ' <<<"$err$out")" '^[1-9].*look at the file that pin-source names'
is "no PIN is ever printed" "$(grep -c -e $pin -e 9999 <<<"$err$out")" 0

# ---- served
tls=$(free_port)
"$certmesh" serve --key-url "$token" --no-http --tls-port "$tls" --listen 127.0.0.1 \
    a.test r.test p.test >"$work/serve.out" 2>"$work/serve.err" </dev/null &
server=$!
cm trust --out "$work/root.pem" >/dev/null 2>&1 || cm trust >"$work/root.pem" 2>/dev/null
shake() { # version name
    timeout 20 openssl s_client -connect "127.0.0.1:$tls" -CAfile "$work/root.pem" "$1" \
        -servername "$2" -verify_hostname "$2" </dev/null 2>&1
}
for _ in $(seq 100); do
    shake -tls1_3 a.test | grep -q 'Verify return code: 0' && break
    sleep 0.2
done
for v in -tls1_2 -tls1_3; do
    for name in a.test r.test p.test; do
        like "$v: $name verifies" "$(shake $v $name)" 'Verify return code: 0'
    done
done
for _ in $(seq 8); do
    for _ in 1 2 3 4 5; do shake -tls1_3 r.test | grep -q 'Verify return code: 0' && echo good; done >>"$work/many" &
    asked+=($!)
done
wait "${asked[@]}"
is "forty handshakes, eight at a time" "$(grep -c good "$work/many")" 40

# ---- the token goes, a server starts without it, it comes back
mv "$work/tokens" "$work/away"
mkdir "$work/tokens"
kill -TERM "$server"
wait "$server" 2>/dev/null
"$certmesh" serve --no-http --tls-port "$tls" --listen 127.0.0.1 a.test \
    >"$work/serve.out" 2>"$work/serve.err" </dev/null &
server=$!
for _ in $(seq 100); do
    shake -tls1_3 a.test | grep -q 'alert number' && break
    sleep 0.2
done
like "without the token: internal_error" "$(shake -tls1_3 a.test)" 'alert number 80'
like "and the log says why" "$(cat "$work/serve.err")" 'pkcs11:token=edge.*is the token there'
run renew --force --key-url "$token" a.test
like "a renewal without the token says so" "$rc: $(tr '\n' ' ' <<<"$err$out")" '^[1-9].*is the token there'
is "nothing was changed or moved away" "$(head -c 7 "$key")$(find "$work/store" -name '*damaged*')" pkcs11:
kill -TERM "$server"
wait "$server" 2>/dev/null
server=
rmdir "$work/tokens"
mv "$work/away" "$work/tokens"
run renew --force --key-url "$token" a.test
is "with the token back it renews" "$rc" 0

# ---- an account key, with a real CA
lab=$here/../util/lab
env_lines=$(LAB_OWNER=$$ "$lab" up "$work/lab")
rc=$?
[ $rc = 0 ] || [ $rc = 77 ] || exit 1
if [ $rc = 0 ]; then
    eval "$env_lines"
    trap '"$lab" down "$work/lab"; cleanup' EXIT
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/account.pem" 2>/dev/null
    softhsm2-util --import "$work/account.pem" --token edge --label account --id a1 --pin $pin >/dev/null
    echo "pkcs11:token=edge;object=account;type=private?pin-source=file:$work/pin" >"$work/account.url"
    export CERTMESH_STORAGE=file:$work/acme CERTMESH_CA=$ACME_DIR CERTMESH_CA_ROOT=$LAB_CA
    run obtain --agree --account-key "$work/account.url" --key-url "$token" --challenge http-01 \
        --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" --listen 127.0.0.1 one.test
    is "an order with account and certificate key in the token" "$rc" 0
    like "the account's key is stored as its URL" \
        "$(cat "$work"/acme/acme/*/users/*/*.key 2>/dev/null | head -n 1)" '^pkcs11:token=edge;object=account'
    run renew --force --key-url "$token" --challenge tls-alpn-01 \
        --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" --listen 127.0.0.1 one.test
    is "and a renewal with the account from storage" "$rc" 0
fi
tap_done
