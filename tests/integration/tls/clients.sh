#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Real clients against both doors: what they verify, which alert they are told, what resumes.
#   clients.sh DOOR    with TLS_TESTD in the environment
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
"$TLS_TESTD" "$door" "$work/root.pem" a.test=p256 b.test=p256 rsa.test=rsa2048 ed.test=ed25519 \
    p384.test=p384 slow.test=p256@700 =p256 '!refuse.test=16/80' '!weak.test=14/40' +acme.test \
    <"$work/in" >"$work/out" 2>&1 &
testd_pid=$!
exec 9>"$work/in"
port=
for _ in $(seq 100); do
    port=$(awk '/^port/ {print $2}' "$work/out")
    [ -n "$port" ] && break
    sleep 0.1
done
[ -n "$port" ] || { echo "Bail out! no server: $(cat "$work/out")"; exit 1; }

s_client() { # options...
    timeout 10 openssl s_client -connect "127.0.0.1:$port" -CAfile "$work/root.pem" "$@" \
        </dev/null 2>&1
}
alert() { # what openssl says it was told
    s_client "$@" | sed -n 's/.*SSL alert number \([0-9]*\).*/\1/p' | head -n 1
}
verifies() { # version name
    s_client "$1" -servername "$2" -verify_hostname "$2" -verify_return_error |
        grep -q 'Verify return code: 0'
}

for v in -tls1_2 -tls1_3; do
    for name in a.test rsa.test ed.test p384.test slow.test; do
        check "$door $v: $name verifies" verifies "$v" "$name"
    done
    is "$door $v: unknown name" "$(alert "$v" -servername unknown.test)" 112
    is "$door $v: address as a name" "$(alert "$v" -servername 1.2.3.4)" 112
    is "$door $v: no host name" "$(alert "$v" -servername 'a,b.test')" 112
    is "$door $v: refused with internal_error" "$(alert "$v" -servername refuse.test)" 80
    is "$door $v: refused with handshake_failure" "$(alert "$v" -servername weak.test)" 40
    is "$door $v: protocol we do not have" "$(alert "$v" -servername a.test -alpn h2)" 120
    like "$door $v: one of several protocols" "$(s_client "$v" -servername a.test -alpn h2,http/1.1)" \
        '^ALPN protocol: http/1.1'
    like "$door $v: no name" "$(s_client "$v" -noservername)" 'Verify return code: 0'
    like "$door $v: acme-tls/1 alone" "$(s_client "$v" -servername acme.test -alpn acme-tls/1)" \
        '^ALPN protocol: acme-tls/1'
    is "$door $v: acme-tls/1 among others" \
        "$(alert "$v" -servername acme.test -alpn acme-tls/1,http/1.1)" 112
    is "$door $v: challenge for an unknown name" \
        "$(alert "$v" -servername unknown.test -alpn acme-tls/1)" 112
    for second in a.test b.test; do
        rm -f "$work/session"
        { printf 'GET / HTTP/1.0\r\n\r\n'; sleep 0.3; } | timeout 10 openssl s_client \
            -connect "127.0.0.1:$port" -CAfile "$work/root.pem" "$v" -servername a.test \
            -sess_out "$work/session" >/dev/null 2>&1
        how=$(s_client "$v" -servername "$second" -sess_in "$work/session" -verify_hostname "$second")
        if [ "$second" = a.test ]; then
            like "$door $v: ticket resumes its name" "$how" '^Reused, '
        else
            like "$door $v: ticket of a.test does not resume b.test" "$how" '^New, '
            like "$door $v: b.test's own certificate then" "$how" 'Verify return code: 0'
        fi
    done
done

is "$door: ECDSA-only server, RSA-only suites" \
    "$(alert -tls1_2 -servername a.test -cipher ECDHE-RSA-AES128-GCM-SHA256)" 40
check "$door: RSA server, RSA-only suites" bash -c "$(declare -f s_client); port=$port work=$work
    s_client -tls1_2 -servername rsa.test -cipher ECDHE-RSA-AES128-GCM-SHA256 -verify_hostname rsa.test |
    grep -q 'Verify return code: 0'"
is "$door: no common version" "$(alert -tls1_1 -cipher DEFAULT@SECLEVEL=0 -servername a.test)" 70
is "$door: no common signature algorithm" \
    "$(alert -tls1_3 -servername ed.test -sigalgs ECDSA+SHA256)" 40
like "$door: hello retry request" \
    "$(s_client -tls1_3 -servername a.test -groups X448:P-256 -verify_hostname a.test)" \
    'Verify return code: 0'

gnutls() { # name version-priority
    timeout 10 gnutls-cli --x509cafile "$work/root.pem" --sni-hostname "$1" --verify-hostname "$1" \
        --priority "$2" -p "$port" 127.0.0.1 </dev/null 2>&1
}
for p in NORMAL NORMAL:-VERS-ALL:+VERS-TLS1.2; do
    like "$door gnutls-cli $p" "$(gnutls a.test "$p")" 'The certificate is trusted'
done
like "$door gnutls-cli is told unrecognized_name" "$(gnutls unknown.test NORMAL)" '112'

is "$door curl" "$(curl -sS --max-time 10 --http1.1 --cacert "$work/root.pem" \
    --resolve "rsa.test:$port:127.0.0.1" "https://rsa.test:$port/" 2>&1)" hello

exec 9>&-
wait "$testd_pid"
like "$door: the server ends well and leaks no certificate" "$(tail -n 1 "$work/out")" '^certs alive 0$'
like "$door: address of a nameless hello" "$(cat "$work/out")" 'ip=127.0.0.1'
case $door in
openssl-*) # GnuTLS's looks for it only where certificates are on demand
    like "$door: address of the client" "$(cat "$work/out")" 'peer=127.0.0.1'
    ;;
esac
testd_pid=
tap_done
