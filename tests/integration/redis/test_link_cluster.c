/* SPDX-License-Identifier: Apache-2.0 */
#include "link_kit.h"

/* The link and a cluster of three masters whose slots move. */

static struct linked k;
static struct linked node[3];
static char id[3][64];
static struct cm_err err;

static cm_status set(const char *key, int64_t ms)
{
    redisReply *r = NULL;
    cm_status rc;

    err = (struct cm_err)CM_ERR_INIT;
    rc = linked_call(&k, ms, true, key, &r, &err, "SET", key, key, NULL);
    if (rc == CM_OK) {
        ck_assert_str_eq(r->str, "OK");
        freeReplyObject(r);
    }
    return rc;
}

static void has(const char *key)
{
    redisReply *r = NULL;

    ck_assert_msg(linked_call(&k, 10000, false, key, &r, &err, "GET", key, NULL) == CM_OK, "%s",
                  err.msg);
    ck_assert_int_eq(r->type, REDIS_REPLY_STRING);
    ck_assert_str_eq(r->str, key);
    freeReplyObject(r);
}

/* A link to each node alone, and what it is called. */
static void nodes_open(void)
{
    unsigned long port = strtoul(getenv("REDIS_PORT"), NULL, 10);

    for (unsigned i = 0; i < 3; i++) {
        redisReply *r = NULL;
        char url[64];

        (void)snprintf(url, sizeof url, "redis://:pw@127.0.0.1:%lu", port + i);
        linked_open(&node[i], NULL, url);
        ck_assert_int_eq(linked_call(&node[i], 5000, true, NULL, &r, &err, "CLUSTER", "MYID", NULL),
                         CM_OK);
        (void)snprintf(id[i], sizeof id[i], "%s", r->str);
        freeReplyObject(r);
    }
}

static void nodes_close(void)
{
    for (unsigned i = 0; i < 3; i++)
        linked_close(&node[i]);
}

static void at_node(unsigned i, const char *what, const char *slot, const char *how,
                    const char *who)
{
    redisReply *r = NULL;

    ck_assert_int_eq(
        linked_call(&node[i], 5000, false, NULL, &r, &err, "CLUSTER", what, slot, how, who, NULL),
        CM_OK);
    ck_assert_str_eq(r->str, "OK");
    freeReplyObject(r);
}

/* How often node @i has said @code. */
static unsigned said(unsigned i, const char *code)
{
    redisReply *r = NULL;
    char name[48];

    ck_assert_int_eq(linked_call(&node[i], 5000, false, NULL, &r, &err, "INFO", "errorstats", NULL),
                     CM_OK);
    (void)snprintf(name, sizeof name, "errorstat_%s:count=", code);
    const char *at = strstr(r->str, name);
    unsigned n = at != NULL ? (unsigned)strtoul(at + strlen(name), NULL, 10) : 0;
    freeReplyObject(r);
    return n;
}

static unsigned owner_of(const char *key)
{
    unsigned slot = redis_slot(key, strlen(key));

    return slot < 5461 ? 0 : slot < 10923 ? 1 : 2;
}

START_TEST(test_all_nodes)
{
    unsigned at[3] = { 0, 0, 0 };
    char key[32];

    open_lab(&k, "REDIS_URL", "pool=2");
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(key, sizeof key, "key %u", i);
        ck_assert_msg(set(key, 5000) == CM_OK, "%s", err.msg);
        has(key);
        at[owner_of(key)]++;
    }
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_gt(at[i], 50);
    linked_close(&k);
}
END_TEST

START_TEST(test_dead_seed)
{
    char url[128];

    (void)snprintf(url, sizeof url, "redis+cluster://:pw@127.0.0.1:%s,127.0.0.1:%s",
                   getenv("FREE_PORT"), getenv("REDIS_PORT"));
    linked_open(&k, NULL, url);
    ck_assert_msg(set("a", 5000) == CM_OK, "%s", err.msg);
    linked_close(&k);
}
END_TEST

/* Slots change their owner behind our back, keys and all. */
START_TEST(test_slots_move)
{
    const char *key = "{moving} key";
    unsigned from = owner_of("moving"), to = (from + 1) % 3;
    char slot[16];

    (void)snprintf(slot, sizeof slot, "%u", redis_slot(key, strlen(key)));
    open_lab(&k, "REDIS_URL", "pool=2");
    nodes_open();
    ck_assert_msg(set("{moving} one", 5000) == CM_OK, "%s", err.msg);

    ck_assert_uint_eq(said(from, "ASK") + said(from, "MOVED"), 0);
    at_node(to, "SETSLOT", slot, "IMPORTING", id[from]);
    at_node(from, "SETSLOT", slot, "MIGRATING", id[to]);
    /* Not there any more, so ASK; what is still there is served there. */
    ck_assert_msg(set(key, 5000) == CM_OK, "%s", err.msg);
    has(key);
    has("{moving} one");
    ck_assert_uint_ge(said(from, "ASK"), 2);
    {
        redisReply *r = NULL;
        char port[16];

        (void)snprintf(port, sizeof port, "%lu", strtoul(getenv("REDIS_PORT"), NULL, 10) + to);
        ck_assert_int_eq(linked_call(&node[from], 5000, false, NULL, &r, &err, "MIGRATE",
                                     "127.0.0.1", port, "{moving} one", "0", "3000", "AUTH", "pw",
                                     NULL),
                         CM_OK);
        ck_assert_str_eq(r->str, "OK");
        freeReplyObject(r);
    }
    has("{moving} one");
    for (unsigned i = 0; i < 3; i++)
        at_node(i, "SETSLOT", slot, "NODE", id[to]);
    /* MOVED. */
    has(key);
    has("{moving} one");
    ck_assert_uint_ge(said(from, "MOVED"), 1);
    nodes_close();
    linked_close(&k);
}
END_TEST

/* A node is gone: the cluster says so until it is back, and the others' slots wait with it. */
START_TEST(test_node_killed)
{
    open_lab(&k, "REDIS_URL", "timeout=500ms");
    ck_assert_msg(set("123456789", 5000) == CM_OK, "%s", err.msg);
    lab("signal", "node2", "KILL");
    ck_assert_int_ne(set("123456789", 1500), CM_OK);
    ck_assert_msg(strstr(err.msg, "refused") != NULL || strstr(err.msg, "CLUSTERDOWN") != NULL,
                  "%s", err.msg);
    lab("start", "node2");
    ck_assert_msg(set("123456789", 20000) == CM_OK, "%s", err.msg);
    has("123456789");
    linked_close(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_all_nodes,
        test_dead_seed,
        test_slots_move,
        test_node_killed,
    };

    return run_in_lab("cluster", "redis cluster", tests, sizeof tests / sizeof tests[0]);
}
