#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# certmesh-storage-test itself: storages that are right pass, what is there stays, and each fault
# is found. Arguments: the program, the plugin with the faults, the one of a fleet that migrates.
# shellcheck source=tests/util/tap.sh
. "$(dirname "$0")/../../util/tap.sh"

kit=$1
wrong=$2
mixed=$3
work=$(mktemp -d "$( [ -w /dev/shm ] && echo /dev/shm || echo /tmp)/certmesh-kit.XXXXXX")
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work

check "memory passes" "$kit" --quick memory:
like "and says which tests need processes" "$("$kit" --only history/ memory:)" '# SKIP no other process'

mkdir -p "$work/s/certificates"
echo mine >"$work/s/certificates/mine"
check "file storage passes, beside what is there" "$kit" --quick "file:$work/s"
is "what was there is untouched" "$(cat "$work/s/certificates/mine")" mine
is "of the tests no value is left" "$(cd "$work/s" && find . -type f ! -path './certmesh/*')" ./certificates/mine
fails "--whole wants an empty place" 2 'is not empty' "$kit" --whole "file:$work/s"
is "and touches nothing else" "$(cat "$work/s/certificates/mine")" mine
check "--whole in an empty one" "$kit" --quick --whole "file:$work/empty"
is "and it is empty again" "$(cd "$work/empty" && find . -type f ! -path './certmesh/*')" ""
is "histories do not stay" "$(find "$work" -maxdepth 1 -name 'certmesh-storage-test-*')" ""

fails "no URL" 2 'which storage' "$kit"
fails "an empty URL" 2 'URL is empty' "$kit" ""
fails "unknown scheme" 2 'cannot open it: unknown storage scheme' "$kit" nosuch:x
fails "unknown option" 2 'not known' "$kit" --quik memory:
fails "a seed that is none" 2 'no number' "$kit" --seed x memory:
fails "no such test" 2 'no test is called like' "$kit" --only nosuch memory:
fails "no such plugin" 2 'nosuch.so' "$kit" --plugin ./nosuch.so:open memory:
fails "no such symbol" 2 'nosuch' "$kit" --plugin "$wrong:nosuch" memory:
is "--only may be repeated, --skip takes away" \
    "$("$kit" --only commit/ --only lock/fences --skip needs --json memory: | grep -c '"result": "passed"')" 6
check "--help" "$kit" --help
like "--json is one document" "$("$kit" --only commit/ --json memory: |
    python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["n_run"], d["n_failed"], d["backend"])')" '^6 0 memory$'

check "a plugin that is right passes" "$kit" --quick --plugin "$wrong:open_right" memory:x

# Two storages as one keep the contract of one; and among processes that know only the old one.
check "a storage that migrates passes" "$kit" --quick "migrate:?from=file:$work/m1&to=file:$work/m2"
mkdir "$work/mix"
check "one half of all processes migrates: no lost update, no two holders" \
    "$kit" --quick --only history/ --plugin "$mixed:open_mixed" "$work/mix"
check "and among threads and processes otherwise" \
    "$kit" --quick --only lock/ --plugin "$mixed:open_mixed" "$work/mix"

found() { # FAULT URL TEST: only this test, and it fails
    fails "found: $1" 1 "^not ok .*$3" "$kit" --quick --only "$3" --plugin "$wrong:open_$1" "$2"
}
# A history meets a fault by chance, and on a busy machine it is a short one: it has several tries.
found_by_chance() { # FAULT URL TEST
    local try out
    for try in 1 2 3 4 5 6 7 8; do
        out=$("$kit" --quick --only "$3" --plugin "$wrong:open_$1" "$2.$try")
        if grep -q "^not ok .*$3" <<<"$out"; then
            tap_result 0 "found: $1, by a history"
            return
        fi
    done
    tap_result 1 "found: $1, by a history" "$out"
}
found torn_store memory:x readers_see_whole_values
found vague_load memory:x load_of_absent_key_is_notfound
found greedy_remove memory:x but_not_the_neighbours
found short_list memory:x very_many_keys_are_complete
found unlock_by_name memory:x its_old_holder_harms_nobody
found same_fence memory:x fences_grow
found own_clock "file:$work/clock" wall_clocks_that_disagree
found_by_chance own_clock "file:$work/clock2" histories_of_hosts_whose_clocks
found unfenced_commit memory:x commit_needs_the_lock
found single_commit memory:x commit_that_cannot_do_one_thing_does_nothing
found_by_chance unfenced_commit "file:$work/unfenced" histories_of_processes
found_by_chance single_commit "file:$work/single" histories_of_processes

tap_done
