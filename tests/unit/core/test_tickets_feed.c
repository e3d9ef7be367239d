/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "life/tickets.h"
#include "maintain.h"

/* The keys of session tickets where the storage tells of changes. */

#define INTERVAL_S CM_TICKET_INTERVAL_S

static struct kit k;
static struct cm_err err;

struct node {
    struct cm_cache *cache;
    struct cm_config *cfg;
};

static struct node node_new(bool threads)
{
    const struct cm_cache_options co = { .size = (uint32_t)sizeof co, .no_thread = !threads };
    struct node n = { NULL, NULL };

    ck_ok(cm_cache_new(&co, &n.cache, &err));
    k.opts.cache = n.cache;
    n.cfg = kit_peer(&k, NULL);
    return n;
}

static void node_free(struct node *n)
{
    cm_config_free(n->cfg);
    cm_cache_free(n->cache);
}

static bool is_quiet(struct node *n)
{
    return cm_cache_next_due_s(n->cache) > cm_env_wall_s(&k.env.base) &&
           cm_maint_in_flight(cm_cache_maint(n->cache)) == 0;
}

/* What is due is done. */
static void step(struct node *n)
{
    ck_ok(cm_cache_maintain_now(n->cache, false, &err));
}

static void begin(struct node *n)
{
    cm_config_tickets_begin(n->cfg);
    step(n);
}

static void live(struct node *n, size_t count, int64_t s, int64_t at_a_time_s)
{
    for (int64_t at = 0; at < s; at += at_a_time_s) {
        kit_pass(&k.env, at_a_time_s * CM_NS_PER_S);
        for (size_t i = 0; i < count; i++)
            step(&n[i]);
    }
}

struct key {
    uint8_t bytes[CM_TICKET_KEY_LEN];
};

/* What a ticket would be made with now. */
static struct key maker(const struct node *n)
{
    struct cm_ticket_set *s = cm_config_ticket_set(n->cfg);
    struct key key;

    memcpy(key.bytes, s->key[0], sizeof key.bytes);
    cm_ticket_set_unref(s);
    return key;
}

static bool reads(const struct node *n, const struct key *key)
{
    struct cm_ticket_set *s = cm_config_ticket_set(n->cfg);
    bool found = false;

    for (size_t i = 0; i < s->n; i++)
        found = found || memcmp(s->key[i], key->bytes, sizeof key->bytes) == 0;
    cm_ticket_set_unref(s);
    return found;
}

static bool same(const struct key *a, const struct key *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static bool read_each_other(const struct node *a, const struct node *b)
{
    struct key ka = maker(a), kb = maker(b);

    return reads(a, &kb) && reads(b, &ka);
}

/* The clock stands still: whatever is known to the others is known because they were told. */
START_TEST(what_one_node_changes_the_others_are_told_of)
{
    struct node n[3];

    kit_init(&k);
    k.storage.has_feed = true;
    for (size_t i = 0; i < 3; i++) {
        n[i] = node_new(false);
        begin(&n[i]);
    }
    ck_assert(read_each_other(&n[0], &n[1]) && read_each_other(&n[1], &n[2]));
    live(n, 3, 2, 2); /* what was stored before somebody watched is not told */
    for (int round = 0; round < 3; round++) {
        struct key before = maker(&n[0]);

        if (round == 0) /* all of them, out of use */
            ck_ok(cm_storage_remove(&k.storage.base, NULL, CM_TICKETS_KEY, &err));
        kit_pass(&k.env, round == 0 ? 0 : INTERVAL_S * CM_NS_PER_S);
        if (round == 0)
            kit_until((step(&n[0]), !reads(&n[0], &before)));
        else
            step(&n[0]);
        struct key now = maker(&n[0]);
        ck_assert(!same(&now, &before));
        for (size_t i = 1; i < 3; i++)
            kit_until((step(&n[i]), reads(&n[i], &now)));
    }
    /* What is told while it is being read is read after that; what was stored here, not at all. */
    for (size_t i = 0; i < 3; i++)
        kit_until((step(&n[i]), is_quiet(&n[i])));
    unsigned before = atomic_load(&k.storage.loads);
    for (int i = 0; i < 1000; i++)
        kit_tell(&k.storage, CM_CHANGE_VALUE, CM_TICKETS_KEY);
    for (size_t i = 0; i < 3; i++)
        kit_until((step(&n[i]), is_quiet(&n[i])));
    unsigned looked = atomic_load(&k.storage.loads) - before;
    ck_assert_uint_ge(looked, 3);
    ck_assert_uint_le(looked, 9);
    for (size_t i = 0; i < 3; i++)
        node_free(&n[i]);
    kit_storage_free(&k.storage);
}
END_TEST

/* A storm of news while workers read. */
START_TEST(news_and_looks_do_not_meet_badly)
{
    struct node n[2];

    kit_init(&k);
    k.storage.has_feed = true;
    for (size_t i = 0; i < 2; i++) {
        n[i] = node_new(true);
        cm_config_tickets_begin(n[i].cfg);
        kit_until(cm_peers_feed(n[i].cfg) == CM_FEED_STANDS);
    }
    for (int i = 0; i < 20000; i++) {
        kit_tell(&k.storage, CM_CHANGE_VALUE, CM_TICKETS_KEY);
        if (i % 1000 == 0)
            ck_ok(cm_storage_remove(&k.storage.base, NULL, CM_TICKETS_KEY, &err));
    }
    kit_until(kit_has(&k.storage.base, CM_TICKETS_KEY) && is_quiet(&n[0]) && is_quiet(&n[1]));
    kit_until(read_each_other(&n[0], &n[1]));
    for (size_t i = 0; i < 2; i++)
        node_free(&n[i]);
    kit_storage_free(&k.storage);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_one_node_changes_the_others_are_told_of,
        news_and_looks_do_not_meet_badly,
    };

    return kit_run("tickets_feed", tests, CM_ARRAY_LEN(tests));
}
