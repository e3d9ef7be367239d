# SPDX-License-Identifier: Apache-2.0
# What the tests of the life of certificates share, beyond those that issue one.
# shellcheck shell=bash
# shellcheck source=tests/integration/issue/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../issue/common.sh"

ocsp_ctl() { # QUERY: tell the responder, see tests/util/ocspd
    curl -s -f -d '' "$OCSP_URL/ctl?$1" >/dev/null || echo "Bail out! the responder does not take $1"
}

ocsp_state() { # EXPRESSION over its report d
    curl -s "$OCSP_URL/ctl" | python3 -c 'import json, sys
d = json.load(sys.stdin)
print(eval(sys.argv[1]))' "$1"
}
