#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Options about the life of certificates, with a real CA and a responder on this machine.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

lab=$here/../util/lab
env_lines=$(LAB_OCSP=1 LAB_OWNER=$$ "$lab" up "$work/lab")
rc=$?
if [ $rc = 77 ]; then
    echo "1..0 # SKIP no pebble"
    exit 0
fi
[ $rc = 0 ] || exit 1
eval "$env_lines"
trap '"$lab" down "$work/lab"; cleanup' EXIT

export CERTMESH_STORAGE=file:$work/store CERTMESH_CA_ROOT=$LAB_CA
ports=(--http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" --listen 127.0.0.1)
nobody=https://127.0.0.1:$FREE_PORT/dir # there is no CA

# ---- further CAs
fails "the only CA cannot be reached" 6 'obtain a\.test: ' cm obtain --agree "${ports[@]}" --ca "$nobody" a.test
run obtain --agree "${ports[@]}" --ca "$nobody" --fallback-ca "$ACME_DIR" a.test
is "the next CA is gone to" "$rc:$(awk '{ print $1, $2 }' "$work/out")" "0:a.test obtained,"
like "it is said" "$err" "from 127\.0\.0\.1:$FREE_PORT-dir: .*trying the next issuer"
run renew --ca "$nobody" --fallback-ca "$ACME_DIR"
like "what it issued is renewed" "$out" '^a\.test +not due'
run renew --ca "$nobody"
is "without it there is nothing of this CA's" "$out" ""
export CERTMESH_CA=$nobody
CERTMESH_FALLBACK_CA=$ACME_DIR run renew --force "${ports[@]}" a.test
is "a further CA in the environment" "$rc:$(awk '{ print $1, $2 }' "$work/out")" "0:a.test renewed,"
export CERTMESH_CA=$ACME_DIR
fails "a CA twice" 2 'same key' cm renew --fallback-ca "$ACME_DIR"

# ---- limits of our own
run obtain --rate 1/1h --parallel 1 "${ports[@]}" b.test c.test
is "an order more than allowed" "$rc:$(awk '{ print $1, $2 }' "$work/out")" "3:b.test obtained,"
like "the limit is named" "$err" 'c\.test: 1 order\(s\) in 3600 s are the limit at '
like "whose it is" "$err" '^  Try again in (59|60) min'
run obtain --rate off "${ports[@]}" c.test d.test
is "no limit" "$rc" 0

# ---- when to renew
left() { # ARG...: seconds from renewal to the end of a.test
    cm list --json "$@" a.test | python3 -c 'import datetime, json, sys
d = json.load(sys.stdin)["certificates"][0]
at = lambda s: datetime.datetime.fromisoformat(s.replace("Z", "+00:00")).timestamp()
print(round(at(d["not_after"]) - at(d["renew_at"])))'
}
# the last second of a certificate counts as one of its life
is "renew so long before the end" "$(left --renew-before 10d)" $((10 * 86400 - 1))
check "by its lifetime otherwise" test "$(left)" -gt 2500000
run renew "${ports[@]}" --renew-before 89d a.test
like "a longer time than there can be is not taken" "$out" '^a\.test +not due'
run status --json --renew-before 10d a.test
like "status goes by it" "$(json 'd["names"][0]["renew_rule"]')" 'absolute'

# ---- staples
serve() { # ARG...
    : >"$work/serve.err"
    "$certmesh" serve "${ports[@]}" "$@" a.test >"$work/serve.out" 2>"$work/serve.err" </dev/null &
    server=$!
    await grep -q ' is up' "$work/serve.err"
}
finish() {
    kill -TERM "$server"
    wait "$server"
    is "ends well" "$?" 0
    server=
}
stapled() {
    openssl s_client -connect "127.0.0.1:$TLSALPN_PORT" -servername a.test -status </dev/null \
        2>/dev/null | grep -q 'OCSP Response Status: successful'
}
hits() {
    curl -s "$OCSP_URL/ctl" | python3 -c 'import json, sys; print(json.load(sys.stdin)["hits"])'
}
serve --fetch-local
check "a staple from the responder that the certificate names" await stapled
check "it was asked" test "$(hits)" -ge 1
finish
rm -rf "$work/store/ocsp"
curl -s -d '' "$OCSP_URL/ctl?reset=1" >/dev/null
serve --fetch-local --no-ocsp
sleep 1 # what does not come cannot be waited for; it took less above
fails "--no-ocsp: no staple" 1 '' stapled
finish
serve --fetch-local --ocsp-responder "$OCSP_URL="
sleep 1
fails "a responder that is not to be asked: no staple" 1 '' stapled
finish
serve -v
check "a local responder is not asked" await grep -q 'staple' "$work/serve.err"
fails "no staple without --fetch-local" 1 '' stapled
finish
is "and none was asked in all of these" "$(hits)" 0
serve -v --fetch-local --ocsp-responder "$OCSP_URL=http://127.0.0.1:$FREE_PORT"
check "another responder is asked" await grep -q "127.0.0.1:$FREE_PORT" "$work/serve.err"
fails "another responder, that is not there: no staple" 1 '' stapled
finish
is "nor the one in the certificate" "$(hits)" 0

# ---- what a further CA has issued is revoked there
run revoke --yes --ca "$nobody" a.test
is "not by another" "$rc" 7
run revoke --yes --ca "$nobody" --fallback-ca "$ACME_DIR" a.test
is "revoked where it was issued" "$rc:$(awk '{ print $1, $2 }' "$work/out")" "0:a.test revoked"

tap_done
