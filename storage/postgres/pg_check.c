/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The check: are the tables what they have to be, are the keys such as can be loaded and listed,
 * and is nothing left of locks whose holders are gone. Each question looks at one page of one
 * table, and each repair is one statement that looks itself whether it is still wanted. */

#define PAGE      1000
#define PAGE_TEXT "1000"
#define GRACE     "interval '10 minutes'" /* a holder that was stopped has noticed by then */
#define FAR       "interval '1 day'"      /* no lease is that long: somebody's clock is wrong */

struct check {
    struct pg_storage *s;
    const struct cm_op *op;
    bool repair;
    cm_check_fn each;
    void *user;
    bool has_data, has_locks, has_own, has_index;
};

static void tell(const struct check *c, const char *key, bool repaired, const char *fmt, ...)
    CM_PRINTF(4, 5);
static void tell(const struct check *c, const char *key, bool repaired, const char *fmt, ...)
{
    char what[640];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    c->each(c->user, key, what, repaired);
}

static cm_status ask(const struct check *c, const char *sql, const struct pg_args *args,
                     PGresult **ret, struct cm_err *err)
{
    const struct pg_question q = { "check", "tables", sql, args, true };

    return pg_ask(c->s, c->op, &q, ret, NULL, err);
}

/* A text of the answer, cut where @size says. */
static const char *text_of(const PGresult *res, int row, int column, char *ret, size_t size)
{
    struct cm_span t = pg_bytes(res, row, column);
    size_t n = t.len < size ? t.len : size - 1;

    if (n > 0)
        memcpy(ret, t.data, n);
    ret[n] = '\0';
    return ret;
}

/* ------------------------------------------------------------------- tables */

/* The columns, by table: what is there of them, or NULL. The names are quoted as for a statement,
 * which is what to_regclass() reads. */
static const char columns_sql[] =
    "SELECT w.t, w.c, w.y, to_regclass(w.r) IS NOT NULL, a.attname IS NOT NULL,"
    " coalesce(format_type(a.atttypid, NULL) = w.y, false),"
    " w.c <> 'key' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = to_regclass(w.r)"
    "  AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1"
    "  AND i.indkey[0] = a.attnum) "
    "FROM (VALUES"
    " ('certmagic_data', $1::text, 'key', 'text'),"
    " ('certmagic_data', $1::text, 'value', 'bytea'),"
    " ('certmagic_data', $1::text, 'modified', 'timestamp with time zone'),"
    " ('certmagic_locks', $2::text, 'key', 'text'),"
    " ('certmagic_locks', $2::text, 'expires', 'timestamp with time zone'),"
    " ('certmesh_locks', $3::text, 'key', 'text'),"
    " ('certmesh_locks', $3::text, 'token', 'text'),"
    " ('certmesh_locks', $3::text, 'fence', 'bigint'),"
    " ('certmesh_locks', $3::text, 'commits', 'bigint'),"
    " ('certmesh_locks', $3::text, 'holder', 'text'),"
    " ('certmesh_locks', $3::text, 'since', 'timestamp with time zone'),"
    " ('certmesh_locks', $3::text, 'refreshed', 'timestamp with time zone'),"
    " ('certmesh_locks', $3::text, 'expires', 'timestamp with time zone')) w (t, r, c, y)"
    " LEFT JOIN pg_attribute a ON a.attrelid = to_regclass(w.r) AND a.attname = w.c"
    "  AND a.attnum > 0 AND NOT a.attisdropped";

static bool *table_of(struct check *c, const char *table)
{
    return strcmp(table, "certmagic_data") == 0    ? &c->has_data
           : strcmp(table, "certmagic_locks") == 0 ? &c->has_locks
                                                   : &c->has_own;
}

static void judge_column(struct check *c, const PGresult *res, int row)
{
    char table[32], column[32], type[40];
    bool *usable;

    (void)text_of(res, row, 0, table, sizeof table);
    (void)text_of(res, row, 1, column, sizeof column);
    (void)text_of(res, row, 2, type, sizeof type);
    usable = table_of(c, table);
    if (!pg_bool(res, row, 3)) {
        *usable = false;
        return; /* told once, for the table */
    }
    if (!pg_bool(res, row, 4)) {
        *usable = false;
        tell(c, NULL, false,
             "table %s has no column %s (%s): it is not CertMagic's or certmesh's; rename it, or "
             "use another schema",
             table, column, type);
    } else if (!pg_bool(res, row, 5)) {
        *usable = false;
        tell(c, NULL, false,
             "column %s of table %s is not of type %s: ALTER it, or use another "
             "schema",
             column, table, type);
    } else if (!pg_bool(res, row, 6)) {
        tell(c, NULL, false,
             "column key of table %s is not unique, so nothing can be stored: ALTER TABLE ... ADD "
             "PRIMARY KEY (key)",
             table);
    }
}

/* Whether one is missing, before anything is asked of it: asking would make it. */
static cm_status missing_tables(struct check *c, const PGresult *res, struct cm_err *err)
{
    static const char *const first[] = { "certmagic_data", "certmagic_locks", "certmesh_locks" };
    bool gone[CM_ARRAY_LEN(first)] = { false, false, false };
    bool any = false;
    bool done = false;
    cm_status rc = CM_OK;

    for (int row = 0; row < PQntuples(res); row++)
        for (size_t i = 0; i < CM_ARRAY_LEN(first); i++) {
            char table[32];

            if (!pg_bool(res, row, 3) &&
                strcmp(text_of(res, row, 0, table, sizeof table), first[i]) == 0)
                any = gone[i] = true;
        }
    if (gone[0] && gone[1] && gone[2] && c->s->options.ddl) {
        c->has_data = c->has_locks = c->has_own = false;
        return CM_OK; /* nobody has stored anything yet */
    }
    if (any && c->repair && c->s->options.ddl) {
        /* the usual way: whoever asks for what is not there makes it */
        PG_AUTO_RESULT PGresult *made = NULL;

        rc = ask(c, "SELECT 1 FROM @d, @l, @o LIMIT 0", NULL, &made, err);
        done = rc == CM_OK;
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(first) && rc == CM_OK; i++) {
        if (!gone[i])
            continue;
        if (done)
            *table_of(c, first[i]) = true;
        tell(c, NULL, done, "table %s is missing%s", first[i],
             done                ? ""
             : c->s->options.ddl ? ": the next one who needs it makes it"
                                 : ": the URL says ddl=off, so make it as docs/storage-postgres.md "
                                   "has it");
    }
    return rc;
}

static cm_status check_columns(struct check *c, struct cm_err *err)
{
    struct pg_args args = { .n = 0 };
    PG_AUTO_RESULT PGresult *res = NULL;
    cm_status rc;

    (void)pg_arg_text(&args, c->s->data);
    (void)pg_arg_text(&args, c->s->locks);
    (void)pg_arg_text(&args, c->s->own);
    rc = ask(c, columns_sql, &args, &res, err);
    c->has_data = c->has_locks = c->has_own = true;
    for (int row = 0; row < PQntuples(res) && rc == CM_OK; row++)
        judge_column(c, res, row);
    return rc == CM_OK ? missing_tables(c, res, err) : rc;
}

static const char index_sql[] =
    "SELECT x.indisvalid, pg_get_indexdef(x.indexrelid) LIKE '%translate(key%COLLATE \"C\"%',"
    " current_setting('server_encoding') = 'UTF8' "
    "FROM (VALUES (1)) one (n) LEFT JOIN (pg_index x JOIN pg_class k ON k.oid = x.indexrelid"
    "  AND k.relname = 'certmesh_data_tree') ON x.indrelid = to_regclass($1::text)";

static cm_status check_index(struct check *c, struct cm_err *err)
{
    struct pg_args args = { .n = 0 };
    PG_AUTO_RESULT PGresult *res = NULL;
    struct cm_err why = CM_ERR_INIT;
    bool done = false;
    cm_status rc;

    (void)pg_arg_text(&args, c->s->data);
    rc = ask(c, index_sql, &args, &res, err);
    if (rc != CM_OK || PQntuples(res) == 0)
        return rc;
    if (!pg_bool(res, 0, 2))
        tell(c, NULL, false,
             "the database is not UTF8, so keys with other letters cannot be stored: make one with "
             "ENCODING 'UTF8', and copy");
    if (!PQgetisnull(res, 0, 0)) {
        c->has_index = pg_bool(res, 0, 0) && pg_bool(res, 0, 1);
        if (!c->has_index)
            tell(c, NULL, false,
                 "the index certmesh_data_tree is %s, so lists are slow: DROP INDEX "
                 "certmesh_data_tree, then --repair makes it",
                 pg_bool(res, 0, 0) ? "another than certmesh makes" : "not valid");
        return CM_OK;
    }
    if (c->repair && c->s->options.ddl) {
        PG_AUTO_RESULT PGresult *made = NULL;

        rc = ask(c,
                 "CREATE INDEX IF NOT EXISTS @i ON @d ((translate(key, '/', E'\\x01')) COLLATE "
                 "\"C\")",
                 NULL, &made, &why);
        done = rc == CM_OK;
    }
    tell(c, NULL, done, "the index certmesh_data_tree is missing, so lists are slow%s%s",
         done                             ? ""
         : c->repair && c->s->options.ddl ? "; it could not be made: "
         : c->s->options.ddl              ? "; --repair makes it"
                                          : "; the URL says ddl=off, so make it as "
                                            "docs/storage-postgres.md has it",
         done ? "" : why.msg);
    return CM_OK;
}

/* --------------------------------------------------------------------- keys */

/* Whole pages by the primary key, whatever the key looks like. */
static const char keys_sql[] =
    "SELECT left(d.key, 600), octet_length(d.key)::bigint, octet_length(d.value)::bigint,"
    " d.value IS NULL,"
    " CASE WHEN octet_length(d.key) <= 512 THEN (SELECT n.key FROM @d n"
    "  WHERE translate(n.key, '/', E'\\x01') COLLATE \"C\" >= translate(d.key, '/', E'\\x01') ||"
    "   E'\\x01' AND translate(n.key, '/', E'\\x01') COLLATE \"C\" < translate(d.key, '/', "
    "E'\\x01')"
    "   || E'\\x02' ORDER BY translate(n.key, '/', E'\\x01') COLLATE \"C\" LIMIT 1) END, d.key "
    "FROM (SELECT key, value FROM @d WHERE $1::bigint = 0 OR key > $2::text ORDER BY key"
    " LIMIT " PAGE_TEXT ") d ORDER BY d.key";

static bool is_reserved(const char *key)
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

static void judge_key(const struct check *c, const PGresult *res, int row)
{
    char key[2500], below[CM_STORAGE_KEY_MAX + 1], shown[700];
    struct cm_err why = CM_ERR_INIT;

    (void)text_of(res, row, 0, key, sizeof key);
    (void)cm_escape(key, strlen(key), shown, sizeof shown);
    if (pg_int(res, row, 1) > (int64_t)CM_STORAGE_KEY_MAX)
        tell(c, shown, false,
             "this key has %" PRId64 " bytes, more than the %u allowed, so no list shows it: "
             "DELETE it from certmagic_data, or UPDATE its key",
             pg_int(res, row, 1), CM_STORAGE_KEY_MAX);
    else if (is_reserved(key))
        tell(c, shown, false,
             "this is a matter of a file storage, and nothing here: DELETE it from "
             "certmagic_data");
    else if (cm_storage_key_check(key, false, &why) != CM_OK)
        tell(c, shown, false,
             "%s, so nobody can load it: DELETE it from certmagic_data, or UPDATE its key",
             why.msg);
    if (pg_bool(res, row, 3))
        tell(c, shown, false, "its value is NULL, which counts as empty: DELETE or store it");
    else if (pg_int(res, row, 2) > (int64_t)CM_STORAGE_VALUE_MAX)
        tell(c, shown, false,
             "its value has %" PRId64
             " bytes, more than the %u allowed, so whoever loads it fails: "
             "DELETE it",
             pg_int(res, row, 2), CM_STORAGE_VALUE_MAX);
    if (!PQgetisnull(res, row, 4))
        tell(c, shown, false,
             "it is a value, and '%s' lies below it as in a directory, which no other storage can "
             "keep: remove either",
             text_of(res, row, 4, below, sizeof below));
}

static cm_status check_keys(const struct check *c, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf last = CM_BUF_INIT(16u * 1024);
    cm_status rc = CM_OK;
    int n = PAGE;
    bool first = true;

    while (rc == CM_OK && n == PAGE) {
        struct pg_args args = { .n = 0 };
        PG_AUTO_RESULT PGresult *res = NULL;
        struct cm_span key;

        (void)pg_arg_number(&args, first ? 0 : 1);
        (void)pg_arg_text(&args, first ? "" : cm_buf_str(&last));
        rc = ask(c, keys_sql, &args, &res, err);
        n = PQntuples(res);
        for (int row = 0; row < n && rc == CM_OK; row++) {
            rc = cm_op_check(c->op, err);
            if (rc == CM_OK)
                judge_key(c, res, row);
        }
        if (rc == CM_OK && n == PAGE) {
            key = pg_bytes(res, n - 1, 5);
            cm_buf_reset(&last);
            rc = cm_buf_append(&last, key.data, key.len, err);
        }
        first = false;
    }
    return rc;
}

/* -------------------------------------------------------------------- locks */

struct lock_rule {
    const char *look; /* gives names of locks */
    const char *mend; /* the same condition for the one called $1; NULL: nobody can tell */
    const char *what;
    const char *to_do; /* without a repair */
};

/* CertMagic's rows are taken over when they have run out, so one that has is in nobody's way; but
 * who would have removed it is dead. */
#define LEFT_BEHIND "(l.expires IS NULL OR l.expires < clock_timestamp() - " GRACE ")"
/* A token says that it is held; with nothing in CertMagic's table it is not. */
#define OWN_ALONE                                                                                  \
    "m.token <> '' AND m.expires < clock_timestamp() - " GRACE                                     \
    " AND NOT EXISTS (SELECT FROM @l l WHERE l.key = m.key)"

static const struct lock_rule lock_rules[] = {
    { "SELECT left(l.key, 512) FROM @l l WHERE " LEFT_BEHIND " ORDER BY 1 LIMIT " PAGE_TEXT,
      "DELETE FROM @l l WHERE l.key = $1::text AND " LEFT_BEHIND " RETURNING 1",
      "this lock in certmagic_locks has run out, and whoever held it has not given it back",
      "--repair removes it" },
    { "SELECT left(m.key, 512) FROM @o m WHERE " OWN_ALONE " ORDER BY 1 LIMIT " PAGE_TEXT,
      "UPDATE @o m SET token = '' WHERE m.key = $1::text AND " OWN_ALONE " RETURNING 1",
      "certmesh_locks names a holder, but certmagic_locks has no such lock: a peer has removed it, "
      "or somebody by hand",
      "--repair notes that nobody holds it" },
    { "SELECT left(l.key, 512) FROM @l l WHERE l.expires > clock_timestamp() + " FAR
      " ORDER BY 1 LIMIT " PAGE_TEXT,
      NULL, "this lock in certmagic_locks ends in more than a day: the clock of a node is wrong",
      "set that clock; DELETE the row if nobody works under it" },
    { "SELECT left(m.key, 512) FROM @o m WHERE m.expires < clock_timestamp() - interval '60 days'"
      " ORDER BY 1 LIMIT " PAGE_TEXT,
      "DELETE FROM @o m WHERE m.key = $1::text AND m.expires < clock_timestamp() - interval '60 "
      "days' RETURNING 1",
      "nobody has wanted this lock in certmesh_locks for two months", "--repair removes it" },
};

static cm_status check_rule(const struct check *c, const struct lock_rule *rule, struct cm_err *err)
{
    PG_AUTO_RESULT PGresult *res = NULL;
    cm_status rc = ask(c, rule->look, NULL, &res, err);

    for (int row = 0; row < PQntuples(res) && rc == CM_OK; row++) {
        PG_AUTO_RESULT PGresult *mended = NULL;
        struct pg_args args = { .n = 0 };
        char name[4 * CM_LOCK_NAME_MAX + 1], shown[CM_LOCK_NAME_MAX + 64];
        bool done = false;

        (void)text_of(res, row, 0, name, sizeof name);
        if (c->repair && rule->mend != NULL) {
            (void)pg_arg_text(&args, name);
            rc = ask(c, rule->mend, &args, &mended, err);
            done = rc == CM_OK && PQntuples(mended) > 0;
            if (!done) /* by now it is right */
                continue;
        }
        (void)cm_escape(name, strlen(name), shown, sizeof shown);
        tell(c, shown, done, "%s%s%s", rule->what, done ? "" : "; ", done ? "" : rule->to_do);
    }
    return rc;
}

cm_status pg_check(struct cm_storage *st, const struct cm_op *op, bool repair, cm_check_fn each,
                   void *user, struct cm_err *err)
{
    struct check c = { .s = pg_of(st), .op = op, .repair = repair, .each = each, .user = user };
    cm_status rc = check_columns(&c, err);

    if (rc == CM_OK && c.has_data)
        rc = check_index(&c, err);
    if (rc == CM_OK && c.has_data)
        rc = check_keys(&c, err);
    for (size_t i = 0; i < CM_ARRAY_LEN(lock_rules) && rc == CM_OK && c.has_locks && c.has_own; i++)
        rc = check_rule(&c, &lock_rules[i], err);
    return rc;
}
