#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Certificates by ZeroSSL's own interface, which tests/util/zerossld plays, and what it does wrong.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

for program in openssl python3; do
    command -v $program >/dev/null && continue
    [ -z "${CI:-}${CM_REQUIRE:-}" ] || { echo "Bail out! no $program"; exit 1; }
    echo "1..0 # SKIP no $program"
    exit 0
done

secret=0123456789abcdef0123456789abcdef
port=$(free_port)
mkdir "$work/zd"
echo $secret >"$work/zd/key"
(umask 077 && echo $secret >"$work/access.key")
"$here/../util/zerossld" "$work/zd" "$port" 2>"$work/zd.err" &
zd=$!
trap 'kill $zd 2>/dev/null; wait $zd 2>/dev/null; cleanup' EXIT
await test -s "$work/zd/url" || { echo "Bail out! zerossld: $(cat "$work/zd.err")"; exit 1; }

export CERTMESH_STORAGE=file:$work/store
ca=(--ca "$(cat "$work/zd/url")" --ca-root "$work/zd/ca.pem")
key=(--issuer zerossl --zerossl-key-file "$work/access.key")
ports=(--http-port "$port" --listen 127.0.0.1)
z() { # SUBCOMMAND...: with all of it
    local word=$1
    shift
    case $word in
    revoke) run revoke "${ca[@]}" "${key[@]}" "$@" ;;
    *) run "$word" "${ca[@]}" "${key[@]}" "${ports[@]}" "$@" ;;
    esac
    cat "$work/out" "$work/err" >>"$work/all"
}
asked() { grep -c "$1" "$work/zd/log"; }
goes() { echo "$1" >"$work/zd/mode"; }
went() { # DESCRIPTION CODE REGEX: the last z failed so
    is "$1: exit code" "$rc" "$2"
    like "$1: the reason" "$err" "$3"
}

# ---- options
fails "the key file is needed" 2 'zerossl-key-file' cm obtain --issuer zerossl a.test
fails "the issuer is needed" 2 'issuer zerossl' cm obtain --zerossl-key-file x a.test
fails "an issuer nobody knows" 2 'acme and zerossl' cm obtain --issuer sslzero a.test
cp "$work/access.key" "$work/open.key"
chmod 644 "$work/open.key"
run obtain "${ca[@]}" --issuer zerossl --zerossl-key-file "$work/open.key" a.test
like "a key that others can read is refused" "$rc $err" "^[1-9].*open\.key"

# ---- obtain, renew, another node
z obtain -v a.test
is "obtain" "$rc" 0
dir=$work/store/certificates/zerossl/a.test
check "key, chain and metadata are where CertMagic has them" \
    test -s "$dir/a.test.key" -a -s "$dir/a.test.crt" -a -s "$dir/a.test.json"
id=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["issuer_data"]["id"])' \
    "$dir/a.test.json")
like "the metadata has the certificate's id" "$(cat "$work/zd/log")" "/certificates/$id/download"
check "the chain leads to the CA" openssl verify -CAfile "$work/zd/root.pem" \
    -untrusted "$dir/a.test.crt" "$dir/a.test.crt"
is "no validation file is left" "$(find "$work/store/zerossl" -type f 2>/dev/null | wc -l)" 0
goes hiccup
z obtain --san b.test c.test 127.0.0.1
is "several names and an address, with an interface that fails now and then" "$rc" 0
goes ''
"$certmesh" serve "${ca[@]}" "${key[@]}" "${ports[@]}" --tls-port "$(free_port)" a.test \
    >"$work/serve.out" 2>"$work/serve.err" </dev/null &
server=$!
await grep -q ' is up' "$work/serve.err"
z renew --force a.test
is "renewed; the server that runs answers for the file" "$rc" 0
code=$(curl -s -o /dev/null -w '%{http_code}' -H 'Host: a.test' \
    "http://127.0.0.1:$port/.well-known/pki-validation/NONE.txt")
is "a file that is not asked for is not there" "$code" 404
kill -TERM "$server"
wait "$server"
server=

# ---- what is refused here
z obtain '*.a.test'
went "a wildcard" 4 'wildcard'

# ---- an interface that misbehaves
before=$(asked '/cancel')
goes limit
z obtain d.test
went "a limit" 4 '429'
goes html
z obtain d.test
went "HTML for JSON" 1 "answer to create a certificate"
goes cut
z obtain d.test
went "half of the JSON" 1 "answer to create a certificate"
goes redirect
z obtain d.test
went "a redirect" 4 'HTTP 302'
goes down
z obtain d.test
went "out of order" 4 'HTTP 503'
goes odd
z obtain d.test
went "an id that leads elsewhere" 1 'not about a certificate'
is "nothing was there to be canceled" "$(asked '/cancel')" "$before"
goes nofile
z obtain d.test
went "a file that is not found" 4 'd\.test: The file was not found'
is "and it is canceled" "$(asked '/cancel')" $((before + 1))
goes pending
z obtain --timeout 3 e.test
is "endless pending ends" "$(test "$rc" != 0 && echo ends)" ends
is "and is canceled" "$(asked '/cancel')" $((before + 2))
goes wrongname
z obtain f.test
went "a certificate for another name" 4 'f\.test'
goes otherkey
z obtain g.test
went "a certificate for another key" 4 'key'
is "none of it is stored" "$(find "$work/store/certificates" -name '[defg].test.crt' | wc -l)" 0
is "no validation file is left" "$(find "$work/store/zerossl" -type f 2>/dev/null | wc -l)" 0
goes ''
(umask 077 && echo wrong-access-key-1234 >"$work/wrong.key")
run obtain "${ca[@]}" --issuer zerossl --zerossl-key-file "$work/wrong.key" "${ports[@]}" d.test
cat "$work/out" "$work/err" >>"$work/all"
went "a wrong key" 4 'invalid_access_key'
is "which is not shown" "$(grep -c 'wrong-access' "$work/all")" 0
kill -STOP $zd
z obtain --timeout 2 -v d.test
kill -CONT $zd
is "an interface that does not answer" "$rc" 6

# ---- killed while the certificate is pending: the next one goes on with it
goes pending
before=$(asked 'POST /certificates {}')
"$certmesh" obtain "${ca[@]}" "${key[@]}" "${ports[@]}" h.test >"$work/h.out" 2>&1 </dev/null &
server=$!
is_pending() { tail -n 3 "$work/zd/log" | grep -q 'GET /certificates/'; }
await is_pending
kill -KILL "$server"
wait "$server" 2>/dev/null
server=
goes ''
z obtain h.test
is "resumed after kill -9" "$rc" 0
is "and nothing was ordered twice" "$(asked 'POST /certificates {}')" $((before + 1))

# ---- revoke
z revoke --yes --reason cACompromise h.test
like "a reason that it does not take" "$rc $err" '^[1-9].*superseded'
z revoke --yes --reason superseded h.test
is "revoke" "$rc" 0
like "with the reason" "$(grep /revoke "$work/zd/log")" 'Superseded'

is "the access key is in no output" "$(grep -c $secret "$work/all")" 0
is "nor in storage" "$(grep -rl $secret "$work/store" | wc -l)" 0

tap_done
