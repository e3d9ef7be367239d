#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Which certificate real clients get: by what they support, by name, by wildcard, without SNI.
here=$(cd "$(dirname "$0")/../.." && pwd)
. "$here/util/tap.sh"
: "${SELECT_TESTD:?path of select_testd}"

work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1

{
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -days 30 -subj '/CN=select CA' -out ca.pem \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
} 2>/dev/null
leaf() { # FILE ALGORITHM DAYS SAN...: algorithm as of genpkey
    local file=$1 alg=$2 days=$3 san
    shift 3
    san=$(printf ',DNS:%s' "$@")
    # shellcheck disable=SC2086
    openssl genpkey -algorithm $alg -out "$file.key"
    openssl req -new -key "$file.key" -subj /CN=x -out "$file.csr"
    openssl x509 -req -in "$file.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "${san#,}") \
        -out "$file.crt"
    cat ca.pem >>"$file.crt"
} 2>/dev/null
# Between equals the newest is taken: Ed25519 is the older one here, RSA as new as ECDSA.
leaf ed ED25519 20 both.test ed-only.test
sleep 1.1
leaf ec 'EC -pkeyopt ec_paramgen_curve:P-256' 20 both.test
leaf rsa 'RSA -pkeyopt rsa_keygen_bits:2048' 20 both.test
leaf p384 'EC -pkeyopt ec_paramgen_curve:P-384' 20 p384.test
leaf wild 'EC -pkeyopt ec_paramgen_curve:P-256' 20 '*.wild.test'
leaf exact 'EC -pkeyopt ec_paramgen_curve:P-256' 20 exact.wild.test
leaf default 'EC -pkeyopt ec_paramgen_curve:P-256' 20 default.test
leaf fallback 'EC -pkeyopt ec_paramgen_curve:P-256' 20 fallback.test

pairs=()
for f in ec rsa ed p384 wild exact default fallback; do pairs+=("$work/$f.crt:$work/$f.key"); done
"$SELECT_TESTD" "file://$work/store" "${pairs[@]}" >out 2>err &
pid=$!
for _ in $(seq 200); do
    port=$(awk '/^port/ {print $2}' out)
    [ -n "$port" ] && break
    sleep 0.05
done
[ -n "$port" ] || { echo "Bail out! no server: $(cat err)"; exit 1; }

got() { # openssl options...: which of our certificates was shown, or the alert
    local text serial f
    text=$(timeout 10 openssl s_client -connect "127.0.0.1:$port" -CAfile ca.pem "$@" </dev/null 2>&1)
    serial=$(openssl x509 -noout -serial <<<"$text" 2>/dev/null)
    for f in ec rsa ed p384 wild exact default fallback; do
        if [ -n "$serial" ] && [ "$(openssl x509 -in "$f.crt" -noout -serial)" = "$serial" ]; then
            echo "$f"
            return
        fi
    done
    sed -n 's/.*SSL alert number \([0-9]*\).*/alert \1/p' <<<"$text" | head -n 1
}

both='-servername both.test'
# shellcheck disable=SC2086
{
    is "TLS 1.3, all algorithms: ECDSA" "$(got $both -tls1_3)" ec
    is "TLS 1.2, all algorithms: ECDSA" "$(got $both -tls1_2)" ec
    is "TLS 1.2, RSA suites alone, whatever signatures: RSA" \
        "$(got $both -tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256)" rsa
    is "TLS 1.2, ECDSA suites alone: ECDSA" \
        "$(got $both -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256)" ec
    is "TLS 1.2, RSA signatures alone: RSA" "$(got $both -tls1_2 -sigalgs RSA+SHA256)" rsa
    is "TLS 1.3, RSA-PSS alone: RSA" "$(got $both -tls1_3 -sigalgs RSA-PSS+SHA256)" rsa
    is "TLS 1.3, Ed25519 alone: Ed25519" "$(got $both -tls1_3 -sigalgs ed25519)" ed
    is "TLS 1.3, ECDSA alone: ECDSA" "$(got $both -tls1_3 -sigalgs ECDSA+SHA256)" ec
    is "TLS 1.3, HelloRetryRequest (no key share we take first): ECDSA" \
        "$(got $both -tls1_3 -groups X448:P-521:P-256)" ec
}
is "a client without Ed25519 at an Ed25519-only name: an alert, not another's certificate" \
    "$(got -servername ed-only.test -tls1_2 -sigalgs RSA+SHA256:ECDSA+SHA256)" "alert 40"
is "P-384" "$(got -servername p384.test)" p384
is "exact before wildcard" "$(got -servername exact.wild.test)" exact
is "wildcard for one label" "$(got -servername any.wild.test)" wild
is "wildcard in upper case" "$(got -servername ANY.Wild.test)" wild
is "not for two labels: the fallback" "$(got -servername a.b.wild.test)" fallback
is "not for the bare domain: the fallback" "$(got -servername wild.test)" fallback
is "unknown name: the fallback" "$(got -servername unknown.test)" fallback
is "no name: the default" "$(got -noservername)" default

gnutls_gets() { # priority
    gnutls-cli --x509cafile ca.pem -p "$port" --sni-hostname both.test --verify-hostname both.test \
        --priority "$1" 127.0.0.1 </dev/null 2>&1
}
like "gnutls-cli: TLS 1.3" "$(gnutls_gets NORMAL)" 'Handshake was completed'
like "gnutls-cli: RSA-only by TLS 1.2" \
    "$(gnutls_gets 'NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-RSA')" 'Handshake was completed'
check "curl" curl -sf --max-time 5 --cacert ca.pem --resolve "both.test:$port:127.0.0.1" \
    "https://both.test:$port/"
tap_done
