/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A schema of its own for each test, on the server that run-postgres has started. CONTRACT_PG_URL
 * names it as the test is to see it: plainly, by TLS, or behind a pooler. */

static char schema[64];
static char url[1024];

static void admin(const char *how)
{
    PGconn *conn = PQconnectdb(getenv("PG_URL"));
    char sql[192];
    PGresult *res;

    ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
    (void)snprintf(sql, sizeof sql, "set client_min_messages = warning; %s", how);
    res = PQexec(conn, sql);
    ck_assert_msg(PQresultStatus(res) == PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    PQclear(res);
    PQfinish(conn);
}

static unsigned place; /* of this test: they may share a process */

static void setup(void)
{
    const char *server = getenv("CONTRACT_PG_URL");

    ck_assert_msg(server != NULL && getenv("PG_URL") != NULL, "start it by run-postgres");
    (void)snprintf(schema, sizeof schema, "contract_%ld_%u", (long)getpid(), ++place);
    (void)snprintf(url, sizeof url, "%s%cschema=%s", server,
                   strchr(server, '?') != NULL ? '&' : '?', schema);
}

static void teardown(void)
{
    char sql[128];

    (void)snprintf(sql, sizeof sql, "drop schema if exists %s cascade", schema);
    admin(sql);
}

static cm_status open_postgres(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                               struct cm_err *e)
{
    return cm_storage_open(url, opts, ret, e);
}

/* More than a watcher's queue holds. */
static int flood(void)
{
    return 2000;
}

#ifdef CONTRACT_NO_FEED
#define HAS_FEED false
#else
#define HAS_FEED true
#endif

struct contract_backend contract_backend = {
    .name = "postgres",
    .setup = setup,
    .teardown = teardown,
    .open = open_postgres,
    .exact_tree = true,
    .server_clock = true,
    .has_watch = HAS_FEED,
    .watch_flood = flood,
};
