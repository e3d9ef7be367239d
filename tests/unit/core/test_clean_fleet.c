/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

/* Cleaning once per fleet, clocks that are wrong, and that nothing valid ever goes. */

#define DAY   INT64_C(86400)
#define STAMP "last_clean.json"

static struct kit k;
static struct cm_err err;

static struct cm_clean_options options(void)
{
    return (struct cm_clean_options){ .size = (uint32_t)sizeof(struct cm_clean_options) };
}

static struct cm_clean_report clean(struct cm_config *cfg, const struct cm_clean_options *o)
{
    struct cm_clean_report r;

    memset(&r, 0, sizeof r);
    ck_ok(cm_storage_clean(cfg, NULL, o, &r, &err));
    return r;
}

static void put_site(const char *name, int64_t from_s, int64_t lifetime_s)
{
    kit_store_pair(&k.storage.base, "ca.test-dir", name, from_s, lifetime_s);
}

static void put_sites(const char *what, size_t n, int64_t from_s)
{
    for (size_t i = 0; i < n; i++) {
        char name[64];

        (void)snprintf(name, sizeof name, "%s%zu.example", what, i);
        put_site(name, from_s, 90 * DAY);
    }
}

static size_t n_sites(void)
{
    return kit_count(&k.storage.base, "certificates") / 3;
}

/* ---- once per fleet ---- */

START_TEST(the_fleet_cleans_once_per_interval)
{
    struct cm_clean_options o = options();
    struct cm_config *peer;
    char *stamp;

    kit_init(&k);
    kit_start(&k);
    peer = kit_peer(&k, NULL);
    o.interval_s = DAY;
    ck_assert(!clean(k.cfg, &o).skipped);
    stamp = kit_get(&k.storage.base, STAMP);
    ck_assert_ptr_nonnull(
        strstr(stamp, "{\"tls\":{\"timestamp\":\"2026-01-01T00:00:00Z\",\"instance_id\":\""));
    free(stamp);
    put_site("old.example", START_S - 200 * DAY, 90 * DAY);
    kit_pass(&k.env, (DAY - 60) * CM_NS_PER_S);
    struct cm_clean_report r = clean(peer, &o);
    ck_assert(r.skipped);
    ck_assert_uint_eq(r.removed, 0);
    kit_pass(&k.env, 60 * CM_NS_PER_S);
    r = clean(peer, &o);
    ck_assert(!r.skipped);
    ck_assert_uint_eq(r.removed, 1);
    ck_assert(clean(k.cfg, &o).skipped);
    o.interval_s = 0; /* whoever asks for it gets it */
    ck_assert(!clean(k.cfg, &o).skipped);
    cm_config_free(peer);
    kit_stop(&k);
}
END_TEST

START_TEST(who_finds_a_peer_cleaning_leaves_it_to_him)
{
    struct cm_clean_options o = options();
    struct cm_lease *lease = NULL;

    kit_init(&k);
    kit_start(&k);
    put_site("old.example", START_S - 200 * DAY, 90 * DAY);
    ck_ok(cm_lease_acquire(&k.storage.base, NULL, "storage_clean", NULL, &lease, &err));
    struct cm_clean_report r = clean(k.cfg, &o);
    ck_assert(r.skipped);
    ck_assert_uint_eq(r.removed, 0);
    o.dry_run = true; /* needs no lock: it changes nothing */
    r = clean(k.cfg, &o);
    ck_assert(!r.skipped);
    ck_assert_uint_eq(r.removed, 1);
    ck_assert(!kit_has(&k.storage.base, STAMP));
    cm_lease_release(lease);
    o.dry_run = false;
    ck_assert_uint_eq(clean(k.cfg, &o).removed, 1);
    kit_stop(&k);
}
END_TEST

START_TEST(what_a_peer_noted_counts)
{
    static const struct {
        const char *text;
        bool skipped;
    } cases[] = {
        { "{\"tls\":{\"timestamp\":\"2025-12-31T23:30:00.123456789+01:00\",\"instance_id\":"
          "\"36b8f0a5-6f0e-4a51-8c3d-0123456789ab\"}}",
          true },
        { "{\"other\":{},\"tls\":{\"Timestamp\":\"2025-12-31T12:00:00Z\"}}", true },
        { "{\"tls\":{\"timestamp\":\"2025-12-30T12:00:00Z\"}}", false },
        { "{\"tls\":{\"timestamp\":\"2026-01-01T06:00:00Z\"}}", true }, /* his clock is ahead */
        { "{\"tls\":{\"timestamp\":\"0001-01-01T00:00:00Z\"}}", false },
        { "{\"tls\":{}}", false },
        { "rubbish", false },
        { "", false },
    };
    struct cm_clean_options o = options();

    kit_init(&k);
    kit_start(&k);
    o.interval_s = DAY;
    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        kit_put(&k.storage.base, STAMP, cases[i].text);
        ck_assert_msg(clean(k.cfg, &o).skipped == cases[i].skipped, "%s", cases[i].text);
    }
    ck_assert_uint_eq(kit_logged("clean_stamp_malformed"), 6); /* three, each read twice */
    kit_stop(&k);
}
END_TEST

START_TEST(options_out_of_range_are_refused)
{
    struct cm_clean_options o = options();

    kit_init(&k);
    kit_start(&k);
    o.interval_s = -1;
    ck_refused(cm_storage_clean(k.cfg, NULL, &o, NULL, &err), CM_E_INVAL);
    o.interval_s = 0;
    o.compromised_after_s = -1;
    ck_refused(cm_storage_clean(k.cfg, NULL, &o, NULL, &err), CM_E_INVAL);
    o.compromised_after_s = 0;
    o.grace_s = -1;
    ck_refused(cm_storage_clean(k.cfg, NULL, &o, NULL, &err), CM_E_INVAL);
    kit_stop(&k);
}
END_TEST

/* ---- clocks ---- */

static void refuses_until_forced(const char *sign)
{
    struct cm_clean_options o = options();
    size_t before = kit_count(&k.storage.base, "");

    ck_refused(cm_storage_clean(k.cfg, NULL, &o, NULL, &err), CM_E_POLICY);
    ck_assert_msg(strstr(err.msg, sign) != NULL && strstr(err.msg, "force") != NULL, "%s", err.msg);
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), before);
    o.dry_run = true;
    ck_refused(cm_storage_clean(k.cfg, NULL, &o, NULL, &err), CM_E_POLICY);
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), before);
    o.dry_run = false;
    o.force = true;
    ck_ok(cm_storage_clean(k.cfg, NULL, &o, NULL, &err));
}

START_TEST(a_clock_far_ahead_removes_nothing)
{
    kit_init(&k);
    kit_start(&k);
    put_sites("live", 12, START_S);
    kit_put(&k.storage.base, "certmesh/retry/live0.example", "{}");
    kit_pass(&k.env, 400 * DAY * CM_NS_PER_S);
    refuses_until_forced("12 of 12 certificates would go at once");
    ck_assert_uint_eq(n_sites(), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(half_of_all_may_go)
{
    struct cm_clean_options o = options();

    kit_init(&k);
    kit_start(&k);
    put_sites("old", 12, START_S - 200 * DAY);
    put_sites("live", 11, START_S);
    refuses_until_forced("12 of 23");
    ck_assert_uint_eq(n_sites(), 11);
    put_sites("old", 11, START_S - 200 * DAY);
    ck_assert_uint_eq(clean(k.cfg, &o).removed, 11);
    put_sites("old", 10, START_S - 200 * DAY);
    kit_pass(&k.env, 200 * DAY * CM_NS_PER_S);
    put_sites("live", 11, START_S + 200 * DAY);
    ck_assert_uint_eq(clean(k.cfg, &o).removed, 10);
    ck_assert_uint_eq(n_sites(), 11);
    kit_stop(&k);
}
END_TEST

START_TEST(few_may_all_go)
{
    struct cm_clean_options o = options();

    kit_init(&k);
    kit_start(&k);
    put_sites("old", 10, START_S - 200 * DAY);
    ck_assert_uint_eq(clean(k.cfg, &o).removed, 10);
    kit_stop(&k);
}
END_TEST

START_TEST(a_cleaning_of_the_future_is_doubted)
{
    kit_init(&k);
    kit_start(&k);
    put_site("old.example", START_S - 200 * DAY, 90 * DAY);
    kit_put(&k.storage.base, STAMP, "{\"tls\":{\"timestamp\":\"2026-01-03T00:00:00Z\"}}");
    refuses_until_forced("cleaned last at 2026-01-03");
    ck_assert_uint_eq(n_sites(), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(certificates_of_the_future_are_doubted)
{
    struct cm_clean_options o = options();

    kit_init(&k);
    kit_start(&k);
    put_site("old.example", START_S - 200 * DAY, 90 * DAY);
    put_sites("ahead", 2, START_S + 2 * DAY);
    ck_assert_uint_eq(clean(k.cfg, &o).removed, 1); /* one or two may be somebody's mistake */
    put_site("old.example", START_S - 200 * DAY, 90 * DAY);
    put_sites("ahead", 3, START_S + 2 * DAY);
    refuses_until_forced("3 of 4 certificates begin in the future");
    kit_stop(&k);
}
END_TEST

/* ---- what is not in storage ---- */

static unsigned issuer_cleanings;

static cm_status issuer_cannot(const struct cm_op *op, struct cm_err *e)
{
    int64_t left_ns = op->deadline_ns - cm_op_env(op)->mono_ns(cm_op_env(op));

    ck_assert(left_ns > 0 && left_ns <= 60 * CM_NS_PER_S);
    issuer_cleanings++;
    return cm_fail(e, CM_E_NET, "the provider is away");
}

/* Once in the fleet, and what it cannot do is no reason not to clean. */
START_TEST(maintenance_lets_issuers_clean_too)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co, .no_thread = true };
    struct cm_cache *cache = NULL;
    char *stamp;

    kit_init(&k);
    kit_log_reset();
    issuer_cleanings = 0;
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    k.opts.clean_storage = true;
    kit_start(&k);
    k.issuer->on_clean = issuer_cannot;
    put_site("old.example", START_S - 200 * DAY, 90 * DAY);
    ck_ok(cm_cache_maintain_now(cache, false, &err));
    ck_assert_uint_eq(issuer_cleanings, 0); /* not while it starts */
    for (unsigned day = 1; day <= 3; day++) {
        kit_pass(&k.env, 27 * 3600 * CM_NS_PER_S);
        ck_ok(cm_cache_maintain_now(cache, false, &err));
        ck_ok(cm_cache_maintain_now(cache, false, &err));
        ck_assert_uint_eq(issuer_cleanings, day);
    }
    ck_assert_uint_eq(kit_logged("the provider is away"), 3);
    ck_assert_uint_eq(n_sites(), 0);
    stamp = kit_get(&k.storage.base, STAMP);
    ck_assert_ptr_nonnull(stamp);
    free(stamp);
    kit_pass(&k.env, 27 * 3600 * CM_NS_PER_S);
    kit_put(&k.storage.base, STAMP, "{\"tls\":{\"timestamp\":\"2026-01-05T11:00:00Z\"}}");
    ck_ok(cm_cache_maintain_now(cache, false, &err)); /* somebody else has just done it */
    ck_assert_uint_eq(issuer_cleanings, 3);
    kit_stop(&k);
    cm_cache_free(cache);
}
END_TEST

/* ---- nothing valid ever goes ---- */

#define STORES 30
#define SITES  14

struct thing {
    char key[128];
    int64_t end_s; /* it may go after that, and only then */
    bool exact;    /* and goes when cleaned after that */
};
struct store {
    struct thing things[3 * SITES];
    size_t n;
};

static uint64_t seed;

static int64_t dice(int64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)((seed >> 33) % (uint64_t)below);
}

static struct thing *add(struct store *s, int64_t end_s, bool exact)
{
    struct thing *t = &s->things[s->n++];

    t->end_s = end_s;
    t->exact = exact;
    return t;
}

static void fill(struct store *s, int64_t grace_s)
{
    for (size_t i = 0; i < SITES; i++) {
        int64_t from_s = START_S - dice(300 * DAY);
        int64_t life_s = DAY + dice(120 * DAY);
        int64_t next_s = START_S - 20 * DAY + dice(60 * DAY);
        struct thing *t = add(s, from_s + life_s - 1 + grace_s, true);
        char name[32];

        (void)snprintf(name, sizeof name, "n%zu.example", i);
        put_site(name, from_s, life_s);
        (void)snprintf(t->key, sizeof t->key, "certificates/ca.test-dir/%s/%s.crt", name, name);
        t = add(s, next_s + 3600, true);
        (void)snprintf(t->key, sizeof t->key, "ocsp/%s-%zx", name, i);
        kit_put_staple(&k.storage.base, t->key, next_s - 7 * DAY, next_s, false);
        t = add(s, START_S + 60 * DAY, true);
        (void)snprintf(t->key, sizeof t->key, "certmesh/retry/%s", name);
        kit_put(&k.storage.base, t->key, "{}");
    }
}

static void judge(const struct store *s, int64_t now_s, bool cleaned)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct thing *t = &s->things[i];
        bool there = kit_has(&k.storage.base, t->key);

        if (now_s <= t->end_s)
            ck_assert_msg(there, "%s went at %lld, %lld s too early", t->key, (long long)now_s,
                          (long long)(t->end_s - now_s));
        else if (cleaned && t->exact && now_s > t->end_s + 1)
            ck_assert_msg(!there, "%s is still there", t->key);
    }
}

START_TEST(nothing_valid_ever_goes)
{
    size_t refused = 0;

    for (seed = 1; seed < 1 + STORES; seed++) {
        uint64_t round = seed;
        struct store s = { .n = 0 };
        struct cm_clean_options o = options();

        kit_init(&k);
        kit_start(&k);
        o.grace_s = 1 + dice(30 * DAY);
        fill(&s, o.grace_s);
        for (int turn = 0; turn < 4; turn++) {
            cm_status rc = cm_storage_clean(k.cfg, NULL, &o, NULL, &err);

            ck_assert_msg(rc == CM_OK || rc == CM_E_POLICY, "%s", err.msg);
            refused += rc == CM_E_POLICY;
            judge(&s, cm_env_wall_s(&k.env.base), rc == CM_OK);
            o.force = dice(2) == 0;
            kit_pass(&k.env, dice(40 * DAY) * CM_NS_PER_S);
        }
        kit_stop(&k);
        seed = round;
    }
    ck_assert_uint_gt(refused, 0); /* both ways were taken */
    ck_assert_uint_lt(refused, 2 * STORES);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_fleet_cleans_once_per_interval,
        who_finds_a_peer_cleaning_leaves_it_to_him,
        what_a_peer_noted_counts,
        options_out_of_range_are_refused,
        a_clock_far_ahead_removes_nothing,
        half_of_all_may_go,
        few_may_all_go,
        a_cleaning_of_the_future_is_doubted,
        certificates_of_the_future_are_doubted,
        maintenance_lets_issuers_clean_too,
        nothing_valid_ever_goes,
    };

    return kit_run("clean_fleet", tests, CM_ARRAY_LEN(tests));
}
