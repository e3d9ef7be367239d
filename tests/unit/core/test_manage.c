/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "maintain.h"

#include <unistd.h>

#define SITE "certificates/ca.test-dir/example.com/example.com"

static struct kit k;
static struct cm_err err;
static const char *const example[] = { "example.com" };

/* Nothing is being done, or due: what was loaded has been looked after for the first time. */
static void until_idle(void)
{
    kit_until(cm_maint_in_flight(cm_cache_maint(k.cfg->cache)) == 0 &&
              cm_cache_next_due_s(k.cfg->cache) > cm_env_wall_s(k.cfg->env));
}

static struct cm_name_state state_of(const char *name)
{
    struct cm_name_state st;

    memset(&st, 0, sizeof st);
    ck_ok(cm_name_state(k.cfg, name, &st, &err));
    return st;
}

static cm_status get(const char *sni, struct cm_cert **ret)
{
    struct cm_pending *p = NULL;
    struct cm_hello h;

    kit_hello(&h, sni);
    cm_status rc = cm_get_certificate(k.cfg, &h, ret, &p, &err);
    cm_pending_free(p);
    return rc;
}

static void served(const char *sni)
{
    struct cm_cert *c = NULL;

    ck_ok(get(sni, &c));
    ck_assert(cm_cert_covers(c, sni));
    cm_cert_unref(c);
}

START_TEST(manage_orders_and_serves)
{
    const char *const names[] = { "Example.com", "www.example.com" };

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, names, 2, &err));
    served("example.com");
    served("www.example.com");
    struct cm_name_state st = state_of("EXAMPLE.com");
    ck_assert(st.managed && st.served && !st.busy);
    ck_assert_int_eq(st.phase, CM_PHASE_STORED);
    ck_assert_int_eq(st.last.status, CM_OK);
    ck_ok(cm_manage(k.cfg, NULL, names, 2, &err)); /* nothing to do */
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    ck_refused(cm_name_state(k.cfg, "other.example", &st, &err), CM_E_NOTFOUND);
    kit_stop(&k);
}
END_TEST

START_TEST(manage_serves_what_storage_has)
{
    kit_init(&k);
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 86400, 90 * 86400);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    served("example.com");
    kit_stop(&k);
}
END_TEST

START_TEST(certificate_that_is_due_is_served_and_renewed)
{
    struct cm_cert *c = NULL;

    kit_init(&k);
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 80 * 86400, 90 * 86400);
    kit_pass(&k.env, 2 * 86400 * CM_NS_PER_S); /* it was not stored just now */
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err)); /* does not wait for the renewal */
    served("example.com");
    kit_until(atomic_load(&k.issuer->orders) == 1);
    ck_assert(state_of("example.com").busy);
    atomic_store(&k.issuer->hold, false);
    kit_until(!state_of("example.com").busy);
    ck_ok(get("example.com", &c));
    ck_assert_int_gt(cm_cert_not_before_s(c), START_S - 86400);
    ck_assert_uint_eq(cm_cache_count(cm_config_cache(k.cfg)), 1);
    cm_cert_unref(c);
    kit_stop(&k);
}
END_TEST

START_TEST(one_bad_name_does_not_keep_the_others)
{
    const char *const names[] = { "bad.example", "good.example" };
    const char *const broken[] = { "good2.example", "not a name" };

    kit_init(&k);
    kit_start(&k);
    k.issuer->refuse = "bad";
    ck_refused(cm_manage(k.cfg, NULL, names, 2, &err), CM_E_POLICY);
    ck_assert_ptr_nonnull(strstr(err.msg, "bad.example"));
    served("good.example");
    struct cm_name_state st = state_of("bad.example");
    ck_assert_int_eq(st.last.status, CM_E_POLICY);
    ck_assert_int_eq(st.phase, CM_PHASE_FAILED);
    /* what is no name at all is refused before anything is noted */
    ck_refused(cm_manage(k.cfg, NULL, broken, 2, &err), CM_E_INVAL);
    ck_refused(cm_name_state(k.cfg, "good2.example", &st, &err), CM_E_NOTFOUND);
    kit_stop(&k);
}
END_TEST

START_TEST(failed_name_is_tried_again_when_asked)
{
    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(cm_manage(k.cfg, NULL, example, 1, &err), CM_E_ACME);
    atomic_store(&k.issuer->step, KIT_GO);
    /* Who asks again at once, a program that crashes and starts again say, gets the old answer. */
    ck_refused(cm_manage(k.cfg, NULL, example, 1, &err), CM_E_ACME);
    ck_assert_ptr_nonnull(strstr(err.msg, "not tried again before"));
    ck_assert_uint_eq(state_of("example.com").attempts, 1);
    kit_pass(&k.env, 120 * CM_NS_PER_S);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    ck_assert_int_eq(state_of("example.com").last.status, CM_OK);
    kit_stop(&k);
}
END_TEST

START_TEST(certificate_that_cannot_be_stored_is_served_all_the_same)
{
    kit_init(&k);
    kit_start(&k);
    k.storage.fail_key = "certificates/";
    atomic_store(&k.storage.fail_commits, -1);
    ck_refused(cm_manage(k.cfg, NULL, example, 1, &err), CM_E_IO);
    served("example.com");
    ck_assert(state_of("example.com").served);
    ck_assert_uint_eq(kit_logged("served from memory"), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(expired_certificate_is_better_than_none)
{
    kit_init(&k);
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 99 * 86400, 90 * 86400);
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(cm_manage(k.cfg, NULL, example, 1, &err), CM_E_ACME);
    served("example.com");
    kit_stop(&k);
}
END_TEST

START_TEST(unreadable_storage_is_no_reason_to_order)
{
    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.storage.fail_loads, -1);
    ck_refused(cm_manage(k.cfg, NULL, example, 1, &err), CM_E_IO);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

/* ---- what was loaded is looked at once more ---- */

/* Keeps the queue of those looks where it is. */
struct stop_gap {
    struct cm_run run;
    atomic_bool go;
};

static void stand_in_the_way(struct cm_run *self)
{
    struct stop_gap *s = CM_CONTAINER_OF(self, struct stop_gap, run);

    kit_until(atomic_load(&s->go));
}

static struct cm_cert *look_up(const char *name)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];

    ck_assert_uint_eq(cm_cache_find(k.cfg->cache, name, strlen(name), certs), 1);
    return certs[0];
}

START_TEST(first_look_up_of_what_was_loaded_is_no_crowd)
{
    static struct stop_gap gap = { .run = { .run = stand_in_the_way } };
    static const char *const names[] = { "a.example", "b.example", "c.example" };

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_runq_push(k.cfg->idle, &gap.run, &err));
    for (size_t i = 0; i < CM_ARRAY_LEN(names); i++)
        kit_store_pair(&k.storage.base, "ca.test-dir", names[i], START_S - 86400, 90 * 86400);
    ck_ok(cm_manage(k.cfg, NULL, names, CM_ARRAY_LEN(names), &err));
    until_idle();
    for (size_t i = 0; i < CM_ARRAY_LEN(names); i++) {
        struct cm_cert *c = look_up(names[i]);

        ck_assert_int_eq(atomic_load(&c->refs), 2); /* the cache's and this one */
        ck_assert(!atomic_load(&c->crowded));
        ck_assert_ptr_null(atomic_load(&c->tallies));
        cm_cert_unref(c);
    }
    struct cm_cert *a = look_up(names[0]);
    struct cm_cert *b = look_up(names[0]); /* two at once are one */
    ck_assert(sysconf(_SC_NPROCESSORS_ONLN) == 1 || atomic_load(&a->tallies) != NULL);
    cm_cert_unref(a);
    cm_cert_unref(b);
    atomic_store(&gap.go, true);
    kit_stop(&k);
}
END_TEST

/* Only what the signature covers no more: quick looks find nothing wrong with it. */
static void store_forged(const char *name)
{
    CM_AUTO_BUF struct cm_buf good = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf bad = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf leaf = CM_BUF_INIT(CM_CERT_DER_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_chain chain;

    kit_make_pair(CM_PK_P256, &name, 1, START_S - 86400, 90 * 86400, &good, &key);
    ck_ok(cm_chain_from_pem(cm_buf_span(&good), &chain, &err));
    ck_ok(cm_buf_append(&leaf, chain.der[0].data, chain.der[0].len, &err));
    leaf.data[leaf.len - 1] ^= 1;
    ck_ok(cm_cert_der_to_pem(cm_buf_span(&leaf), &bad, &err));
    for (size_t i = 1; i < chain.n; i++)
        ck_ok(cm_cert_der_to_pem(chain.der[i], &bad, &err));
    cm_chain_free(&chain);
    kit_put(&k.storage.base, SITE ".key", cm_buf_str(&key));
    kit_put(&k.storage.base, SITE ".crt", cm_buf_str(&bad));
}

START_TEST(damage_that_a_quick_look_misses_is_mended_behind_it)
{
    static struct stop_gap gap = { .run = { .run = stand_in_the_way } };

    kit_init(&k);
    kit_start(&k);
    store_forged("example.com");
    ck_ok(cm_runq_push(k.cfg->idle, &gap.run, &err));
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    struct cm_cert *forged = look_up("example.com");
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    atomic_store(&gap.go, true);
    kit_until(atomic_load(&k.issuer->issued) == 1 && !state_of("example.com").busy);
    ck_assert_uint_eq(kit_logged("is damaged"), 1);
    struct cm_cert *c = look_up("example.com");
    ck_assert_ptr_ne(c, forged);
    ck_ok(cm_store_check(c, &err));
    cm_cert_unref(c);
    cm_cert_unref(forged);
    kit_stop(&k);
}
END_TEST

START_TEST(what_has_gone_before_its_turn_is_no_matter)
{
    static struct stop_gap gap = { .run = { .run = stand_in_the_way } };

    kit_init(&k);
    kit_start(&k);
    store_forged("example.com");
    ck_ok(cm_runq_push(k.cfg->idle, &gap.run, &err));
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    struct cm_cert *c = look_up("example.com");
    /* Else maintenance finds it gone, and loads it again. */
    until_idle();
    ck_assert(cm_cache_remove(k.cfg->cache, c));
    cm_cert_unref(c);
    atomic_store(&gap.go, true);
    cm_runq_stop(k.cfg->idle); /* runs what is in it */
    ck_assert_uint_eq(kit_logged("is damaged"), 0);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

/* ---- background ---- */

START_TEST(names_in_the_background_get_there)
{
    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    kit_until(state_of("example.com").phase == CM_PHASE_VALIDATING);
    struct cm_name_state st = state_of("example.com");
    ck_assert(st.managed && st.busy && !st.served);
    atomic_store(&k.issuer->hold, false);
    kit_until(state_of("example.com").served);
    kit_stop(&k);
}
END_TEST

START_TEST(stored_names_do_not_wait_behind_names_whose_ca_is_silent)
{
    char name[32];
    const char *const one[] = { name };

    kit_init(&k);
    k.opts.max_parallel = 2;
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    for (int i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof name, "slow%d.example", i);
        ck_ok(cm_manage_async(k.cfg, one, 1, &err));
    }
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S, 90 * 86400);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    served("example.com");
    ck_assert_uint_le(atomic_load(&k.issuer->most_inside), 2);
    kit_stop(&k); /* while twenty are still at it */
}
END_TEST

struct heard {
    _Atomic unsigned phases[CM_PHASE_FAILED + 1];
    _Atomic unsigned with_reason;
};

static void hear(void *user, const char *name, enum cm_phase phase, const struct cm_err *why)
{
    struct heard *h = user;

    ck_assert_str_eq(name, "example.com");
    (void)atomic_fetch_add(&h->phases[phase], 1);
    if (why != NULL && why->msg[0] != '\0')
        (void)atomic_fetch_add(&h->with_reason, 1);
}

START_TEST(progress_is_told)
{
    static struct heard h;

    kit_init(&k);
    k.opts.on_progress = hear;
    k.opts.progress_user = &h;
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(cm_manage(k.cfg, NULL, example, 1, &err), CM_E_ACME);
    kit_until(atomic_load(&h.phases[CM_PHASE_FAILED]) == 1);
    ck_assert_uint_eq(atomic_load(&h.with_reason), 1);
    atomic_store(&k.issuer->step, KIT_GO);
    kit_pass(&k.env, 120 * CM_NS_PER_S);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    kit_until(atomic_load(&h.phases[CM_PHASE_STORED]) == 1);
    ck_assert_uint_eq(atomic_load(&h.phases[CM_PHASE_WAITING]), 2);
    ck_assert_uint_eq(atomic_load(&h.phases[CM_PHASE_ORDERING]), 2);
    ck_assert_uint_eq(atomic_load(&h.phases[CM_PHASE_VALIDATING]), 1);
    ck_assert_uint_eq(atomic_load(&h.phases[CM_PHASE_FAILED]), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(caller_who_gives_up_stops_what_only_he_wanted)
{
    struct cm_op op = { NULL, 0, NULL };

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    op.env = cm_env_system();
    op = cm_op_within(&op, 100 * CM_NS_PER_MS);
    ck_refused(cm_manage(k.cfg, &op, example, 1, &err), CM_E_TIMEOUT);
    kit_until(!state_of("example.com").busy);
    ck_assert_int_eq(state_of("example.com").last.status, CM_E_CANCELED);
    /* but not what somebody wanted in the background */
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    op.deadline_ns = 0;
    op = cm_op_within(&op, 100 * CM_NS_PER_MS);
    ck_refused(cm_manage(k.cfg, &op, example, 1, &err), CM_E_TIMEOUT);
    atomic_store(&k.issuer->hold, false);
    kit_until(state_of("example.com").served);
    kit_stop(&k);
}
END_TEST

/* ---- threads ---- */

static void *manage_one(void *arg)
{
    struct cm_config *cfg = arg;
    struct cm_err mine = CM_ERR_INIT;

    return cm_manage(cfg, NULL, example, 1, &mine) == CM_OK ? arg : NULL;
}

static void *obtain_one(void *arg)
{
    struct cm_config *cfg = arg;
    struct cm_err mine = CM_ERR_INIT;

    return cm_obtain(cfg, NULL, example, 1, NULL, &mine) == CM_OK ? arg : NULL;
}

static void fifty(void *(*what)(void *), struct cm_config *a, struct cm_config *b)
{
    pthread_t threads[50];
    void *ret;

    for (size_t i = 0; i < 50; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, what, i % 2 ? a : b), 0);
    for (size_t i = 0; i < 50; i++) {
        ck_assert_int_eq(pthread_join(threads[i], &ret), 0);
        ck_assert_ptr_nonnull(ret);
    }
}

START_TEST(fifty_threads_make_one_order)
{
    kit_init(&k);
    kit_start(&k);
    fifty(manage_one, k.cfg, k.cfg);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);

    kit_init(&k);
    kit_start(&k);
    fifty(obtain_one, k.cfg, k.cfg);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(two_configs_on_one_storage_make_one_order_per_name)
{
    static const char *const names[] = { "a.example", "b.example", "c.example", "d.example",
                                         "e.example", "f.example", "g.example", "h.example" };
    struct kit_issuer *other;

    kit_init(&k);
    kit_start(&k);
    struct cm_config *peer = kit_peer(&k, &other);
    ck_ok(cm_manage_async(k.cfg, names, CM_ARRAY_LEN(names), &err));
    ck_ok(cm_manage(peer, NULL, names, CM_ARRAY_LEN(names), &err));
    ck_ok(cm_manage(k.cfg, NULL, names, CM_ARRAY_LEN(names), &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders) + atomic_load(&other->orders),
                      CM_ARRAY_LEN(names));
    fifty(obtain_one, k.cfg, peer);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders) + atomic_load(&other->orders),
                      CM_ARRAY_LEN(names) + 1);
    cm_config_free(peer);
    kit_stop(&k);
}
END_TEST

START_TEST(failure_of_the_leader_is_everyones)
{
    pthread_t threads[20];
    void *ret;

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_FAIL_AFTER_CHECKPOINT);
    atomic_store(&k.issuer->hold, true);
    for (size_t i = 0; i < 20; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, obtain_one, k.cfg), 0);
    kit_until(atomic_load(&k.issuer->inside) == 1);
    for (int i = 0; i < 200; i++) /* let the others join */
        kit_nap();
    atomic_store(&k.issuer->hold, false);
    for (size_t i = 0; i < 20; i++) {
        ck_assert_int_eq(pthread_join(threads[i], &ret), 0);
        ck_assert_ptr_null(ret);
    }
    ck_assert_uint_eq(atomic_load(&k.issuer->orders) + atomic_load(&k.issuer->resumed), 1);
    kit_stop(&k);
}
END_TEST

/* Storage that answers late. */
static void be_late(struct kit_storage *s, const char *key)
{
    (void)s;
    (void)key;
    for (int i = 0; i < 60; i++)
        kit_nap();
}

START_TEST(load_that_ends_while_the_config_is_freed_is_harmless)
{
    char name[32];
    const char *const one[] = { name };

    kit_init(&k);
    kit_start(&k);
    k.storage.on_load = be_late;
    k.storage.deaf = true;
    for (int i = 0; i < 12; i++) {
        (void)snprintf(name, sizeof name, "h%d.example", i);
        ck_ok(cm_manage_async(k.cfg, one, 1, &err));
    }
    kit_until(atomic_load(&k.storage.loads) > 0);
    kit_stop(&k); /* "not there: order it" comes when no order is taken any more */
}
END_TEST

START_TEST(freeing_a_busy_config_cancels_and_returns)
{
    char name[32];
    const char *const one[] = { name };

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    for (int i = 0; i < 50; i++) {
        (void)snprintf(name, sizeof name, "h%d.example", i);
        ck_ok(cm_manage_async(k.cfg, one, 1, &err));
    }
    kit_until(atomic_load(&k.issuer->inside) > 3);
    kit_stop(&k); /* the test's time limit would end a hang */
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        manage_orders_and_serves,
        manage_serves_what_storage_has,
        certificate_that_is_due_is_served_and_renewed,
        one_bad_name_does_not_keep_the_others,
        failed_name_is_tried_again_when_asked,
        certificate_that_cannot_be_stored_is_served_all_the_same,
        expired_certificate_is_better_than_none,
        unreadable_storage_is_no_reason_to_order,
        first_look_up_of_what_was_loaded_is_no_crowd,
        damage_that_a_quick_look_misses_is_mended_behind_it,
        what_has_gone_before_its_turn_is_no_matter,
        names_in_the_background_get_there,
        stored_names_do_not_wait_behind_names_whose_ca_is_silent,
        progress_is_told,
        caller_who_gives_up_stops_what_only_he_wanted,
        fifty_threads_make_one_order,
        two_configs_on_one_storage_make_one_order_per_name,
        failure_of_the_leader_is_everyones,
        load_that_ends_while_the_config_is_freed_is_harmless,
        freeing_a_busy_config_cancels_and_returns,
    };

    return kit_run("manage", tests, CM_ARRAY_LEN(tests));
}
