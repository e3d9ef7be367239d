#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Staples as real clients see them, from a real responder (openssl ocsp): in both versions of TLS,
# for must-staple, after a restart without the responder, and never for what is revoked.
here=$(cd "$(dirname "$0")/../.." && pwd)
. "$here/util/tap.sh"
: "${STAPLE_TESTD:?path of staple_testd}"

work=$(mktemp -d)
server='' responder=''
end() { # PID
    [ -z "$1" ] || { kill "$1" && wait "$1"; } 2>/dev/null
}
trap 'end "$server"; end "$responder"; rm -rf "$work"' EXIT
trap 'exit 143' TERM INT
cd "$work" || exit 1

# The responder listens on all addresses, whatever it is told.
read -r ocsp_port port < <(python3 -c 'import socket
a, b = socket.socket(), socket.socket()
a.bind(("", 0))
b.bind(("", 0))
print(a.getsockname()[1], b.getsockname()[1])')
{
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -days 30 -subj '/CN=staple CA' -out ca.pem \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
    openssl ecparam -name prime256v1 -genkey -noout -out signer.key
    openssl req -new -key signer.key -subj '/CN=staple responder' -out signer.csr
    openssl x509 -req -in signer.csr -CA ca.pem -CAkey ca.key -set_serial 5 -days 10 \
        -extfile <(echo extendedKeyUsage=OCSPSigning) -out signer.pem
} 2>/dev/null
: >index.txt
leaf() { # NAME SERIAL [EXTENSION]
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -set_serial "0x$2" -days 20 \
        -extfile <(printf '%s\n' "subjectAltName=DNS:$1" extendedKeyUsage=serverAuth \
            "authorityInfoAccess=OCSP;URI:http://127.0.0.1:$ocsp_port/" "${3-}") -out "$1.crt"
    cat ca.pem >>"$1.crt"
    printf 'V\t%s\t\t%s\tunknown\t/CN=%s\n' 400101000000Z "$2" "$1" >>index.txt
} 2>/dev/null
leaf plain.test 1001
leaf must.test 1002 tlsfeature=status_request

start_responder() {
    openssl ocsp -index index.txt -port "$ocsp_port" -rsigner signer.pem -rkey signer.key \
        -CA ca.pem -nmin 60 >responder.log 2>&1 &
    responder=$!
    for _ in $(seq 200); do
        grep -q '^ACCEPT' responder.log && return
        sleep 0.05
    done
    echo "Bail out! no responder: $(cat responder.log)"
    exit 1
}
stop_responder() {
    end "$responder"
    responder=''
}
start_server() { # STORE
    "$STAPLE_TESTD" "file://$work/$1" "$port" "$work/plain.test.crt:$work/plain.test.key" \
        "$work/must.test.crt:$work/must.test.key" >out 2>err &
    server=$!
    for _ in $(seq 400); do
        grep -q ready out && return
        sleep 0.05
    done
    echo "Bail out! no server: $(cat err)"
    exit 1
}
stop_server() {
    end "$server"
    server=''
}

seen() { # NAME [OPTION...]: what openssl got for a staple
    local name=$1 text
    shift
    text=$(timeout 10 openssl s_client -connect "127.0.0.1:$port" -servername "$name" \
        -CAfile ca.pem "$@" </dev/null 2>&1)
    sed -n 's/^ *Cert Status: //p; s/^OCSP response: no response sent.*/none/p' <<<"$text" | head -n 1
}
until_seen() { # NAME STATUS; at most twenty seconds
    for _ in $(seq 200); do
        [ "$(seen "$1" -status)" = "$2" ] && return
        sleep 0.1
    done
    return 1
}
until_logged() { # TEXT
    for _ in $(seq 200); do
        grep -q "$1" err && return
        sleep 0.1
    done
    return 1
}
# gnutls-cli verifies the certificate and the staple that comes with it, asks no responder itself,
# and insists on must-staple.
strict() { # NAME [OPTION...]
    local name=$1
    shift
    timeout 10 gnutls-cli --x509cafile ca.pem --port "$port" --sni-hostname "$name" \
        --verify-hostname "$name" "$@" 127.0.0.1 </dev/null 2>&1
}

start_responder
start_server store
check "a staple comes" until_seen plain.test good
check "and for must-staple" until_seen must.test good
for version in tls1_2 tls1_3; do
    is "$version: openssl sees it" "$(seen plain.test -status "-$version")" good
    is "$version: who does not ask gets none" "$(seen plain.test "-$version")" ""
done
for name in plain.test must.test; do
    for priority in NORMAL:-VERS-ALL:+VERS-TLS1.2 NORMAL:-VERS-ALL:+VERS-TLS1.3; do
        text=$(strict $name --priority "$priority")
        is "$name, ${priority##*+}: gnutls-cli accepts it" "$?" 0
        like "$name, ${priority##*+}: and has seen it" "$text" '^- Options:.* OCSP status request'
    done
done
check "curl finds it valid" curl -s -o /dev/null --cert-status --cacert ca.pem \
    --resolve "plain.test:$port:127.0.0.1" "https://plain.test:$port/"
is "both are stored where peers look" \
    "$(cd store/ocsp && ls | sed 's/-[0-9a-f]*$//' | tr '\n' ' ')" "must.test plain.test "
check "what is stored verifies" openssl ocsp -respin "$(echo store/ocsp/plain.test-*)" -CAfile ca.pem \
    -issuer ca.pem -cert plain.test.crt

# A restart while the responder is away.
stop_server
stop_responder
start_server store
check "after a restart it comes from storage" until_seen plain.test good
check "for must-staple too" until_seen must.test good
strict must.test >/dev/null
is "gnutls-cli accepts that" "$?" 0
stop_server

# Without storage and without responder there is none, and must-staple is refused by who insists.
start_server empty
check "a failing responder is told of" until_logged staple_failed
is "no staple" "$(seen must.test -status)" none
strict must.test >/dev/null
[ $? != 0 ]
tap_result $? "gnutls-cli refuses must-staple without"
strict plain.test >/dev/null
is "and takes the other" "$?" 0
stop_server

# Revoked: told, never stapled, never stored.
sed -i 's/^V\t\([0-9Z]*\)\t\t1001/R\t\1\t261101000000Z,keyCompromise\t1001/' index.txt
start_responder
start_server fresh
check "a revocation is told of" until_logged 'revoked, reason 1'
is "and not stapled" "$(seen plain.test -status)" none
check "the other is" until_seen must.test good
is "nor stored" "$(cd fresh/ocsp && ls | sed 's/-[0-9a-f]*$//')" must.test
stop_server
tap_done
