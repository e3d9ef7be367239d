/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

/* Several values in one statement, which is one transaction and one round trip: the lock's row is
 * locked and looked at, then everything is written or nothing.
 *
 * Commits of a grant are numbered, and the number is part of what is written. So when the answer is
 * lost the same statement can be sent once more: it is carried out once, and an old one that the
 * server comes round to late changes nothing any more. */

#define LOOKS 3

static atomic_int_fast64_t last_number;

/* Both rows are locked, and so both are seen as they are after a refresh that was just under way.
 */
static const char held_sql[] =
    "WITH held AS ("
    " SELECT m.key FROM @l l JOIN @o m ON m.key = l.key"
    " WHERE l.key = $1::text AND m.token = $2::text AND m.fence = $3::bigint"
    "  AND l.expires = m.expires FOR UPDATE OF l, m), ";

static const char free_sql[] = "WITH held AS (SELECT $1::text || $2::text AS key"
                               " WHERE $3::bigint = 0 AND $4::bigint = 0), ";

static const char bad_sql[] =
    "bad AS ("
    " SELECT i.want, d.key FROM item i JOIN @d d ON d.key = ANY(i.parents) WHERE NOT i.gone"
    " UNION ALL"
    " SELECT i.want, n.key FROM item i CROSS JOIN LATERAL (SELECT key FROM @d"
    "  WHERE @t >= translate(i.want, '/', E'\\x01') || E'\\x01'"
    "  AND @t < translate(i.want, '/', E'\\x01') || E'\\x02'"
    "  ORDER BY @t LIMIT 1) n WHERE NOT i.gone), ";

static const char go_held_sql[] =
    "go AS ("
    " UPDATE @o m SET commits = $4::bigint FROM held WHERE m.key = held.key"
    "  AND m.commits < $4::bigint AND NOT EXISTS (SELECT FROM bad) RETURNING m.key), ";

static const char go_free_sql[] =
    "go AS (SELECT key FROM held WHERE NOT EXISTS (SELECT FROM bad)), ";

/* In the order of the keys, so that two commits of the same keys do not block each other. */
static const char do_sql[] =
    "put AS ("
    " INSERT INTO @d (key, value, modified)"
    " SELECT i.want, i.value, clock_timestamp() FROM item i CROSS JOIN go WHERE NOT i.gone"
    " ORDER BY i.want"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, modified = excluded.modified"
    " RETURNING key), "
    "del AS ("
    " DELETE FROM @d d USING item i, go WHERE i.gone AND d.key = i.want RETURNING d.key) "
    "SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM go),"
    " (SELECT want FROM bad LIMIT 1), (SELECT key FROM bad LIMIT 1)";

/* ---------------------------------------------------------------- statement */

/* What the arguments point at. */
struct commit {
    struct cm_buf sql;
    struct cm_buf parents[CM_COMMIT_MAX];
    struct pg_args args;
    int64_t number;
};

static cm_status add_item(struct commit *c, const struct cm_commit_item *item, size_t i,
                          struct cm_err *err)
{
    int key = pg_arg_text(&c->args, item->key);
    int value;
    int parents;
    cm_status rc;

    c->parents[i] = (struct cm_buf)CM_BUF_INIT(512u * 1024);
    rc = item->remove ? cm_buf_puts(&c->parents[i], "{}", err)
                      : pg_parents(item->key, &c->parents[i], err);
    if (rc != CM_OK)
        return rc;
    value = pg_arg_bytes(&c->args, item->remove ? (struct cm_span){ NULL, 0 } : item->value);
    parents = pg_arg_text(&c->args, cm_buf_str(&c->parents[i]));
    return cm_buf_printf(&c->sql, err, "%s($%d::text, $%d::bytea, $%d::text[], %s)",
                         i > 0 ? ", " : "", key, value, parents, item->remove ? "true" : "false");
}

static cm_status make(struct commit *c, const struct cm_grant *grant,
                      const struct cm_commit_item *items, size_t n, struct cm_err *err)
{
    cm_status rc;

    c->sql = (struct cm_buf)CM_BUF_INIT(65536);
    c->number = grant != NULL ? (int64_t)atomic_fetch_add(&last_number, 1) + 1 : 0;
    (void)pg_arg_text(&c->args, grant != NULL ? grant->name : "");
    (void)pg_arg_text(&c->args, grant != NULL ? grant->token : "");
    (void)pg_arg_number(&c->args, grant != NULL ? (int64_t)grant->fence : 0);
    (void)pg_arg_number(&c->args, c->number);
    rc = cm_buf_puts(&c->sql, grant != NULL ? held_sql : free_sql, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&c->sql, "item (want, value, parents, gone) AS (VALUES ", err);
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        rc = add_item(c, &items[i], i, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&c->sql, "), ", err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&c->sql, bad_sql, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&c->sql, grant != NULL ? go_held_sql : go_free_sql, err);
    return rc == CM_OK ? cm_buf_puts(&c->sql, do_sql, err) : rc;
}

static void commit_free(struct commit *c, size_t n)
{
    cm_buf_free(&c->sql);
    for (size_t i = 0; i < n; i++)
        cm_buf_free(&c->parents[i]);
    free(c);
}

/* ------------------------------------------------------------------- answer */

enum outcome { DONE, AGAIN, NOT_HELD };

static cm_status judge(const PGresult *res, bool unknown, enum outcome *ret, struct cm_err *err)
{
    CM_AUTO_FREE char *want = NULL;
    struct cm_span text = pg_bytes(res, 0, 2);
    bool held = pg_int(res, 0, 0) > 0;
    bool went = pg_int(res, 0, 1) > 0;

    *ret = DONE;
    if (went)
        return CM_OK;
    if (!held) {
        *ret = NOT_HELD;
        return CM_OK;
    }
    if (text.data != NULL) {
        want = cm_strndup((const char *)text.data, text.len);
        return want != NULL ? pg_in_the_way(want, pg_bytes(res, 0, 3), err) : cm_fail_nomem(err);
    }
    /* A commit with this number or a later one was carried out: this one, whose answer was lost, or
     * another thread's. */
    *ret = unknown ? DONE : AGAIN;
    return CM_OK;
}

static cm_status commit_once(struct pg_storage *s, const struct cm_op *op,
                             const struct cm_grant *grant, const struct cm_commit_item *items,
                             size_t n, bool *ret_unknown, enum outcome *ret, struct cm_err *err)
{
    struct commit *c = cm_calloc(1, sizeof *c);
    PG_AUTO_RESULT PGresult *res = NULL;
    struct pg_question q = { "commit", items[0].key, NULL, NULL, true };
    bool unknown = false;
    cm_status rc;

    if (c == NULL)
        return cm_fail_nomem(err);
    rc = make(c, grant, items, n, err);
    q.sql = cm_buf_str(&c->sql);
    q.args = &c->args;
    if (rc == CM_OK)
        rc = pg_ask(s, op, &q, &res, &unknown, err);
    *ret_unknown = *ret_unknown || unknown;
    if (rc == CM_OK)
        rc = judge(res, unknown, ret, err);
    commit_free(c, n);
    return rc;
}

static void tell(struct pg_storage *s, const struct cm_op *op, const struct cm_commit_item *items,
                 size_t n)
{
    const char *keys[CM_COMMIT_MAX];

    for (size_t i = 0; i < n; i++)
        keys[i] = items[i].key;
    pg_tell(s, op, "v", keys, n);
}

cm_status pg_commit(struct cm_storage *st, const struct cm_op *op, const struct cm_grant *grant,
                    const struct cm_commit_item *items, size_t n, struct cm_err *err)
{
    enum outcome outcome = AGAIN;
    bool unknown = false;
    cm_status rc = CM_OK;

    for (int i = 0; i < LOOKS && rc == CM_OK && outcome != DONE; i++)
        rc = commit_once(pg_of(st), op, grant, items, n, &unknown, &outcome, err);
    if (rc == CM_OK && outcome == DONE)
        tell(pg_of(st), op, items, n);
    if (rc != CM_OK || outcome == DONE)
        return rc;
    /* "Lost" would mean that nothing was changed. */
    if (outcome == NOT_HELD && unknown)
        return cm_fail(err, CM_E_NET,
                       "commit of '%s': the connection broke, and lock '%s' is another's by now: "
                       "nobody knows whether it was carried out",
                       items[0].key, grant->name);
    if (outcome == NOT_HELD)
        return pg_lost(grant, err);
    return cm_fail(err, CM_E_BUSY, "commit of '%s': others under the same lock were faster",
                   items[0].key);
}
