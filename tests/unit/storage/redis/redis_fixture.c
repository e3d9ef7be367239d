/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_fixture.h"

#include "base.h"
#include "redis_kit.h"
#include "run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct cm_storage *st;
struct cm_err err;
redisContext *raw;
char prefix[32];

static redisReply *last;

redisReply *ask(const char *format, ...)
{
    va_list ap;

    if (last != NULL)
        freeReplyObject(last);
    va_start(ap, format);
    last = redisvCommand(raw, format, ap);
    va_end(ap);
    ck_assert_msg(last != NULL, "%s: %s", format, raw->errstr);
    ck_assert_msg(last->type != REDIS_REPLY_ERROR, "%s: %s", format, last->str);
    return last;
}

struct cm_storage *open_at(const char *url, const char *parameters, const struct cm_log *log)
{
    struct cm_storage_open_options opts = CM_STORAGE_OPEN_OPTIONS_INIT;
    struct cm_storage *opened = NULL;
    char full[512];

    if (log != NULL)
        opts.log = *log;
    (void)snprintf(full, sizeof full, "%s%c%s", url, strchr(url, '?') != NULL ? '&' : '?',
                   parameters);
    must(cm_storage_redis_open(full, &opts, &opened, &err));
    return opened;
}

struct cm_storage *open_with(const char *url_name, const char *parameters)
{
    return open_at(getenv(url_name), parameters, NULL);
}

static void setup(void)
{
    char parameters[64];

    (void)snprintf(prefix, sizeof prefix, "p%ld/x", (long)getpid());
    (void)snprintf(parameters, sizeof parameters, "prefix=%s", prefix);
    raw = redisConnectUnix(getenv("REDIS_SOCKET"));
    ck_assert(raw != NULL && raw->err == 0);
    (void)ask("AUTH admin adminpw");
    st = open_with("REDIS_UNIX_URL", parameters);
}

static void teardown(void)
{
    cm_storage_close(st);
    if (last != NULL)
        freeReplyObject(last);
    last = NULL;
    redisFree(raw);
}

/* -------------------------------------------------------------------- peers */

static char *joined(const char *below, const char *key)
{
    return cm_asprintf("%s%s%s", below, below[0] != '\0' ? "/" : "", key);
}

/* "a/b/c" is cut to "a/b"; the component goes to @ret. False at the top. */
static bool up(char *name, char *ret)
{
    char *slash = strrchr(name, '/');

    if (slash == NULL)
        return false;
    (void)snprintf(ret, 256, "%s", slash + 1);
    *slash = '\0';
    return true;
}

void peer_index_add(const char *below, const char *key, long score)
{
    char *at = joined(below, key);
    char member[260];
    bool directory = false;

    while (up(at, member)) {
        if (directory)
            (void)strncat(member, "/", 2);
        if (ask("ZADD %s %ld %s", at, score, member)->integer == 0)
            break;
        directory = true;
    }
    free(at);
}

void peer_store(const char *below, const char *key, const char *json)
{
    char *name = joined(below, key);

    peer_index_add(below, key, 1700000000);
    (void)ask("SET %s %s", name, json);
    free(name);
}

void peer_delete(const char *below, const char *key)
{
    char *name = joined(below, key);
    char *at = joined(below, key);
    char member[260];
    bool directory = false;

    while (up(at, member)) {
        if (directory)
            (void)strncat(member, "/", 2);
        (void)ask("ZREM %s %s", at, member);
        if (ask("EXISTS %s", at)->integer != 0)
            break;
        directory = true;
    }
    (void)ask("DEL %s", name);
    free(at);
    free(name);
}

/* --------------------------------------------------------------------- look */

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_own(const char *name, size_t cut)
{
    const char *rest = strlen(name) > cut ? name + cut : "";

    return strncmp(rest, "locks/", 6) == 0 || strncmp(rest, "certmesh/locks/", 15) == 0;
}

static void print_name(struct cm_buf *out, const char *name, size_t cut)
{
    const char *shown = strlen(name) > cut ? name + cut : "";

    if (strcmp(ask("TYPE %s", name)->str, "string") == 0) {
        must(cm_buf_printf(out, &err, "= %s\n", shown));
        return;
    }
    const redisReply *members = ask("ZRANGE %s 0 -1", name);
    char *sorted[128];
    size_t n = members->elements < 128 ? members->elements : 128;
    for (size_t i = 0; i < n; i++)
        sorted[i] = members->element[i]->str;
    qsort(sorted, n, sizeof *sorted, compare);
    must(cm_buf_printf(out, &err, "# %s:", shown));
    for (size_t i = 0; i < n; i++)
        must(cm_buf_printf(out, &err, " %s", sorted[i]));
    must(cm_buf_puts(out, "\n", &err));
}

static char *dump_cut(const char *below, size_t cut, bool all)
{
    struct cm_buf out = CM_BUF_INIT(1024 * 1024);
    redisReply *names = redisCommand(raw, "KEYS %s*", below);
    char **sorted = cm_calloc(names->elements + 1, sizeof *sorted);

    ck_assert_int_eq(names->type, REDIS_REPLY_ARRAY);
    for (size_t i = 0; i < names->elements; i++)
        sorted[i] = names->element[i]->str;
    qsort(sorted, names->elements, sizeof *sorted, compare);
    for (size_t i = 0; i < names->elements; i++)
        if (all || !is_own(sorted[i], cut))
            print_name(&out, sorted[i], cut);
    free(sorted);
    freeReplyObject(names);
    char *text = cm_strdup(cm_buf_str(&out));
    cm_buf_free(&out);
    return text;
}

char *dump(const char *below)
{
    return dump_cut(below, strlen(below) + 1, false);
}

char *dump_all(const char *below)
{
    return dump_cut(below, 0, true);
}

void put(const char *key, const char *text)
{
    must(cm_storage_store(st, NULL, key, cm_span_str(text), &err));
}

const char *get(const char *key)
{
    static char text[8192];
    struct cm_buf got = CM_BUF_INIT(sizeof text - 1);
    cm_status rc = cm_storage_load(st, NULL, key, &got, &err);

    if (rc == CM_E_NOTFOUND)
        return NULL;
    ck_assert_msg(rc == CM_OK, "load '%s': %s", key, err.msg);
    (void)snprintf(text, sizeof text, "%s", cm_buf_str(&got));
    cm_buf_free(&got);
    return text;
}

static cm_status note(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    struct cm_buf *out = user;

    return cm_buf_printf(out, e, "%s%s ", info->key, info->terminal ? "" : "/");
}

const char *listed(struct cm_storage *s, const char *below, bool recursive)
{
    static char text[8192];
    struct cm_buf out = CM_BUF_INIT(sizeof text - 1);

    must(cm_storage_list(s, NULL, below, recursive, note, &out, &err));
    (void)snprintf(text, sizeof text, "%s", cm_buf_str(&out));
    cm_buf_free(&out);
    return text;
}

int run_with_redis(const char *unit, const TTest *const *tests, size_t n, double timeout_s)
{
    return run_with_redis_kind("single", setup, teardown, unit, tests, n, timeout_s);
}

int run_with_redis_kind(const char *kind, void (*before)(void), void (*after)(void),
                        const char *unit, const TTest *const *tests, size_t n, double timeout_s)
{
    int rc = redis_kit_up(kind);

    if (rc != 0)
        return rc;
    rc = run_tests_how(
        unit, tests, n,
        (struct run_how){ .timeout_s = timeout_s, .setup = before, .teardown = after });
    redis_kit_down();
    return rc;
}
