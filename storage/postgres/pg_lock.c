/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A lock is a row of CertMagic's table, held until `expires` by the clock of the server. Who holds
 * it is told by a row of ours, which has the same `expires`: where the two differ, a peer has taken
 * the lock, and where there is no row in theirs, it was given back.
 *
 * Statements on a lock begin with the row in CertMagic's table, so they come one after the other.
 * One that had to wait sees that row as it is now, and ours as it was before: an answer of "not
 * ours" is therefore asked for a second time. */

#define LOOKS         3
#define WAIT_MAX_NS   (200 * CM_NS_PER_MS) /* peers tell nobody when they are done */
#define FORGET_ONE_IN 256u

cm_status pg_lost(const struct cm_grant *grant, struct cm_err *err)
{
    return cm_fail(err, CM_E_LOCK_LOST, "lock '%s' (fence %llu) is not held any more", grant->name,
                   (unsigned long long)grant->fence);
}

/* The fence is one more than the last, and never less than the microseconds of the server: so it
 * grows even if somebody empties our table. The same token once more is the same attempt, whose
 * first answer was lost. */
#define TTL "$2::bigint * interval '1 microsecond'"
static const char try_sql[] =
    "WITH peer AS ("
    " INSERT INTO @l AS l (key, expires) VALUES ($1::text, clock_timestamp() + " TTL ")"
    " ON CONFLICT (key) DO UPDATE SET expires = clock_timestamp() + " TTL
    " WHERE l.expires IS NULL OR l.expires <= clock_timestamp() OR EXISTS (SELECT FROM @o m"
    "  WHERE m.key = l.key AND m.token = $3::text AND m.expires = l.expires)"
    " RETURNING expires"
    "), own AS ("
    " INSERT INTO @o AS m (key, token, fence, commits, holder, since, refreshed, expires)"
    " SELECT $1::text, $3::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 0,"
    "  $4::text, expires - " TTL ", expires - " TTL ", expires FROM peer"
    " ON CONFLICT (key) DO UPDATE SET token = excluded.token,"
    "  fence = greatest(m.fence + 1, excluded.fence), commits = 0, holder = excluded.holder,"
    "  since = excluded.since, refreshed = excluded.refreshed, expires = excluded.expires"
    " RETURNING fence) "
    "SELECT fence, 0::bigint FROM own UNION ALL "
    "SELECT NULL, (extract(epoch FROM expires - clock_timestamp()) * 1000000)::bigint FROM @l"
    " WHERE key = $1::text AND NOT EXISTS (SELECT FROM own)";

/* Rows of locks that nobody has wanted for a month. Now and then, and not for the caller to fail
 * by. */
static void forget_old(struct pg_storage *s, const struct cm_op *op)
{
    struct pg_args args = { .n = 0 };
    struct pg_question q = {
        "tidy", "locks", "DELETE FROM @o WHERE expires < clock_timestamp() - interval '30 days'",
        &args, true
    };
    PG_AUTO_RESULT PGresult *res = NULL;

    cm_status rc = pg_ask(s, op, &q, &res, NULL, NULL);

    (void)rc;
}

cm_status pg_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                      int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                      struct cm_err *err)
{
    struct pg_storage *s = pg_of(st);
    struct pg_args args = { .n = 0 };
    struct pg_question q = { "lock", name, try_sql, &args, true };
    PG_AUTO_RESULT PGresult *res = NULL;
    char host[CM_HOST_NAME_BUF];
    char holder[128];
    char token[sizeof ret->token];
    int64_t left_us = 0;
    cm_status rc = cm_random_hex(s->env, 16, token, err);

    if (rc != CM_OK)
        return rc;
    cm_host_name(host);
    (void)snprintf(holder, sizeof holder, "host %s, process %ld", host, (long)getpid());
    (void)pg_arg_text(&args, name);
    (void)pg_arg_number(&args, ttl_ns >= 1000 ? ttl_ns / 1000 : 1);
    (void)pg_arg_text(&args, token);
    (void)pg_arg_text(&args, holder);
    rc = pg_ask(s, op, &q, &res, NULL, err);
    if (rc != CM_OK)
        return rc;
    if (PQntuples(res) > 0 && !PQgetisnull(res, 0, 0)) {
        memcpy(ret->token, token, sizeof token);
        ret->fence = (uint64_t)pg_int(res, 0, 0);
        return CM_OK;
    }
    if (PQntuples(res) > 0)
        left_us = pg_int(res, 0, 1);
    *ret_wait_ns = left_us > 0 && left_us < WAIT_MAX_NS / 1000 ? left_us * 1000 : WAIT_MAX_NS;
    return cm_fail(err, CM_E_BUSY, "lock '%s' is held by another", name);
}

/* Ask up to LOOKS times, until a row comes. The arguments are the grant's, and one more number. */
static cm_status ask_as_holder(struct pg_storage *s, const struct cm_op *op, const char *what,
                               const char *sql, const struct cm_grant *grant, int64_t number,
                               bool *ret_row, bool *ret_unknown, struct cm_err *err)
{
    struct pg_args args = { .n = 0 };
    struct pg_question q = { what, grant->name, sql, &args, true };
    cm_status rc = CM_OK;
    bool unknown = false;

    (void)pg_arg_text(&args, grant->name);
    (void)pg_arg_text(&args, grant->token);
    (void)pg_arg_number(&args, (int64_t)grant->fence);
    (void)pg_arg_number(&args, number);
    *ret_row = false;
    *ret_unknown = false;
    for (int i = 0; i < LOOKS && rc == CM_OK && !*ret_row; i++) {
        PG_AUTO_RESULT PGresult *res = NULL;

        rc = pg_ask(s, op, &q, &res, &unknown, err);
        *ret_row = rc == CM_OK && PQntuples(res) > 0;
        *ret_unknown = *ret_unknown || unknown;
    }
    return rc;
}

/* A lease that ran out but was taken by nobody is still ours: what counts is whether somebody else
 * may have acted. */
#define IS_OURS                                                                                    \
    "l.key = $1::text AND m.key = $1::text AND m.token = $2::text AND m.fence = $3::bigint"        \
    " AND l.expires = m.expires"

static const char refresh_sql[] =
    "WITH peer AS ("
    " UPDATE @l l SET expires = clock_timestamp() + $4::bigint * interval '1 microsecond'"
    " FROM @o m WHERE " IS_OURS " RETURNING l.expires) "
    "UPDATE @o m SET expires = peer.expires,"
    " refreshed = peer.expires - $4::bigint * interval '1 microsecond'"
    " FROM peer WHERE m.key = $1::text AND m.token = $2::text RETURNING 1";

cm_status pg_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                     struct cm_err *err)
{
    int64_t us = grant->ttl_ns >= 1000 ? grant->ttl_ns / 1000 : 1;
    bool row;
    bool unknown;
    cm_status rc =
        ask_as_holder(pg_of(st), op, "refresh lock", refresh_sql, grant, us, &row, &unknown, err);

    return rc != CM_OK || row ? rc : pg_lost(grant, err);
}

static const char unlock_sql[] =
    "WITH peer AS ("
    " DELETE FROM @l l USING @o m WHERE " IS_OURS " AND $4::bigint = 0 RETURNING l.key) "
    "UPDATE @o m SET token = '', expires = clock_timestamp() FROM peer"
    " WHERE m.key = peer.key AND m.token = $2::text RETURNING 1";

/* After a lost answer: was it we who gave it back? */
static const char given_back_sql[] =
    "SELECT 1 FROM @o WHERE key = $1::text AND token = '' AND $2::text <> ''"
    " AND fence = $3::bigint AND $4::bigint = 0";

cm_status pg_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                    struct cm_err *err)
{
    struct pg_storage *s = pg_of(st);
    const char *name = grant->name;
    bool row;
    bool unknown;
    bool ignored;
    cm_status rc = ask_as_holder(s, op, "unlock", unlock_sql, grant, 0, &row, &unknown, err);

    if (rc == CM_OK && !row && unknown)
        rc = ask_as_holder(s, op, "unlock", given_back_sql, grant, 0, &row, &ignored, err);
    if (rc != CM_OK)
        return rc;
    if (!row)
        return pg_lost(grant, err);
    pg_tell(s, op, "u", &name, 1);
    if (cm_random_below(s->env, FORGET_ONE_IN) == 0)
        forget_old(s, op);
    return CM_OK;
}

/* ------------------------------------------------------------------- asking */

static const char info_sql[] = "SELECT CASE WHEN m.expires = l.expires THEN m.holder END,"
                               " CASE WHEN m.expires = l.expires THEN m.since END,"
                               " CASE WHEN m.expires = l.expires THEN m.refreshed END"
                               " FROM @l l LEFT JOIN @o m ON m.key = l.key"
                               " WHERE l.key = $1::text AND l.expires > clock_timestamp()";

cm_status pg_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                       struct cm_lock_info *ret, struct cm_err *err)
{
    struct pg_args args = { .n = 0 };
    struct pg_question q = { "ask for lock", name, info_sql, &args, true };
    PG_AUTO_RESULT PGresult *res = NULL;
    struct cm_span holder;
    cm_status rc;

    (void)pg_arg_text(&args, name);
    rc = pg_ask(pg_of(st), op, &q, &res, NULL, err);
    if (rc != CM_OK)
        return rc;
    if (PQntuples(res) == 0)
        return cm_fail(err, CM_E_NOTFOUND, "nobody holds the lock '%s'", name);
    holder = pg_bytes(res, 0, 0);
    if (holder.data == NULL)
        holder = cm_span_str("another node");
    (void)cm_escape((const char *)holder.data, holder.len, ret->holder, sizeof ret->holder);
    ret->since_ns = pg_time_ns(res, 0, 1);
    ret->refreshed_ns = pg_time_ns(res, 0, 2);
    return CM_OK;
}
