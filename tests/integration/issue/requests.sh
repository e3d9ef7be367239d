#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How many requests a certificate costs: counted in the CA's own log.
. "$(dirname "$0")/common.sh"

lab_up count LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0 LAB_RETRY_AFTER=0
export STORE=count

looks() { # at orders: how many it takes until one is ready depends on how busy the machine is
    grep -c '/my-order/ -> calling handler' "$PEBBLE_LOG"
}

before=$(requests) looked=$(looks)
check "cold: account and certificate" cm obtain cold.a.test --challenge http-01
cold=$(($(requests) - before)) looked=$(($(looks) - looked))
echo "# cold $cold requests, $looked of them looks at the order"
is "cold: directory, nonce, account, and 5 beside the looks at the order" $((cold - looked)) 8
at_most "cold: two looks at the order, a few more on a busy machine" "$looked" 5

# Warm: the account is in storage, the directory and the first nonce are this process's own.
before=$(requests)
names=$(seq -f 'w%g.a.test' 1 20)
# shellcheck disable=SC2086
check "20 names with a known account" cm obtain $names --challenge http-01
warm=$(($(requests) - before))
echo "# cold $cold requests, 20 warm names $warm requests"
# 7 each: newOrder, authorization, challenge, order, finalize, order, certificate; the directory and
# at most some nonces once; the CA may need a second look at an order.
at_most "20 names: at most 7 requests each, the directory, and a few spare" "$warm" $((20 * 7 + 21))

before=$(requests)
is "asked again, nothing is due" "$(cm obtain w1.a.test >/dev/null 2>&1; echo $?)" 0
is "and the CA is not asked at all" "$(($(requests) - before))" 0
tap_done
