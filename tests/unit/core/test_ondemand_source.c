/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand_kit.h"

#include <stdio.h>

/* Certificates that a source of the program's has: when it is asked, what becomes of what it gives,
 * and how little it can spoil. */

/* What it does is in the first label of the name. */
struct source {
    struct cm_cert_source base;
    _Atomic unsigned asked;
    _Atomic bool stubborn; /* has nothing any more */
    int64_t keep_s;
    struct cm_source_question *_Atomic kept;
    char client[64];
};
static struct source src;

static void give(struct cm_source_question *q, const char *name, const char *key_of, int64_t from_s,
                 int64_t lifetime_s)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf unused = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf other = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_source_found found = CM_SOURCE_FOUND_INIT;

    kit_make_pair(CM_PK_P256, &name, 1, from_s, lifetime_s, &chain, &key);
    if (key_of != NULL)
        kit_make_pair(CM_PK_P256, &key_of, 1, from_s, lifetime_s, &unused, &other);
    found.chain_pem = cm_buf_span(&chain);
    found.key_pem = cm_buf_span(key_of != NULL ? &other : &key);
    found.keep_s = src.keep_s;
    cm_source_answer(q, CM_OK, &found, NULL);
}

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static void source_get(struct cm_cert_source *self, const struct cm_source_ask *ask,
                       struct cm_source_question *q)
{
    static const struct cm_source_found junk = { .size = sizeof junk,
                                                 .chain_pem = { (const uint8_t *)"x", 1 },
                                                 .key_pem = { (const uint8_t *)"x", 1 } };
    int64_t now_s = cm_env_wall_s(&k.env.base);
    const char *name = ask->name;

    ck_assert_ptr_eq(self, &src.base);
    ck_assert_uint_eq(ask->size, sizeof *ask);
    (void)snprintf(src.client, sizeof src.client, "%s", ask->client_ip);
    atomic_fetch_add(&src.asked, 1);
    if (atomic_load(&src.stubborn))
        cm_source_answer(q, CM_E_NOTFOUND, NULL, NULL);
    else if (begins(name, "has"))
        give(q, name, NULL, now_s - 3600, 90 * 86400);
    else if (begins(name, "short"))
        give(q, name, NULL, now_s - 3600, 3600 + 60);
    else if (strstr(name, ".wild.test") != NULL)
        give(q, "*.wild.test", NULL, now_s - 3600, 90 * 86400);
    else if (begins(name, "keep"))
        atomic_store(&src.kept, q);
    else if (begins(name, "fails"))
        cm_source_answer(q, CM_E_IO, NULL, "the vault is\nclosed");
    else if (begins(name, "other"))
        give(q, "another.example", NULL, now_s - 3600, 90 * 86400);
    else if (begins(name, "mixed"))
        give(q, name, "mixed-up.example", now_s - 3600, 90 * 86400);
    else if (begins(name, "expired"))
        give(q, name, NULL, now_s - 7200, 3600);
    else if (begins(name, "early"))
        give(q, name, NULL, now_s + 3600, 3600);
    else if (begins(name, "junk"))
        cm_source_answer(q, CM_OK, &junk, NULL);
    else if (begins(name, "empty"))
        cm_source_answer(q, CM_OK, NULL, NULL);
    else
        cm_source_answer(q, CM_E_NOTFOUND, NULL, NULL);
}

static const struct cm_cert_source_ops source_ops = {
    .abi = CM_SPI_ABI, .size = sizeof source_ops, .name = "vault", .get = source_get
};

static void set_up_source(enum manner manner)
{
    memset(&src, 0, sizeof src);
    src.base.ops = &source_ops;
    set_up(manner);
    od.source = &src.base;
    kit_log_reset();
}

static size_t in_cache(void)
{
    return cm_cache_count(cm_config_cache(k.cfg));
}

/* Is what is served for @name the program's own, as far as core is concerned? */
static bool is_own(const char *name)
{
    struct cm_cert *c[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(k.cfg->cache, name, strlen(name), c);
    bool own = n == 1 && !cm_cert_is_managed(c[0]);

    for (size_t i = 0; i < n; i++)
        cm_cert_unref(c[i]);
    return own;
}

START_TEST(what_the_source_has_is_served_without_a_decision)
{
    set_up_source(NO);
    kit_start(&k);
    unsigned loads = atomic_load(&k.storage.loads);
    ck_ok(get("has.example"));
    ck_ok(get("has.example"));
    ck_assert(is_own("has.example"));
    ck_assert_str_eq(src.client, "192.0.2.7");
    ck_assert_uint_eq(atomic_load(&src.asked), 1);
    ck_ok(get("a.wild.test"));
    ck_ok(get("b.wild.test"));
    ck_assert_uint_eq(atomic_load(&src.asked), 2);
    ck_assert_uint_eq(atomic_load(&judge.asked), 0);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads); /* nor has storage been asked */
    ck_assert_uint_eq(kit_logged("source_failed"), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(what_is_managed_or_no_name_is_not_asked_about)
{
    static const char *const managed[] = { "has-managed.example" };

    set_up_source(NO);
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, managed, 1, &err));
    ck_ok(get("has-managed.example"));
    ck_refused(get("192.0.2.1"), CM_E_INVAL);
    ck_assert_uint_eq(atomic_load(&src.asked), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(what_it_has_not_goes_on_to_the_policy)
{
    static const char *const names[] = { "listed.example" };

    set_up_source(YES);
    kit_start(&k);
    ck_ok(get("none.example")); /* a decision, an order */
    ck_assert_uint_eq(atomic_load(&src.asked), 1);
    ck_assert_uint_eq(atomic_load(&judge.asked), 1);
    ck_assert_str_eq(judge.client, "192.0.2.7");
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    atomic_store(&judge.manner, NO);
    ck_refused(get("none2.example"), CM_E_POLICY);
    ck_refused(get("none2.example"), CM_E_POLICY); /* not asked again: neither is */
    ck_assert_uint_eq(atomic_load(&src.asked), 2);
    ck_assert_uint_eq(atomic_load(&judge.asked), 2);
    kit_pass(&k.env, 11 * CM_NS_PER_S);
    ck_refused(get("none2.example"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&src.asked), 3);
    ck_assert_uint_eq(kit_logged("source_failed"), 0); /* it is no failure */
    kit_stop(&k);

    set_up_source(NO);
    od.decide = NULL;
    od.names = names;
    od.n_names = 1;
    kit_start(&k);
    ck_ok(get("has-it.example")); /* which is on no list */
    ck_refused(get("none.example"), CM_E_POLICY);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_UNRECOGNIZED_NAME);
    ck_ok(get("listed.example"));
    ck_assert_uint_eq(atomic_load(&src.asked), 3);
    kit_stop(&k);
}
END_TEST

START_TEST(a_source_that_fails_or_lies_is_told_of_and_passed_by)
{
    static const struct {
        const char *name, *why;
    } cases[] = {
        { "fails.example", "the vault is\\x0aclosed" }, { "other.example", "is not for this name" },
        { "mixed.example", "does not belong" },         { "expired.example", "has expired" },
        { "early.example", "is not valid yet" },        { "junk.example", "source_failed" },
        { "empty.example", "has no certificate" }
    };

    set_up_source(NO);
    kit_start(&k);
    for (unsigned i = 0; i < CM_ARRAY_LEN(cases); i++) {
        kit_log_reset();
        ck_refused(get(cases[i].name), CM_E_POLICY);
        ck_assert_uint_eq(atomic_load(&judge.asked), i + 1); /* the policy was */
        ck_assert_msg(kit_logged(cases[i].why) == 1, "%s: %s", cases[i].name, cases[i].why);
        ck_assert_uint_eq(kit_logged("'vault'"), 1);
    }
    src.keep_s = -1;
    ck_refused(get("has.example"), CM_E_POLICY);
    ck_assert_uint_eq(in_cache(), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(a_slow_source_costs_its_time_and_no_more)
{
    struct cm_pending *p;

    set_up_source(YES);
    od.source_timeout_ms = 500;
    kit_start(&k);
    ck_refused(hello_from("192.0.2.7", "keep.example", &p), CM_E_AGAIN);
    kit_until(atomic_load(&src.kept) != NULL);
    kit_pass(&k.env, 499 * CM_NS_PER_MS);
    ck_assert_int_eq(cm_pending_take(p, &(struct cm_cert *){ NULL }, NULL), CM_E_AGAIN);
    ck_assert_uint_eq(atomic_load(&judge.asked), 0);
    kit_pass(&k.env, CM_NS_PER_MS);
    ck_ok(outcome(p)); /* by the policy */
    ck_assert_uint_eq(kit_logged("no answer in time"), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    give(atomic_load(&src.kept), "keep.example", NULL, START_S - 3600, 86400); /* too late */
    ck_assert_uint_eq(in_cache(), 1);
    ck_assert(!is_own("keep.example"));
    kit_stop(&k);
}
END_TEST

START_TEST(a_herd_is_one_question)
{
    struct cm_pending *p[100];

    set_up_source(NO);
    kit_start(&k);
    for (size_t i = 0; i < CM_ARRAY_LEN(p); i++)
        ck_refused(hello_from("192.0.2.7", "keep.example", &p[i]), CM_E_AGAIN);
    kit_until(atomic_load(&src.kept) != NULL);
    give(atomic_load(&src.kept), "keep.example", NULL, START_S - 3600, 86400);
    for (size_t i = 0; i < CM_ARRAY_LEN(p); i++)
        ck_ok(outcome(p[i]));
    ck_assert_uint_eq(atomic_load(&src.asked), 1);
    ck_assert_uint_eq(in_cache(), 1);
    kit_stop(&k);
}
END_TEST

static void maintain(void)
{
    ck_ok(cm_cache_maintain_now(cm_config_cache(k.cfg), false, &err));
}

START_TEST(it_is_kept_as_long_as_the_source_says)
{
    set_up_source(NO);
    src.keep_s = 600;
    kit_start(&k);
    ck_ok(get("has.example"));
    ck_ok(get("short.example")); /* ends after a minute */
    kit_pass(&k.env, 59 * CM_NS_PER_S);
    maintain();
    ck_assert_uint_eq(in_cache(), 2);
    kit_pass(&k.env, CM_NS_PER_S);
    kit_until((maintain(), in_cache() == 1));
    ck_ok(get("has.example"));
    ck_assert_uint_eq(atomic_load(&src.asked), 2);
    kit_pass(&k.env, 541 * CM_NS_PER_S);
    kit_until((maintain(), in_cache() == 0));
    ck_ok(get("has.example")); /* the next hello brings the next question */
    ck_assert_uint_eq(atomic_load(&src.asked), 3);
    atomic_store(&src.stubborn, true);
    kit_pass(&k.env, 600 * CM_NS_PER_S);
    kit_until((maintain(), in_cache() == 0));
    ck_refused(get("has.example"), CM_E_POLICY);
    kit_stop(&k);
}
END_TEST

START_TEST(what_is_kept_is_bounded_and_goes_with_the_config)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co };
    struct cm_cache *cache = NULL;
    char name[64];

    set_up_source(NO);
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    od.source_kept = 3;
    kit_start(&k);
    for (int i = 0; i < 5; i++) {
        (void)snprintf(name, sizeof name, "has%d.example", i);
        src.keep_s = 100 + i;
        ck_ok(get(name));
    }
    ck_assert_uint_eq(in_cache(), 3);
    ck_assert(!is_own("has1.example")); /* those that would have ended first */
    ck_assert(is_own("has2.example"));
    kit_stop(&k);
    ck_assert_uint_eq(cm_cache_count(cache), 0);
    cm_cache_free(cache);
}
END_TEST

START_TEST(the_end_does_not_wait_for_the_source)
{
    struct cm_pending *p;
    struct cm_cert *c = NULL;

    set_up_source(YES);
    kit_start(&k);
    ck_refused(hello_from("", "keep.example", &p), CM_E_AGAIN);
    kit_until(atomic_load(&src.kept) != NULL);
    kit_stop(&k);
    cm_status rc = cm_pending_take(p, &c, &err);
    ck_assert(rc != CM_OK && rc != CM_E_AGAIN);
    cm_pending_free(p);
    give(atomic_load(&src.kept), "keep.example", NULL, START_S - 3600, 86400);
}
END_TEST

START_TEST(sources_that_make_no_sense)
{
    struct cm_cert_source_ops ops = source_ops;
    struct cm_config *cfg = NULL;
    struct cm_issuer *is;

    set_up_source(YES);
    is = kit_issuer_new(&k.env, "ca.test-dir");
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    src.base.ops = &ops;
    ops.abi = 99;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_UNSUPPORTED);
    ops.abi = CM_SPI_ABI;
    ops.get = NULL;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_UNSUPPORTED);
    ops.get = source_get;
    od.source_timeout_ms = 60001;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    od.source_timeout_ms = 0;
    od.source_miss_ms = -1;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    od.source_miss_ms = 0;
    kit_start(&k);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_the_source_has_is_served_without_a_decision,
        what_is_managed_or_no_name_is_not_asked_about,
        what_it_has_not_goes_on_to_the_policy,
        a_source_that_fails_or_lies_is_told_of_and_passed_by,
        a_slow_source_costs_its_time_and_no_more,
        a_herd_is_one_question,
        it_is_kept_as_long_as_the_source_says,
        what_is_kept_is_bounded_and_goes_with_the_config,
        the_end_does_not_wait_for_the_source,
        sources_that_make_no_sense,
    };

    return kit_run("ondemand_source", tests, CM_ARRAY_LEN(tests));
}
