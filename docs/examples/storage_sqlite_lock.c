/* SPDX-License-Identifier: Apache-2.0 */
#include "storage_sqlite.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Locks of the example backend: a row for each name, which stays for ever, since it holds the
 * fence. Leases run by the monotonic clock, which all processes of a host share and nobody sets. It
 * begins anew with the kernel, so the row says which boot it means; after another, no holder is
 * alive. */

static cm_status lost(const struct cm_grant *grant, struct cm_err *err)
{
    return cm_fail(err, CM_E_LOCK_LOST, "lock '%s' (fence %llu) is not held any more", grant->name,
                   (unsigned long long)grant->fence);
}

/* Within a transaction: a lease that ran out but was taken by nobody is still held. */
cm_status sq_check_grant(struct conn *c, const struct cm_grant *grant, struct cm_err *err)
{
    sqlite3_stmt *q = NULL;
    bool held = false;
    cm_status rc =
        sq_prepare(c, "SELECT 1 FROM lock WHERE name = ? AND token = ? AND fence = ?", &q, err);

    if (rc != CM_OK)
        return rc;
    (void)sqlite3_bind_text(q, 1, grant->name, -1, SQLITE_STATIC);
    (void)sqlite3_bind_text(q, 2, grant->token, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(q, 3, (int64_t)grant->fence);
    rc = sq_finish(c, q, &held, grant->name, err);
    return rc != CM_OK || held ? rc : lost(grant, err);
}

/* Fence and remaining time of a lock; *ret_left_ns <= 0: free. */
static cm_status look(struct sqlite_storage *s, struct conn *c, const char *name,
                      int64_t *ret_fence, int64_t *ret_left_ns, struct cm_lock_info *info,
                      struct cm_err *err)
{
    sqlite3_stmt *q = NULL;
    cm_status rc = sq_prepare(c,
                              "SELECT fence, until, holder, since, refreshed, "
                              "token IS NOT NULL AND boot = ? FROM lock WHERE name = ?",
                              &q, err);
    int got;

    *ret_fence = 0;
    *ret_left_ns = 0;
    if (rc != CM_OK)
        return rc;
    (void)sqlite3_bind_text(q, 1, s->boot, -1, SQLITE_STATIC);
    (void)sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
    got = sqlite3_step(q);
    if (got == SQLITE_ROW) {
        const char *holder = (const char *)sqlite3_column_text(q, 2);

        *ret_fence = sqlite3_column_int64(q, 0);
        if (sqlite3_column_int(q, 5) != 0)
            *ret_left_ns = sqlite3_column_int64(q, 1) - s->env->mono_ns(s->env);
        if (info != NULL) {
            (void)snprintf(info->holder, sizeof info->holder, "%s", holder != NULL ? holder : "");
            info->since_ns = sqlite3_column_int64(q, 3);
            info->refreshed_ns = sqlite3_column_int64(q, 4);
        }
    } else if (got != SQLITE_DONE) {
        rc = sq_failed(c, name, err);
    }
    (void)sqlite3_finalize(q);
    return rc;
}

static cm_status grant_row(struct sqlite_storage *s, struct conn *c, const struct cm_grant *g,
                           int64_t ttl_ns, struct cm_err *err)
{
    char holder[64];
    sqlite3_stmt *q = NULL;
    cm_status rc =
        sq_prepare(c, "INSERT OR REPLACE INTO lock VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", &q, err);

    if (rc != CM_OK)
        return rc;
    (void)snprintf(holder, sizeof holder, "process %ld", (long)getpid());
    (void)sqlite3_bind_text(q, 1, g->name, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(q, 2, (int64_t)g->fence);
    (void)sqlite3_bind_text(q, 3, g->token, -1, SQLITE_STATIC);
    (void)sqlite3_bind_text(q, 4, s->boot, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(q, 5, ttl_ns);
    (void)sqlite3_bind_int64(q, 6, s->env->mono_ns(s->env) + ttl_ns);
    (void)sqlite3_bind_text(q, 7, holder, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(q, 8, s->env->wall_ns(s->env));
    (void)sqlite3_bind_int64(q, 9, s->env->wall_ns(s->env));
    return sq_finish(c, q, NULL, g->name, err);
}

cm_status sq_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                      int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                      struct cm_err *err)
{
    struct sqlite_storage *s = sq_of(st);
    struct cm_grant g = *ret; /* the gate has put the name into it */
    uint8_t random[16];
    int64_t fence = 0;
    int64_t left_ns = 0;
    struct conn *c = NULL;
    cm_status rc = s->env->random(s->env, random, sizeof random);

    if (rc != CM_OK)
        return cm_fail(err, rc, "no randomness for the token of lock '%s'", name);
    for (size_t i = 0; i < sizeof random; i++)
        (void)snprintf(g.token + 2 * i, 3, "%02x", random[i]);
    rc = sq_take(s, op, &c, err);
    if (rc != CM_OK)
        return rc;
    rc = sq_run(c, "BEGIN IMMEDIATE", err);
    if (rc == CM_OK)
        rc = look(s, c, name, &fence, &left_ns, NULL, err);
    if (rc == CM_OK && left_ns > 0) {
        *ret_wait_ns = left_ns < 20 * CM_NS_PER_MS ? left_ns : 20 * CM_NS_PER_MS;
        rc = cm_fail(err, CM_E_BUSY, "lock '%s' is held by another", name);
    }
    g.fence = (uint64_t)fence + 1;
    if (rc == CM_OK)
        rc = grant_row(s, c, &g, ttl_ns, err);
    if (rc == CM_OK)
        rc = sq_run(c, "COMMIT", err);
    sq_give_back(s, c);
    if (rc == CM_OK)
        *ret = g;
    return rc;
}

/* One UPDATE of the row while it is this grant's; no row: the lock is lost. */
static cm_status update_row(struct cm_storage *st, const struct cm_op *op, const char *sql,
                            const struct cm_grant *grant, struct cm_err *err)
{
    struct sqlite_storage *s = sq_of(st);
    sqlite3_stmt *q = NULL;
    struct conn *c = NULL;
    cm_status rc = sq_take(s, op, &c, err);

    if (rc != CM_OK)
        return rc;
    rc = sq_prepare(c, sql, &q, err);
    if (rc == CM_OK) {
        (void)sqlite3_bind_text(q, 1, grant->name, -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(q, 2, grant->token, -1, SQLITE_STATIC);
        (void)sqlite3_bind_int64(q, 3, (int64_t)grant->fence);
        (void)sqlite3_bind_int64(q, 4, s->env->mono_ns(s->env));
        (void)sqlite3_bind_int64(q, 5, s->env->wall_ns(s->env));
        rc = sq_finish(c, q, NULL, grant->name, err);
    }
    if (rc == CM_OK && sqlite3_changes(c->db) != 1)
        rc = lost(grant, err);
    sq_give_back(s, c);
    return rc;
}

cm_status sq_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                     struct cm_err *err)
{
    return update_row(st, op,
                      "UPDATE lock SET until = ?4 + ttl, refreshed = ?5 "
                      "WHERE name = ?1 AND token = ?2 AND fence = ?3",
                      grant, err);
}

cm_status sq_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                    struct cm_err *err)
{
    return update_row(st, op,
                      "UPDATE lock SET token = NULL, until = ?4, refreshed = ?5 "
                      "WHERE name = ?1 AND token = ?2 AND fence = ?3",
                      grant, err);
}

cm_status sq_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                       struct cm_lock_info *ret, struct cm_err *err)
{
    int64_t fence = 0;
    int64_t left_ns = 0;
    struct conn *c = NULL;
    cm_status rc = sq_take(sq_of(st), op, &c, err);

    if (rc != CM_OK)
        return rc;
    rc = look(sq_of(st), c, name, &fence, &left_ns, ret, err);
    sq_give_back(sq_of(st), c);
    if (rc == CM_OK && left_ns <= 0)
        rc = cm_fail(err, CM_E_NOTFOUND, "nobody holds the lock '%s'", name);
    return rc;
}
