#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The command with a real CA: Pebble on this machine.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

lab=$here/../util/lab
env_lines=$(LAB_EAB=true LAB_OWNER=$$ "$lab" up "$work/lab")
rc=$?
if [ $rc = 77 ]; then
    echo "1..0 # SKIP no pebble"
    exit 0
fi
[ $rc = 0 ] || exit 1
eval "$env_lines"
trap '"$lab" down "$work/lab"; cleanup' EXIT

export CERTMESH_STORAGE=file:$work/store CERTMESH_CA=$ACME_DIR CERTMESH_CA_ROOT=$LAB_CA
ports=(--http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" --listen 127.0.0.1)
secret=zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W

# ---- account
fails "account show without one" 7 'account' cm account
fails "no account without --agree: exit code 4" 4 'terms of service.*--agree' cm obtain a.test
fails "an account of this CA needs a binding: exit code 4" 4 'eab-kid' cm account register --agree
CERTMESH_EAB_KEY=$secret run account register -v --agree --eab-kid kid-1 --email ops@a.test
is "register with the key from the environment" "$rc" 0
like "register: tells the account" "$out" '^Account +https://127\.0\.0\.1:[0-9]+/'
is "the binding key is not printed" "$(cat "$work/out" "$work/err" | grep -c "$secret")" 0
run account --email ops@a.test --json
is "account --json" "$(json 'd["status"], d["contact"]')" "('valid', 'mailto:ops@a.test')"
run account update --email dev@a.test --json
is "account update" "$(json 'd["contact"]')" 'mailto:dev@a.test'
export CERTMESH_EMAIL=dev@a.test

# ---- obtain
run obtain "${ports[@]}" --challenge http-01 http.test
is "http-01" "$rc" 0
like "progress tells the phases" "$(tr '\n' ' ' <"$work/err")" \
    'http.test: ordering .*http.test: validating .*http.test: finalizing .*http.test: stored'
is "no phase is told twice" "$(sort "$work/err" | uniq -d)" ""
run obtain "${ports[@]}" --challenge tls-alpn-01 alpn.test
is "tls-alpn-01" "$rc" 0
run obtain "${ports[@]}" --challenge http-01,tls-alpn-01 --san --json one.test two.test
is "--san --json" "$(json 'd["results"][0]["names"], d["results"][0]["result"]')" \
    "(['one.test', 'two.test'], 'obtained')"
run obtain "${ports[@]}" --json ok.test blocked.test
is "some names failed: exit code 3" "$rc" 3
is "the problem of the CA in JSON" \
    "$(json '[r["error"]["problem"].split(":")[-1] for r in d["results"] if "error" in r]')" \
    "['rejectedIdentifier']"
fails "all names failed at the CA: exit code 4" 4 'obtain.* blocked\.test:' \
    cm obtain "${ports[@]}" blocked.test
fails "a CA that is not trusted: exit code 6 and what to do" 6 '--ca-root' \
    env -u CERTMESH_CA_ROOT "$certmesh" obtain "${ports[@]}" --agree other.test
fails "wildcards: exit code 4, nothing ordered" 4 '\*\.a\.test' cm obtain "${ports[@]}" '*.a.test'

# ---- extensions in requests; challenges elsewhere than what is served
free=$(free_port)
run obtain --listen 127.0.0.1 --http-port "$free" --tls-port "$free" --alt-http-port "$HTTP01_PORT" \
    --alt-tls-port "$TLSALPN_PORT" --challenge http-01 \
    --csr-extension 2.5.29.32=300a3008060667810c010201 --csr-extension 1.3.6.1.4.1.311.20.2=0c03616263 ext.test
is "http-01 on the alternate port, with extensions in the request" "$rc" 0
run renew --force --listen 127.0.0.1 --http-port "$free" --tls-port "$free" --alt-tls-port "$TLSALPN_PORT" \
    --challenge tls-alpn-01 ext.test
is "tls-alpn-01 on the alternate port" "$rc" 0
run revoke --yes ext.test
is "and revoked" "$rc" 0

plain=$(free_port)
while [ "$plain" = "$free" ]; do plain=$(free_port); done
"$certmesh" serve --listen 127.0.0.1 --http-port "$plain" --tls-port "$free" --alt-http-port "$HTTP01_PORT" \
    --alt-tls-port "$TLSALPN_PORT" served.test >"$work/serve.out" 2>"$work/serve.err" </dev/null &
server=$!
await grep -q ' is up' "$work/serve.err" || await grep -q ' is up' "$work/serve.err"
like "a server on other ports gets its certificate by the alternate ones" \
    "$(curl -s --cacert <(curl -s --cacert "$LAB_CA" "$PEBBLE_MGMT/roots/0") -o /dev/null -w '%{http_code}' \
        --resolve "served.test:$free:127.0.0.1" "https://served.test:$free/")" '^200$'
like "and redirects from its own" "$(curl -s -o /dev/null -w '%{redirect_url}' \
    --resolve "served.test:$plain:127.0.0.1" "http://served.test:$plain/x")" "^https://served.test:$free/x"
kill -TERM "$server"
wait "$server"
server=
run revoke --yes served.test
is "that one is revoked, too" "$rc" 0

# ---- renew while a server has the ports: it answers for the other process
"$certmesh" serve "${ports[@]}" http.test >"$work/serve.out" 2>"$work/serve.err" </dev/null &
server=$!
await grep -q ' is up' "$work/serve.err"
for challenge in http-01 tls-alpn-01; do
    run renew --force "${ports[@]}" --challenge $challenge http.test
    is "renew by $challenge, answered by the server that runs" "$rc" 0
done
run obtain "${ports[@]}" new.test
is "obtain another name while the server runs" "$rc" 0
kill -TERM "$server"
wait "$server"
server=
run renew
is "renew without names: nothing is due" "$(grep -c 'not due' "$work/out")" 5

# ---- names of another CA
run list --internal
is "list shows the certificates of every CA" "$(wc -l <<<"$out")" 6
fails "renew under the wrong CA names the right one" 7 'issued by .127\.0\.0\.1-' \
    env -u CERTMESH_CA -u CERTMESH_CA_ROOT "$certmesh" renew --internal http.test

# ---- revoke
serial=$(cm show --json alpn.test | python3 -c 'import json, sys
print(json.load(sys.stdin)["certificates"][0]["serial"])')
run revoke --yes --reason superseded alpn.test
is "revoke: exit code 0" "$rc" 0
like "revoke: says so" "$out" '^alpn\.test +revoked and removed'
like "revoke: the CA agrees" \
    "$(curl -s --cacert "$LAB_CA" "$PEBBLE_MGMT/cert-status-by-serial/$serial")" '"Revoked"'
fails "revoked and gone" 7 'no certificate' cm show alpn.test
run revoke --yes --keep ok.test
check "revoke --keep leaves it" "$certmesh" show ok.test

# ---- the end of the account
run account deactivate --yes --json
is "deactivate" "$(json 'd["status"]')" deactivated

# ---- nothing secret anywhere it does not belong
is "the binding key is nowhere in storage" "$(grep -rl "$secret" "$work/store" | wc -l)" 0

tap_done
