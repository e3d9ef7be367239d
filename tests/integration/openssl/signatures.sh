#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# GnuTLS servers whose handshakes libcrypto signs, seen by real clients: every signature scheme with
# every type of key.
#   signatures.sh DOOR    with TLS_TESTD in the environment
here=$(cd "$(dirname "$0")/../.." && pwd)
. "$here/util/tap.sh"

door=$1
work=$(mktemp -d)
testd_pid=
cleanup() {
    exec 9>&-
    [ -z "$testd_pid" ] || wait "$testd_pid" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

mkfifo "$work/in"
"$TLS_TESTD" "$door" "$work/root.pem" p256.test=p256 p384.test=p384 rsa.test=rsa2048 \
    ed.test=ed25519 <"$work/in" >"$work/out" 2>&1 &
testd_pid=$!
exec 9>"$work/in"
port=
for _ in $(seq 300); do
    port=$(awk '/^port/ {print $2}' "$work/out")
    [ -n "$port" ] && break
    sleep 0.1
done
[ -n "$port" ] || { echo "Bail out! no server: $(cat "$work/out")"; exit 1; }

s_client() { # NAME VERSION SIGALG
    timeout 60 openssl s_client -connect "127.0.0.1:$port" -CAfile "$work/root.pem" \
        -servername "$1" -verify_hostname "$1" "$2" -sigalgs "$3" </dev/null 2>&1
}
signed() { # NAME VERSION SIGALG TYPE [DIGEST]
    local out
    out=$(s_client "$1" "$2" "$3")
    like "$door $2 $1 $3: verifies" "$out" 'Verify return code: 0'
    like "$door $2 $1 $3: signed so" "$out" "^Peer signature type: $4\$"
    [ -z "${5:-}" ] || like "$door $2 $1 $3: with that hash" "$out" "^Peer signing digest: $5\$"
}
refused() { # NAME VERSION SIGALG
    like "$door $2 $1 $3: nothing in common" "$(s_client "$1" "$2" "$3")" 'SSL alert number 40'
}

# The CA of the test signs with ECDSA and SHA-256, so clients have to take that as well.
ca=ecdsa_secp256r1_sha256
for v in -tls1_2 -tls1_3; do
    for bits in 256 384 512; do
        signed rsa.test "$v" "rsa_pss_rsae_sha$bits:$ca" RSA-PSS "SHA$bits"
    done
    signed p256.test "$v" "$ca" ECDSA SHA256
    signed p384.test "$v" "ecdsa_secp384r1_sha384:$ca" ECDSA SHA384
    signed ed.test "$v" "ed25519:$ca" ed25519
done
for bits in 256 384 512; do
    signed rsa.test -tls1_2 "RSA+SHA$bits:$ca" RSA "SHA$bits"
done
for bits in 384 512; do
    signed p256.test -tls1_2 "ECDSA+SHA$bits:$ca" ECDSA "SHA(256|$bits)"
done
refused p256.test -tls1_3 ecdsa_secp384r1_sha384
refused rsa.test -tls1_3 "RSA+SHA256:$ca"
refused p256.test -tls1_2 rsa_pss_rsae_sha256

for name in p256.test p384.test rsa.test ed.test; do
    for p in NORMAL NORMAL:-VERS-ALL:+VERS-TLS1.2; do
        like "$door gnutls-cli $p: $name" "$(timeout 60 gnutls-cli --x509cafile "$work/root.pem" \
            --sni-hostname "$name" --verify-hostname "$name" --priority "$p" -p "$port" 127.0.0.1 \
            </dev/null 2>&1)" 'The certificate is trusted'
    done
done

exec 9>&-
wait "$testd_pid"
like "$door: the server ends well and leaks no certificate" "$(tail -n 1 "$work/out")" \
    '^certs alive 0$'
testd_pid=
tap_done
