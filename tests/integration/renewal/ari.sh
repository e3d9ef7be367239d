#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# ari.sh PROGRAM: test_ari_pebble against a Pebble of its own. TAP on stdout.
# shellcheck disable=SC1091,SC2154
set -u
here=$(cd "$(dirname "$0")" && pwd)
lab=$here/../../util/lab
work=$(mktemp -d) || exit 1
cleanup() {
    [ ! -d "$work/lab" ] || "$lab" down "$work/lab"
    rm -rf "$work"
}
trap cleanup EXIT

rc=0
env LAB_NONCEREJECT=5 LAB_RETRY_AFTER=0 LAB_OWNER=$$ "$lab" up "$work/lab" >"$work/env" || rc=$?
if [ $rc = 77 ]; then
    echo "1..0 # SKIP Pebble is not installed"
    exit 0
elif [ $rc != 0 ]; then
    echo "Bail out! Pebble did not start"
    exit 1
fi
. "$work/env"
echo "# Pebble has: ${PEBBLE_FEATURES:-nothing new}"
CK_VERBOSITY=silent CK_TAP_LOG_FILE_NAME=- "$1"
