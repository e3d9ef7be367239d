/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <string.h>

/* The tables. Two are CertMagic's, as its own storage module makes them; beside them one of ours
 * says who holds a lock, and an index serves directories. Peers see neither. */

#define DATA                                                                                       \
    "CREATE TABLE IF NOT EXISTS @d (key text PRIMARY KEY, value bytea, "                           \
    "modified timestamptz DEFAULT current_timestamp)"
#define LOCKS                                                                                      \
    "CREATE TABLE IF NOT EXISTS @l (key text PRIMARY KEY, "                                        \
    "expires timestamptz DEFAULT current_timestamp)"
#define OWN                                                                                        \
    "CREATE TABLE IF NOT EXISTS @o (key text PRIMARY KEY, token text NOT NULL, "                   \
    "fence bigint NOT NULL, commits bigint NOT NULL, holder text NOT NULL, "                       \
    "since timestamptz NOT NULL, refreshed timestamptz NOT NULL, expires timestamptz NOT NULL)"
#define INDEX "CREATE INDEX IF NOT EXISTS @i ON @d ((translate(key, '/', E'\\x01')) COLLATE \"C\")"

/* What somebody with the right to do so has to run, for what is missing. */
static cm_status by_hand(const struct pg_storage *s, const char *missing, cm_status rc,
                         const char *why, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf sql = CM_BUF_INIT(4096);
    const char *text = DATA "; " INDEX;

    if (missing != NULL && strstr(missing, "certmagic_locks") != NULL)
        text = LOCKS;
    else if (missing != NULL && strstr(missing, "certmesh_locks") != NULL)
        text = OWN;
    if (pg_sql(s, text, &sql, NULL) != CM_OK)
        return cm_fail_nomem(err);
    return cm_fail(err, rc, "%s; run: %s", why, cm_buf_str(&sql));
}

static cm_status run(PGconn *conn, const struct pg_wait *w, const char *sql, char state[6],
                     struct cm_err *err)
{
    PGresult *res = NULL;
    const char *code;
    bool sent;
    cm_status rc = pg_conn_ask(conn, w, sql, NULL, &res, &sent, err);

    state[0] = '\0';
    if (rc != CM_OK)
        return rc;
    code = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    if (code != NULL) {
        char shown[PG_SAID];

        (void)memccpy(state, code, '\0', 6);
        state[5] = '\0';
        rc = cm_fail(err, CM_E_IO, "PostgreSQL cannot make the tables: %s (%s)",
                     pg_said(PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY), shown, sizeof shown),
                     state);
    }
    PQclear(res);
    return rc;
}

/* Somebody makes them just now, too: "IF NOT EXISTS" does not see that. */
static bool is_race(const char *state)
{
    return strcmp(state, "23505") == 0 || strcmp(state, "42P07") == 0 ||
           strcmp(state, "42P06") == 0 || strcmp(state, "42710") == 0;
}

/* The index is for speed: where the data belong to another role, it has to be made by that. */
static void make_index(struct pg_storage *s, const struct pg_wait *w, PGconn *conn)
{
    CM_AUTO_BUF struct cm_buf sql = CM_BUF_INIT(4096);
    struct cm_err why = CM_ERR_INIT;
    char state[6];
    cm_status rc = pg_sql(s, INDEX, &sql, &why);

    if (rc == CM_OK)
        rc = run(conn, w, cm_buf_str(&sql), state, &why);
    if (rc == CM_OK || is_race(state) || atomic_exchange(&s->ddl_warned, true))
        return;
    cm_logf(&s->log, CM_LOG_WARN, "postgres_no_index", NULL, 0,
            "lists will be slow, as this index could not be made: %s (%s)", cm_buf_str(&sql),
            why.msg);
}

/* Who may make tables in a schema may not always make schemas: so that is done only if there is
 * none. */
static cm_status make_schema(struct pg_storage *s, const struct pg_wait *w, PGconn *conn,
                             char state[6], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf sql = CM_BUF_INIT(512);
    size_t len = strlen(s->data) - strlen(".certmagic_data");
    cm_status rc = cm_buf_printf(&sql, err, "CREATE SCHEMA IF NOT EXISTS %.*s", (int)len, s->data);

    if (rc == CM_OK)
        rc = run(conn, w, cm_buf_str(&sql), state, err);
    return rc == CM_OK || is_race(state) ? CM_OK : rc;
}

static cm_status make_tables(struct pg_storage *s, const struct pg_wait *w, PGconn *conn,
                             const char *missing, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf sql = CM_BUF_INIT(8192);
    char state[6] = "";
    cm_status rc = pg_sql(s, DATA "; " LOCKS "; " OWN, &sql, err);

    for (int i = 0; i < 4 && rc == CM_OK; i++) {
        rc = run(conn, w, cm_buf_str(&sql), state, err);
        if (rc == CM_OK)
            break;
        if (strcmp(state, "3F000") == 0 && s->options.schema != NULL)
            rc = make_schema(s, w, conn, state, err);
        else if (is_race(state))
            rc = CM_OK;
    }
    if (rc != CM_OK && strcmp(state, "42501") == 0)
        return by_hand(s, missing, CM_E_PERM, "a table is missing, and we may not make it", err);
    return rc;
}

cm_status pg_schema_make(struct pg_storage *s, const struct pg_wait *w, PGconn *conn,
                         const char *missing, struct cm_err *err)
{
    cm_status rc;

    if (!s->options.ddl)
        return by_hand(s, missing, CM_E_STATE, "a table is missing, and the URL says ddl=off", err);
    rc = make_tables(s, w, conn, missing, err);
    if (rc == CM_OK)
        make_index(s, w, conn);
    return rc;
}
