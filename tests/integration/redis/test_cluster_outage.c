/* SPDX-License-Identifier: Apache-2.0 */
#include "link_kit.h"

#include "storage.h"

/* Locks and values in a cluster over TLS whose slots move and whose masters die. Names lie in many
 * slots: there is no hash tag in the prefix. */

#define LOCKS  12u
#define VALUES 60u
#define PREFIX "prefix=o"

static struct cm_storage *a, *b; /* two nodes of a fleet */
static struct linked node[3];
static char id[3][64];
static struct cm_err err;

static struct cm_storage *open_storage(void)
{
    struct cm_storage *st = NULL;
    char url[512];

    redis_kit_url("REDIS_URL", PREFIX "&timeout=1s", url, sizeof url);
    ck_assert_msg(cm_storage_redis_open(url, NULL, &st, &err) == CM_OK, "%s", err.msg);
    return st;
}

static void open_both(void)
{
    a = open_storage();
    b = open_storage();
}

static void close_both(void)
{
    cm_storage_close(a);
    cm_storage_close(b);
}

static struct cm_op within(int64_t s)
{
    return cm_op_within(NULL, s * CM_NS_PER_S);
}

/* A link to each of the first three nodes alone, and what it is called. */
static void nodes_open(void)
{
    unsigned long port = strtoul(getenv("REDIS_PORT"), NULL, 10);

    for (unsigned i = 0; i < 3; i++) {
        redisReply *r = NULL;
        char url[256];

        (void)snprintf(url, sizeof url, "rediss://:pw@127.0.0.1:%lu?ca=%s", port + i,
                       getenv("LAB_CA"));
        linked_open(&node[i], NULL, url);
        ck_assert_msg(linked_call(&node[i], 5000, true, NULL, &r, &err, "CLUSTER", "MYID", NULL) ==
                          CM_OK,
                      "%s", err.msg);
        (void)snprintf(id[i], sizeof id[i], "%s", r->str);
        freeReplyObject(r);
    }
}

static void nodes_close(void)
{
    for (unsigned i = 0; i < 3; i++)
        linked_close(&node[i]);
}

static void set_slot(unsigned i, const char *slot, const char *how, const char *who)
{
    redisReply *r = NULL;

    ck_assert_int_eq(linked_call(&node[i], 5000, false, NULL, &r, &err, "CLUSTER", "SETSLOT", slot,
                                 how, who, NULL),
                     CM_OK);
    ck_assert_str_eq(r->str, "OK");
    freeReplyObject(r);
}

static void move_key(unsigned from, unsigned to, const char *key)
{
    redisReply *r = NULL;
    char port[16];

    (void)snprintf(port, sizeof port, "%lu", strtoul(getenv("REDIS_PORT"), NULL, 10) + to);
    ck_assert_int_eq(linked_call(&node[from], 5000, false, NULL, &r, &err, "MIGRATE", "127.0.0.1",
                                 port, key, "0", "3000", "AUTH", "pw", NULL),
                     CM_OK);
    ck_assert_msg(strcmp(r->str, "OK") == 0, "%s: %s", key, r->str);
    freeReplyObject(r);
}

/* ----------------------------------------------------------- slots that move */

struct contender {
    cm_status rc;
    struct cm_err err;
    int64_t took_ms;
};

static void *contend(void *arg)
{
    struct contender *c = arg;
    struct cm_op op = within(20);
    struct cm_grant grant = { .state = NULL };
    int64_t wait_ns = 0;
    int64_t began = now_ms();

    c->rc = cm_storage_try_lock(b, &op, "moving", CM_NS_PER_S, &grant, &wait_ns, &c->err);
    c->took_ms = now_ms() - began;
    return NULL;
}

/* The lock's slot goes to another node, its fence first: in between a script that wants both is
 * told to go there (ASK), and there to come again (TRYAGAIN). The holder holds it all the while. */
START_TEST(test_locked_slot_moves)
{
    static const char lock[] = "o/locks/moving";
    static const char fence[] = "o/certmesh/locks/n/{o/locks/moving}";
    unsigned number = redis_slot(lock, strlen(lock));
    unsigned from = number < 5461 ? 0 : number < 10923 ? 1 : 2;
    unsigned to = (from + 1) % 3;
    struct cm_op op = within(30);
    struct cm_grant grant = { .state = NULL };
    struct contender other = { .err = CM_ERR_INIT };
    struct cm_commit_item item = { "moved/value", cm_span_str("1"), false };
    pthread_t thread;
    int64_t wait_ns = 0;
    uint64_t first;
    char slot[16];

    ck_assert_uint_eq(redis_slot(fence, strlen(fence)), number);
    (void)snprintf(slot, sizeof slot, "%u", number);
    open_both();
    nodes_open();
    ck_assert_msg(cm_storage_try_lock(a, &op, "moving", 15 * CM_NS_PER_S, &grant, &wait_ns, &err) ==
                      CM_OK,
                  "%s", err.msg);
    first = grant.fence;

    set_slot(to, slot, "IMPORTING", id[from]);
    set_slot(from, slot, "MIGRATING", id[to]);
    ck_assert_msg(cm_storage_refresh(a, &op, &grant, &err) == CM_OK, "%s", err.msg);
    move_key(from, to, fence);
    ck_assert_msg(cm_storage_refresh(a, &op, &grant, &err) == CM_OK, "%s", err.msg);
    ck_assert_msg(cm_storage_commit(a, &op, &grant, &item, 1, &err) == CM_OK, "%s", err.msg);
    ck_assert_int_eq(pthread_create(&thread, NULL, contend, &other), 0);
    (void)usleep(3000000); /* more redirections than are followed in one go */
    move_key(from, to, lock);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_msg(other.rc == CM_E_BUSY, "%s", other.err.msg);
    ck_assert_int_ge(other.took_ms, 2500); /* it did have to wait */
    ck_assert_msg(cm_storage_refresh(a, &op, &grant, &err) == CM_OK, "%s", err.msg);
    for (unsigned i = 0; i < 3; i++)
        set_slot(i, slot, "NODE", id[to]);
    ck_assert_msg(cm_storage_refresh(a, &op, &grant, &err) == CM_OK, "%s", err.msg);
    ck_assert_msg(cm_storage_commit(a, &op, &grant, &item, 1, &err) == CM_OK, "%s", err.msg);
    ck_assert_msg(cm_storage_unlock(a, &op, &grant, &err) == CM_OK, "%s", err.msg);
    ck_assert_msg(cm_storage_try_lock(b, &op, "moving", CM_NS_PER_S, &grant, &wait_ns, &err) ==
                      CM_OK,
                  "%s", err.msg);
    ck_assert_uint_gt(grant.fence, first);
    ck_assert_int_eq(cm_storage_unlock(b, &op, &grant, NULL), CM_OK);
    nodes_close();
    close_both();
}
END_TEST

/* ---------------------------------------------------------- a master that dies */

static void key_of(unsigned i, char ret[32])
{
    (void)snprintf(ret, 32, "v%u/value", i);
}

static void store_all(struct cm_storage *st, const char *text, int64_t s)
{
    char key[32];

    for (unsigned i = 0; i < VALUES; i++) {
        struct cm_op op = within(s);

        key_of(i, key);
        ck_assert_msg(cm_storage_store(st, &op, key, cm_span_str(text), &err) == CM_OK, "%s: %s",
                      key, err.msg);
    }
}

static void all_have(struct cm_storage *st, const char *text)
{
    char key[32];

    for (unsigned i = 0; i < VALUES; i++) {
        CM_AUTO_BUF struct cm_buf value = CM_BUF_INIT(64);
        struct cm_op op = within(20);

        key_of(i, key);
        ck_assert_msg(cm_storage_load(st, &op, key, &value, &err) == CM_OK, "%s: %s", key, err.msg);
        ck_assert_str_eq(cm_buf_str(&value), text);
    }
}

static void count_found(void *user, const char *key, const char *what, bool repaired)
{
    (void)key;
    (void)what;
    (void)repaired;
    ++*(unsigned *)user;
}

/* Who still says that he holds a lock does hold it; who has lost it knows, and cannot commit. */
static void judge_leases(struct cm_lease **leases)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < LOCKS; i++) {
        struct cm_op op = within(20);
        struct cm_commit_item item = { "under/lock", cm_span_str("x"), false };
        struct cm_lease_options o = CM_LEASE_OPTIONS_INIT;
        struct cm_lease *other = NULL;
        char name[32];

        (void)snprintf(name, sizeof name, "lock %u", i);
        o.try_only = true;
        cm_status held = cm_lease_commit(leases[i], &op, &item, 1, &err);
        cm_status taken = cm_lease_acquire(b, &op, name, &o, &other, &err);
        if (taken == CM_OK)
            ck_assert_int_ne(held, CM_OK);
        else
            ck_assert_msg(taken == CM_E_BUSY, "%s", err.msg);
        kept += held == CM_OK;
        cm_lease_release(other);
    }
    /* At most one of three masters had died, and its replica knew of most. */
    ck_assert_uint_ge(kept, LOCKS / 2);
}

START_TEST(test_master_dies)
{
    struct cm_lease *leases[LOCKS] = { NULL };
    struct cm_lease_options o = CM_LEASE_OPTIONS_INIT;
    struct cm_op op = within(60);
    unsigned found = 0;
    int64_t began;

    open_both();
    store_all(a, "before", 10);
    for (unsigned i = 0; i < LOCKS; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "lock %u", i);
        ck_assert_msg(cm_lease_acquire(a, &op, name, &o, &leases[i], &err) == CM_OK, "%s", err.msg);
    }
    (void)usleep(500000); /* the replicas have it */
    lab("signal", "node1", "KILL");
    began = now_ms();
    store_all(a, "after", 30);
    ck_assert_int_lt(now_ms() - began, 30000);
    all_have(b, "after");
    (void)usleep(6000000); /* each heartbeat has come round */
    judge_leases(leases);
    for (unsigned i = 0; i < LOCKS; i++)
        cm_lease_release(leases[i]);

    /* It comes back as a replica of the one that took over. */
    lab("start", "node1");
    lab("await", "node1");
    store_all(b, "again", 10);
    all_have(a, "again");
    ck_assert_msg(cm_storage_check(a, &op, false, count_found, &found, &err) == CM_OK, "%s",
                  err.msg);
    ck_assert_uint_eq(found, 0);
    close_both();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_locked_slot_moves,
        test_master_dies,
    };

    return run_in_lab("cluster_tls", "redis cluster outage", tests, sizeof tests / sizeof tests[0]);
}
