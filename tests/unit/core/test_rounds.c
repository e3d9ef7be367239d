/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "staple_kit.h"

#include "../../../lib/core/names.h" /* lib/pki has one, too */

/* What others change in storage without a word. The storage tells nothing, or is quiet; so what is
 * noticed here is noticed by looking, and what that costs is counted. */

#define DAY_S      INT64_C(86400)
#define INTERVAL_S 600
#define SLICE      32u

static struct kit k;
static struct cm_err err;
static struct cm_cache *cache;

/* What is stored before it is old: nobody need wonder whether it is what was loaded. */
static void begin_with(unsigned n)
{
    kit_init(&k);
    for (unsigned i = 0; i < n; i++) {
        CM_AUTO_FREE char *name = cm_asprintf("n%u.example", i);

        kit_store_pair(&k.storage.base, "ca.test-dir", name, START_S - DAY_S, 90 * DAY_S);
    }
    kit_pass(&k.env, 2 * 3600 * CM_NS_PER_S);
}

static void start(void)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co, .no_thread = true };

    cache = NULL;
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    k.opts.poll_storage_s = k.opts.poll_storage_s == -1 ? INTERVAL_S : k.opts.poll_storage_s;
    k.opts.log.min_level = CM_LOG_INFO;
    kit_start(&k);
}

static void end(void)
{
    cm_config_free(k.cfg);
    cm_cache_free(cache);
    kit_storage_free(&k.storage);
}

static void manage(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        CM_AUTO_FREE char *text = cm_asprintf("n%u.example", i);
        const char *name = text;

        ck_ok(cm_manage_async(k.cfg, &name, 1, &err));
    }
    ck_ok(cm_cache_maintain_now(cache, false, &err));
}

static unsigned stats(void)
{
    return atomic_load(&k.storage.stats);
}

static unsigned loads(void)
{
    return atomic_load(&k.storage.loads);
}

#define STEPS 8 /* in a second */

/* What happens in @s, step by step; returns the most values that were looked at in a second. */
static unsigned live(int64_t s)
{
    unsigned most = 0;

    for (int64_t i = 0; i < s; i++) {
        unsigned before = stats();

        for (int step = 0; step < STEPS; step++) {
            kit_pass(&k.env, CM_NS_PER_S / STEPS);
            ck_ok(cm_cache_maintain_now(cache, false, &err));
        }
        if (stats() - before > most)
            most = stats() - before;
    }
    return most;
}

static int64_t since_s(const char *name)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(cache, name, strlen(name), certs);
    int64_t since = 0;

    for (size_t i = 0; i < n; i++) {
        if (cm_cert_not_before_s(certs[i]) > since)
            since = cm_cert_not_before_s(certs[i]);
        cm_cert_unref(certs[i]);
    }
    return since;
}

/* Certificates begin a minute before they are made. */
static bool is_of(const char *name, int64_t from_s)
{
    return since_s(name) >= from_s - 60;
}

static void peer_stores(const char *name, int64_t from_s)
{
    kit_store_pair(&k.storage.base, "ca.test-dir", name, from_s, 90 * DAY_S);
}

/* ---- */

START_TEST(certificate_of_a_silent_writer_is_served_within_the_interval)
{
    begin_with(1);
    start();
    manage(1);
    (void)live(3 * INTERVAL_S);
    for (int i = 0; i < 5; i++) {
        unsigned before = loads(), looked = stats();

        while (stats() == looked) /* not stored in the moment of a look: it would be read twice */
            (void)live(1);
        (void)live(10);
        peer_stores("n0.example", START_S + i * 60);
        (void)live(INTERVAL_S);
        ck_assert(is_of("n0.example", START_S + i * 60));
        ck_assert_uint_eq(loads() - before, 2);
        (void)live(5 * INTERVAL_S);
        ck_assert_uint_eq(loads() - before, 2);
    }
    ck_assert_uint_eq(kit_logged("certificate_reloaded"), 5);
    end();
}
END_TEST

/* So many names, each with a certificate of its own and the same DER, which lies in storage. */
static void fill(unsigned n)
{
    CM_AUTO_BUF struct cm_buf chain_pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key_pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *any[] = { "any.example" };
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    struct cm_key *key = NULL;

    kit_make_pair(CM_PK_P256, any, 1, START_S, 90 * DAY_S, &chain_pem, &key_pem);
    ck_ok(cm_chain_from_pem(cm_buf_span(&chain_pem), &chain, &err));
    ck_ok(cm_leaf_parse(chain.der[0], &leaf, &err));
    ck_ok(cm_key_from_pem(cm_buf_span(&key_pem), &key, &err));
    char **names = leaf->names;
    for (unsigned i = 0; i < n; i++) {
        const struct cm_cert_parts parts = {
            &chain, leaf, key, "ca.test-dir", NULL, CM_CERT_MANAGED
        };
        CM_AUTO_FREE char *one = cm_asprintf("n%u.example", i);
        CM_AUTO_FREE char *path = cm_asprintf("certificates/ca.test-dir/%s/%s.crt", one, one);
        struct cm_cert *c = NULL;

        leaf->names = &one;
        ck_ok(cm_cert_new(&parts, &c, &err));
        ck_ok(cm_cache_put(cache, c, START_S, &err));
        cm_cert_unref(c);
        kit_put(&k.storage.base, path, cm_buf_str(&chain_pem));
    }
    leaf->names = names;
    cm_key_unref(key);
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
}

/* Ten thousand: one small question for each in each interval, spread over it; nothing is read. */
START_TEST(ten_thousand_names_are_gone_through_without_a_burst)
{
    const char *text = getenv("CM_ROUND_NAMES");
    unsigned n = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 10000;
    unsigned each = n / INTERVAL_S + 1;

    begin_with(0);
    start();
    kit_pass(&k.env, -(2 * 3600 * CM_NS_PER_S));
    fill(n);
    kit_pass(&k.env, 2 * 3600 * CM_NS_PER_S);
    manage(n);
    unsigned loaded = loads();
    (void)live(INTERVAL_S);
    for (int i = 0; i < 3; i++) {
        unsigned before = stats();
        unsigned most = live(INTERVAL_S);

        printf("# %u names: %u values looked at in %d s, at most %u in one\n", n, stats() - before,
               INTERVAL_S, most);
        ck_assert_uint_ge(stats() - before + SLICE, n);
        ck_assert_uint_le(stats() - before, n + n / 5 + SLICE);
        ck_assert_uint_le(most, 2 * each + 2 * SLICE);
    }
    ck_assert_uint_eq(loads(), loaded);
    ck_assert_uint_eq(atomic_load(&k.storage.lists), 0);
    end();
}
END_TEST

/* Each of them within the interval, and no other is read. */
START_TEST(all_are_seen_although_names_come_in)
{
    const unsigned n = 300;

    begin_with(n);
    start();
    manage(n / 2);
    (void)live(INTERVAL_S / 2);
    manage(n); /* the table has got more buckets by then */
    (void)live(2 * INTERVAL_S);
    unsigned before = loads();
    for (unsigned i = 0; i < n; i++) {
        CM_AUTO_FREE char *name = cm_asprintf("n%u.example", i);

        peer_stores(name, START_S);
    }
    (void)live(INTERVAL_S + 10);
    ck_assert_uint_eq(loads() - before, 2 * n);
    for (unsigned i = 0; i < n; i++) {
        CM_AUTO_FREE char *name = cm_asprintf("n%u.example", i);

        ck_assert(is_of(name, START_S));
    }
    end();
}
END_TEST

/* Neither twice at a start is anything read: what is young is read once more, as it may have been
 * stored since it was loaded. */
START_TEST(what_came_while_the_process_began_is_not_missed)
{
    begin_with(40);
    peer_stores("n3.example", START_S - 3600);
    start();
    manage(40);
    unsigned before = loads();
    peer_stores("n3.example", START_S); /* after it was loaded, before it was looked at */
    (void)live(INTERVAL_S + 10);
    ck_assert(is_of("n3.example", START_S));
    ck_assert_uint_eq(loads() - before, 2);
    end();
}
END_TEST

START_TEST(what_a_silent_peer_got_is_served_by_who_failed)
{
    begin_with(0);
    start();
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    k.issuer->fail_status = CM_E_POLICY; /* never again, says this process */
    manage(1);
    (void)live(2 * INTERVAL_S);
    ck_assert_int_eq(since_s("n0.example"), 0);
    unsigned asked = atomic_load(&k.issuer->asked);
    peer_stores("n0.example", START_S);
    (void)live(INTERVAL_S + 10);
    ck_assert(is_of("n0.example", START_S));
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), asked);
    end();
}
END_TEST

/* Two values in the same second of the storage's clock, of the same size. */
START_TEST(what_is_written_twice_in_a_moment_is_seen)
{
    begin_with(1);
    start();
    manage(1);
    (void)live(2 * INTERVAL_S);
    peer_stores("n0.example", START_S);
    for (int i = 0; i < 2 * INTERVAL_S && !is_of("n0.example", START_S); i++) {
        peer_stores("n0.example", START_S);
        (void)live(1);
    }
    ck_assert(is_of("n0.example", START_S));
    peer_stores("n0.example", START_S + 600); /* the clock has not moved since */
    (void)live(INTERVAL_S + 10);
    ck_assert(is_of("n0.example", START_S + 600));
    end();
}
END_TEST

/* The next one comes from a peer, which asked before it was our turn. */
START_TEST(staple_of_a_silent_peer_is_taken)
{
    static struct world w;
    const char *name = "ocsp.test";

    world_init(&w);
    w.k.opts.poll_storage_s = 60;
    world_go(&w);
    ck_ok(tend(&w, true));
    ck_ok(cm_serve_managed(w.cfg, w.cert, &err));
    ck_ok(cm_manage(w.cfg, NULL, &name, 1, &err));
    for (int i = 0; i < 10; i++) {
        world_pass(&w, 60);
        for (int n = 0; n < 20; n++)
            kit_nap();
    }
    unsigned calls = atomic_load(&w.responder.calls);
    ck_assert_uint_ge(atomic_load(&w.k.storage.stats), 10);
    CM_AUTO_BUF struct cm_buf newer = CM_BUF_INIT(1u << 20);
    make_response(&w, &(struct ok_response){ .this_s = now_s(&w) - 10 }, &newer);
    put_span(&w, w.key, cm_buf_span(&newer));
    for (int i = 0; i < 3; i++) {
        world_pass(&w, 60);
        for (int n = 0; n < 50; n++)
            kit_nap();
    }
    check_stapled(&w, cm_buf_span(&newer));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), calls);
    world_stop(&w);
}
END_TEST

/* Away for a day: asked now and then, a few values each time; back: all is found within two
 * intervals. */
START_TEST(storage_that_is_away_is_not_stormed)
{
    const unsigned n = 320;

    begin_with(n);
    start();
    manage(n);
    (void)live(2 * INTERVAL_S);
    atomic_store(&k.storage.fail_stats, -1);
    unsigned before = stats(), loaded = loads();
    (void)live(DAY_S / 4);
    printf("# %u names, storage away for 6 hours: %u tries\n", n, stats() - before);
    ck_assert_uint_le(stats() - before, 3 * DAY_S / 4 / 30);
    ck_assert_uint_ge(stats() - before, 3 * DAY_S / 4 / 600);
    ck_assert_uint_eq(loads(), loaded);
    atomic_store(&k.storage.fail_stats, 0);
    peer_stores("n0.example", START_S);
    peer_stores("n319.example", START_S);
    (void)live(2 * INTERVAL_S);
    ck_assert(is_of("n0.example", START_S));
    ck_assert(is_of("n319.example", START_S));
    end();
}
END_TEST

/* Some values that cannot be looked at keep nobody else from being seen. */
START_TEST(values_that_cannot_be_looked_at_hold_up_nobody)
{
    begin_with(100);
    start();
    manage(100);
    (void)live(INTERVAL_S);
    k.storage.fail_key = "/n1"; /* n1, n10 .. n19 */
    atomic_store(&k.storage.fail_stats, -1);
    peer_stores("n0.example", START_S);
    peer_stores("n99.example", START_S);
    (void)live(2 * INTERVAL_S);
    ck_assert(is_of("n0.example", START_S));
    ck_assert(is_of("n99.example", START_S));
    end();
}
END_TEST

/* What was seen to be new and cannot be read yet is read later. */
START_TEST(what_cannot_be_loaded_yet_is_loaded_later)
{
    begin_with(1);
    start();
    manage(1);
    (void)live(2 * INTERVAL_S);
    peer_stores("n0.example", START_S);
    atomic_store(&k.storage.fail_loads, -1);
    unsigned before = loads();
    (void)live(INTERVAL_S + 200);
    ck_assert(!is_of("n0.example", START_S));
    ck_assert_uint_gt(loads() - before, 1);
    ck_assert_uint_lt(loads() - before, 30);
    atomic_store(&k.storage.fail_loads, 0);
    (void)live(60);
    ck_assert(is_of("n0.example", START_S));
    end();
}
END_TEST

START_TEST(interval_is_what_was_asked_for)
{
    static const int64_t wrong[] = { 1, 9, 86401, INT64_MAX };

    begin_with(1);
    for (size_t i = 0; i < CM_ARRAY_LEN(wrong); i++) {
        struct cm_config *cfg = NULL;
        struct cm_issuer *is = kit_issuer_new(&k.env, "ca.test-dir");

        k.opts.poll_storage_s = wrong[i];
        k.opts.issuers = &is;
        k.opts.n_issuers = 1;
        ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
        ck_assert_ptr_nonnull(strstr(err.msg, "poll_storage_s"));
        cm_issuer_destroy(is);
    }
    k.opts.issuers = NULL;
    k.opts.n_issuers = 0;
    k.opts.poll_storage_s = 30;
    start();
    manage(1);
    unsigned before = stats();
    (void)live(300);
    ck_assert_uint_ge(stats() - before, 9);
    ck_assert_uint_le(stats() - before, 12);
    end();
    begin_with(1);
    k.opts.poll_storage_s = -2;
    start();
    manage(1);
    before = stats();
    (void)live(3 * INTERVAL_S);
    ck_assert_uint_eq(stats(), before);
    end();
}
END_TEST

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    const TTest *const tests[] = {
        certificate_of_a_silent_writer_is_served_within_the_interval,
        ten_thousand_names_are_gone_through_without_a_burst,
        all_are_seen_although_names_come_in,
        what_came_while_the_process_began_is_not_missed,
        what_a_silent_peer_got_is_served_by_who_failed,
        what_is_written_twice_in_a_moment_is_seen,
        staple_of_a_silent_peer_is_taken,
        storage_that_is_away_is_not_stormed,
        values_that_cannot_be_looked_at_hold_up_nobody,
        what_cannot_be_loaded_yet_is_loaded_later,
        interval_is_what_was_asked_for,
    };

    return kit_run("rounds", tests, CM_ARRAY_LEN(tests));
}
