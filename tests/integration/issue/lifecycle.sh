#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What happens around an order: accounts, a CA that lost its state, an interrupted order resumed.
. "$(dirname "$0")/common.sh"

lab_up first LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0
export STORE=life

fails "no account is shown before there is one" 7 "no account" cm account show
check "register" cm account register
like "the account is valid" "$(cm account show 2>&1)" 'valid'
is "registering again keeps it" "$(cm account register >/dev/null 2>&1; find "$work/life/acme" -name '*.key' | wc -l)" 1
check "obtain with it" cm obtain a1.a.test
is "still one account" "$(find "$work/life/acme" -name '*.key' | wc -l)" 1
EMAIL=new@a.test
check "update the contact" cm account update
like "the new contact shows" "$(cm account show 2>&1)" 'new@a.test'
is "and it is still one account" "$(find "$work/life/acme" -name '*.key' | wc -l)" 1

# The CA is replaced by one that knows nothing: same address, another root, no accounts.
"$here/tests/util/lab" restart "$LAB_DIR"
check "a CA that lost its accounts: registered again, certificate obtained" cm obtain a2.a.test
check "the pair is good" pair_is_good a2.a.test
is "one account, the new one" "$(find "$work/life/acme" -name '*.key' | wc -l)" 1

check "deactivate the account" cm account deactivate --yes
fails "a deactivated account is not used" 7 "no account" cm account show

# One name of several cannot be validated: the reason is the CA's, and names that name. (Last: an old
# Pebble is not itself after a failed order of several names.)
STORE=partly
curl -s -o /dev/null -d '{"host":"bad.a.test"}' "$CT_MGMT/set-servfail"
fails "an order fails with its name's reason" 4 'bad\.a\.test: http-01 failed' \
    cm obtain --san good1.a.test bad.a.test good2.a.test
is "nothing is stored of it" "$(find "$work/partly" -name '*.crt' | wc -l)" 0
is "no token is left" "$(find "$work/partly/acme" -path '*challenge_tokens*' -type f | wc -l)" 0

# Killed as soon as the order is journalled: the next run resumes it, no second order. This CA finds
# every challenge answered, so that the kill cannot fail a validation.
lab_up resume LAB_NONCEREJECT=0 LAB_ALWAYS_VALID=1
STORE=resume
check "account first" cm account register
journal_is_there() { [ -n "$(find "$work/resume/certmesh/journal" -type f 2>/dev/null)" ]; }
hit=
for i in $(seq 20); do # an issuance takes 30 ms: the kill may come too late
    name=r$i.a.test
    before=$(orders)
    cm obtain "$name" >"$work/$name.log" 2>&1 &
    runner=$!
    for _ in $(seq 1000); do
        journal_is_there && break
        kill -0 "$runner" 2>/dev/null || break
    done
    pkill -KILL -P "$runner" # $runner is a subshell: the command is its child
    wait "$runner" 2>/dev/null
    if [ -z "$(stored "$name" crt)" ] && journal_is_there; then
        hit=yes
        break
    fi
done
is "killed with an order journalled and nothing stored" "$hit" yes
check "the plain rerun succeeds" cm obtain "$name"
check "the pair is good" pair_is_good "$name"
is "and there was one order" "$(($(orders) - before))" 1
is "the journal is gone" "$(find "$work/resume/certmesh/journal" -type f | wc -l)" 0
tap_done
