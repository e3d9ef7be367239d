/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_fixture.h"

#include "base.h"
#include "redis_kit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A cluster of three, the prefix without a hash tag: each name lies where its slot is. */

#define NODES 3
#define TTL   (15 * CM_NS_PER_S)

static redisContext *nodes[NODES];

static void setup_cluster(void)
{
    char parameters[64];

    (void)snprintf(prefix, sizeof prefix, "p%ld", (long)getpid());
    for (int i = 0; i < NODES; i++) {
        nodes[i] = redisConnect("127.0.0.1", (int)strtol(getenv("REDIS_PORT"), NULL, 10) + i);
        ck_assert(nodes[i] != NULL && nodes[i]->err == 0);
        freeReplyObject(redisCommand(nodes[i], "AUTH pw"));
    }
    (void)snprintf(parameters, sizeof parameters, "prefix=%s", prefix);
    st = open_with("REDIS_URL", parameters);
}

static void teardown_cluster(void)
{
    cm_storage_close(st);
    for (int i = 0; i < NODES; i++)
        redisFree(nodes[i]);
}

/* Where it lies, the others say MOVED. Caller frees. */
static redisReply *anywhere(const char *command)
{
    for (int i = 0; i < NODES; i++) {
        redisReply *r = redisCommand(nodes[i], command);

        ck_assert_ptr_nonnull(r);
        if (r->type != REDIS_REPLY_ERROR)
            return r;
        ck_assert_msg(strncmp(r->str, "MOVED", 5) == 0, "%s: %s", command, r->str);
        freeReplyObject(r);
    }
    ck_abort_msg("%s: nobody has it", command);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "name=member,member name ..." of indices, "name" of values; static. */
static const char *everything(void)
{
    static char text[8192];
    struct cm_buf out = CM_BUF_INIT(sizeof text - 1);
    char *names[256];
    size_t n = 0;
    char command[512];

    for (int i = 0; i < NODES; i++) {
        redisReply *r = redisCommand(nodes[i], "KEYS %s*", prefix);

        for (size_t j = 0; j < r->elements && n < 256; j++)
            if (strstr(r->element[j]->str, "locks/") == NULL)
                names[n++] = cm_strdup(r->element[j]->str);
        freeReplyObject(r);
    }
    qsort(names, n, sizeof *names, compare);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(command, sizeof command, "TYPE %s", names[i]);
        redisReply *type = anywhere(command);
        must(cm_buf_printf(&out, &err, "%s", names[i] + strlen(prefix)));
        if (strcmp(type->str, "zset") == 0) {
            /* Not by rank, which is the second in which each was written. */
            (void)snprintf(command, sizeof command, "SORT %s ALPHA", names[i]);
            redisReply *r = anywhere(command);
            for (size_t j = 0; j < r->elements; j++)
                must(cm_buf_printf(&out, &err, "%c%s", j == 0 ? '=' : ',', r->element[j]->str));
            freeReplyObject(r);
        }
        must(cm_buf_puts(&out, " ", &err));
        freeReplyObject(type);
        free(names[i]);
    }
    (void)snprintf(text, sizeof text, "%s", cm_buf_str(&out));
    cm_buf_free(&out);
    return text;
}

START_TEST(the_index_is_the_peers)
{
    struct cm_commit_item items[3] = { { .key = "c/a/1", .value = cm_span_str("x") },
                                       { .key = "c/b/1", .value = cm_span_str("x") },
                                       { .key = "d/e/f", .remove = true } };
    struct cm_grant g;

    put("d/e/f", "x");
    put("d/v", "x");
    ck_assert_str_eq(everything(), "=d/ /d=e/,v /d/e=f /d/e/f /d/v ");
    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    must(cm_storage_commit(st, NULL, &g, items, 3, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    ck_assert_str_eq(everything(), "=c/,d/ /c=a/,b/ /c/a=1 /c/a/1 /c/b=1 /c/b/1 /d=v /d/v ");
    ck_assert_str_eq(listed(st, "", true), "c/a/1 c/b/1 d/v ");
    must(cm_storage_remove(st, NULL, "c", &err));
    ck_assert_str_eq(everything(), "=d/ /d=v /d/v ");
    must(cm_storage_remove(st, NULL, "d/v", &err));
    ck_assert_str_eq(everything(), "");
}
END_TEST

START_TEST(a_commit_under_a_lost_lock_changes_nothing)
{
    struct cm_commit_item items[2] = { { .key = "c/1", .value = cm_span_str("late") },
                                       { .key = "c/2", .value = cm_span_str("late") } };
    struct cm_grant g;
    char command[256];

    put("c/1", "old");
    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    (void)snprintf(command, sizeof command, "SET %s/locks/l EEEEEEEEEEEEEEEEEEEEEE PX 60000",
                   prefix);
    freeReplyObject(anywhere(command));
    must_fail(cm_storage_commit(st, NULL, &g, items, 2, &err), CM_E_LOCK_LOST);
    ck_assert_str_eq(get("c/1"), "old");
    ck_assert_ptr_null(get("c/2"));
    ck_assert_str_eq(everything(), "=c/ /c=1 /c/1 ");
}
END_TEST

/* Someone took the lock and stored, between our look at the lock and our writing. */
START_TEST(a_value_of_a_later_holder_is_not_overwritten)
{
    struct cm_commit_item set = { .key = "c/1", .value = cm_span_str("late") };
    struct cm_commit_item del = { .key = "c/1", .remove = true };
    struct cm_grant g;
    struct cm_grant other;
    char command[256];

    put("c/1", "the later one's");
    must(cm_storage_try_lock(st, NULL, "another", TTL, &other, NULL, &err));
    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    ck_assert(other.fence < g.fence);
    (void)snprintf(command, sizeof command, "SET %s/certmesh/locks/v/{%s/c/1} %llu:l PX 60000",
                   prefix, prefix, (unsigned long long)g.fence + 1);
    freeReplyObject(anywhere(command));
    must_fail(cm_storage_commit(st, NULL, &g, &set, 1, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_commit(st, NULL, &g, &del, 1, &err), CM_E_LOCK_LOST);
    ck_assert_str_eq(get("c/1"), "the later one's");
    /* Another lock's fences are not comparable. */
    must(cm_storage_commit(st, NULL, &other, &set, 1, &err));
    ck_assert_str_eq(get("c/1"), "late");
    must(cm_storage_unlock(st, NULL, &g, &err));
    must(cm_storage_unlock(st, NULL, &other, &err));
}
END_TEST

/* Braces choose the slot, a stray one cannot be put into braces. */
START_TEST(names_with_braces_work)
{
    static const char *const odd[] = { "a}b", "{x}/y", "{}/z", "x{y", "a{b}c{d}", "}{" };
    struct cm_grant g;
    struct cm_grant again;

    for (size_t i = 0; i < CM_ARRAY_LEN(odd); i++) {
        struct cm_commit_item item = { .key = odd[i], .value = cm_span_str(odd[i]) };

        must(cm_storage_try_lock(st, NULL, odd[i], TTL, &g, NULL, &err));
        must(cm_storage_commit(st, NULL, &g, &item, 1, &err));
        ck_assert_str_eq(get(odd[i]), odd[i]);
        must(cm_storage_unlock(st, NULL, &g, &err));
        must(cm_storage_try_lock(st, NULL, odd[i], TTL, &again, NULL, &err));
        ck_assert(again.fence > g.fence);
        must(cm_storage_unlock(st, NULL, &again, &err));
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(odd); i++)
        must(cm_storage_remove(st, NULL, odd[i], &err));
    ck_assert_str_eq(listed(st, "", true), "");
}
END_TEST

static cm_status see(void *user, size_t index, cm_status status, struct cm_span value,
                     const struct cm_err *why, struct cm_err *e)
{
    unsigned *times = user;
    char want[16];

    (void)e;
    (void)snprintf(want, sizeof want, "m/%zu", index);
    ck_assert_msg(status == (index % 7 == 0 ? CM_E_NOTFOUND : CM_OK), "%s", why->msg);
    ck_assert(status != CM_OK ||
              (value.len == strlen(want) && memcmp(value.data, want, value.len) == 0));
    times[index]++;
    return CM_OK;
}

START_TEST(many_values_come_from_all_nodes)
{
    static char text[300][16];
    static unsigned times[300];
    const char *keys[300];

    for (size_t i = 0; i < 300; i++) {
        (void)snprintf(text[i], sizeof text[i], "m/%zu", i);
        keys[i] = text[i];
        if (i % 7 != 0)
            put(text[i], text[i]);
    }
    must(cm_storage_load_many(st, NULL, keys, 300, see, times, &err));
    for (size_t i = 0; i < 300; i++)
        ck_assert_uint_eq(times[i], 1);
    must(cm_storage_remove(st, NULL, "m", &err));
    ck_assert_str_eq(everything(), "");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_index_is_the_peers,
        a_commit_under_a_lost_lock_changes_nothing,
        a_value_of_a_later_holder_is_not_overwritten,
        names_with_braces_work,
        many_values_come_from_all_nodes,
    };

    return run_with_redis_kind("cluster", setup_cluster, teardown_cluster, "redis cluster", tests,
                               CM_ARRAY_LEN(tests), 60);
}
