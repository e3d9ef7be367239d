#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What happens around an order: accounts, a CA that lost its state, an interrupted order resumed.
. "$(dirname "$0")/common.sh"

lab_up first NONCEREJECT=0 AUTHZREUSE=0
export STORE=life

fails "no account is shown before there is one" 1 'no account' cm account show
check "register" cm account register
like "the account is valid" "$(cm account show 2>&1)" 'valid'
is "registering again keeps it" "$(cm account register >/dev/null 2>&1; find "$work/life/acme" -name '*.key' | wc -l)" 1
check "obtain with it" cm obtain a1.a.test
is "still one account" "$(find "$work/life/acme" -name '*.key' | wc -l)" 1
check "update the contact" env EMAIL=new@a.test bash -c '"$@"' _ \
    "$CERTMESH" account update --storage "file://$work/life" --ca "$ACME_DIR" --ca-root "$LAB_CA" --email new@a.test
like "the new contact shows" "$(EMAIL=new@a.test cm account show 2>&1)" 'new@a.test'

# The CA is replaced by one that knows nothing: same address, new roots, no accounts.
acme_dir=$ACME_DIR
"$here/tests/util/lab" down "$work/first" >/dev/null
lab_up second NONCEREJECT=0 AUTHZREUSE=0 ACME_PORT="${acme_dir//[!0-9]/ }"
if [ "$ACME_DIR" = "$acme_dir" ]; then
    check "a CA that lost its accounts: registered again, certificate obtained" env EMAIL=new@a.test \
        bash -c '"$@"' _ "$CERTMESH" obtain a2.a.test --storage "file://$work/life" --ca "$ACME_DIR" \
        --ca-root "$LAB_CA" --email new@a.test --agree --listen 127.0.0.1 --http-port "$HTTP01_PORT" \
        --tls-port "$TLSALPN_PORT"
    check "the pair is good" pair_is_good a2.a.test
else
    tap_result 1 "the lab can be started again on the same address" "$ACME_DIR, wanted $acme_dir"
fi

# Killed while the order is open: the next run resumes it, no second order.
lab_up third NONCEREJECT=0 AUTHZREUSE=0
export STORE=resume
check "account first" cm account register
kill -STOP "$(pgrep -f "$work/third" | head -n 1)" 2>/dev/null || true
kill -CONT "$(pgrep -f "$work/third" | head -n 1)" 2>/dev/null || true
before=$(orders)
(cm obtain r1.a.test >"$work/r1.log" 2>&1) &
runner=$!
if wait_for 10 test -n "$(:; find "$work/resume/certmesh/journal" -type f 2>/dev/null)"; then :; fi
for _ in $(seq 400); do
    [ -n "$(find "$work/resume/certmesh/journal" -type f 2>/dev/null)" ] && break
    sleep 0.005
done
pkill -KILL -P "$runner" 2>/dev/null
kill -KILL "$runner" 2>/dev/null
wait "$runner" 2>/dev/null
check "the plain rerun succeeds" cm obtain r1.a.test
check "the pair is good" pair_is_good r1.a.test
at_most "and costs no second order" "$(($(orders) - before))" 1
check "deactivate the account" cm account deactivate --yes
fails "a deactivated account is not used" 1 'no account|not registered|deactivated' cm account show
tap_done
