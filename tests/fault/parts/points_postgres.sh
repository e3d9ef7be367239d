#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# kill -9 and failing calls wherever a command talks with PostgreSQL: see tests/fault/fleet_points.sh.
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../fleet_points.sh"

fleet_points postgres
finish
