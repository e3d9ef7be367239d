/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_kit.h"
#include "run.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct cm_err err;

static char schema[64];
static char answer[65536];

const char *kit_schema(void)
{
    return schema;
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);

    ck_assert_msg(value != NULL, "%s is not set: start this by run-lab", name);
    return value;
}

static PGconn *connect_as(const char *env_name)
{
    PGconn *conn = PQconnectdb(variable(env_name));

    ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
    return conn;
}

static void ask(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);

    ck_assert_msg(PQresultStatus(res) == PGRES_COMMAND_OK || PQresultStatus(res) == PGRES_TUPLES_OK,
                  "%s: %s", sql, PQerrorMessage(conn));
    answer[0] = '\0';
    if (PQntuples(res) > 0 && PQnfields(res) > 0)
        (void)snprintf(answer, sizeof answer, "%s", PQgetvalue(res, 0, 0));
    PQclear(res);
}

const char *kit_sql(const char *fmt, ...)
{
    PGconn *conn = connect_as("PG_URL");
    char sql[8192];
    va_list args;

    (void)snprintf(sql, sizeof sql, "set client_min_messages = warning; set search_path = %s",
                   schema);
    ask(conn, sql);
    va_start(args, fmt);
    (void)vsnprintf(sql, sizeof sql, fmt, args);
    va_end(args);
    ask(conn, sql);
    PQfinish(conn);
    return answer;
}

const char *kit_super(const char *fmt, ...)
{
    PGconn *conn = connect_as("PG_SUPER_URL");
    char sql[8192];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(sql, sizeof sql, fmt, args);
    va_end(args);
    ask(conn, "set client_min_messages = warning");
    ask(conn, sql);
    PQfinish(conn);
    return answer;
}

void kit_setup(void)
{
    (void)snprintf(schema, sizeof schema, "t_%ld", (long)getpid());
}

void kit_teardown(void)
{
    (void)kit_super("drop schema if exists %s cascade", schema);
}

struct cm_storage *kit_open(const char *env_name, const char *more)
{
    const char *base = variable(env_name);
    struct cm_storage *opened = NULL;
    char url[1024];

    (void)snprintf(url, sizeof url, "%s%cschema=%s%s%s", base,
                   strchr(base, '?') != NULL ? '&' : '?', schema, more != NULL ? "&" : "",
                   more != NULL ? more : "");
    must(cm_storage_open(url, NULL, &opened, &err));
    return opened;
}

void kit_lab(const char *command)
{
    const char *rest = strchr(command, ' ');
    int len = rest != NULL ? (int)(rest - command) : (int)strlen(command);
    char line[1024];

    (void)snprintf(line, sizeof line, "'%s' %.*s '%s'%s", variable("PG_LAB"), len, command,
                   variable("PG_LAB_DIR"), rest != NULL ? rest : "");
    ck_assert_int_eq(system(line), 0);
}

static void tell_proxy(const char *line, char *said, size_t size)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port =
                                  htons((uint16_t)strtoul(variable("PG_PROXY_CONTROL"), NULL, 10)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t n = 0;
    ssize_t got;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    ck_assert_int_eq(write(fd, line, strlen(line)), (ssize_t)strlen(line));
    ck_assert_int_eq(write(fd, "\n", 1), 1);
    while (n + 1 < size && (got = read(fd, said + n, size - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    (void)close(fd);
}

void kit_proxy(const char *mode)
{
    char said[8];

    tell_proxy(mode, said, sizeof said);
    ck_assert_str_eq(said, "ok\n");
}

unsigned kit_proxy_fired(void)
{
    char said[24];

    tell_proxy("fired", said, sizeof said);
    return (unsigned)strtoul(said, NULL, 10);
}

void kit_put(struct cm_storage *st, const char *key, const char *text)
{
    must(cm_storage_store(st, NULL, key, cm_span_str(text), &err));
}

void kit_expect(struct cm_storage *st, const char *key, const char *text)
{
    struct cm_buf got = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    cm_status rc = cm_storage_load(st, NULL, key, &got, &err);

    if (text == NULL) {
        ck_assert_msg(rc == CM_E_NOTFOUND, "'%s' should not be there: %s %s", key,
                      cm_status_name(rc), cm_buf_str(&got));
    } else {
        ck_assert_msg(rc == CM_OK, "load '%s': %s", key, err.msg);
        ck_assert_str_eq(cm_buf_str(&got), text);
    }
    cm_buf_free(&got);
}

struct cm_op kit_within(int ms)
{
    return cm_op_within(NULL, ms * CM_NS_PER_MS);
}

int64_t kit_now_ms(void)
{
    return cm_env_system()->mono_ns(cm_env_system()) / CM_NS_PER_MS;
}

void kit_sleep_ms(int ms)
{
    (void)cm_env_system()->wait(cm_env_system(), NULL, ms * CM_NS_PER_MS);
}

int kit_main(const char *name, TCase *const *cases, size_t n)
{
    Suite *suite = suite_create(name);

    for (size_t i = 0; i < n; i++) {
        tcase_add_checked_fixture(cases[i], kit_setup, kit_teardown);
        tcase_set_timeout(cases[i], 60);
        suite_add_tcase(suite, cases[i]);
    }
    return run_suite(suite);
}
