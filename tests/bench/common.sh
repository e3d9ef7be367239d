# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For the parts of ./dev bench: a folder that goes away, sizes by mode, rows of a table.
# shellcheck disable=SC2034
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
: "${CERTMESH:?use ./dev bench}" "${BENCH_TOOLS:?use ./dev bench}"
mode=${CM_BENCH_MODE:-short}
work=$(mktemp -d "${TMPDIR:-/tmp}/cm-bench.XXXXXX")
# What a part has to undo, in reverse order, whatever ends it: at_exit COMMAND...
undo=()

at_exit() {
    undo+=("$(printf '%q ' "$@")")
}

leave() {
    local i
    for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
        eval "${undo[i]}" || true
    done
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 143' INT TERM

pick() { # SMOKE SHORT FULL: what fits the mode
    case $mode in
    smoke) echo "$1" ;;
    full) echo "$3" ;;
    *) echo "$2" ;;
    esac
}

# A table: what, the limit or the peer, ours, ours by theirs, the aim.
head_row() { # UNIT
    printf '%-40s %12s %12s %8s   %s\n' "$1" limit/peer ours ratio aim
}
row() { # WHAT THEIRS OURS RATIO AIM
    printf '%-40s %12s %12s %8s   %s\n' "$@"
}

calc() { # EXPRESSION [FORMAT]
    awk "BEGIN { printf \"${2:-%.2f}\", $1 }"
}

die() {
    echo "bench: $*" >&2
    exit 1
}
