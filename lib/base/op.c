/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

const struct cm_env *cm_op_env(const struct cm_op *op)
{
    return op != NULL && op->env != NULL ? op->env : cm_env_system();
}

static int64_t add_clamped(int64_t a, int64_t b)
{
    int64_t sum;

    if (__builtin_add_overflow(a, b, &sum))
        return b > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

/* ns until the deadline, INT64_MAX without one; may be negative. */
static int64_t until_deadline(const struct cm_op *op)
{
    const struct cm_env *env = cm_op_env(op);
    int64_t left;

    if (op == NULL || op->deadline_ns == 0)
        return INT64_MAX;
    if (__builtin_sub_overflow(op->deadline_ns, env->mono_ns(env), &left))
        return op->deadline_ns > 0 ? INT64_MAX : INT64_MIN;
    return left;
}

cm_status cm_op_check(const struct cm_op *op, struct cm_err *err)
{
    if (op == NULL)
        return CM_OK;
    if (cm_cancel_is_fired(op->cancel))
        return cm_fail(err, CM_E_CANCELED, "canceled");
    if (until_deadline(op) <= 0)
        return cm_fail(err, CM_E_TIMEOUT, "deadline passed");
    return CM_OK;
}

int64_t cm_op_remaining_ns(const struct cm_op *op, int64_t cap_ns)
{
    int64_t left = until_deadline(op);

    if (op != NULL && cm_cancel_is_fired(op->cancel))
        return 0;
    if (left > cap_ns)
        left = cap_ns;
    return left > 0 ? left : 0;
}

struct cm_op cm_op_within(const struct cm_op *parent, int64_t timeout_ns)
{
    struct cm_op op = { NULL, 0, NULL };
    int64_t deadline;

    if (parent != NULL)
        op = *parent;
    op.env = cm_op_env(parent);
    deadline = add_clamped(op.env->mono_ns(op.env), timeout_ns);
    if (deadline == 0)
        deadline = -1; /* 0 would mean none; a simulated clock may well stand at 0 */
    if (op.deadline_ns == 0 || deadline < op.deadline_ns)
        op.deadline_ns = deadline;
    return op;
}

cm_status cm_op_wait(const struct cm_op *op, int64_t ns, struct cm_err *err)
{
    const struct cm_env *env = cm_op_env(op);
    int64_t left = until_deadline(op);
    cm_status rc = cm_op_check(op, err);

    if (rc != CM_OK)
        return rc;
    rc = env->wait(env, op != NULL ? op->cancel : NULL, left < ns ? left : ns);
    if (rc == CM_E_CANCELED)
        return cm_fail(err, rc, "canceled");
    if (rc != CM_OK)
        return cm_fail(err, rc, "the environment could not wait");
    if (left < ns)
        return cm_fail(err, CM_E_TIMEOUT, "deadline passed");
    return CM_OK;
}
