#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Holders that are stopped or killed, races and histories on Redis: see tests/fault/fleet.sh.
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../fleet.sh"

fleet_faults redis
finish
