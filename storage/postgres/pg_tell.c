/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

/* Telling the others. A transaction that notifies holds a lock of the whole server from before it
 * is flushed until it has ended, so all who notified with their changes came one after the other,
 * of all databases. In a transaction of its own, which writes nothing and so waits for no disk,
 * that takes no time. Who dies in between has told nobody: it is a hint. */

#define LIMIT_NS (2 * CM_NS_PER_S) /* the change is done: nobody waits longer for this */

void pg_tell(struct pg_storage *s, const struct cm_op *op, const char *kind,
             const char *const *names, size_t n)
{
    CM_AUTO_BUF struct cm_buf list =
        CM_BUF_INIT(CM_COMMIT_MAX * (2u * CM_STORAGE_KEY_MAX + 4u) + 2u * CM_LOCK_NAME_MAX + 8u);
    struct cm_op within = cm_op_within(op, LIMIT_NS);
    struct pg_args args = { .n = 0 };
    struct pg_question q = { "tell of", names[0],
                             "SELECT count(@n$1::text || ' ' || k)) FROM unnest($2::text[]) k",
                             &args, true };
    PG_AUTO_RESULT PGresult *res = NULL;
    struct cm_err err = CM_ERR_INIT;
    cm_status rc;

    if (!s->options.feed)
        return;
    rc = pg_array(names, n, &list, &err);
    (void)pg_arg_text(&args, kind);
    (void)pg_arg_text(&args, cm_buf_str(&list));
    if (rc == CM_OK)
        rc = pg_ask(s, &within, &q, &res, NULL, &err);
    if (rc != CM_OK)
        cm_logf(&s->log, CM_LOG_DEBUG, "not_told", NULL, 0, "%s", err.msg);
}
