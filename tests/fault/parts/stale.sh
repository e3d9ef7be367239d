#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Eight processes want the lock of a holder that was killed, at the same moment: one gets it.
. "$(dirname "$0")/../common.sh"

fresh_storage
out=$(timeout -k 5 600 "$FAULT_TOOLS/stale_race" "$storage" "$(sample 1000 50)")
report $? "stale lock: $out"
echo "stale: 8 processes on the lock of a dead one: $out"

# A detector that cannot fail proves nothing.
fresh_storage
! out=$("$FAULT_TOOLS/stale_race" "$storage" 3 apart)
report $? "negative control: eight winners were not noticed: $out"

finish
