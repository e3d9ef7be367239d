/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <stdio.h>
#include <string.h>

/* Lists, a page at a time: memory stays bounded, and no connection is held while the visitor works.
 * A page begins after the last key of the one before, so what comes and goes meanwhile does no
 * harm.
 */

#define PAGE      1000
#define PAGE_TEXT "1000"

/* The end of the range is looked at outside: inside, a server that knows no better takes the range
 * for a small one, and sorts all of it for each page. */
static const char all_sql[] =
    "SELECT key, size, modified, true FROM ("
    " SELECT key, octet_length(value)::bigint AS size, modified FROM @d"
    " WHERE @t >= $1::text AND octet_length(key) <= 512 ORDER BY @t LIMIT " PAGE_TEXT ") p "
    "WHERE @t < $2::text ORDER BY @t";

/* What is directly below: from one child to the next by the index, without looking at what lies
 * below the children. */
#define CHILD                                                                                      \
    "SELECT key, octet_length(value)::bigint AS size, modified, "                                  \
    "$3::text || split_part(substr(key, length($3::text) + 1), '/', 1) AS child FROM @d "          \
    "WHERE octet_length(key) <= 512 AND @t < $2::text AND @t >= "
static const char children_sql[] =
    "WITH RECURSIVE w AS ("
    " (" CHILD "$1::text ORDER BY @t LIMIT 1)"
    " UNION ALL"
    " SELECT n.* FROM w CROSS JOIN LATERAL"
    " (" CHILD "translate(w.child, '/', E'\\x01')"
    "   || CASE WHEN w.child = w.key THEN E'\\x01' ELSE E'\\x02' END ORDER BY @t LIMIT 1) n"
    ") SELECT child, size, modified, child = key FROM w LIMIT " PAGE_TEXT;

/* Not keys: a file backend's matters, perhaps copied here with everything else. */
static bool is_hidden(const char *key)
{
    static const char *const reserved[] = { "locks", "certmesh/locks", "certmesh/redo",
                                            "certmesh/tmp" };

    for (size_t i = 0; i < CM_ARRAY_LEN(reserved); i++) {
        size_t n = strlen(reserved[i]);

        if (strncmp(key, reserved[i], n) == 0 && (key[n] == '\0' || key[n] == '/'))
            return true;
    }
    return false;
}

/* The first place after @key; with @subtree, after all that lies below it. */
static void place_after(const char *key, bool subtree, char *ret)
{
    size_t n = 0;

    for (; key[n] != '\0' && n < CM_STORAGE_KEY_MAX; n++)
        ret[n] = key[n] == '/' ? '\x01' : key[n];
    ret[n] = subtree ? '\x02' : '\x01';
    ret[n + 1] = '\0';
}

static cm_status hand_out(const struct cm_op *op, const PGresult *res, int row, cm_list_fn each,
                          void *user, char *from, struct cm_err *err)
{
    struct cm_span text = pg_bytes(res, row, 0);
    char key[CM_STORAGE_KEY_MAX + 1];
    struct cm_key_info info = { key, pg_time_ns(res, row, 2), 0, pg_bool(res, row, 3) };
    cm_status rc = cm_op_check(op, err);

    if (rc != CM_OK)
        return rc;
    if (text.data == NULL) /* nor would there be a place to go on from */
        return cm_fail(err, CM_E_PARSE,
                       "PostgreSQL: a row without a key; is the table certmesh's?");
    if (text.len > CM_STORAGE_KEY_MAX)
        text.len = CM_STORAGE_KEY_MAX;
    memcpy(key, text.data, text.len);
    key[text.len] = '\0';
    if (info.terminal)
        info.size = pg_size(res, row, 1);
    place_after(key, !info.terminal, from);
    return key[0] == '\0' || is_hidden(key) ? CM_OK : each(user, &info, err);
}

cm_status pg_list(struct cm_storage *st, const struct cm_op *op, const char *prefix, bool recursive,
                  cm_list_fn each, void *user, struct cm_err *err)
{
    return pg_list_after(st, op, prefix, NULL, recursive, each, user, err);
}

cm_status pg_list_after(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                        const char *after, bool recursive, cm_list_fn each, void *user,
                        struct cm_err *err)
{
    char with_slash[CM_STORAGE_KEY_MAX + 2];
    struct pg_range range;
    cm_status rc = CM_OK;
    int n = PAGE;

    (void)snprintf(with_slash, sizeof with_slash, "%s%s", prefix, prefix[0] != '\0' ? "/" : "");
    pg_range_below(prefix, &range);
    if (after != NULL)
        place_after(after, !recursive, range.from);
    while (rc == CM_OK && n == PAGE) {
        struct pg_args args = { .n = 0 };
        struct pg_question q = { "list", prefix, recursive ? all_sql : children_sql, &args, true };
        PG_AUTO_RESULT PGresult *res = NULL;

        (void)pg_arg_text(&args, range.from);
        (void)pg_arg_text(&args, range.to);
        if (!recursive)
            (void)pg_arg_text(&args, with_slash);
        rc = pg_ask(pg_of(st), op, &q, &res, NULL, err);
        n = PQntuples(res);
        for (int row = 0; row < n && rc == CM_OK; row++)
            rc = hand_out(op, res, row, each, user, range.from, err);
    }
    return rc;
}
