/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <string.h>

/* Many values with few questions. The server sends of each thousand keys so many values as make a
 * few megabytes, and says of the others that they come later. So memory is bounded, and no
 * connection is held while the caller looks at a value. */

#define KEYS_MAX  1000u
#define BYTES_MAX "8388608"

/* found, too large, value; a value that comes later is left out. */
static const char many_sql[] =
    "SELECT k.i, k.key IS NOT NULL, octet_length(k.value)::bigint,"
    " CASE WHEN octet_length(k.value) <= 1048576 THEN k.value END "
    "FROM (SELECT w.i, v.key, v.value, sum(CASE WHEN octet_length(v.value) <= 1048576"
    "   THEN octet_length(v.value) ELSE 0 END) OVER (ORDER BY w.i) AS total"
    "  FROM unnest($1::text[]) WITH ORDINALITY AS w (key, i) LEFT JOIN @d v ON v.key = w.key) k "
    "WHERE k.i = 1 OR k.total IS NULL OR k.total <= " BYTES_MAX " ORDER BY k.i";

static cm_status hand_out(const PGresult *res, int row, const char *key, size_t index,
                          cm_load_fn each, void *user, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    struct cm_span value = pg_bytes(res, row, 3);
    uint64_t size = pg_size(res, row, 2);
    cm_status status = CM_OK;

    if (size < value.len)
        size = value.len;
    if (!pg_bool(res, row, 1))
        status = cm_fail(&why, CM_E_NOTFOUND, "there is no value at '%s'", key);
    else if (size > CM_STORAGE_VALUE_MAX)
        status =
            cm_fail(&why, CM_E_LIMIT, "the value at '%s' has %llu bytes, more than the %u allowed",
                    key, (unsigned long long)size, CM_STORAGE_VALUE_MAX);
    return each(user, index, status, value, &why, err);
}

/* *ret_done: how many of @n were handed out, from the first on. */
static cm_status load_some(struct pg_storage *s, const struct cm_op *op, const char *const *keys,
                           size_t first, size_t n, size_t *ret_done, cm_load_fn each, void *user,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf list = CM_BUF_INIT(KEYS_MAX * (2u * CM_STORAGE_KEY_MAX + 4u) + 8u);
    struct pg_args args = { .n = 0 };
    struct pg_question q = { "load", keys[first], many_sql, &args, true };
    PG_AUTO_RESULT PGresult *res = NULL;
    cm_status rc = pg_array(keys + first, n, &list, err);
    size_t rows;

    if (rc != CM_OK)
        return rc;
    (void)pg_arg_text(&args, cm_buf_str(&list));
    rc = pg_ask(s, op, &q, &res, NULL, err);
    if (rc != CM_OK)
        return rc;
    rows = (size_t)PQntuples(res);
    if (rows == 0 || rows > n)
        return cm_fail(err, CM_E_INTERNAL, "PostgreSQL: %zu rows for %zu keys", rows, n);
    for (size_t row = 0; row < rows && rc == CM_OK; row++) {
        rc = cm_op_check(op, err);
        if (rc == CM_OK)
            rc = hand_out(res, (int)row, keys[first + row], first + row, each, user, err);
    }
    *ret_done = rows;
    return rc;
}

cm_status pg_load_many(struct cm_storage *st, const struct cm_op *op, const char *const *keys,
                       size_t n, cm_load_fn each, void *user, struct cm_err *err)
{
    cm_status rc = CM_OK;
    size_t done = 0;

    for (size_t at = 0; at < n && rc == CM_OK; at += done) {
        size_t some = n - at < KEYS_MAX ? n - at : KEYS_MAX;

        done = some;
        rc = load_some(pg_of(st), op, keys, at, some, &done, each, user, err);
    }
    return rc;
}
