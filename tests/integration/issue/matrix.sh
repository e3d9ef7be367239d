#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Issuing against a real Pebble: nonce rejection, authorization reuse, both challenge types, one
# and several names, an address, key types, alternate chains, external account binding, revocation.
. "$(dirname "$0")/common.sh"

for reject in 0 5 50; do
    for reuse in 0 100; do
        lab_up "n$reject-r$reuse" LAB_NONCEREJECT="$reject" LAB_AUTHZREUSE="$reuse"
        tag="nonce rejection $reject %, reuse $reuse %"
        export STORE="s$reject-$reuse"
        check "http-01 ($tag)" cm obtain http.a.test --challenge http-01
        check "http-01: the pair is good ($tag)" pair_is_good http.a.test
        check "tls-alpn-01 ($tag)" cm obtain tls.a.test --challenge tls-alpn-01
        check "tls-alpn-01: the pair is good ($tag)" pair_is_good tls.a.test
        check "several names, one certificate each ($tag)" cm obtain m1.a.test m2.a.test m3.a.test
        check "the second of them is good ($tag)" pair_is_good m2.a.test
        check "forced renewal ($tag)" cm renew http.a.test --force
        check "the renewed pair is good ($tag)" pair_is_good http.a.test
        "$here/tests/util/lab" down "$work/n$reject-r$reuse" >/dev/null
    done
done

lab_up chains LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0 LAB_ALTERNATE_ROOTS=2 LAB_CHAIN_LENGTH=2
export STORE=chains
check "several SANs in one certificate" cm obtain --san s1.a.test s2.a.test s3.a.test
crt=$(find "$work/chains/certificates" -name '*.crt' | head -n 1)
san=$(openssl x509 -in "$crt" -noout -ext subjectAltName)
for n in s1 s2 s3; do like "the certificate names $n" "$san" "DNS:$n.a.test"; done
check "IP identifier" cm obtain 127.0.0.1 --challenge http-01
check "IP: the pair is good" pair_is_good 127.0.0.1
STORE=chains-ip
check "IP identifier by tls-alpn-01" cm obtain 127.0.0.1 --challenge tls-alpn-01
check "IP by tls-alpn-01: the pair is good" pair_is_good 127.0.0.1
STORE=chains
for t in p256 p384 rsa2048 rsa4096; do
    check "key type $t" cm obtain "$t.a.test" --key-type "$t"
    check "key type $t: the pair is good" pair_is_good "$t.a.test"
done

# Alternate chains: the root that is preferred is the one that is served.
alt=$(curl -s -A t --cacert "$LAB_CA" "$PEBBLE_MGMT/roots/1" | openssl x509 -noout -subject -nameopt multiline,utf8 |
    sed -n 's/ *commonName *= //p')
curl -s -A t --cacert "$LAB_CA" "$PEBBLE_MGMT/roots/1" >"$work/root1.pem"
like "the CA has an alternate root" "$alt" "."
check "preferred chain is taken" cm obtain alt.a.test --preferred-chain "$alt"
check "preferred chain leads to that root" pair_is_good alt.a.test "$work/root1.pem"
check "a chain that does not exist is no failure" cm obtain alt2.a.test --preferred-chain nonesuch

# Revocation shows at the CA.
cp "$(stored p256.a.test crt)" "$work/revoked.pem"
serial=$(openssl x509 -in "$work/revoked.pem" -noout -serial | cut -d= -f2)
check "revoke with a reason" cm revoke p256.a.test --reason superseded --yes
status=$(curl -s -A t --cacert "$LAB_CA" "$PEBBLE_MGMT/cert-status-by-serial/$serial")
like "the CA says revoked" "$status" '"Status": ?"Revoked"'
like "with the reason" "$status" '"Reason": ?4'
is "and storage no longer has it" "$(stored p256.a.test crt)" ""

# Refusals: clear, quick, nothing stored.
fails "a name the CA blocks is refused" 4 'blocked' cm obtain blocked.test
fails "a wildcard without a DNS challenge is refused before any order" 4 'wildcard' cm obtain '*.w.test'
is "nothing is stored for it" "$(find "$work/chains/certificates" -name '*wildcard*')" ""

lab_up eab LAB_NONCEREJECT=0 LAB_EAB=true
export STORE=eab
printf '%s' "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W" >"$work/eab.key"
chmod 600 "$work/eab.key"
fails "without the binding that the CA wants: refused, saying what to do" 4 'eab' cm obtain e.a.test
check "external account binding from a file" cm obtain e.a.test --eab-kid kid-1 --eab-key-file "$work/eab.key"
check "external account binding: the pair is good" pair_is_good e.a.test
like "the account keeps its binding" "$(cat "$work"/eab/acme/*/users/*/ops.json)" externalAccountBinding
STORE=eab2
fails "a binding that the CA does not know is refused" 4 'kid|external|binding|unauthorized' \
    cm obtain e2.a.test --eab-kid kid-9 --eab-key-file "$work/eab.key"
tap_done
