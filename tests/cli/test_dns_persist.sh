#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Records that are set once for all: what they are to say, whether they show at BIND, and, where
# Pebble has dns-persist-01, certificates by them.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

tools=$here/../util
bind_lines=$(LAB_OWNER=$$ "$tools/bind-lab" up "$work/bind")
rc=$?
if [ $rc = 0 ]; then
    eval "$bind_lines"
    env_lines=$(LAB_DNS=$BIND_ADDR LAB_OWNER=$$ "$tools/lab" up "$work/lab")
    rc=$?
fi
if [ $rc = 77 ]; then
    echo "1..0 # SKIP no pebble or no BIND"
    exit 0
fi
[ $rc = 0 ] || exit 1
eval "$env_lines"
trap '"$tools/lab" down "$work/lab"; "$tools/bind-lab" down "$work/bind"; cleanup' EXIT

export CERTMESH_STORAGE=file:$work/store CERTMESH_CA=$ACME_DIR CERTMESH_CA_ROOT=$LAB_CA
where=(--dns-resolver "$BIND_ADDR" --dns-server-port "$BIND_PORT")
persist=(dns persist --issuer-domain ca.lab.test)
verify=("${persist[@]}" --verify "${where[@]}")
set_txt() { # NAME VALUE
    printf 'server 127.0.0.1 %s\nupdate add _validation-persist.%s 1 TXT "%s"\nsend\n' \
        "$BIND_PORT" "$1" "$2" | nsupdate -k "$BIND_KEY" || echo "# nsupdate failed: $1"
}
value_of() { # NAME OPTION...
    cm "${persist[@]}" --json "${@:2}" "$1" | python3 -c 'import json, sys
print(json.load(sys.stdin)["records"][0]["value"])'
}

# ---- what is printed
fails "without an account: exit code 7" 7 'account' cm "${persist[@]}" a.test
run account register --agree --json
account=$(json 'd["url"]')
run "${persist[@]}" a.test
is "the record of a name" "$rc $out" \
    "0 _validation-persist.a.test. IN TXT \"ca.lab.test; accounturi=$account\""
run "${persist[@]}" a.test '*.a.test'
is "one for a name and its wildcard" "$rc $out" \
    "0 _validation-persist.a.test. IN TXT \"ca.lab.test; accounturi=$account; policy=wildcard\""
run "${persist[@]}" --json --wildcard --until 30d a.test b.test
is "as JSON" "$rc $(json '[(r["name"], r["record"], r["wildcard"]) for r in d["records"]]')" \
    "0 [('a.test', '_validation-persist.a.test', True), ('b.test', '_validation-persist.b.test', True)]"
like "until when" "$(json 'd["records"][0]["value"]')" '; policy=wildcard; persistUntil=[0-9]{10}$'
fails "another word: exit code 2" 2 "'remain' is not persist" cm dns remain a.test
if [[ " $PEBBLE_FEATURES " == *" dns-persist "* ]]; then
    run dns persist a.test
    is "how the CA calls itself is in its directory" "$rc $out" \
        "0 _validation-persist.a.test. IN TXT \"ca.lab.test; accounturi=$account\""
else
    fails "a CA that does not say how it is called: exit code 2" 2 'does not say' cm dns persist a.test
fi

# ---- whether it shows
run "${verify[@]}" a.test
is "no record: exit code 1" "$rc" 1
like "... who says so" "$err" 'ns1\.a\.test has no such record'
like "... and what is to be set" "$out" '^_validation-persist\.a\.test\. IN TXT "ca\.lab'
set_txt a.test "other.test; accounturi=$account; policy=wildcard"
set_txt a.test " ca.lab.test ;AccountURI = $account ; future=x"
run "${verify[@]}" a.test
is "a record in other letters, beside another CA's" "$rc $out" "0 _validation-persist.a.test shows"
run "${verify[@]}" --wildcard --json a.test
is "not good for wildcards: exit code 1" "$rc $(json 'd["records"][0]["shows"]')" "1 False"
like "... and why" "$err" 'ns1\.a\.test has a record that has no policy=wildcard'
set_txt two.test "ca.lab.test; accounturi=${account}9"
set_txt child.a.test "ca.lab.test; accounturi=$account; persistUntil=1000000000"
set_txt stuck.test "$(value_of stuck.test)"
run "${verify[@]}" two.test child.a.test stuck.test
is "three names, three reasons: exit code 1" "$rc" 1
like "... another account" "$err" 'dns persist two\.test: .*is for another account'
like "... ended" "$err" 'dns persist child\.a\.test: .*has ended'
like "... a secondary that does not have it" "$err" \
    'dns persist stuck\.test: .*ns1\.a\.test shows it; ns2\.a\.test has no such record'

# ---- certificates
obtain=(obtain --challenge dns-persist-01)
if [[ " $PEBBLE_FEATURES " == *" dns-persist "* ]]; then
    run "${obtain[@]}" "${where[@]}" a.test
    is "a certificate by it" "$rc" 0
    fails "a name without a record: exit code 6, and the CA is not asked" 6 \
        '_validation-persist\.b\.a\.test: .*has no such record' cm "${obtain[@]}" "${where[@]}" b.a.test
    fails "nothing looked up: the CA says no" 4 'its --verify tells' \
        cm "${obtain[@]}" --no-dns-check b.a.test
    set_txt w.a.test "$(value_of w.a.test --wildcard --until 1d)"
    run "${obtain[@]}" "${where[@]}" --san w.a.test '*.w.a.test'
    is "a wildcard, without a DNS provider" "$rc" 0
    printf 'server 127.0.0.1 %s\nupdate add _validation-persist.c.a.test 1 CNAME p.acme.test.\nsend\n%s\nsend\n' \
        "$BIND_PORT" "update add p.acme.test 1 TXT \"$(value_of c.a.test)\"" | nsupdate -k "$BIND_KEY"
    run "${obtain[@]}" "${where[@]}" c.a.test
    is "where a CNAME leads" "$rc" 0
    run renew --force --challenge dns-persist-01 "${where[@]}" a.test
    is "renewed, and nothing in DNS has changed" "$rc" 0
else
    fails "a CA without this challenge: exit code 4" 4 'offers no dns-persist-01' \
        cm "${obtain[@]}" "${where[@]}" a.test
fi
is "nothing is noted to be taken down" "$(cm storage ls -r certmesh/dns 2>/dev/null | wc -l)" 0

tap_done
