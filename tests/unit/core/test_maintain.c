/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "maintain.h"

/* The clockwork, its line before the CAs and what it does with names, on a clock that moves when
 * told: with a thread of its own, and driven by the program. How it is stopped is in
 * test_maintain_stop.c, years of it in test_life_sim.c. */

#define DAY_S  INT64_C(86400)
#define DUE_S  (60 * DAY_S)       /* a life of 90 days is renewed with a third of it left ... */
#define LATE_S (DUE_S + 3600 + 1) /* ... and an hour of chance */

static struct kit k;
static struct cm_err err;
static struct cm_cache *cache;
static bool by_hand; /* there is no thread */
static const char *const example[] = { "example.com" };

static void begin(bool no_thread, unsigned max_parallel, size_t capacity)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co,
                                   .capacity = capacity,
                                   .no_thread = no_thread };

    by_hand = no_thread;
    cache = NULL;
    kit_init(&k);
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    k.opts.max_parallel = max_parallel;
    kit_start(&k);
}

static void end(void)
{
    kit_stop(&k);
    cm_cache_free(cache);
}

static int64_t now_s(void)
{
    return cm_env_wall_s(&k.env.base);
}

static bool is_idle(struct cm_cache *c)
{
    return cm_cache_next_due_s(c) > now_s() && cm_maint_in_flight(cm_cache_maint(c)) == 0;
}

/* Twice: what was due may have been begun between the two looks of the first. */
static bool is_quiet(struct cm_cache *c)
{
    return is_idle(c) && is_idle(c);
}

/* Time passes, and what is due by then is done. */
static void live(int64_t s)
{
    kit_pass(&k.env, s * CM_NS_PER_S);
    if (by_hand)
        ck_ok(cm_cache_maintain_now(cache, false, &err));
    kit_until(is_quiet(cache));
}

static cm_status get(struct cm_config *cfg, const char *name, struct cm_cert **ret)
{
    struct cm_pending *p = NULL;
    struct cm_err why;
    struct cm_hello h;

    kit_hello(&h, name);
    cm_status rc = cm_get_certificate(cfg, &h, ret, &p, &why);
    if (rc == CM_E_AGAIN)
        rc = cm_pending_wait(p, NULL, ret, &why);
    cm_pending_free(p);
    return rc;
}

/* When the certificate begins that a client gets. */
static int64_t since_s(struct cm_config *cfg, const char *name)
{
    struct cm_cert *c = NULL;

    if (get(cfg, name, &c) != CM_OK)
        return 0;
    int64_t since = cm_cert_not_before_s(c);
    cm_cert_unref(c);
    return since;
}

static unsigned orders(void)
{
    return atomic_load(&k.issuer->orders);
}

/* ---- renewal ---- */

/* A client that comes all the time. */
static struct {
    _Atomic bool over;
    _Atomic unsigned looks, missing, old;
} client;

static void *keep_looking(void *arg)
{
    int64_t newest_s = 0;

    (void)arg;
    while (!atomic_load(&client.over)) {
        struct cm_cert *c = NULL;
        struct cm_pending *p = NULL;
        struct cm_hello h;

        kit_hello(&h, "example.com");
        bool found = cm_get_certificate(k.cfg, &h, &c, &p, NULL) == CM_OK;
        (void)atomic_fetch_add(&client.looks, 1);
        if (found) {
            (void)atomic_fetch_add(&client.old, cm_cert_not_before_s(c) < newest_s);
            newest_s = cm_cert_not_before_s(c);
            cm_cert_unref(c);
        } else {
            (void)atomic_fetch_add(&client.missing, 1);
            cm_pending_free(p);
        }
    }
    return NULL;
}

static void renewed_when_due(bool no_thread)
{
    pthread_t thread;

    memset(&client, 0, sizeof client);
    begin(no_thread, 0, 0);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    ck_assert_int_eq(pthread_create(&thread, NULL, keep_looking, NULL), 0);
    for (unsigned i = 1; i <= 20; i++) {
        live(DUE_S - 3600);
        ck_assert_uint_eq(orders(), i);
        live(LATE_S - DUE_S + 3600);
        ck_assert_uint_eq(orders(), i + 1);
        ck_assert_int_ge(since_s(k.cfg, "example.com"), now_s() - 3600);
        ck_assert_uint_eq(cm_cache_count(cache), 1);
    }
    atomic_store(&client.over, true);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_gt(atomic_load(&client.looks), 100);
    ck_assert_uint_eq(atomic_load(&client.missing), 0);
    ck_assert_uint_eq(atomic_load(&client.old), 0);
    end();
}

START_TEST(name_is_renewed_when_due_and_no_client_sees_a_gap)
{
    renewed_when_due(false);
    renewed_when_due(true);
}
END_TEST

START_TEST(what_a_peer_stored_is_found_when_asked_for)
{
    for (int mode = 0; mode < 2; mode++) {
        begin(mode == 1, 0, 0);
        ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
        live(DAY_S);
        kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", now_s() - 60, 90 * DAY_S);
        live(3600); /* nothing is due, so nobody looks */
        ck_assert_int_le(since_s(k.cfg, "example.com"), START_S);
        ck_ok(cm_cache_maintain_now(cache, true, &err));
        if (mode == 1) /* then it is done when that returns */
            ck_assert_int_gt(since_s(k.cfg, "example.com"), START_S);
        kit_until(since_s(k.cfg, "example.com") > START_S);
        ck_assert_uint_eq(orders(), 1);
        end();
    }
}
END_TEST

/* ---- those that hang and those that fail ---- */

/* So that what is under way keeps its leases. */
static void pass_slowly(int s)
{
    for (int i = 0; i < s; i++) {
        kit_pass(&k.env, CM_NS_PER_S);
        for (int nap = 0; nap < 10; nap++)
            kit_nap();
    }
}

static void *drive(void *arg)
{
    (void)arg;
    ck_ok(cm_cache_maintain_now(cache, false, &err));
    return NULL;
}

static void hangs(bool no_thread)
{
    pthread_t driver;

    begin(no_thread, 1, 0);
    atomic_store(&k.issuer->hold, true);
    for (int i = 0; i < 6; i++) {
        char name[32];
        const char *const one[] = { name };

        (void)snprintf(name, sizeof name, "h%d.example", i);
        ck_ok(cm_manage_async(k.cfg, one, 1, &err));
    }
    kit_until(atomic_load(&k.issuer->inside) == 1 && cm_pump_length(k.cfg->pump) == 5);
    if (no_thread)
        ck_assert_int_eq(pthread_create(&driver, NULL, drive, NULL), 0);
    for (unsigned n = 1; n <= 4; n++) {
        for (int i = 0; i < 100; i++)
            kit_nap();
        ck_assert_uint_eq(atomic_load(&k.issuer->inside), n);
        pass_slowly(25);
        ck_assert_uint_eq(atomic_load(&k.issuer->inside), n);
        pass_slowly(6);
        if (n < 4)
            kit_until(atomic_load(&k.issuer->inside) == n + 1);
    }
    for (int i = 0; i < 100; i++)
        kit_nap();
    ck_assert_uint_eq(atomic_load(&k.issuer->most_inside), 4);
    atomic_store(&k.issuer->hold, false);
    kit_until(cm_cache_count(cache) == 6);
    if (no_thread)
        ck_assert_int_eq(pthread_join(driver, NULL), 0);
    ck_assert_uint_eq(atomic_load(&k.issuer->most_inside), 4);
    ck_assert_uint_eq(orders(), 6);
    end();
}

START_TEST(job_that_hangs_delays_the_others_by_half_a_minute_at_most)
{
    hangs(false);
    hangs(true);
}
END_TEST

START_TEST(failing_name_delays_nobody_and_is_tried_again_by_the_clock)
{
    const char *const good[] = { "a.example", "b.example" };

    for (int mode = 0; mode < 2; mode++) {
        struct kit_issuer *peers_issuer;

        begin(mode == 1, 1, 0);
        atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
        ck_refused(cm_manage(k.cfg, NULL, example, 1, &err), CM_E_ACME);
        atomic_store(&k.issuer->step, KIT_GO);
        ck_ok(cm_manage(k.cfg, NULL, good, 2, &err));
        /* A minute, by a fifth more or less. */
        live(47);
        ck_assert_uint_eq(atomic_load(&k.issuer->asked), 3);
        k.opts.cache = NULL;
        struct cm_config *peer = kit_peer(&k, &peers_issuer);
        ck_refused(cm_manage(peer, NULL, example, 1, &err), CM_E_ACME);
        ck_assert_ptr_nonnull(strstr(err.msg, "not tried again before"));
        ck_assert_uint_eq(atomic_load(&peers_issuer->asked), 0);
        live(26);
        /* By whom is not said: the peer's memory is the fleet's. */
        kit_until(orders() + atomic_load(&peers_issuer->orders) == 3);
        kit_until(since_s(k.cfg, "example.com") > 0);
        cm_config_free(peer);
        end();
    }
}
END_TEST

/* The process, or the whole machine, stood still: the lease is lost, and the job's time is over. */
START_TEST(job_that_was_paused_is_done_once_more)
{
    begin(false, 0, 0);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    /* Before the order is in the journal, it would be lost with the lock. */
    kit_until(kit_has(&k.storage.base, "certmesh/journal/example.com"));
    kit_pass(&k.env, 2 * 3600 * CM_NS_PER_S);
    kit_until(atomic_load(&k.issuer->inside) == 0);
    kit_until(is_quiet(cache));
    struct cm_name_state st = { .size = (uint32_t)sizeof st };
    ck_ok(cm_name_state(k.cfg, "example.com", &st, &err));
    ck_assert_int_eq(st.last.status, CM_E_TIMEOUT);
    atomic_store(&k.issuer->hold, false);
    for (int i = 0; i < 30; i++)
        live(60);
    ck_assert_int_gt(since_s(k.cfg, "example.com"), 0);
    ck_assert_uint_eq(orders(), 1); /* the same one was resumed */
    end();
}
END_TEST

static _Atomic unsigned vetoes;

static cm_status veto_once(void *user, const struct cm_event *ev, struct cm_err *e)
{
    (void)user;
    if (ev->type != CM_EVENT_CERT_OBTAINING || atomic_fetch_add(&vetoes, 1) > 0)
        return CM_OK;
    return cm_fail(e, CM_E_CANCELED, "not just now");
}

/* Whatever the program calls it: the name is still to be had. */
START_TEST(veto_is_not_for_ever)
{
    atomic_store(&vetoes, 0);
    begin(false, 0, 0);
    cm_config_free(k.cfg);
    k.opts.on_event = veto_once;
    kit_start(&k);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    kit_until(atomic_load(&vetoes) == 1 && is_quiet(cache));
    for (int i = 0; i < 30; i++)
        live(60);
    ck_assert_int_gt(since_s(k.cfg, "example.com"), 0);
    end();
}
END_TEST

/* The clock was two months ahead while the CA failed. */
START_TEST(clock_that_is_put_back_does_not_put_off_a_retry)
{
    const char *const fresh[] = { "new.example" };

    for (int mode = 0; mode < 2; mode++) {
        begin(mode == 1, 0, 0);
        ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
        live(DUE_S - DAY_S);
        atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
        ck_ok(cm_manage_async(k.cfg, fresh, 1, &err));
        live(0);
        for (int h = 0; h < 48; h++)
            live(3600); /* example.com falls due, and fails */
        atomic_store(&k.env.wrong_ns, 60 * DAY_S * CM_NS_PER_S);
        for (int h = 0; h < 48; h++)
            live(3600);
        atomic_store(&k.env.wrong_ns, 0);
        if (by_hand)
            live(0);
        kit_until(kit_logged("the clock went back") == 1);
        atomic_store(&k.issuer->step, KIT_GO);
        unsigned before = orders();
        for (int i = 0; i < 61; i++)
            live(60);
        ck_assert_uint_eq(orders(), before + 2);
        ck_assert_int_ge(since_s(k.cfg, "example.com"), now_s() - 3700);
        ck_assert_int_ge(since_s(k.cfg, "new.example"), now_s() - 3700);
        end();
    }
}
END_TEST

/* ---- several ---- */

#define PEERS_MAX 4u
static const char *const five[] = { "a.example", "b.example", "c.example", "d.example",
                                    "e.example" };

static bool all_since(struct cm_config *const *cfgs, unsigned n, int64_t since)
{
    bool all = true;

    for (unsigned i = 0; i < n; i++)
        for (size_t f = 0; f < CM_ARRAY_LEN(five); f++)
            all = all && since_s(cfgs[i], five[f]) >= since;
    return all;
}

static void fleet(unsigned n)
{
    struct kit_issuer *issuers[PEERS_MAX];
    struct cm_config *cfgs[PEERS_MAX];
    unsigned all = 0, reloads = 0;

    kit_init(&k);
    kit_start(&k);
    cfgs[0] = k.cfg;
    issuers[0] = k.issuer;
    for (unsigned i = 1; i < n; i++)
        cfgs[i] = kit_peer(&k, &issuers[i]);
    for (unsigned i = 0; i < n; i++)
        ck_ok(cm_manage(cfgs[i], NULL, five, CM_ARRAY_LEN(five), &err));
    for (unsigned round = 1; round <= 3; round++) {
        int64_t before_s = now_s();

        kit_pass(&k.env, LATE_S * CM_NS_PER_S);
        kit_until(all_since(cfgs, n, before_s + DUE_S - 60));
        for (unsigned i = 0; i < n; i++)
            kit_until(is_quiet(cfgs[i]->cache));
    }
    for (unsigned i = 0; i < n; i++) {
        all += atomic_load(&issuers[i]->orders);
        ck_assert_uint_eq(cm_cache_count(cfgs[i]->cache), CM_ARRAY_LEN(five));
        reloads += (unsigned)atomic_load(&cfgs[i]->counters->n[CM_COUNT_RELOADED]);
    }
    printf("# %u configs: %u orders, %u reloads\n", n, all, reloads);
    ck_assert_uint_eq(all, 4 * CM_ARRAY_LEN(five));
    for (unsigned i = 1; i < n; i++)
        cm_config_free(cfgs[i]);
    kit_stop(&k);
}

START_TEST(fleet_places_one_order_for_each_renewal)
{
    fleet(2);
    fleet(4);
}
END_TEST

START_TEST(full_cache_gives_up_certificates_but_renews_them)
{
    for (int mode = 0; mode < 2; mode++) {
        begin(mode == 1, 0, 1);
        ck_ok(cm_manage(k.cfg, NULL, five, CM_ARRAY_LEN(five), &err));
        ck_assert_uint_eq(cm_cache_count(cache), 1);
        for (size_t f = 0; f < CM_ARRAY_LEN(five); f++)
            ck_assert_int_gt(since_s(k.cfg, five[f]), 0);
        ck_assert_uint_eq(orders(), 5);
        live(DUE_S - 3600);
        ck_assert_uint_eq(orders(), 5);
        live(LATE_S - DUE_S + 3600);
        ck_assert_uint_eq(orders(), 10);
        ck_assert_uint_eq(cm_cache_count(cache), 1);
        for (size_t f = 0; f < CM_ARRAY_LEN(five); f++)
            ck_assert_int_ge(since_s(k.cfg, five[f]), now_s() - 3700);
        ck_assert_uint_eq(orders(), 10);
        end();
    }
}
END_TEST

/* Storage that cannot be read tells nothing of what is not in the cache; it is asked again soon,
 * not on the next day. */
START_TEST(evicted_name_survives_storage_that_is_down_when_it_is_due)
{
    begin(true, 0, 1);
    k.issuer->lifetime_s = 6 * 3600;
    ck_ok(cm_manage(k.cfg, NULL, five, 2, &err));
    atomic_store(&k.storage.fail_loads, -1);
    live(3 * 3600 + 600);
    atomic_store(&k.storage.fail_loads, 0);
    live(601);
    live(600); /* what failed for want of storage is tried again within ten minutes */
    live(600);
    ck_assert_uint_eq(orders(), 4);
    end();
}
END_TEST

/* The CA's own time for it, kept beside it as a peer would, is later than the rule's. */
static void suggest_for(const char *name, int64_t from_s)
{
    const struct cm_op op = { &k.env.base, 0, NULL };
    struct cm_ari ari = { from_s, from_s + 3600, from_s + 1, from_s, 0 };
    struct cm_subject *subject = NULL;
    struct cm_cert *cert = NULL;
    struct cm_leaf *leaf = NULL;

    ck_ok(cm_subject_new(&name, 1, &subject, &err));
    ck_ok(cm_load_stored(k.cfg, NULL, name, &cert, &err));
    ck_ok(cm_leaf_parse(cm_cert_der(cert, 0), &leaf, &err));
    ck_ok(cm_ari_store(k.cfg, &op, subject, cert, leaf->ari_id, &ari, "", &err));
    cm_leaf_free(leaf);
    cm_cert_unref(cert);
    cm_subject_free(subject);
}

START_TEST(evicted_name_waits_for_the_time_that_its_ca_suggests)
{
    const int64_t later_s = 70 * DAY_S;
    unsigned locks;

    begin(true, 0, 1);
    k.issuer->issuer_data = "{\"url\":\"https://ca.test/cert/1\"}";
    ck_ok(cm_manage(k.cfg, NULL, five, 2, &err));
    ck_assert_int_gt(since_s(k.cfg, five[1]), 0);
    suggest_for(five[0], now_s() + later_s);
    live(DUE_S + 2 * 3600);
    ck_assert_uint_eq(orders(), 3); /* the other one */
    locks = atomic_load(&k.storage.locks);
    for (int i = 0; i < 30; i++)
        live(61);
    ck_assert_uint_eq(atomic_load(&k.storage.locks), locks);
    live(later_s - DUE_S);
    live(61);
    ck_assert_uint_eq(orders(), 4);
    end();
}
END_TEST

/* ---- want of memory ---- */

/* Each allocation of a renewal fails in its turn. The certificates live for a day. */
START_TEST(renewal_survives_every_failed_allocation)
{
    uint64_t all;
    unsigned late = 0;

    begin(true, 0, 0);
    k.issuer->lifetime_s = DAY_S;
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    live(3600);
    (void)cm_alloc_fail_at(0);
    live(DAY_S / 2);
    all = cm_alloc_fail_at(0);
    ck_assert_uint_eq(orders(), 2);
    ck_assert_uint_gt(all, 50);
    for (uint64_t n = 1; n <= all; n++) {
        int64_t before_s = since_s(k.cfg, "example.com");

        live(3600);
        (void)cm_alloc_fail_at(n);
        live(DAY_S / 2);
        (void)cm_alloc_fail_at(0);
        ck_assert_int_ge(since_s(k.cfg, "example.com"), before_s);
        late += since_s(k.cfg, "example.com") == before_s;
        for (int i = 0; i < 40 && since_s(k.cfg, "example.com") == before_s; i++)
            live(60);
        ck_assert_msg(since_s(k.cfg, "example.com") > before_s,
                      "not renewed after allocation %u had failed", (unsigned)n);
    }
    printf("# %u allocations, %u delayed the renewal\n", (unsigned)all, late);
    ck_assert_uint_gt(late, 10);
    end();
}
END_TEST

/* The same with a thread that sleeps without a token to be woken by. */
START_TEST(thread_survives_failed_allocations)
{
    begin(false, 0, 0);
    k.issuer->lifetime_s = DAY_S;
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    for (uint64_t n = 1; n <= 120; n++) {
        (void)cm_alloc_fail_at(n);
        kit_pass(&k.env, 600 * CM_NS_PER_S);
        kit_until(is_quiet(cache));
    }
    (void)cm_alloc_fail_at(0);
    live(DAY_S);
    live(3600);
    ck_assert_int_ge(since_s(k.cfg, "example.com"), now_s() - DAY_S / 2 - 3600);
    end();
}
END_TEST

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    const TTest *const tests[] = {
        name_is_renewed_when_due_and_no_client_sees_a_gap,
        what_a_peer_stored_is_found_when_asked_for,
        job_that_hangs_delays_the_others_by_half_a_minute_at_most,
        failing_name_delays_nobody_and_is_tried_again_by_the_clock,
        job_that_was_paused_is_done_once_more,
        veto_is_not_for_ever,
        clock_that_is_put_back_does_not_put_off_a_retry,
        fleet_places_one_order_for_each_renewal,
        full_cache_gives_up_certificates_but_renews_them,
        evicted_name_survives_storage_that_is_down_when_it_is_due,
        evicted_name_waits_for_the_time_that_its_ca_suggests,
        renewal_survives_every_failed_allocation,
        thread_survives_failed_allocations,
    };

    return kit_run("maintain", tests, CM_ARRAY_LEN(tests));
}
