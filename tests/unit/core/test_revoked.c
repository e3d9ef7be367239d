/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "life.h"

#define DAY   INT64_C(86400)
#define SITE  "certificates/ca.test-dir/example.com/example.com"
#define ASIDE SITE ".key.compromised"

static struct kit k;
static struct cm_err err;
static struct cm_subject *example;

static const struct cm_revocation superseded = { true, 4, START_S, "crl" };
static const struct cm_revocation compromised = { true, CM_REASON_KEY_COMPROMISE, START_S, "ocsp" };

/* ---- events ---- */

static struct {
    _Atomic unsigned n;
    struct cm_event first;
    char serial[64];
} told;

static cm_status on_event(void *user, const struct cm_event *ev, struct cm_err *e)
{
    (void)user;
    if (ev->type != CM_EVENT_CERT_OCSP_REVOKED)
        return CM_OK;
    if (atomic_fetch_add(&told.n, 1) == 0) { /* of several nodes, the first one's */
        told.first = *ev;
        (void)snprintf(told.serial, sizeof told.serial, "%s", cm_cert_serial(ev->cert));
    }
    return cm_fail(e, CM_E_POLICY, "no"); /* must make no difference */
}

/* ---- */

static void begin(bool reuse_key)
{
    const char *name = "example.com";

    memset(&told, 0, sizeof told);
    ck_ok(cm_subject_new(&name, 1, &example, &err));
    kit_init(&k);
    k.opts.reuse_key = reuse_key;
    k.opts.on_event = on_event;
    kit_start(&k);
}

static void end(void)
{
    kit_stop(&k);
    cm_subject_free(example);
}

/* What storage has for cfg to serve, put into its cache; NULL if nothing. */
static struct cm_cert *serve(struct cm_config *cfg)
{
    struct cm_cert *cert = NULL;

    if (cm_store_load(cfg, NULL, example, CM_LOAD_VALID, &cert, &err) != CM_OK)
        return NULL;
    ck_ok(cm_cache_put(cfg->cache, cert, cm_env_wall_s(cfg->env), &err));
    return cert;
}

/* example.com, ordered and served by @cfg. */
static struct cm_cert *obtained(struct cm_config *cfg)
{
    ck_ok(cm_obtain(cfg, NULL, example->names, 1, NULL, &err));
    struct cm_cert *cert = serve(cfg);
    ck_assert_ptr_nonnull(cert);
    return cert;
}

static bool is_served(struct cm_config *cfg, const struct cm_cert *cert)
{
    struct cm_cert *found[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(cfg->cache, "example.com", strlen("example.com"), found);
    bool is = false;

    for (size_t i = 0; i < n; i++) {
        is = is || cm_cert_same_leaf(found[i], cert);
        cm_cert_unref(found[i]);
    }
    return is;
}

static bool same_key(const struct cm_cert *a, const struct cm_cert *b)
{
    struct cm_key *key = NULL;
    bool same = false;

    ck_ok(cm_cert_key(a, &key, &err));
    ck_ok(cm_key_matches_cert(key, cm_cert_der(b, 0), &same, &err));
    cm_key_unref(key);
    return same;
}

/* *@ret is set on CM_OK only. */
static cm_status run(struct cm_config *cfg, struct cm_cert *cert, const struct cm_revocation *rv,
                     struct cm_cert **ret, struct cm_err *e)
{
    struct cm_job job = { .cfg = cfg, .subject = example };

    cm_status rc = cm_revoked_run(&job, cert, rv, e);
    *ret = rc == CM_OK ? job.cert : NULL;
    if (rc != CM_OK)
        cm_cert_unref(job.cert);
    return rc;
}

static cm_status handle(struct cm_config *cfg, struct cm_cert *cert, const struct cm_revocation *rv,
                        struct cm_cert **ret)
{
    return run(cfg, cert, rv, ret, &err);
}

START_TEST(revoked_certificate_is_replaced_and_the_program_is_told)
{
    struct cm_cert *fresh;

    begin(true);
    struct cm_cert *old = obtained(k.cfg);
    ck_ok(handle(k.cfg, old, &superseded, &fresh));
    ck_assert(!cm_cert_same_leaf(old, fresh));
    ck_assert(same_key(old, fresh)); /* kept as the options say: nobody else has it */
    ck_assert(is_served(k.cfg, fresh));
    ck_assert(!is_served(k.cfg, old));
    ck_assert(!kit_has(&k.storage.base, ASIDE));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    ck_assert_uint_eq(atomic_load(&told.n), 1);
    ck_assert_int_eq(told.first.reason, 4);
    ck_assert_int_eq(told.first.revoked_at_s, START_S);
    ck_assert_str_eq(told.first.source, "crl");
    ck_assert_str_eq(told.first.issuer, "ca.test-dir");
    ck_assert_str_eq(told.serial, cm_cert_serial(old));
    /* Called again for the old one, say by a thread that was late: nothing is ordered. */
    cm_cert_unref(fresh);
    ck_ok(handle(k.cfg, old, &superseded, &fresh));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    ck_assert_uint_eq(atomic_load(&told.n), 1);
    cm_cert_unref(fresh);
    cm_cert_unref(old);
    end();
}
END_TEST

/* ---- a fleet ---- */

struct node {
    struct cm_config *cfg;
    struct kit_issuer *issuer;
    struct cm_cert *old;
    struct cm_cert *fresh;
    struct cm_err why;
    cm_status rc;
    pthread_t thread;
};

static void *node_main(void *user)
{
    struct node *n = user;

    n->rc = run(n->cfg, n->old, &compromised, &n->fresh, &n->why);
    return NULL;
}

START_TEST(four_nodes_place_one_order)
{
    struct node nodes[4] = { { .rc = CM_E_INTERNAL } };
    unsigned orders = 0;

    begin(true);
    nodes[0].cfg = k.cfg;
    nodes[0].issuer = k.issuer;
    nodes[0].old = obtained(k.cfg);
    CM_AUTO_FREE char *old_key = kit_get(&k.storage.base, SITE ".key");
    for (size_t i = 1; i < 4; i++) {
        nodes[i].cfg = kit_peer(&k, &nodes[i].issuer);
        nodes[i].old = serve(nodes[i].cfg);
        ck_assert_ptr_nonnull(nodes[i].old);
    }
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&nodes[i].thread, NULL, node_main, &nodes[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(nodes[i].thread, NULL), 0);
        ck_assert_msg(nodes[i].rc == CM_OK, "node %zu: %s", i, nodes[i].why.msg);
        orders += atomic_load(&nodes[i].issuer->orders);
        ck_assert(cm_cert_same_leaf(nodes[i].fresh, nodes[0].fresh));
        ck_assert(is_served(nodes[i].cfg, nodes[i].fresh));
        ck_assert(!is_served(nodes[i].cfg, nodes[i].old));
    }
    ck_assert_uint_eq(orders, 2); /* the first, and its successor */
    ck_assert(!same_key(nodes[0].old, nodes[0].fresh));
    CM_AUTO_FREE char *aside = kit_get(&k.storage.base, ASIDE);
    CM_AUTO_FREE char *new_key = kit_get(&k.storage.base, SITE ".key");
    ck_assert_str_eq(aside, old_key);
    ck_assert_str_ne(aside, new_key);
    for (size_t i = 0; i < 4; i++) {
        cm_cert_unref(nodes[i].old);
        cm_cert_unref(nodes[i].fresh);
        if (i > 0)
            cm_config_free(nodes[i].cfg);
    }
    end();
}
END_TEST

/* ---- keys ---- */

START_TEST(key_that_others_know_is_put_aside_by_the_commit_of_its_successor)
{
    struct cm_cert *fresh;

    begin(true);
    struct cm_cert *old = obtained(k.cfg);
    CM_AUTO_FREE char *old_key = kit_get(&k.storage.base, SITE ".key");
    atomic_store(&k.storage.fail_commits, 1);
    k.storage.fail_key = "certificates/";
    ck_refused(handle(k.cfg, old, &compromised, &fresh), CM_E_IO);
    ck_assert(!kit_has(&k.storage.base, ASIDE)); /* neither the pair nor this */
    CM_AUTO_FREE char *still = kit_get(&k.storage.base, SITE ".key");
    ck_assert_str_eq(still, old_key);
    ck_assert(!is_served(k.cfg, old));
    ck_assert_uint_eq(cm_cache_count(k.cfg->cache), 1); /* what was issued is served from memory */
    ck_ok(handle(k.cfg, old, &compromised, &fresh));
    CM_AUTO_FREE char *aside = kit_get(&k.storage.base, ASIDE);
    ck_assert_str_eq(aside, old_key);
    ck_assert(!same_key(old, fresh));
    cm_cert_unref(fresh);
    cm_cert_unref(old);
    end();
}
END_TEST

START_TEST(what_was_put_aside_before_is_not_overwritten)
{
    struct cm_cert *fresh;

    begin(true);
    struct cm_cert *old = obtained(k.cfg);
    kit_put(&k.storage.base, ASIDE, "of last year");
    ck_ok(handle(k.cfg, old, &compromised, &fresh));
    CM_AUTO_FREE char *aside = kit_get(&k.storage.base, ASIDE);
    ck_assert_str_eq(aside, "of last year");
    ck_assert(!same_key(old, fresh));
    ck_assert_uint_eq(kit_logged("quarantine_taken"), 1);
    cm_cert_unref(fresh);
    cm_cert_unref(old);
    end();
}
END_TEST

START_TEST(key_goes_from_the_directory_of_another_issuer)
{
    struct cm_issuer *issuers[2];
    struct cm_cert *fresh;

    begin(true);
    struct cm_cert *old = obtained(k.cfg);
    CM_AUTO_FREE char *old_key = kit_get(&k.storage.base, SITE ".key");
    struct cm_config_options o = k.opts;
    issuers[0] = kit_issuer_new(&k.env, "other.test-dir");
    issuers[1] = kit_issuer_new(&k.env, "ca.test-dir");
    o.issuers = issuers;
    o.n_issuers = 2;
    struct cm_config *peer = NULL;
    ck_ok(cm_config_new(&o, &peer, &err));
    ck_ok(handle(peer, old, &compromised, &fresh));
    ck_assert_str_eq(cm_cert_issuer_key(fresh), "other.test-dir");
    CM_AUTO_FREE char *aside = kit_get(&k.storage.base, ASIDE);
    ck_assert_str_eq(aside, old_key);
    ck_assert(!kit_has(&k.storage.base, SITE ".key"));
    ck_assert(!same_key(old, fresh));
    cm_cert_unref(fresh);
    cm_cert_unref(old);
    cm_config_free(peer);
    end();
}
END_TEST

START_TEST(order_begun_with_a_lost_key_is_not_resumed_and_another_is)
{
    struct cm_cert *fresh;

    begin(true);
    struct cm_cert *old = obtained(k.cfg);
    atomic_store(&k.issuer->step, KIT_CRASH_AFTER_CHECKPOINT); /* a renewal with the same key */
    ck_refused(cm_renew(k.cfg, NULL, "example.com", true, NULL, &err), CM_E_NET);
    ck_assert(kit_has(&k.storage.base, "certmesh/journal/example.com"));
    ck_refused(handle(k.cfg, old, &compromised, &fresh), CM_E_NET);
    ck_assert_uint_eq(atomic_load(&k.issuer->resumed), 0);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 3);
    atomic_store(&k.issuer->step, KIT_GO); /* the order of the replacement is as good as ever */
    ck_ok(handle(k.cfg, old, &compromised, &fresh));
    ck_assert_uint_eq(atomic_load(&k.issuer->resumed), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 3);
    ck_assert(!same_key(old, fresh));
    cm_cert_unref(fresh);
    cm_cert_unref(old);
    end();
}
END_TEST

START_TEST(successor_with_the_lost_key_will_not_do)
{
    struct cm_cert *fresh;

    begin(true);
    struct cm_cert *old = obtained(k.cfg);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", true, NULL, &err)); /* with the same key */
    ck_ok(handle(k.cfg, old, &superseded, &fresh));
    ck_assert(same_key(old, fresh)); /* good enough */
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    cm_cert_unref(fresh);
    ck_ok(handle(k.cfg, old, &compromised, &fresh));
    ck_assert(!same_key(old, fresh));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 3);
    cm_cert_unref(fresh);
    cm_cert_unref(old);
    end();
}
END_TEST

/* ---- failures ---- */

START_TEST(what_cannot_be_replaced_is_served_no_more_and_does_not_come_back)
{
    struct cm_cert *fresh;

    begin(false);
    struct cm_cert *old = obtained(k.cfg);
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(handle(k.cfg, old, &superseded, &fresh), CM_E_ACME);
    ck_assert_ptr_null(fresh);
    ck_assert_uint_eq(cm_cache_count(k.cfg->cache), 0);
    ck_assert_ptr_null(serve(k.cfg)); /* it lies in storage, but not for serving */
    ck_assert_uint_eq(kit_logged("revoked_not_replaced"), 1);
    ck_refused(handle(k.cfg, old, &superseded, &fresh), CM_E_ACME); /* no limit to failures */
    ck_assert_uint_eq(atomic_load(&told.n), 1);
    /* A peer that does not know yet serves it on. */
    struct cm_config *peer = kit_peer(&k, NULL);
    struct cm_cert *there = serve(peer);
    ck_assert_ptr_nonnull(there);
    cm_cert_unref(there);
    cm_config_free(peer);
    atomic_store(&k.issuer->step, KIT_GO);
    ck_ok(handle(k.cfg, old, &superseded, &fresh));
    ck_assert(is_served(k.cfg, fresh));
    cm_cert_unref(fresh);
    cm_cert_unref(old);
    end();
}
END_TEST

START_TEST(any_other_job_replaces_it_too)
{
    static const bool renew[] = { false, true };

    for (size_t i = 0; i < CM_ARRAY_LEN(renew); i++) {
        struct cm_cert *fresh;

        begin(true);
        struct cm_cert *old = obtained(k.cfg);
        atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
        ck_refused(handle(k.cfg, old, &compromised, &fresh), CM_E_ACME);
        atomic_store(&k.issuer->step, KIT_GO);
        if (renew[i]) /* far from due */
            ck_ok(cm_renew(k.cfg, NULL, "example.com", false, NULL, &err));
        else
            ck_ok(cm_obtain(k.cfg, NULL, example->names, 1, NULL, &err));
        ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
        ck_assert(kit_has(&k.storage.base, ASIDE));
        fresh = serve(k.cfg);
        ck_assert_ptr_nonnull(fresh);
        ck_assert(!same_key(old, fresh));
        cm_cert_unref(fresh);
        cm_cert_unref(old);
        end();
    }
}
END_TEST

START_TEST(client_of_a_managed_name_never_gets_it_back)
{
    struct cm_cert *fresh, *got = NULL;
    struct cm_pending *pending = NULL;
    struct cm_hello hello;

    begin(false);
    ck_ok(cm_manage(k.cfg, NULL, example->names, 1, &err));
    struct cm_cert *old = serve(k.cfg);
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(handle(k.cfg, old, &superseded, &fresh), CM_E_ACME);
    kit_hello(&hello, "example.com");
    cm_status rc = cm_get_certificate(k.cfg, &hello, &got, &pending, &err);
    if (rc == CM_E_AGAIN)
        rc = cm_pending_wait(pending, NULL, &got, &err);
    cm_pending_free(pending);
    ck_assert_int_ne(rc, CM_OK);
    ck_assert_uint_eq(cm_cache_count(k.cfg->cache), 0);
    cm_cert_unref(old);
    end();
}
END_TEST

START_TEST(successor_that_is_revoked_at_once_costs_one_order_a_day)
{
    struct cm_cert *second, *third, *none;

    begin(false);
    struct cm_cert *first = obtained(k.cfg);
    ck_ok(handle(k.cfg, first, &superseded, &second));
    kit_pass(&k.env, 3600 * CM_NS_PER_S);
    ck_refused(handle(k.cfg, second, &superseded, &none), CM_E_RATELIMITED);
    ck_assert_int_eq(err.retry_after_s, DAY - 3600);
    ck_assert(!is_served(k.cfg, second));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    /* what somebody puts there meanwhile is taken */
    struct cm_config *peer = kit_peer(&k, NULL);
    ck_ok(cm_renew(peer, NULL, "example.com", true, NULL, &err));
    ck_ok(handle(k.cfg, second, &superseded, &third));
    ck_assert(is_served(k.cfg, third));
    ck_refused(handle(k.cfg, third, &superseded, &none), CM_E_RATELIMITED);
    kit_pass(&k.env, (DAY - 3600) * CM_NS_PER_S);
    struct cm_cert *fourth;
    ck_ok(handle(k.cfg, third, &superseded, &fourth));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 3);
    cm_cert_unref(first);
    cm_cert_unref(second);
    cm_cert_unref(third);
    cm_cert_unref(fourth);
    cm_config_free(peer);
    end();
}
END_TEST

START_TEST(pair_that_is_gone_from_storage_is_had_anew)
{
    struct cm_cert *fresh;

    begin(true);
    struct cm_cert *old = obtained(k.cfg);
    ck_ok(cm_storage_remove(&k.storage.base, NULL, SITE ".crt", &err)); /* the key is left */
    ck_ok(handle(k.cfg, old, &compromised, &fresh));
    ck_assert(!same_key(old, fresh));
    cm_cert_unref(fresh);
    cm_cert_unref(old);
    end();
}
END_TEST

START_TEST(lack_of_memory_at_any_moment_loses_no_key_and_serves_nothing_revoked)
{
    unsigned whole = 0;

    for (uint64_t n = 1; whole < 3; n++) { /* three in a row without a failure */
        struct cm_cert *fresh;

        ck_assert_uint_lt(n, 1000);
        begin(true);
        struct cm_cert *old = obtained(k.cfg);
        CM_AUTO_FREE char *old_key = kit_get(&k.storage.base, SITE ".key");
        (void)cm_alloc_fail_at(n);
        cm_status rc = handle(k.cfg, old, &compromised, &fresh);
        (void)cm_alloc_fail_at(0);
        whole = rc == CM_OK ? whole + 1 : 0;
        ck_assert(!is_served(k.cfg, old));
        if (rc != CM_OK)
            ck_ok(handle(k.cfg, old, &compromised, &fresh));
        ck_assert(is_served(k.cfg, fresh));
        ck_assert(!same_key(old, fresh));
        CM_AUTO_FREE char *aside = kit_get(&k.storage.base, ASIDE);
        ck_assert_str_eq(aside, old_key);
        ck_assert_uint_le(atomic_load(&k.issuer->orders), 3);
        cm_cert_unref(fresh);
        cm_cert_unref(old);
        end();
    }
}
END_TEST

START_TEST(many_are_remembered)
{
    enum { N = 10000 };
    struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_cert *cert = NULL;
    bool first;

    begin(false);
    kit_make_pair(CM_PK_P256, example->names, 1, START_S, 90 * DAY, &chain, &key);
    ck_ok(cm_cert_from_pem(cm_buf_span(&chain), cm_buf_span(&key), "ca.test-dir", NULL,
                           CM_CERT_MANAGED, &cert, &err));
    for (unsigned i = 0; i < N; i++) { /* another leaf each time, as far as its hash goes */
        uint8_t *leaf = cert->bytes + cert->leaf_off;

        memcpy(leaf + 20, &i, sizeof i);
        if (cm_revoked_is(k.cfg, cert, NULL))
            ck_abort_msg("number %u is known already", i);
        cm_status rc = cm_revoked_note(k.cfg, cert, 4, &first, &err);
        if (rc != CM_OK || !first || !cm_revoked_is(k.cfg, cert, NULL))
            ck_abort_msg("number %u: %s", i, err.msg);
    }
    ck_ok(cm_revoked_note(k.cfg, cert, 1, &first, &err));
    ck_assert(!first);
    cm_cert_unref(cert);
    cm_buf_free(&chain);
    cm_buf_free(&key);
    end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        revoked_certificate_is_replaced_and_the_program_is_told,
        four_nodes_place_one_order,
        key_that_others_know_is_put_aside_by_the_commit_of_its_successor,
        what_was_put_aside_before_is_not_overwritten,
        key_goes_from_the_directory_of_another_issuer,
        order_begun_with_a_lost_key_is_not_resumed_and_another_is,
        successor_with_the_lost_key_will_not_do,
        what_cannot_be_replaced_is_served_no_more_and_does_not_come_back,
        any_other_job_replaces_it_too,
        client_of_a_managed_name_never_gets_it_back,
        successor_that_is_revoked_at_once_costs_one_order_a_day,
        pair_that_is_gone_from_storage_is_had_anew,
        lack_of_memory_at_any_moment_loses_no_key_and_serves_nothing_revoked,
        many_are_remembered,
    };

    return kit_run("revoked", tests, CM_ARRAY_LEN(tests));
}
