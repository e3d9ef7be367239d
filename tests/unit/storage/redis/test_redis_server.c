/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_fixture.h"

#include "base.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What servers do: forget, refuse, run out of memory, belong to others as well. */

#define TTL (15 * CM_NS_PER_S)

static struct cm_storage *as_user(const char *rules, const struct cm_log *log)
{
    char url[256];
    char parameters[64];
    redisReply *r = redisCommand(raw, rules);

    ck_assert_msg(r != NULL && r->type == REDIS_REPLY_STATUS, "%s", r != NULL ? r->str : "?");
    freeReplyObject(r);
    (void)snprintf(url, sizeof url, "redis+unix://tester:testpw@%s", getenv("REDIS_SOCKET"));
    (void)snprintf(parameters, sizeof parameters, "prefix=%s", prefix);
    return open_at(url, parameters, log);
}

static struct cm_op within_ms(int64_t ms)
{
    struct cm_op op = { NULL, 0, NULL };

    return cm_op_within(&op, ms * CM_NS_PER_MS);
}

START_TEST(a_flushed_server_takes_no_lock_back)
{
    struct cm_commit_item item = { .key = "k", .value = cm_span_str("late") };
    struct cm_grant old;
    struct cm_grant next;

    must(cm_storage_try_lock(st, NULL, "l", TTL, &old, NULL, &err));
    (void)ask("FLUSHALL");
    must_fail(cm_storage_refresh(st, NULL, &old, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_commit(st, NULL, &old, &item, 1, &err), CM_E_LOCK_LOST);
    ck_assert_ptr_null(get("k"));
    must(cm_storage_try_lock(st, NULL, "l", TTL, &next, NULL, &err));
    ck_assert(next.fence > old.fence);
    must_fail(cm_storage_unlock(st, NULL, &old, &err), CM_E_LOCK_LOST);
    must(cm_storage_refresh(st, NULL, &next, &err));
    must(cm_storage_commit(st, NULL, &next, &item, 1, &err));
    ck_assert_str_eq(get("k"), "late");
    must(cm_storage_unlock(st, NULL, &next, &err));
}
END_TEST

/* Another server may take over whose clock is behind. */
START_TEST(fences_grow_though_the_clock_went_back)
{
    struct cm_grant g;

    (void)ask("SET %s/certmesh/locks/n/%s/locks/l 8000000000000000", prefix, prefix);
    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    ck_assert_uint_eq(g.fence, UINT64_C(8000000000000001));
    must(cm_storage_unlock(st, NULL, &g, &err));
    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    ck_assert_uint_eq(g.fence, UINT64_C(8000000000000002));
    must(cm_storage_unlock(st, NULL, &g, &err));
}
END_TEST

START_TEST(scripts_that_are_forgotten_are_sent_again)
{
    struct cm_grant g;

    put("a", "x");
    (void)ask("SCRIPT FLUSH");
    put("a", "y");
    (void)ask("SCRIPT FLUSH");
    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    (void)ask("SCRIPT FLUSH");
    must(cm_storage_refresh(st, NULL, &g, &err));
    (void)ask("SCRIPT FLUSH");
    must(cm_storage_unlock(st, NULL, &g, &err));
    (void)ask("SCRIPT FLUSH");
    must(cm_storage_remove(st, NULL, "a", &err));
    ck_assert_ptr_null(get("a"));
}
END_TEST

START_TEST(without_memory_nothing_is_half_done)
{
    struct cm_commit_item items[2] = { { .key = "d/1", .value = cm_span_str("new") },
                                       { .key = "n/2", .value = cm_span_str("new") } };
    struct cm_grant g;
    char *before;
    char *after;

    put("d/1", "old");
    before = dump(prefix);
    (void)ask("CONFIG SET maxmemory 1000 maxmemory-policy noeviction");
    must_fail(cm_storage_commit(st, NULL, NULL, items, 2, &err), CM_E_IO);
    ck_assert_msg(strstr(err.msg, "maxmemory") != NULL, "%s", err.msg);
    must_fail(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err), CM_E_IO);
    ck_assert_str_eq(get("d/1"), "old");
    must(cm_storage_remove(st, NULL, "nothing", &err)); /* to remove takes none */
    (void)ask("CONFIG SET maxmemory 0");
    after = dump(prefix);
    ck_assert_str_eq(before, after);
    must(cm_storage_commit(st, NULL, NULL, items, 2, &err));
    free(before);
    free(after);
}
END_TEST

START_TEST(a_replica_is_not_written_to)
{
    struct cm_op op = within_ms(700);

    put("d/1", "old");
    (void)ask("REPLICAOF 127.0.0.1 %s", getenv("FREE_PORT"));
    cm_status rc = cm_storage_store(st, &op, "d/1", cm_span_str("new"), &err);
    (void)ask("REPLICAOF NO ONE");
    ck_assert_int_ne(rc, CM_OK);
    ck_assert_int_ne(rc, CM_E_NOTFOUND);
    ck_assert_str_eq(get("d/1"), "old");
    put("d/1", "new");
}
END_TEST

START_TEST(who_may_not_publish_may_store)
{
    struct cm_storage *s =
        as_user("ACL SETUSER tester reset on >testpw ~* +@all -@admin -@dangerous", NULL);
    struct cm_grant g;

    must(cm_storage_store(s, NULL, "d/1", cm_span_str("x"), &err));
    must(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err));
    must(cm_storage_unlock(s, NULL, &g, &err));
    must(cm_storage_remove(s, NULL, "d", &err));
    cm_storage_close(s);
}
END_TEST

/* The rules of docs/storage-redis.md. */
START_TEST(the_documented_permissions_are_enough)
{
    char rules[512];
    char top[32];
    struct cm_storage *s;
    struct cm_commit_item item = { .key = "d/2", .value = cm_span_str("x") };
    struct cm_grant g;
    struct cm_key_info info;
    struct cm_lock_info holder = { .size = sizeof holder };
    struct cm_buf got = CM_BUF_INIT(64);

    (void)snprintf(top, sizeof top, "%.*s", (int)strcspn(prefix, "/"), prefix);
    (void)snprintf(rules, sizeof rules,
                   "ACL SETUSER tester reset on >testpw ~%s ~%s/* &%s/* -@all +get +getrange +set "
                   "+del +exists +type +zadd +zrem +zrange +zrevrange +zscan +eval +evalsha +time "
                   "+pexpire +pttl +publish +subscribe +ping +select +info +hello +auth "
                   "+client|setname",
                   top, top, top);
    s = as_user(rules, NULL);
    must(cm_storage_store(s, NULL, "d/1", cm_span_str("x"), &err));
    must(cm_storage_load(s, NULL, "d/1", &got, &err));
    must(cm_storage_stat(s, NULL, "d/1", &info, &err));
    must(cm_storage_stat(s, NULL, "d", &info, &err));
    must(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err));
    must(cm_storage_refresh(s, NULL, &g, &err));
    must(cm_storage_lock_info(s, NULL, "l", &holder, &err));
    must(cm_storage_commit(s, NULL, &g, &item, 1, &err));
    must(cm_storage_unlock(s, NULL, &g, &err));
    ck_assert_str_eq(listed(s, "", true), "d/1 d/2 ");
    must(cm_storage_remove(s, NULL, "d", &err));
    cm_buf_free(&got);
    cm_storage_close(s);
}
END_TEST

START_TEST(who_may_only_read_is_told_so)
{
    struct cm_storage *s =
        as_user("ACL SETUSER tester reset on >testpw ~* +@read +@connection +evalsha "
                "+eval",
                NULL);
    struct cm_grant g;
    struct cm_buf got = CM_BUF_INIT(64);

    put("d/1", "x");
    must(cm_storage_load(s, NULL, "d/1", &got, &err));
    must_fail(cm_storage_store(s, NULL, "d/1", cm_span_str("y"), &err), CM_E_PERM);
    must_fail(cm_storage_remove(s, NULL, "d/1", &err), CM_E_PERM);
    must_fail(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err), CM_E_PERM);
    ck_assert_str_eq(get("d/1"), "x");
    cm_buf_free(&got);
    cm_storage_close(s);
}
END_TEST

START_TEST(a_peers_lock_is_honoured)
{
    struct cm_lock_info info = { .size = sizeof info };
    int64_t wait_ns = 0;
    struct cm_grant g;

    (void)ask("SET %s/locks/issue_cert_a.example AAAAAAAAAAAAAAAAAAAAAA PX 400", prefix);
    must_fail(cm_storage_try_lock(st, NULL, "issue_cert_a.example", TTL, &g, &wait_ns, &err),
              CM_E_BUSY);
    ck_assert(wait_ns > 0 && wait_ns <= 200 * CM_NS_PER_MS);
    must(cm_storage_lock_info(st, NULL, "issue_cert_a.example", &info, &err));
    ck_assert_str_eq(info.holder, "another node");
    ck_assert_int_eq(info.since_ns, 0);
    for (int i = 0; i < 10; i++) {
        (void)!cm_op_wait(NULL, 100 * CM_NS_PER_MS, NULL);
        if (cm_storage_try_lock(st, NULL, "issue_cert_a.example", TTL, &g, NULL, &err) == CM_OK)
            break;
    }
    /* How a peer takes, refreshes and gives back: none of it touches ours. */
    ck_assert_int_eq(
        ask("SET %s/locks/issue_cert_a.example BBBBBBBBBBBBBBBBBBBBBB NX PX 5000", prefix)->type,
        REDIS_REPLY_NIL);
    must(cm_storage_refresh(st, NULL, &g, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    (void)ask("SET %s/locks/ever AAAAAAAAAAAAAAAAAAAAAA", prefix);
    must_fail(cm_storage_try_lock(st, NULL, "ever", TTL, &g, &wait_ns, &err), CM_E_BUSY);
    ck_assert_msg(strstr(err.msg, "delete it") != NULL, "%s", err.msg);
}
END_TEST

/* A peer's tools may delete a lock or overwrite it. */
START_TEST(a_lock_that_was_tampered_with_is_lost)
{
    struct cm_commit_item item = { .key = "k", .value = cm_span_str("x") };
    struct cm_grant g;

    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    (void)ask("SET %s/locks/l CCCCCCCCCCCCCCCCCCCCCC PX 5000", prefix);
    must_fail(cm_storage_commit(st, NULL, &g, &item, 1, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_refresh(st, NULL, &g, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_unlock(st, NULL, &g, &err), CM_E_LOCK_LOST);
    ck_assert_int_eq(ask("EXISTS %s/locks/l", prefix)->integer, 1);
    ck_assert_ptr_null(get("k"));
}
END_TEST

START_TEST(values_are_packed_as_the_url_says)
{
    static const char text[] = "the same again the same again the same again the same again";
    char file[64] = "/tmp/cm-redis-key-XXXXXX";
    char parameters[160];
    int fd = mkstemp(file);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "0123456789abcdef0123456789abcdef\n", 33), 33);
    (void)close(fd);
    (void)snprintf(parameters, sizeof parameters,
                   "prefix=%s&compression=zlib&encryption_key_file=%s", prefix, file);
    struct cm_storage *packed = open_with("REDIS_UNIX_URL", parameters);
    must(cm_storage_store(packed, NULL, "k", cm_span_str(text), &err));
    redisReply *r = ask("GET %s/k", prefix);
    ck_assert_ptr_nonnull(strstr(r->str, "\"compression\":2,\"encryption\":1}"));
    must_fail(cm_storage_load(st, NULL, "k", &(struct cm_buf)CM_BUF_INIT(64), &err), CM_E_PERM);
    put("plain", "p");
    struct cm_buf got = CM_BUF_INIT(256);
    must(cm_storage_load(packed, NULL, "k", &got, &err));
    must(cm_storage_load(packed, NULL, "plain", &got, &err));
    ck_assert_uint_eq(got.len, sizeof text);
    cm_buf_free(&got);
    cm_storage_close(packed);
    (void)unlink(file);
}
END_TEST

/* ---------------------------------------------------------------- load_many */

struct seen {
    unsigned found, absent, damaged, wrong;
    unsigned stop_at;
    unsigned times[1000];
};

static cm_status see(void *user, size_t index, cm_status status, struct cm_span value,
                     const struct cm_err *why, struct cm_err *e)
{
    struct seen *s = user;
    char want[16];

    (void)snprintf(want, sizeof want, "v%zu", index);
    s->times[index]++;
    if (status == CM_OK)
        s->found++;
    if (status == CM_OK && (value.len != strlen(want) || memcmp(value.data, want, value.len) != 0))
        s->wrong++;
    if (status == CM_E_NOTFOUND)
        s->absent++;
    if (status == CM_E_PARSE && strstr(why->msg, "many/") != NULL)
        s->damaged++;
    if (s->stop_at > 0 && s->found == s->stop_at)
        return cm_fail(e, CM_E_POLICY, "enough");
    return CM_OK;
}

START_TEST(many_values_come_once_each)
{
    static char text[1000][24];
    const char *keys[1000];
    struct seen s = { .found = 0 };

    for (size_t i = 0; i < 1000; i++) {
        char value[16];

        (void)snprintf(text[i], sizeof text[i], "many/%zu", i);
        (void)snprintf(value, sizeof value, "v%zu", i);
        keys[i] = text[i];
        if (i % 10 != 3)
            put(text[i], value);
    }
    (void)ask("SET %s/many/3 {", prefix);
    (void)ask("ZADD %s/many/13 1 x", prefix);
    (void)ask("HSET %s/many/23 a b", prefix);
    must(cm_storage_load_many(st, NULL, keys, 1000, see, &s, &err));
    ck_assert_uint_eq(s.found, 900);
    ck_assert_uint_eq(s.absent, 98);
    ck_assert_uint_eq(s.damaged, 2);
    ck_assert_uint_eq(s.wrong, 0);
    for (size_t i = 0; i < 1000; i++)
        ck_assert_uint_eq(s.times[i], 1);
    s = (struct seen){ .stop_at = 10 };
    must_fail(cm_storage_load_many(st, NULL, keys, 1000, see, &s, &err), CM_E_POLICY);
    ck_assert_uint_eq(s.found, 10);
    ck_assert_str_eq(err.msg, "enough");
}
END_TEST

/* More than one reply may be: small ones first, so that the batches have grown by then. */
static cm_status add_up(void *user, size_t index, cm_status status, struct cm_span value,
                        const struct cm_err *why, struct cm_err *e)
{
    size_t *sum = user;

    (void)index;
    ck_assert_msg(status == CM_OK, "%s", why->msg);
    (void)e;
    *sum += value.len;
    return CM_OK;
}

START_TEST(large_values_come_in_smaller_batches)
{
    static char text[400][24];
    const char *keys[400];
    uint8_t *big = cm_calloc(1, CM_STORAGE_VALUE_MAX);
    size_t sum = 0;

    ck_assert_ptr_nonnull(big);
    put("small", "x");
    must(cm_storage_store(st, NULL, "big", (struct cm_span){ big, CM_STORAGE_VALUE_MAX }, &err));
    for (size_t i = 0; i < 400; i++) {
        (void)snprintf(text[i], sizeof text[i], i < 300 ? "small" : "big");
        keys[i] = text[i];
    }
    must(cm_storage_load_many(st, NULL, keys, 400, add_up, &sum, &err));
    ck_assert_uint_eq(sum, 300 + (size_t)100 * CM_STORAGE_VALUE_MAX);
    free(big);
}
END_TEST

/* ------------------------------------------------------------- what is said */

struct said {
    char events[256];
};

static void hear(void *user, enum cm_log_level level, const char *event, const char *msg,
                 const struct cm_log_field *fields, size_t n)
{
    struct said *s = user;

    (void)msg;
    (void)fields;
    (void)n;
    if (level == CM_LOG_WARN)
        (void)strncat(s->events, event, sizeof s->events - strlen(s->events) - 1);
}

static const char *warned(const char *rules)
{
    static struct said s;
    struct cm_log log = { hear, &s, CM_LOG_WARN };
    struct cm_storage *opened;

    s.events[0] = '\0';
    opened = as_user(rules, &log);
    for (int i = 0; i < 3; i++)
        must(cm_storage_store(opened, NULL, "v", cm_span_str("x"), &err));
    cm_storage_close(opened);
    return s.events;
}

START_TEST(servers_that_lose_keys_are_warned_of_once)
{
    static const char may_ask[] = "ACL SETUSER tester reset on >testpw ~* &* +@all";
    static const char may_not[] = "ACL SETUSER tester reset on >testpw ~* &* +@all -info";

    (void)ask("CONFIG SET maxmemory-policy allkeys-lru");
    ck_assert_str_eq(warned(may_ask), "redis_evictionredis_persistence");
    ck_assert_str_eq(warned(may_not), "");
    (void)ask("CONFIG SET maxmemory-policy noeviction");
    ck_assert_str_eq(warned(may_ask), "redis_persistence");
    (void)ask("CONFIG SET appendonly yes");
    ck_assert_str_eq(warned(may_ask), "");
    (void)ask("CONFIG SET appendonly no");
}
END_TEST

START_TEST(a_url_that_is_wrong_opens_nothing)
{
    static const char *const wrong[] = { "redis://h?nonsense=1", "redis://h?compression=lzma",
                                         "redis://h?prefix=a/../b", "redis+cluster://h?db=x" };
    struct cm_storage *none = NULL;

    for (size_t i = 0; i < CM_ARRAY_LEN(wrong); i++)
        must_fail(cm_storage_redis_open(wrong[i], NULL, &none, &err), CM_E_INVAL);
    ck_assert_ptr_null(none);
    must(cm_storage_redis_open("redis://u:secret@127.0.0.1:1/0?prefix=x", NULL, &none, &err));
    ck_assert_msg(strstr(cm_storage_describe(none), "secret") == NULL, "%s",
                  cm_storage_describe(none));
    must_fail(cm_storage_store(none, NULL, "k", cm_span_str("x"), &err), CM_E_NET);
    ck_assert_msg(strstr(err.msg, "secret") == NULL, "%s", err.msg);
    cm_storage_close(none);
}
END_TEST

struct told {
    pthread_mutex_t mutex;
    char text[1024];
};

static void tell(void *user, const struct cm_change *change)
{
    struct told *t = user;
    static const char kinds[] = "vu!-";
    size_t len;

    cm_mutex_lock(&t->mutex);
    len = strlen(t->text);
    (void)snprintf(t->text + len, sizeof t->text - len, "%c%s ", kinds[change->kind],
                   change->key != NULL ? change->key : "");
    cm_mutex_unlock(&t->mutex);
}

static void await_told(struct told *t, const char *text)
{
    bool there = false;

    for (int i = 0; i < 500 && !there; i++) {
        cm_mutex_lock(&t->mutex);
        there = strstr(t->text, text) != NULL;
        cm_mutex_unlock(&t->mutex);
        if (!there)
            (void)!cm_op_wait(NULL, 10 * CM_NS_PER_MS, NULL);
    }
    ck_assert_msg(there, "'%s' lacks '%s'", t->text, text);
}

START_TEST(changes_are_told)
{
    struct told t = { .text = "" };
    struct cm_commit_item items[2] = { { .key = "c/1", .value = cm_span_str("x") },
                                       { .key = "c/2", .remove = true } };
    struct cm_watch *watch = NULL;
    struct cm_grant g;

    cm_mutex_init(&t.mutex);
    must(cm_storage_watch(st, tell, &t, &watch, &err));
    await_told(&t, "! ");
    put("a/b", "x");
    must(cm_storage_try_lock(st, NULL, "the lock", TTL, &g, NULL, &err));
    must(cm_storage_commit(st, NULL, &g, items, 2, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    must(cm_storage_remove(st, NULL, "a", &err));
    await_told(&t, "! va/b vc/1 vc/2 uthe lock va ");
    (void)ask("PUBLISH %s/certmesh/changes %s", prefix, "v ../x");
    (void)ask("PUBLISH %s/certmesh/changes %s", prefix, "x");
    (void)ask("PUBLISH %s/certmesh/changes %s", prefix, "v end");
    await_told(&t, "va vend ");
    cm_storage_unwatch(st, watch);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_flushed_server_takes_no_lock_back,
        fences_grow_though_the_clock_went_back,
        scripts_that_are_forgotten_are_sent_again,
        without_memory_nothing_is_half_done,
        a_replica_is_not_written_to,
        who_may_not_publish_may_store,
        the_documented_permissions_are_enough,
        who_may_only_read_is_told_so,
        a_peers_lock_is_honoured,
        a_lock_that_was_tampered_with_is_lost,
        values_are_packed_as_the_url_says,
        many_values_come_once_each,
        large_values_come_in_smaller_batches,
        servers_that_lose_keys_are_warned_of_once,
        a_url_that_is_wrong_opens_nothing,
        changes_are_told,
    };

    return run_with_redis("redis server", tests, CM_ARRAY_LEN(tests), 60);
}
