#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What the release build of each compiler has against attackers who found a bug: seen in the
# program, the library and every object. And that the one who looks would see what is missing.
. "$(dirname "$0")/../common.sh"

builds=("$(dirname "$(dirname "$CERTMESH")")")
look=$root/tests/util/hardening

# The other compiler. Its directory stays, as that of ./dev build does: later runs have little to do.
other=$root/build-clang-release
if [ ! -f "$other/build.ninja" ]; then
    CC=clang meson setup "$other" "$root" --buildtype=release -Dtests=false -Dcli=true \
        >"$work/setup" 2>&1 || tail -n 20 "$work/setup"
fi
meson compile -C "$other" >"$work/build" 2>&1
report $? "the release build by clang fails: $(tail -n 20 "$work/build")"
builds+=("$other")

for build in "${builds[@]}"; do
    out=$("$look" "$build")
    report $? "$out"
    tail -n 1 <<<"$out"
done
for compiler in gcc clang; do
    out=$("$look" --self-test $compiler)
    report $? "$out"
    echo "$out"
done
finish
