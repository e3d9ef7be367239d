#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A CA that answers wrongly: each kind of request that the client makes, with every wrong answer we
# could think of, by way of a proxy before a real Pebble. After each the old pair is intact, nothing
# is left over or written elsewhere, memory stays flat, and once the CA behaves a rerun succeeds.
. "$(dirname "$0")/../common.sh"

# No waiting, no random refusals: what is wrong here is wrong by intent.
vars=$(LAB_OWNER=$$ LAB_NONCEREJECT=0 LAB_ALWAYS_VALID=1 LAB_ALTERNATE_ROOTS=1 \
    "$root/tests/util/lab" up "$work/lab") || { echo "fault: no CA to test against" >&2; exit 1; }
at_exit "$root/tests/util/lab" down "$work/lab"
eval "$vars"

suppressions=
[ ! -f "$root/tests/util/lsan.supp" ] || suppressions=:suppressions=$root/tests/util/lsan.supp
sampled=()
[ "$mode" = full ] || sampled=(--sampled)
pebble=${ACME_DIR#https://}
export PYTHONDONTWRITEBYTECODE=1 # nothing is left in the tree
python3 "$here/hostile/run.py" --asan "$CERTMESH_ASAN" --release "$CERTMESH" \
    --strace "$(command -v strace)" --pebble "${pebble%/dir}" --trust "$LAB_CA" \
    --server-cert "$LAB_DIR/srv.pem" --server-key "$LAB_DIR/srv.key" \
    --suppressions "$suppressions" "${sampled[@]}" ${HOSTILE_ONLY:+--only "$HOSTILE_ONLY"} |
    tee "$work/out" | grep --line-buffered -v '^counts:'
rc=${PIPESTATUS[0]}
read -r _ passed failed < <(grep '^counts:' "$work/out") || { passed=0 failed=1; }
[ "$rc" = 0 ] || [ "$failed" != 0 ] || failed=1
finish
