/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

/* Poll early (a CA that validates at once is done in milliseconds), then ever less often. A CA
 * that says when to come back is obeyed; if that is further off than anyone should hold a thread
 * and an order for, the caller is told instead (CM_E_AGAIN with retry_after_s). */

#define PATIENCE_S 300

/* CM_OK: poll again. CM_E_EXISTS: nothing to wait for any more (never leaves this file). */
static cm_status judge(const struct cm_acme_order *o, bool past_pending, struct cm_err *err)
{
    switch (o->status) {
    case CM_ACME_READY:
    case CM_ACME_VALID:
        return CM_E_EXISTS;
    case CM_ACME_PROCESSING:
        return CM_OK;
    case CM_ACME_PENDING:
        if (past_pending)
            return CM_OK;
        break;
    case CM_ACME_INVALID:
        if (o->error.type[0] != '\0')
            return cm__acme_fail_problem("the order", &o->error, o->error.status, err);
        break;
    case CM_ACME_UNKNOWN:
    case CM_ACME_DEACTIVATED:
    case CM_ACME_REVOKED:
    case CM_ACME_EXPIRED:
        break;
    }
    return cm_fail(err, CM_E_ACME, "the order is %s", cm_acme_status_text(o->status));
}

/* Up to a quarter more, never less: a fleet's polls drift apart, and no poll comes too early. */
static int64_t jittered(const struct cm_op *op, int64_t ns)
{
    uint64_t spread = ns >= 4 ? (uint64_t)ns / 4 : 1;

    return ns + (int64_t)cm_random_below(cm_op_env(op), spread);
}

cm_status cm_acme_order_wait(struct cm_acme *a, const struct cm_op *op,
                             const struct cm_acme_signer *who, struct cm_acme_order *o,
                             bool past_pending, struct cm_err *err)
{
    int64_t step = a->poll_first_ns;

    for (;;) {
        cm_status rc = judge(o, past_pending, err);
        int64_t pause = step;

        if (rc != CM_OK)
            return rc == CM_E_EXISTS ? CM_OK : rc;
        if (o->retry_after_s > 0) {
            int64_t asked = o->retry_after_s * CM_NS_PER_S;

            if (o->retry_after_s > PATIENCE_S || cm_op_remaining_ns(op, INT64_MAX) < asked) {
                int64_t after = o->retry_after_s;

                rc = cm_op_check(op, err);
                if (rc != CM_OK)
                    return rc;
                rc = cm_fail(err, CM_E_AGAIN, "the order is %s; the CA asks to wait %lld s",
                             cm_acme_status_text(o->status), (long long)after);
                if (err != NULL)
                    err->retry_after_s = after;
                return rc;
            }
            if (asked > pause)
                pause = asked;
        }
        rc = cm_op_wait(op, jittered(op, pause), err);
        if (rc == CM_OK)
            rc = cm_acme_order_get(a, op, who, o, err);
        if (rc != CM_OK)
            return rc;
        step = step > a->poll_cap_ns / 2 ? a->poll_cap_ns : step * 2;
    }
}
