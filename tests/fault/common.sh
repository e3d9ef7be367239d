# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For the parts of ./dev fault: a folder that goes away, counting, a fresh storage.
# shellcheck disable=SC2034
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
: "${CERTMESH:?use ./dev fault}" "${CERTMESH_ASAN:?use ./dev fault}" "${FAULT_TOOLS:?use ./dev fault}"
mode=${CM_FAULT_MODE:-full}
work=$(mktemp -d "${TMPDIR:-/tmp}/cm-fault.XXXXXX")
passed=0 failed=0 stores=0
# What a part has to undo, in reverse order, whatever ends it: at_exit COMMAND...
undo=()

at_exit() {
    undo+=("$(printf '%q ' "$@")")
}

leave() {
    local i
    for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
        eval "${undo[i]}"
    done
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 143' INT TERM

sample() { # FULL SAMPLE: the number that fits the mode
    [ "$mode" = full ] && echo "$1" || echo "$2"
}

report() { # RC TEXT
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
    fi
}

# A storage of its own for each call: the URL is in $storage, and where it is one of files, the
# folder in $store. CM_FAULT_PLACE is a program that makes one of the name it is given, for storages
# where a place is more than the end of a URL.
fresh_storage() {
    stores=$((stores + 1))
    if [ -n "${CM_FAULT_PLACE:-}" ]; then
        store=
        storage=$("$CM_FAULT_PLACE" "$(basename "$work" | tr 'A-Z.-' 'a-z__')_${BASHPID}_$stores") ||
            report 1 "no place in the storage"
    elif [ -z "${CM_FAULT_STORAGE:-}" ]; then
        store=$work/store.$stores
        mkdir -m 700 "$store"
        storage=file://$store
    else
        store=
        storage=${CM_FAULT_STORAGE%/}/$(basename "$work").$stores
    fi
}

# The last line of each part.
finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
    exit
}
