#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The example backend keeps the contract. Arguments: certmesh-storage-test, the plugin.
# shellcheck source=tests/util/tap.sh
. "$(dirname "$0")/../../util/tap.sh"

kit=$1
plugin=$2
if [ "$plugin" = missing ]; then
    echo "1..0 # SKIP needs sqlite3 (libsqlite3-dev)"
    [ -z "${CI:-}${CM_REQUIRE:-}" ] || exit 1
    exit 77
fi
work=$(mktemp -d "$( [ -w /dev/shm ] && echo /dev/shm || echo /tmp)/certmesh-sqlite.XXXXXX")
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work

check "the contract" "$kit" --quick --plugin "$plugin:sqlite_storage_open" "sqlite:$work/s.db"
check "and with the longest keys" "$kit" --quick --whole --only storage/ \
    --plugin "$plugin:sqlite_storage_open" "$work/w.db"
is "the file is for its owner alone" "$(stat -c %a "$work/s.db")" 600
fails "a place that is none" 2 'No such file or directory' \
    "$kit" --plugin "$plugin:sqlite_storage_open" "$work/no/such/s.db"

tap_done
