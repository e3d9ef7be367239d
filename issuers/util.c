/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

struct cm_op issuer_cleanup_op(const struct cm_op *op)
{
    struct cm_op detached = { cm_op_env(op), 0, NULL };
    return cm_op_within(&detached, 5 * CM_NS_PER_S);
}
