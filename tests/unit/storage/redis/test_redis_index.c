/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_fixture.h"

#include "base.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The directory index, compared with what a peer makes of the same changes. */

static void same_as(const char *want)
{
    char *got = dump(prefix);

    ck_assert_str_eq(got, want);
    free(got);
}

START_TEST(a_value_is_in_each_directory_above_it)
{
    char want[1024];
    char top[32];
    char *all;

    put("certificates/ca/example.com/example.com.crt", "x");
    (void)snprintf(top, sizeof top, "%.*s", (int)strcspn(prefix, "/"), prefix);
    all = dump_all(top);
    (void)snprintf(want, sizeof want,
                   "# %s: x/\n"
                   "# %s: certificates/\n"
                   "# %s/certificates: ca/\n"
                   "# %s/certificates/ca: example.com/\n"
                   "# %s/certificates/ca/example.com: example.com.crt\n"
                   "= %s/certificates/ca/example.com/example.com.crt\n",
                   top, prefix, prefix, prefix, prefix, prefix);
    ck_assert_str_eq(all, want);
    free(all);
    must(cm_storage_remove(st, NULL, "certificates/ca", &err));
    all = dump_all(top);
    ck_assert_str_eq(all, "");
    free(all);
}
END_TEST

static const char *const universe[] = {
    "a", "b/1", "b/2", "b/c/1", "b/c/2", "b/c/d/e/1", "b.x/1", "e/f/g", "e/f/h", "e/i", "j",
};
#define KEYS CM_ARRAY_LEN(universe)

static void peer_delete_below(const char *other, const char *dir)
{
    size_t n = strlen(dir);

    for (size_t i = 0; i < KEYS; i++) {
        char *name = cm_asprintf("%s/%s", other, universe[i]);

        if (strncmp(universe[i], dir, n) == 0 &&
            (universe[i][n] == '/' || universe[i][n] == '\0') &&
            ask("EXISTS %s", name)->integer != 0)
            peer_delete(other, universe[i]);
        free(name);
    }
}

/* The same random changes here and, by the peer's commands, under another prefix. */
START_TEST(any_changes_leave_what_a_peer_leaves)
{
    static const char *const dirs[] = { "b", "b/c", "e", "e/f", "b/c/d/e", "b.x" };
    const struct cm_env *env = cm_env_system();
    char other[48];

    (void)snprintf(other, sizeof other, "q%s", prefix);
    for (int i = 0; i < 400; i++) {
        const char *key = universe[cm_random_below(env, KEYS)];
        const char *dir = dirs[cm_random_below(env, CM_ARRAY_LEN(dirs))];
        struct cm_commit_item items[3] = { { .key = key, .value = cm_span_str("v") } };
        size_t n = 1;

        switch (cm_random_below(env, 6)) {
        case 0:
        case 1:
            put(key, "v");
            peer_store(other, key, "v");
            break;
        case 2:
            must(cm_storage_remove(st, NULL, key, &err));
            peer_delete_below(other, key);
            break;
        case 3:
            must(cm_storage_remove(st, NULL, dir, &err));
            peer_delete_below(other, dir);
            break;
        default:
            for (size_t j = 0; j < 3; j++) {
                const char *next = universe[cm_random_below(env, KEYS)];
                bool twice =
                    strcmp(next, items[0].key) == 0 || (n > 1 && strcmp(next, items[1].key) == 0);

                if (!twice && n < 3)
                    items[n++] = (struct cm_commit_item){ .key = next,
                                                          .value = cm_span_str("w"),
                                                          .remove = j % 2 == 0 };
            }
            must(cm_storage_commit(st, NULL, NULL, items, n, &err));
            for (size_t j = 0; j < n; j++) {
                if (items[j].remove)
                    peer_delete_below(other, items[j].key);
                else
                    peer_store(other, items[j].key, "w");
            }
            break;
        }
        char *want = dump(other);
        same_as(want);
        free(want);
    }
}
END_TEST

static double score_of(const char *dir, const char *member)
{
    redisReply *r = ask("ZSCORE %s%s %s", prefix, dir, member);

    ck_assert_int_eq(r->type, REDIS_REPLY_STRING);
    return strtod(r->str, NULL);
}

START_TEST(only_the_score_of_the_value_itself_is_renewed)
{
    double now = (double)cm_env_wall_s(cm_env_system());

    put("d/v", "x");
    ck_assert(score_of("/d", "v") > now - 5 && score_of("/d", "v") < now + 5);
    ck_assert(score_of("", "d/") > now - 5);
    (void)ask("ZADD %s/d 1 v", prefix);
    (void)ask("ZADD %s 1 d/", prefix);
    put("d/v", "y");
    ck_assert(score_of("/d", "v") > now - 5);
    ck_assert(score_of("", "d/") < 2);
}
END_TEST

START_TEST(a_name_without_a_value_is_not_shown)
{
    struct cm_key_info info;

    put("d/there", "x");
    peer_index_add(prefix, "d/half", 5); /* the peer died here */
    peer_index_add(prefix, "e/f/half", 5);
    ck_assert_str_eq(listed(st, "d", false), "d/there ");
    ck_assert_str_eq(listed(st, "", true), "d/there ");
    ck_assert_ptr_null(get("d/half"));
    must_fail(cm_storage_stat(st, NULL, "d/half", &info, &err), CM_E_NOTFOUND);
    put("d/half", "whole");
    ck_assert_str_eq(listed(st, "d", false), "d/half d/there ");
    must(cm_storage_remove(st, NULL, "e", &err));
    ck_assert_str_eq(listed(st, "", false), "d/ ");
    peer_index_add(prefix, "d/half2", 5);
    must(cm_storage_remove(st, NULL, "d/half2", &err));
    same_as("# : d/\n# d: half there\n= d/half\n= d/there\n");
}
END_TEST

START_TEST(members_that_are_no_names_are_not_shown)
{
    put("d/v", "x");
    (void)ask("ZADD %s/d 1 .. 1 a/b/ 1 %s 1 %s", prefix, "bad\nname", "");
    (void)ask("ZADD %s 1 locks/ 1 v", prefix);
    (void)ask("ZADD %s/locks 1 x.lock", prefix);
    (void)ask("SET %s/locks/x.lock x", prefix);
    ck_assert_str_eq(listed(st, "", true), "d/v ");
    ck_assert_str_eq(listed(st, "", false), "d/ ");
}
END_TEST

START_TEST(what_a_peer_stored_is_found_and_its_facts_are_told)
{
    struct cm_key_info info;

    peer_store(prefix, "p/one",
               "{\"value\":\"eA==\",\"modified\":\"2026-08-29T18:20:01.5+02:00\",\"size\":1,"
               "\"compression\":0,\"encryption\":0}");
    peer_store(
        prefix, "p/odd",
        "{ \"size\": 2, \"modified\": \"2026-08-29T18:20:01.5+02:00\", \"value\": \"eHk=\" }");
    peer_store(prefix, "p/damaged", "{");
    ck_assert_str_eq(get("p/one"), "x");
    ck_assert_str_eq(get("p/odd"), "xy");
    ck_assert_str_eq(listed(st, "p", false), "p/damaged p/odd p/one ");
    must(cm_storage_stat(st, NULL, "p/one", &info, &err));
    ck_assert_uint_eq(info.size, 1);
    ck_assert_int_eq(info.modified_ns, INT64_C(1788020401500000000));
    must(cm_storage_stat(st, NULL, "p/odd", &info, &err));
    ck_assert_uint_eq(info.size, 2);
    ck_assert_int_eq(info.modified_ns, INT64_C(1788020401500000000));
    must(cm_storage_stat(st, NULL, "p", &info, &err));
    ck_assert(!info.terminal);
    ck_assert_int_eq(info.modified_ns, 1700000000 * CM_NS_PER_S);
    must_fail(cm_storage_stat(st, NULL, "p/damaged", &info, &err), CM_E_PARSE);
}
END_TEST

START_TEST(without_a_prefix_there_is_no_top)
{
    struct cm_storage *bare = open_with("REDIS_UNIX_URL", "prefix=&db=3");

    (void)ask("SELECT 3");
    must(cm_storage_store(bare, NULL, "top", cm_span_str("x"), &err));
    must(cm_storage_store(bare, NULL, "d/v", cm_span_str("x"), &err));
    char *all = dump_all("");
    ck_assert_str_eq(all, "# d: v\n= d/v\n= top\n");
    free(all);
    ck_assert_str_eq(listed(bare, "", true), "");
    ck_assert_str_eq(listed(bare, "d", true), "d/v ");
    must(cm_storage_remove(bare, NULL, "d", &err));
    must(cm_storage_remove(bare, NULL, "top", &err));
    all = dump_all("");
    ck_assert_str_eq(all, "");
    free(all);
    cm_storage_close(bare);
}
END_TEST

START_TEST(foreign_things_are_left_alone_and_named)
{
    struct cm_key_info info;

    (void)ask("HSET %s/h f v", prefix);
    must_fail(cm_storage_load(st, NULL, "h", &(struct cm_buf)CM_BUF_INIT(64), &err), CM_E_PARSE);
    must_fail(cm_storage_stat(st, NULL, "h", &info, &err), CM_E_PARSE);
    must_fail(cm_storage_remove(st, NULL, "h", &err), CM_E_PARSE);
    must_fail(cm_storage_store(st, NULL, "h", cm_span_str("x"), &err), CM_E_EXISTS);
    must_fail(cm_storage_store(st, NULL, "h/below", cm_span_str("x"), &err), CM_E_EXISTS);
    ck_assert_int_eq(ask("HLEN %s/h", prefix)->integer, 1);
    (void)ask("DEL %s/h", prefix);
    (void)ask("SET %s x", prefix); /* the prefix itself is taken */
    must_fail(cm_storage_store(st, NULL, "v", cm_span_str("x"), &err), CM_E_EXISTS);
    ck_assert_msg(strstr(err.msg, prefix) != NULL, "%s", err.msg);
    ck_assert_int_eq(ask("EXISTS %s/v", prefix)->integer, 0);
    (void)ask("DEL %s", prefix);
}
END_TEST

/* Locks and their fences lie beside the values and in no index. */
START_TEST(locks_disturb_no_list)
{
    struct cm_grant g;
    char *all;

    put("v", "x");
    must(cm_storage_try_lock(st, NULL, "issue_cert_*.example.com", 15 * CM_NS_PER_S, &g, NULL,
                             &err));
    ck_assert_str_eq(listed(st, "", true), "v ");
    ck_assert_str_eq(listed(st, "", false), "v ");
    same_as("# : v\n= v\n");
    redisReply *r = ask("GET %s/locks/issue_cert_*.example.com", prefix);
    ck_assert_int_eq(r->type, REDIS_REPLY_STRING);
    ck_assert_uint_eq(strlen(g.token), 22);
    ck_assert_int_eq(strncmp(r->str, g.token, 22), 0);
    ck_assert_int_gt(ask("PTTL %s/locks/issue_cert_*.example.com", prefix)->integer, 14000);
    must(cm_storage_unlock(st, NULL, &g, &err));
    all = dump(prefix);
    ck_assert_int_eq(ask("EXISTS %s/locks/issue_cert_*.example.com", prefix)->integer, 0);
    free(all);
}
END_TEST

/* ------------------------------------------------------------- a large one */

#define MANY 100000

struct counted {
    size_t n;
    char before[64];
    bool disorder;
};

static cm_status count(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    struct counted *c = user;

    (void)e;
    c->disorder = c->disorder || strcmp(c->before, info->key) >= 0 || info->size != 1;
    (void)snprintf(c->before, sizeof c->before, "%s", info->key);
    c->n++;
    return CM_OK;
}

static void fill(void)
{
    size_t waiting = 0;
    redisReply *r = NULL;

    peer_store(prefix, "many/x", "x");
    peer_delete(prefix, "many/x");
    peer_index_add(prefix, "many/000000", 1);
    for (unsigned long i = 0; i < MANY; i++) {
        (void)redisAppendCommand(raw, "ZADD %s/many %lu %06lu", prefix, MANY - i, i * 7919 % MANY);
        (void)redisAppendCommand(
            raw, "SET %s/many/%06lu %s", prefix, i,
            "{\"value\":\"eA==\",\"modified\":\"2026-08-29T18:20:01+02:00\",\"size\":1,"
            "\"compression\":0,\"encryption\":0}");
        waiting += 2;
        for (; waiting >= 1000 || (i == MANY - 1 && waiting > 0); waiting--) {
            ck_assert_int_eq(redisGetReply(raw, (void **)&r), REDIS_OK);
            freeReplyObject(r);
        }
    }
}

/* AddressSanitizer keeps what is freed. */
#if defined(__SANITIZE_ADDRESS__)
#define MEASURES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MEASURES 0
#endif
#endif
#if !defined(MEASURES)
#define MEASURES 1
#endif

static long peak_kib(void)
{
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

START_TEST(a_hundred_thousand_children)
{
    const struct cm_env *env = cm_env_system();
    struct counted c = { .n = 0 };
    int64_t began_ns;
    long before_kib;

    fill();
    before_kib = peak_kib();
    began_ns = env->mono_ns(env);
    must(cm_storage_list(st, NULL, "many", false, count, &c, &err));
    int64_t list_ms = (env->mono_ns(env) - began_ns) / CM_NS_PER_MS;
    ck_assert_uint_eq(c.n, MANY);
    ck_assert(!c.disorder);
    began_ns = env->mono_ns(env);
    must(cm_storage_remove(st, NULL, "many", &err));
    int64_t remove_ms = (env->mono_ns(env) - began_ns) / CM_NS_PER_MS;
    (void)fprintf(stderr, "# list %lld ms, %ld KiB more; remove %lld ms\n", (long long)list_ms,
                  peak_kib() - before_kib, (long long)remove_ms);
    same_as("");
    if (MEASURES)
        ck_assert_int_lt(peak_kib() - before_kib, 32 * 1024);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_value_is_in_each_directory_above_it,
        any_changes_leave_what_a_peer_leaves,
        only_the_score_of_the_value_itself_is_renewed,
        a_name_without_a_value_is_not_shown,
        members_that_are_no_names_are_not_shown,
        what_a_peer_stored_is_found_and_its_facts_are_told,
        without_a_prefix_there_is_no_top,
        foreign_things_are_left_alone_and_named,
        locks_disturb_no_list,
        a_hundred_thousand_children,
    };

    return run_with_redis("redis index", tests, CM_ARRAY_LEN(tests), 60);
}
