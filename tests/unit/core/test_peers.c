/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "kit_life.h"

#include "../../../lib/core/names.h" /* lib/pki has one, too */

#include <pthread.h>

/* What other nodes do, told by the storage: the clock of the configs stands still, so whatever is
 * noticed here is noticed because of that. */

#define DAY_S INT64_C(86400)

static struct kit k;
static struct cm_err err;
static struct cm_config *other;
static const char *const example[] = { "example.com" };

static void begin(void)
{
    kit_init(&k);
    k.storage.has_feed = true;
    kit_start(&k);
    other = kit_peer(&k, NULL);
}

static void end(void)
{
    cm_config_free(other);
    kit_stop(&k);
}

static bool is_still(struct cm_config *cfg)
{
    struct cm_maint *mt = cm_cache_maint(cm_config_cache(cfg));

    return cm_cache_next_due_s(cm_config_cache(cfg)) > cm_env_wall_s(cfg->env) &&
           cm_maint_in_flight(mt) == 0;
}

/* What was told has arrived, and nobody is at work. */
static void settle(struct cm_config *cfg)
{
    for (int i = 0; i < 20; i++)
        kit_nap();
    kit_until(is_still(cfg) && is_still(cfg));
}

static struct cm_cert *served(struct cm_config *cfg, const char *name)
{
    struct cm_pending *p = NULL;
    struct cm_cert *c = NULL;
    struct cm_hello h;

    kit_hello(&h, name);
    if (cm_get_certificate(cfg, &h, &c, &p, NULL) != CM_OK)
        cm_pending_free(p);
    return c;
}

static int64_t since_s(struct cm_config *cfg, const char *name)
{
    struct cm_cert *c = served(cfg, name);
    int64_t since = c != NULL ? cm_cert_not_before_s(c) : 0;

    cm_cert_unref(c);
    return since;
}

static bool same_leaf(const char *name)
{
    struct cm_cert *a = served(k.cfg, name), *b = served(other, name);
    bool same = a != NULL && b != NULL && cm_cert_same_leaf(a, b);

    cm_cert_unref(a);
    cm_cert_unref(b);
    return same;
}

static bool is_another(struct cm_config *cfg, const struct cm_cert *before)
{
    struct cm_cert *now = served(cfg, "example.com");
    bool another = now != NULL && !cm_cert_same_leaf(now, before);

    cm_cert_unref(now);
    return another;
}

static unsigned loads(void)
{
    return atomic_load(&k.storage.loads);
}

static int64_t real_ns(void)
{
    return cm_env_system()->mono_ns(cm_env_system());
}

/* ---- certificates ---- */

START_TEST(renewal_of_one_node_is_served_by_the_other_at_once)
{
    struct cm_obtain_result result = { .size = (uint32_t)sizeof result };

    begin();
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    ck_ok(cm_manage(other, NULL, example, 1, &err));
    ck_assert(same_leaf("example.com"));
    for (int i = 0; i < 5; i++) {
        struct cm_cert *before = served(other, "example.com");

        settle(other);
        ck_ok(cm_renew(k.cfg, NULL, "example.com", true, &result, &err));
        int64_t began = real_ns();
        kit_until(is_another(other, before) && is_another(k.cfg, before));
        ck_assert_int_lt(real_ns() - began, CM_NS_PER_S);
        ck_assert(same_leaf("example.com"));
        cm_cert_unref(before);
    }
    settle(k.cfg);
    settle(other);
    ck_assert_uint_eq(kit_logged("certificate_reloaded"),
                      10); /* by both: who asked does not serve it */
    end();
}
END_TEST

/* Key, chain and metadata, one after the other: the pair is read once. */
START_TEST(three_values_are_one_look)
{
    begin();
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - DAY_S, 90 * DAY_S);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    unsigned before = loads();
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S, 90 * DAY_S);
    kit_until(since_s(k.cfg, "example.com") > START_S - DAY_S / 2);
    settle(k.cfg);
    ck_assert_uint_eq(loads() - before, 2);
    end();
}
END_TEST

START_TEST(names_are_found_by_their_directories)
{
    static const char *const names[] = { "*.example.com", "192.0.2.1", "2001:db8::1",
                                         "a-b.example.com" };
    static const char *const dirs[] = { "wildcard_.example.com", "192.0.2.1", "2001-db8--1",
                                        "a-b.example.com" };
    char key[256];

    begin();
    ck_ok(cm_manage(k.cfg, NULL, names, CM_ARRAY_LEN(names), &err));
    settle(k.cfg);
    for (size_t i = 0; i < CM_ARRAY_LEN(names); i++) {
        unsigned before = loads();

        (void)snprintf(key, sizeof key, "certificates/ca.test-dir/%s/%s.crt", dirs[i], dirs[i]);
        kit_tell(&k.storage, CM_CHANGE_VALUE, key);
        kit_until(loads() == before + 2);
        settle(k.cfg);
        (void)snprintf(key, sizeof key, "certificates/ca.test-dir/%s", dirs[i]);
        kit_tell(&k.storage, CM_CHANGE_VALUE, key);
        kit_until(loads() == before + 4);
        settle(k.cfg);
    }
    end();
}
END_TEST

/* Nothing of ours, or nothing that is served. */
START_TEST(other_keys_are_passed_over)
{
    static const char *const keys[] = {
        "certificates/another-dir/example.com/example.com.crt",
        "certificates/ca.test-dir/example.org/example.org.crt",
        "certificates/ca.test-dir/example.com/example.com.key",
        "certificates/ca.test-dir/example.com/example.com.json",
        "certificates/ca.test-dir/example.com/example.com.key.compromised",
        "certificates/ca.test-dir//",
        "certificates/",
        "certificates/ca.test-dir/x/",
        "ocsp/example.org-1234",
        "ocsp/-",
        "ocsp/x",
        "certmesh/journal/example.com",
        "certmesh/retry/example.org",
        "certmesh/gates",
        "certmesh/gates/x",
        "acme/ca.test-dir/challenge_tokens/x",
        "acme/ca.test-dir/challenge_tokens/.json",
        "acme",
        "",
    };

    begin();
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    unsigned before = loads();
    for (size_t i = 0; i < CM_ARRAY_LEN(keys); i++)
        kit_tell(&k.storage, CM_CHANGE_VALUE, keys[i]);
    kit_tell(&k.storage, CM_CHANGE_UNLOCKED, "issue_cert_example.com");
    settle(k.cfg);
    ck_assert_uint_eq(loads(), before);
    end();
}
END_TEST

/* Renewed here a few times, and told of as often as that. */
START_TEST(own_changes_are_no_news)
{
    static const char key[] = "certificates/ca.test-dir/example.com/example.com.crt";
    unsigned counts[2];

    for (int feed = 0; feed < 2; feed++) {
        kit_init(&k);
        k.storage.has_feed = feed == 1;
        kit_start(&k);
        other = NULL;
        ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
        for (int i = 0; i < 10; i++) {
            kit_pass(&k.env, 61 * DAY_S * CM_NS_PER_S);
            settle(k.cfg);
        }
        ck_assert_uint_eq(atomic_load(&k.issuer->orders), 11);
        counts[feed] = loads();
        if (feed == 1) {
            for (unsigned i = 0; i < 1000000; i++) {
                cm_peers_writing(k.cfg, key);
                kit_tell(&k.storage, CM_CHANGE_VALUE, key);
                cm_peers_written(k.cfg, key);
            }
            settle(k.cfg);
            ck_assert_uint_eq(loads(), counts[1]);
            kit_tell(&k.storage, CM_CHANGE_VALUE, key); /* but this is */
            kit_until(loads() == counts[1] + 2);
        }
        end();
    }
    ck_assert_uint_lt(counts[1], counts[0] + 10); /* chance makes a few; all would be 20 more */
}
END_TEST

/* Told of while it is being looked at: then once more, and no more than that. */
static _Atomic unsigned interrupted;

static void tell_while_loading(struct kit_storage *s, const char *key)
{
    if (strstr(key, ".crt") != NULL && atomic_fetch_add(&interrupted, 1) == 0)
        for (int i = 0; i < 100; i++)
            kit_tell(s, CM_CHANGE_VALUE, key);
}

START_TEST(what_is_told_during_a_look_makes_one_more)
{
    static const char key[] = "certificates/ca.test-dir/example.com/example.com.crt";

    begin();
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    unsigned before = loads();
    k.storage.on_load = tell_while_loading;
    atomic_store(&interrupted, 0);
    kit_tell(&k.storage, CM_CHANGE_VALUE, key);
    kit_until(loads() == before + 4);
    settle(k.cfg);
    ck_assert_uint_eq(loads(), before + 4);
    end();
}
END_TEST

START_TEST(what_a_peer_got_is_served_by_who_failed)
{
    begin();
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    k.issuer->fail_status = CM_E_NET;
    ck_assert_int_ne(cm_manage(k.cfg, NULL, example, 1, &err), CM_OK);
    ck_assert_int_eq(since_s(k.cfg, "example.com"), 0);
    settle(k.cfg);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S, 90 * DAY_S);
    kit_until(since_s(k.cfg, "example.com") > START_S - DAY_S / 2);
    end();
}
END_TEST

/* ---- what was missed ---- */

#define NAMES 300u

static void store_and_manage(unsigned n)
{
    char **names = cm_calloc(n, sizeof *names);

    for (unsigned i = 0; i < n; i++) {
        names[i] = cm_asprintf("n%u.example", i);
        kit_store_pair(&k.storage.base, "ca.test-dir", names[i], START_S, 90 * DAY_S);
    }
    ck_ok(cm_manage(k.cfg, NULL, (const char *const *)names, n, &err));
    for (unsigned i = 0; i < n; i++)
        free(names[i]);
    free(names);
    settle(k.cfg);
    kit_pass(&k.env, 60 * CM_NS_PER_S); /* each is looked after once at the beginning */
    settle(k.cfg);
}

static unsigned stats(void)
{
    return atomic_load(&k.storage.stats);
}

/* All are looked at, but not in one moment, and not again for each time that some were missed. What
 * has changed is loaded, and nothing else. */
START_TEST(after_missed_changes_all_are_looked_at_little_by_little)
{
    begin();
    store_and_manage(NAMES);
    for (int round = 0; round < 2; round++) { /* at first nothing is known of what is stored */
        unsigned before = stats(), loaded = loads(), slices = 0;

        if (round == 1) {
            atomic_store(&k.storage.quiet, true);
            kit_store_pair(&k.storage.base, "ca.test-dir", "n7.example", START_S + 60, 90 * DAY_S);
        }
        kit_tell(&k.storage, CM_CHANGE_MISSED, NULL);
        settle(k.cfg);
        for (; stats() - before < NAMES && slices < 2 * NAMES; slices++) {
            unsigned at = stats();

            ck_assert_uint_le(at - before, (slices + 1) * 32);
            kit_pass(&k.env, 320 * CM_NS_PER_MS);
            settle(k.cfg);
            ck_assert_uint_le(stats() - at, 32);
        }
        ck_assert_uint_eq(stats() - before, NAMES);
        ck_assert_uint_ge(slices, NAMES / 32);
        ck_assert_uint_eq(loads() - loaded, round == 0 ? 2 * NAMES : 2);
        kit_pass(&k.env, 20 * CM_NS_PER_S);
        settle(k.cfg);
        ck_assert_uint_eq(stats() - before, NAMES);
    }
    kit_until(since_s(k.cfg, "n7.example") >= START_S);
    /* Those that come within the ten seconds count once more, together. */
    unsigned before = stats();
    for (int i = 0; i < 100; i++) {
        kit_tell(&k.storage, CM_CHANGE_MISSED, NULL);
        kit_pass(&k.env, 320 * CM_NS_PER_MS);
        settle(k.cfg);
    }
    ck_assert_uint_ge(stats() - before, NAMES);
    ck_assert_uint_le(stats() - before, 5 * NAMES);
    end();
}
END_TEST

/* ---- what else is told ---- */

START_TEST(challenge_that_a_peer_has_put_up_is_found_in_spite_of_the_pause)
{
    static const char token[] =
        "{\"type\":\"http-01\",\"url\":\"https://ca/chal/1\",\"status\":\"pending\","
        "\"token\":\"tok\",\"keyAuthorization\":\"tok.abc\",\"identifier\":{\"type\":\"dns\","
        "\"value\":\"example.com\"}}";
    static const char path[] = "/.well-known/acme-challenge/tok";
    struct cm_buf body = CM_BUF_INIT(1024);

    begin();
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    ck_refused(cm_http01_handle(k.cfg, NULL, "GET", "example.com", path, &body, &err), CM_E_POLICY);
    unsigned before = loads();
    ck_refused(cm_http01_handle(k.cfg, NULL, "GET", "example.com", path, &body, &err), CM_E_POLICY);
    ck_assert_uint_eq(loads(), before); /* remembered */
    kit_put(&k.storage.base, "acme/ca.test-dir/challenge_tokens/example.com.json", token);
    settle(k.cfg);
    ck_ok(cm_http01_handle(k.cfg, NULL, "GET", "example.com", path, &body, &err));
    /* Others stay remembered. */
    ck_refused(cm_http01_handle(k.cfg, NULL, "GET", "b.example", path, &body, &err), CM_E_POLICY);
    before = loads();
    ck_refused(cm_http01_handle(k.cfg, NULL, "GET", "b.example", path, &body, &err), CM_E_POLICY);
    ck_assert_uint_eq(loads(), before);
    cm_buf_free(&body);
    end();
}
END_TEST

static const struct cm_managed *managed(const char *name)
{
    cm_mutex_lock(&k.cfg->names->lock);
    const struct cm_managed *m = cm_names_find_locked(k.cfg->names, name);
    cm_mutex_unlock(&k.cfg->names->lock);
    return m;
}

START_TEST(failures_of_a_peer_are_known_here_and_forgotten_here)
{
    const struct cm_err why = { .status = CM_E_NET, .msg = "no route" };

    begin();
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    kit_note_failure(other, "example.com", &why, 3);
    settle(k.cfg);
    ck_assert_uint_eq(managed("example.com")->life->attempts, 3);
    ck_assert_int_gt(managed("example.com")->life->next_try_s, START_S);
    ck_ok(cm_storage_remove(&k.storage.base, NULL, "certmesh/retry/example.com", &err));
    settle(k.cfg);
    ck_assert_uint_eq(managed("example.com")->life->attempts, 0);
    ck_assert_int_eq(managed("example.com")->life->next_try_s, 0);
    end();
}
END_TEST

START_TEST(staple_of_a_peer_has_its_name_looked_after)
{
    begin();
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    kit_pass(&k.env, 5 * CM_NS_PER_S);
    settle(k.cfg);
    int64_t before_s = managed("example.com")->life->tended_s;
    kit_pass(&k.env, 5 * CM_NS_PER_S);
    settle(k.cfg);
    ck_assert_int_eq(managed("example.com")->life->tended_s, before_s);
    unsigned before = loads();
    kit_put(&k.storage.base, "ocsp/example.com-1a2b3c", "x");
    settle(k.cfg);
    ck_assert_int_eq(managed("example.com")->life->tended_s, cm_env_wall_s(&k.env.base));
    ck_assert_uint_eq(loads(), before); /* it names no responder */
    end();
}
END_TEST

/* What is known of a CA is read every half minute at most, but for this. */
START_TEST(pause_that_a_peer_was_told_of_holds_here_at_once)
{
    const struct cm_ca_ask order = { .replaces = false };
    struct cm_err why = CM_ERR_INIT;

    begin();
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    ck_ok(cm_ca_admit(k.cfg, NULL, 0, &order, &err));
    cm_ca_outcome(k.cfg, NULL, 0, CM_OK, NULL);
    (void)cm_fail(&why, CM_E_RATELIMITED, "too many");
    why.whole_ca = true;
    why.retry_after_s = 600;
    ck_ok(cm_ca_admit(other, NULL, 0, &order, &err));
    cm_ca_outcome(other, NULL, 0, CM_E_RATELIMITED, &why);
    ck_assert(kit_has(&k.storage.base, "certmesh/gates/ca.test-dir"));
    settle(k.cfg);
    ck_refused(cm_ca_admit(k.cfg, NULL, 0, &order, &err), CM_E_AGAIN);
    end();
}
END_TEST

/* ---- beginning and end ---- */

START_TEST(nobody_watches_who_looks_after_nothing)
{
    begin();
    ck_assert_uint_eq(atomic_load(&k.storage.n_watches), 0);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    ck_assert_uint_eq(atomic_load(&k.storage.n_watches), 1);
    cm_cache_stop(cm_config_cache(k.cfg));
    ck_assert(k.storage.watches[0].fn == NULL);
    end();
}
END_TEST

START_TEST(storage_without_a_feed_is_fine)
{
    begin();
    k.storage.has_feed = false;
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    ck_assert_uint_eq(kit_logged("no_feed"), 1);
    ck_assert_uint_eq(kit_logged("feed_down"), 0);
    ck_assert_int_eq(cm_peers_feed(k.cfg), CM_FEED_NONE);
    kit_pass(&k.env, DAY_S * CM_NS_PER_S); /* and is not asked again */
    settle(k.cfg);
    ck_assert_uint_eq(kit_logged("no_feed"), 1);
    end();
}
END_TEST

/* Tried again, at ever longer intervals; told once; and when it stands, what was missed is found.
 */
START_TEST(feed_that_cannot_be_had_is_tried_again)
{
    const unsigned tries = 9;
    int64_t waited_s = 0;

    begin();
    atomic_store(&k.storage.fail_status, CM_E_LIMIT);
    atomic_store(&k.storage.fail_watches, (int)tries);
    ck_assert_int_eq(cm_peers_feed(k.cfg), CM_FEED_UNKNOWN);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - DAY_S, 90 * DAY_S);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    for (unsigned failed = 1; failed < tries; failed++) {
        int left = atomic_load(&k.storage.fail_watches), passed_s = 0;

        ck_assert_int_eq(left, (int)(tries - failed));
        ck_assert_int_eq(cm_peers_feed(k.cfg), CM_FEED_NONE);
        for (; atomic_load(&k.storage.fail_watches) == left && passed_s < 400; passed_s++) {
            kit_pass(&k.env, CM_NS_PER_S);
            kit_until(is_still(k.cfg));
        }
        ck_assert_int_le(passed_s, (int)(4 << failed));
        ck_assert_int_le(passed_s, 301);
        waited_s += passed_s;
    }
    ck_assert_int_gt(waited_s, 4 * (1 << (tries - 3)));
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S, 90 * DAY_S);
    kit_pass(&k.env, 301 * CM_NS_PER_S);
    kit_until(cm_peers_feed(k.cfg) == CM_FEED_STANDS);
    kit_until(since_s(k.cfg, "example.com") > START_S - DAY_S / 2);
    ck_assert_uint_eq(kit_logged("feed_down"), 1);
    ck_assert_uint_eq(kit_logged("feed_up"), 1);
    end();
}
END_TEST

START_TEST(feed_that_breaks_is_told_of_once)
{
    begin();
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    settle(k.cfg);
    ck_assert_int_eq(cm_peers_feed(k.cfg), CM_FEED_STANDS);
    for (unsigned i = 1; i <= 3; i++) {
        kit_tell(&k.storage, CM_CHANGE_LOST, NULL);
        kit_tell(&k.storage, CM_CHANGE_LOST, NULL);
        ck_assert_int_eq(cm_peers_feed(k.cfg), CM_FEED_NONE);
        ck_assert_uint_eq(kit_logged("feed_down"), i);
        kit_tell(&k.storage, CM_CHANGE_MISSED, NULL);
        kit_tell(&k.storage, CM_CHANGE_MISSED, NULL);
        ck_assert_int_eq(cm_peers_feed(k.cfg), CM_FEED_STANDS);
        ck_assert_uint_eq(kit_logged("feed_up"), i);
    }
    cm_cache_stop(cm_config_cache(k.cfg));
    ck_assert_int_eq(cm_peers_feed(k.cfg), CM_FEED_UNKNOWN);
    end();
}
END_TEST

static _Atomic bool over;

static void *keep_storing(void *arg)
{
    struct cm_err e;

    (void)arg;
    while (!atomic_load(&over)) {
        kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S, 90 * DAY_S);
        for (int i = 0; i < 200; i++)
            (void)!cm_storage_store(&k.storage.base, NULL,
                                    "certificates/ca.test-dir/example.com/example.com.json",
                                    cm_span_str("{}"), &e);
    }
    return NULL;
}

START_TEST(config_ends_while_things_change)
{
    pthread_t thread;

    atomic_store(&over, false);
    kit_init(&k);
    k.storage.has_feed = true;
    ck_assert_int_eq(pthread_create(&thread, NULL, keep_storing, NULL), 0);
    for (int i = 0; i < 8; i++) {
        struct cm_config *cfg = kit_peer(&k, NULL);

        ck_ok(cm_manage_async(cfg, example, 1, &err));
        for (int n = 0; n < 10 * (i % 3); n++)
            kit_nap();
        int64_t began = real_ns();
        if (i % 2 == 0)
            cm_cache_stop(cm_config_cache(cfg));
        cm_config_free(cfg);
        ck_assert_int_lt(real_ns() - began, 5 * CM_NS_PER_S);
        atomic_store(&k.storage.n_watches, 0);
    }
    atomic_store(&over, true);
    (void)pthread_join(thread, NULL);
    kit_storage_free(&k.storage);
}
END_TEST

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    const TTest *const tests[] = {
        renewal_of_one_node_is_served_by_the_other_at_once,
        three_values_are_one_look,
        names_are_found_by_their_directories,
        other_keys_are_passed_over,
        own_changes_are_no_news,
        what_is_told_during_a_look_makes_one_more,
        what_a_peer_got_is_served_by_who_failed,
        after_missed_changes_all_are_looked_at_little_by_little,
        challenge_that_a_peer_has_put_up_is_found_in_spite_of_the_pause,
        failures_of_a_peer_are_known_here_and_forgotten_here,
        staple_of_a_peer_has_its_name_looked_after,
        pause_that_a_peer_was_told_of_holds_here_at_once,
        nobody_watches_who_looks_after_nothing,
        storage_without_a_feed_is_fine,
        feed_that_cannot_be_had_is_tried_again,
        feed_that_breaks_is_told_of_once,
        config_ends_while_things_change,
    };

    return kit_run("peers", tests, CM_ARRAY_LEN(tests));
}
