#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Redis throws keys away (maxmemory, allkeys-lru): it is warned of at the start, what servers have they
# go on serving, and what is lost is obtained anew or named, never served half. CM_FLEET_FULL=1: more
# rounds.
kind=redis
set -- redis
. "$(dirname "$0")/outage.sh"

fleet_up
backend_ask config set maxmemory-policy allkeys-lru >/dev/null
backend_place evict || { echo "Bail out! no place"; exit 1; }
served_from "$place_url"
for n in 1 2; do
    like "node $n is warned of it" "$(cat "$work/node.$n.log")" 'allkeys-lru.*set noeviction'
done

ours() { # how many keys of the storage there are
    backend_ask --scan --pattern 'evict/*' | grep -c .
}

# Values of others until so many of ours are left, or fewer.
flood() { # KEYS
    local i
    backend_ask config set maxmemory "$(($(backend_ask info memory | tr -d '\r' |
        sed -n 's/^used_memory://p') + 300000))" >/dev/null
    for ((i = 0; i < 400 && $(ours) > $1; i++)); do
        backend_ask eval 'for i = 1, 20 do
            redis.call("set", "flood:" .. ARGV[1] .. ":" .. i, string.rep("x", 4000)) end' 0 "$i" \
            >/dev/null
    done
    backend_ask config set maxmemory 0 >/dev/null
    backend_ask eval 'for _, key in ipairs(redis.call("keys", "flood:*")) do redis.call("del", key) end' \
        0 >/dev/null
}

# A pair that is shown is whole, whatever else is lost: index and all.
whole_pair() { # NAME
    local dir
    dir=certificates/$issuer/$1
    store_tool get "$dir/$1.crt" >"$work/crt" && store_tool get "$dir/$1.key" >"$work/key" &&
        [ "$(openssl x509 -in "$work/crt" -noout -pubkey)" = "$(openssl pkey -in "$work/key" -pubout)" ] &&
        openssl verify -CAfile "$PEBBLE_ROOT" -untrusted "$work/crt" -verify_hostname "$1" "$work/crt"
}
issuer=$(store_tool list | sed -n 's|^certificates/\([^/]*\)/o1.test/.*|\1|p' | head -n 1)

# Directories are thrown away as well, so what there is is not looked for in lists.
stored_serial() { # NAME
    store_tool get "certificates/$issuer/$1/$1.crt" 2>/dev/null | openssl x509 -noout -serial |
        sed 's/^serial=0*//' | tr 'A-F' 'a-f'
}

# ---- everything goes

serial=$(wire_serial o1.test 1)
flood 0
at_most "all thrown away" "$(ours)" 3 # what nodes say of themselves may have come since
keeps "all thrown away" o1.test "$serial" 3
check "all thrown away: certificates" node 0 obtain --quiet "${names[@]}"
for name in "${names[@]}"; do check "all thrown away: $name is whole" whole_pair "$name"; done
recovers "all thrown away" o1.test

# ---- some of it goes, each time something else

rounds=$(size 40 6) lost=0 renewed=0 left_min=999
backend_ask config set maxmemory-policy allkeys-random >/dev/null
for ((round = 0; round < rounds; round++)); do
    had=$(ours)
    began=$(orders)
    flood $((had * (1 + round % 3) / 4))
    left=$(ours)
    lost=$((lost + had - left))
    node 0 obtain --quiet "${names[@]}" >"$work/said" 2>&1
    tap_result $? "round $round: $left of $had keys are left: certificates" "$(cat "$work/said")"
    for name in "${names[@]}"; do check "round $round: $name is whole" whole_pair "$name"; done
    renewed=$((renewed + $(orders) - began))
    at_most "round $round: orders" "$(($(orders) - began))" ${#names[@]}
done
[ $lost -ge $((rounds * 3)) ] && [ $renewed -ge $((rounds / 3)) ]
tap_result $? "keys were lost, and certificates among them" "$lost keys, $renewed orders"
echo "# $rounds rounds: $lost keys were thrown away, $renewed certificates obtained anew"
# What was thrown away of the index is put back, and lists show all of it again. Of what nodes have stored
# a moment ago it does not judge yet, and says so by its exit code.
"$CERTMESH" storage check --repair --storage "$place_url" >"$work/said" 2>&1
[ $? -le 1 ] && grep -q ' findings, ' "$work/said"
tap_result $? "some thrown away: the index is looked at" "$(cat "$work/said")"
is "some thrown away: and lists show every certificate" \
    "$(store_tool list | grep -cE "^certificates/$issuer/(o[123]\.test)/\1\.(crt|key)$")" 6
asked_for=$(orders) # each loss may cost an order
recovers "some thrown away" o2.test
end_outages eviction 0
tap_done
