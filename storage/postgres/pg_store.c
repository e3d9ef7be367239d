/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

/* Single values. */

#define VALUE_OR_NULL                                                                              \
    "octet_length(value)::bigint, "                                                                \
    "CASE WHEN octet_length(value) <= 1048576 THEN value END"
_Static_assert(CM_STORAGE_VALUE_MAX == 1048576, "the limit stands in SQL, too");

void pg_range_below(const char *key, struct pg_range *ret)
{
    size_t n = 0;

    for (; key[n] != '\0' && n < CM_STORAGE_KEY_MAX; n++)
        ret->from[n] = key[n] == '/' ? '\x01' : key[n];
    memcpy(ret->to, ret->from, n);
    if (n == 0) { /* all: up to the last character that there is */
        ret->from[0] = '\0';
        (void)snprintf(ret->to, sizeof ret->to, "\xF4\x8F\xBF\xBF");
        return;
    }
    ret->from[n] = '\x01';
    ret->to[n] = '\x02';
    ret->from[n + 1] = ret->to[n + 1] = '\0';
}

cm_status pg_parents(const char *key, struct cm_buf *out, struct cm_err *err)
{
    char parts[CM_STORAGE_KEY_MAX + 1];
    const char *part = parts;
    cm_status rc = cm_buf_puts(out, "{", err);

    for (const char *c = strchr(key, '/'); c != NULL && rc == CM_OK; c = strchr(c + 1, '/')) {
        memcpy(parts, key, (size_t)(c - key));
        parts[c - key] = '\0';
        if (out->len > 1)
            rc = cm_buf_puts(out, ",", err);
        if (rc == CM_OK) {
            CM_AUTO_BUF struct cm_buf one = CM_BUF_INIT(2 * CM_STORAGE_KEY_MAX + 8);

            rc = pg_array(&part, 1, &one, err);
            if (rc == CM_OK) /* without its braces */
                rc = cm_buf_append(out, one.data + 1, one.len - 2, err);
        }
    }
    return rc == CM_OK ? cm_buf_puts(out, "}", err) : rc;
}

cm_status pg_in_the_way(const char *key, struct cm_span bad, struct cm_err *err)
{
    char shown[CM_STORAGE_KEY_MAX];

    if (bad.len > strlen(key))
        return cm_fail(err, CM_E_EXISTS, "cannot store '%s': it is a directory", key);
    return cm_fail(err, CM_E_EXISTS, "cannot store '%s': '%s' is a value", key,
                   cm_escape((const char *)bad.data, bad.len, shown, sizeof shown));
}

/* ------------------------------------------------------------------- store */

/* A value and keys below it under one name are refused, as in a tree. Peers do not look, and two
 * who store at the same moment do not see each other: both are there then, and can be read. */
static const char store_sql[] =
    "WITH bad AS ("
    " SELECT key FROM @d WHERE key = ANY($3::text[])"
    " UNION ALL"
    " (SELECT key FROM @d WHERE @t >= $4::text AND @t < $5::text ORDER BY @t LIMIT 1)"
    "), put AS ("
    " INSERT INTO @d (key, value, modified)"
    " SELECT $1::text, $2::bytea, clock_timestamp() WHERE NOT EXISTS (SELECT FROM bad)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, modified = excluded.modified"
    " RETURNING key) "
    "SELECT (SELECT key FROM bad LIMIT 1)";

static cm_status is_there(struct pg_storage *s, const struct cm_op *op, const char *key,
                          struct cm_span value, bool *ret, struct cm_err *err)
{
    struct pg_args args = { .n = 0 };
    struct pg_question q = { "store", key, "SELECT 1 FROM @d WHERE key = $1 AND value = $2::bytea",
                             &args, true };
    PG_AUTO_RESULT PGresult *res = NULL;
    cm_status rc;

    (void)pg_arg_text(&args, key);
    (void)pg_arg_bytes(&args, value);
    rc = pg_ask(s, op, &q, &res, NULL, err);
    if (rc == CM_OK)
        *ret = PQntuples(res) == 1;
    return rc;
}

cm_status pg_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                   struct cm_span value, struct cm_err *err)
{
    struct pg_storage *s = pg_of(st);
    CM_AUTO_BUF struct cm_buf parents = CM_BUF_INIT(512u * 1024);
    struct pg_args args = { .n = 0 };
    struct pg_question q = { "store", key, store_sql, &args, false };
    PG_AUTO_RESULT PGresult *res = NULL;
    struct pg_range below;
    bool unknown = false;
    bool done = false;
    cm_status rc = pg_parents(key, &parents, err);

    if (rc != CM_OK)
        return rc;
    pg_range_below(key, &below);
    (void)pg_arg_text(&args, key);
    (void)pg_arg_bytes(&args, value);
    (void)pg_arg_text(&args, cm_buf_str(&parents));
    (void)pg_arg_text(&args, below.from);
    (void)pg_arg_text(&args, below.to);
    rc = pg_ask(s, op, &q, &res, &unknown, err);
    /* The answer was lost. Another may have stored since: so look before writing once more. */
    for (int i = 0; i < 2 && rc == CM_E_NET && unknown && !done; i++) {
        cm_status seen = is_there(s, op, key, value, &done, err);

        if (seen != CM_OK)
            return seen;
        rc = done ? CM_OK : pg_ask(s, op, &q, &res, &unknown, err);
    }
    if (rc == CM_OK && !done && !PQgetisnull(res, 0, 0))
        rc = pg_in_the_way(key, pg_bytes(res, 0, 0), err);
    if (rc == CM_OK)
        pg_tell(s, op, "v", &key, 1);
    return rc;
}

/* -------------------------------------------------------------------- load */

cm_status pg_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                  struct cm_buf *ret, struct cm_err *err)
{
    struct pg_args args = { .n = 0 };
    struct pg_question q = { "load", key, "SELECT " VALUE_OR_NULL " FROM @d WHERE key = $1", &args,
                             true };
    PG_AUTO_RESULT PGresult *res = NULL;
    struct cm_span value;
    cm_status rc;

    (void)pg_arg_text(&args, key);
    rc = pg_ask(pg_of(st), op, &q, &res, NULL, err);
    if (rc != CM_OK)
        return rc;
    if (PQntuples(res) == 0)
        return cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s'", key);
    if (pg_int(res, 0, 0) > (int64_t)CM_STORAGE_VALUE_MAX)
        return cm_fail(err, CM_E_LIMIT,
                       "the value at '%s' has %lld bytes, more than the %u allowed", key,
                       (long long)pg_int(res, 0, 0), CM_STORAGE_VALUE_MAX);
    value = pg_bytes(res, 0, 1);
    rc = cm_buf_append(ret, value.data, value.len, err);
    return rc == CM_OK ? CM_OK : cm_wrap(err, rc, "value at '%s'", key);
}

/* ------------------------------------------------------------------ remove */

static const char remove_sql[] =
    "WITH gone AS ("
    " DELETE FROM @d WHERE key = $1::text OR (@t >= $2::text AND @t < $3::text) RETURNING key) "
    "SELECT 1 FROM gone LIMIT 1";

cm_status pg_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                    struct cm_err *err)
{
    struct pg_args args = { .n = 0 };
    struct pg_question q = { "remove", key, remove_sql, &args, true };
    PG_AUTO_RESULT PGresult *res = NULL;
    struct pg_range below;
    bool unknown = false;
    cm_status rc;

    pg_range_below(key, &below);
    (void)pg_arg_text(&args, key);
    (void)pg_arg_text(&args, below.from);
    (void)pg_arg_text(&args, below.to);
    rc = pg_ask(pg_of(st), op, &q, &res, &unknown, err);
    if (rc == CM_OK && (PQntuples(res) > 0 || unknown))
        pg_tell(pg_of(st), op, "v", &key, 1);
    return rc;
}

/* -------------------------------------------------------------------- stat */

static const char stat_sql[] =
    "SELECT true, octet_length(value)::bigint, modified FROM @d WHERE key = $1::text "
    "UNION ALL (SELECT false, 0::bigint, modified FROM @d"
    " WHERE @t >= $2::text AND @t < $3::text ORDER BY @t LIMIT 1)";

cm_status pg_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                  struct cm_key_info *ret, struct cm_err *err)
{
    struct pg_args args = { .n = 0 };
    struct pg_question q = { "look at", key, stat_sql, &args, true };
    PG_AUTO_RESULT PGresult *res = NULL;
    struct pg_range below;
    int row;
    cm_status rc;

    pg_range_below(key, &below);
    (void)pg_arg_text(&args, key);
    (void)pg_arg_text(&args, below.from);
    (void)pg_arg_text(&args, below.to);
    rc = pg_ask(pg_of(st), op, &q, &res, NULL, err);
    if (rc != CM_OK)
        return rc;
    if (PQntuples(res) == 0)
        return cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s'", key);
    row = PQntuples(res) > 1 && pg_bool(res, 1, 0) ? 1 : 0;
    ret->terminal = pg_bool(res, row, 0);
    ret->size = pg_size(res, row, 1);
    ret->modified_ns = pg_time_ns(res, row, 2);
    return CM_OK;
}
