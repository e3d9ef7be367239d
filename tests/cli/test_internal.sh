#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything that works without a CA or network: obtain, list, show, renew, clean, trust with the
# local CA, and what the command answers when there is nothing or something broken.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

store=$work/store
export CERTMESH_STORAGE=file:$store
export CERTMESH_CA=internal

# ---- nothing there yet
run list
is "list of empty storage: exit code 0" "$rc" 0
is "list of empty storage: nothing on stdout" "$out" ""
like "list of empty storage: says so" "$err" "no certificates in file:.*$store"
run list --json
is "list --json of empty storage is valid and empty" "$(json 'd["certificates"]')" '[]'
fails "show of an absent name" 7 "show a.test: no certificate" cm show a.test
fails "list of an absent name" 7 "no certificate for a.test" cm list a.test
fails "renew of an absent name" 7 'renew a.test: ' cm renew a.test
fails "revoke of an absent name" 7 'revoke a.test: ' cm revoke --yes a.test
run renew
is "renew of empty storage: exit code 0" "$rc" 0
run clean --json
is "clean --json of empty storage" "$(json 'd["n_removed"], d["removed"]')" '(0, [])'

# ---- obtain
run obtain a.test b.test
is "obtain: exit code 0" "$rc" 0
like "obtain: tells each name" "$out" '^b\.test +obtained, valid until [0-9-]+ [0-9:]+ UTC \(in '
like "obtain: progress as plain lines off a terminal" "$err" '^certmesh: a\.test: stored$'
is "obtain: no escape sequences off a terminal" "$(grep -c $'\033' "$work/out" "$work/err" | cut -d: -f2 | xargs)" "0 0"
run obtain --json a.test c.test
is "obtain --json: what was there and what is new" \
    "$(json '[(r["name"], r["result"]) for r in d["results"]]')" \
    "[('a.test', 'already there'), ('c.test', 'obtained')]"
run obtain -q a.test
is "obtain --quiet says nothing" "$out$err" ""
run obtain A.TEST a.test
is "obtain: the same name twice is one" "$(wc -l <<<"$out")" 1
run obtain --san x.test y.test
is "obtain --san: exit code 0" "$rc" 0
run obtain 'ok.test' '*.*.test'
is "obtain with a malformed name: exit code 2, nothing done" "$rc" 2
is "obtain with a malformed name: nothing on stdout" "$out" ""
run obtain --key-type rsa2048 r.test
is "obtain --key-type" "$rc" 0

# ---- list, show
run list
like "list has the columns" "$out" '^NAME +ISSUER +NOT AFTER +RENEWS IN +KEY TYPE$'
like "list: a row" "$out" '^a\.test +internal +[0-9]{4}-[0-9-]+ [0-9:]+ \(in [0-9]+ h\) +[0-9]+ (h|min) +p256$'
like "list: key type" "$out" '^r\.test .* rsa2048$'
is "list: no line is longer than 100 columns" "$(awk 'length > 100' <<<"$out")" ""
run list a.test
is "list of one name has head and row" "$(wc -l <<<"$out")" 2
run list --json
is "list --json: the names" "$(json 'sorted(c["names"][0] for c in d["certificates"])')" \
    "['a.test', 'b.test', 'c.test', 'r.test', 'x.test']"
is "list --json: a SAN certificate has both names" \
    "$(json '[c["names"] for c in d["certificates"] if len(c["names"]) > 1]')" \
    "[['x.test', 'y.test']]"
is "list --json: none is due or expired" \
    "$(json 'any(c["due"] or c["expired"] or c["problem"] for c in d["certificates"])')" False
run show a.test
like "show: validity" "$out" '^  Valid until +[0-9-]+ [0-9:]+ UTC \(in '
like "show: where the key lies" "$out" 'certificates/.*/a\.test/a\.test\.key$'
run show A.TEST
is "show: the name as people type it" "$rc" 0
run show --json a.test
is "show --json: the keys exist in storage" \
    "$(json "all(__import__('os').path.exists('$store/' + k) for k in d['certificates'][0]['keys'].values())")" True
run show --pem a.test
check "show --pem: openssl reads it" openssl x509 -in "$work/out" -noout
run show y.test
is "show: a SAN certificate is found by its other name" "$rc" 0

# ---- renew
run renew a.test
like "renew when not due" "$out" '^a\.test +not due'
serial() {
    cm show --json a.test | python3 -c 'import json, sys; print(json.load(sys.stdin)["certificates"][0]["serial"])'
}
before=$(serial)
run renew --force a.test
like "renew --force" "$out" '^a\.test +renewed'
check "renew --force: another serial number" test "$before" != "$(serial)"
run renew --json
is "renew without a name: every certificate of this CA" \
    "$(json 'sorted((r["name"], r["result"]) for r in d["results"])[:2]')" \
    "[('a.test', 'not due'), ('b.test', 'not due')]"

# ---- trust
run trust
check "trust: the root is a CA certificate" \
    openssl x509 -in "$work/out" -noout -checkend 86400 -ext basicConstraints
run trust --out "$work/root.pem"
is "trust --out: nothing on stdout" "$out" ""
like "trust --out: says how to install it" "$err" 'update-ca-certificates'
cm show --pem a.test >"$work/chain.pem"
check "the chain of a certificate leads to that root" \
    openssl verify -CAfile "$work/root.pem" -untrusted "$work/chain.pem" "$work/chain.pem"
fails "trust --out into nowhere" 1 'no/where' cm trust --out "$work/no/where"

# ---- secrets stay where they are
key=$(grep -v -- '-----' "$store"/certificates/*/a.test/a.test.key | head -n 1)
for command in "list" "list --json" "show a.test" "show --json --pem a.test" "show --pem a.test" \
    "trust" "obtain -v a.test" "renew -v --force a.test" "clean -v --dry-run"; do
    # shellcheck disable=SC2086
    run $command
    is "'$command' prints no private key" "$(cat "$work/out" "$work/err" | grep -cE "PRIVATE KEY|${key:0:40}")" 0
done
is "keys are readable by the owner only" "$(find "$store" -type f -perm /077 | grep -v '/locks/')" ""

# ---- malformed entries
site=$(echo "$store"/certificates/*/b.test)
echo nonsense >"$site/b.test.crt"
run list
is "list with a malformed entry: exit code 0" "$rc" 0
like "list with a malformed entry: marked" "$out" '^b\.test .*malformed'
like "list with a malformed entry: the others are there" "$out" '^c\.test .* p256$'
run list --json
like "list --json with a malformed entry: the reason" \
    "$(json '[c["problem"] for c in d["certificates"] if c["name"] == "b.test"]')" "b.test"
fails "show --pem of a malformed entry" 1 'cannot be read' cm show --pem b.test
run renew
like "renew tells why it obtains a malformed entry anew" "$err" \
    'renew b\.test: cannot be used: .*b\.test\.crt'
is "renew with a malformed entry: exit code 0" "$rc" 0
run list
like "renew mends a malformed entry" "$out" '^b\.test .* p256$'

# ---- clean
run clean --dry-run --grace 0
is "clean: exit code 0" "$rc" 0
like "clean: a summary" "$out" '^[0-9]+ examined, 0 to remove'
mkdir -p "$store/acme/ca.test-dir/challenge_tokens"
run clean --json
is "clean --json: valid" "$(json 'd["dry_run"], type(d["n_examined"]).__name__')" "(False, 'int')"
run list --json
is "clean: nothing valid is gone" "$(json 'len(d["certificates"])')" 5
run clean --if-older 24h
is "clean --if-older: exit code 0" "$rc" 0
is "clean --if-older: nothing on stdout" "$out" ""
like "clean --if-older: says why nothing is done" "$err" 'cleaned lately'
run clean --if-older 24h --json
is "clean --if-older --json" "$(json 'd["skipped"], d["n_examined"]')" '(True, 0)'
is "last_clean.json is what a peer reads" \
    "$(python3 -c 'import json; print(sorted(json.load(open("'"$store"'/last_clean.json"))["tls"]))')" \
    "['instance_id', 'timestamp']"
echo '{"tls":{"timestamp":"2199-01-01T00:00:00Z"}}' >"$store/last_clean.json"
fails "clean by a clock that is wrong" 4 'clock.*2199' cm clean
run clean --force
is "clean --force: exit code 0" "$rc" 0
old=$store/certificates/old-ca/old.test
(umask 077 && mkdir -p "$old" "$store/ocsp")
certtool --generate-privkey --ecc --outfile "$old/old.test.key" 2>/dev/null
printf '%s\n' 'dns_name = old.test' 'activation_date = 2020-01-01' 'expiration_date = 2020-04-01' \
    >"$work/old.cfg"
certtool --generate-self-signed --load-privkey "$old/old.test.key" --template "$work/old.cfg" \
    --outfile "$old/old.test.crt" 2>/dev/null
echo rubbish >"$store/ocsp/old.test-1"
echo x >"$store/ocsp/4711"
run clean --dry-run --grace 0
like "clean --dry-run: what would go, and why" "$out" '^would remove certificates/old-ca/old\.test \(expired\)$'
check "clean --dry-run: it is there" test -e "$old/old.test.crt"
run clean --grace 0
like "clean: an expired certificate" "$out" '^removed certificates/old-ca/old\.test \(expired\)$'
like "clean: rubbish among staples" "$out" '^removed ocsp/old\.test-1 \(no OCSP response\)$'
check "clean: nothing is left of it, no folder either" test ! -e "$old"
check "clean: what a peer is writing stays" test -e "$store/ocsp/4711"

# ---- revoke
run revoke --yes --json c.test
is "revoke with the local CA" "$(json 'd["results"][0]["name"]')" c.test

# ---- storage
run obtain --root "$work/odd ?%41#:dir" a.test
check "--root takes any directory name" test -d "$work/odd ?%41#:dir/certificates"
touch "$work/file"
fails "storage that is a file" 5 "certmesh: list: .*file" cm list --root "$work/file"
if [ "$(id -u)" != 0 ]; then
    mkdir -m 500 "$work/locked"
    fails "storage that may not be written" 5 '--storage' cm obtain --root "$work/locked/x" a.test
fi

# ---- results that cannot be written
cm list >/dev/full 2>"$work/err"
is "a full device is exit code 1" "$?" 1

tap_done
