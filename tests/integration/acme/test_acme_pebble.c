/* SPDX-License-Identifier: Apache-2.0 */

/* lib/acme against a real Pebble. The runner starts one with the options that a case needs and
 * selects the case by CK_RUN_CASE; where it is comes in the environment. */

#include "pebble.h"
#include "run.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------- accounts */

static void account_life(enum cm_pk type)
{
    static const char *const contact[] = { "mailto:new@a.test", "mailto:other@a.test" };
    const struct cm_acme_new_account find = { .only_existing = true, .tos_agreed = true };
    struct cm_acme_account found = { 0 };
    struct cm_acme_account now = { 0 };
    struct cm_op op = seconds(30);
    struct who w;
    bool created = true;

    new_account(type, &w);
    ck_ok(cm_acme_account_new(acme, &op, w.key, &find, &found, &created, &err));
    ck_assert(!created);
    ck_assert_str_eq(found.url, w.acc.url);

    ck_ok(cm_acme_account_update(acme, &op, &w.signer, contact, 2, &now, &err));
    ck_assert_str_eq(now.contact[0], contact[0]);
    ck_assert_str_eq(now.contact[1], contact[1]);
    ck_assert_ptr_null(now.contact[2]);
    cm_acme_account_free(&now);
    ck_ok(cm_acme_account_get(acme, &op, &w.signer, &now, &err));
    ck_assert_str_eq(now.contact[1], contact[1]);
    ck_assert_str_eq(now.url, w.acc.url);
    ck_assert_int_eq(now.status, CM_ACME_VALID);

    ck_ok(cm_acme_account_deactivate(acme, &op, &w.signer, &err));
    cm_acme_account_free(&now);
    ck_status(cm_acme_account_get(acme, &op, &w.signer, &now, &err), CM_E_ACME);
    ck_assert_msg(err.http_status == 403 || err.http_status == 401, "%d %s", err.http_status,
                  err.msg);
    cm_acme_account_free(&now);
    cm_acme_account_free(&found);
    drop(&w);
}

START_TEST(account_life_with_es256)
{
    account_life(CM_PK_P256);
}
END_TEST

START_TEST(account_life_with_es384)
{
    account_life(CM_PK_P384);
}
END_TEST

START_TEST(account_life_with_rs256)
{
    account_life(CM_PK_RSA2048);
}
END_TEST

START_TEST(ed25519_account_is_refused_with_the_cas_reason)
{
    const struct cm_acme_new_account req = { .tos_agreed = true };
    struct cm_acme_account acc = { 0 };
    struct cm_op op = seconds(30);
    struct cm_key *key = NULL;

    ck_ok(cm_key_generate(CM_PK_ED25519, &key, &err));
    ck_status(cm_acme_account_new(acme, &op, key, &req, &acc, NULL, &err), CM_E_ACME);
    ck_assert_msg(cm_acme_problem_is(err.problem, "badSignatureAlgorithm") ||
                      cm_acme_problem_is(err.problem, "badPublicKey") ||
                      cm_acme_problem_is(err.problem, "malformed"),
                  "%s", err.problem);
    ck_assert(err.no_retry);
    ck_assert_ptr_nonnull(strstr(err.msg, "newAccount"));
    cm_key_unref(key);
}
END_TEST

START_TEST(unknown_account_is_accountDoesNotExist)
{
    const struct cm_acme_new_account find = { .only_existing = true };
    struct cm_acme_account acc = { 0 };
    struct cm_op op = seconds(30);
    struct cm_key *key = NULL;

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_status(cm_acme_account_new(acme, &op, key, &find, &acc, NULL, &err), CM_E_ACME);
    ck_assert(cm_acme_problem_is(err.problem, "accountDoesNotExist"));
    ck_assert(!err.no_retry);
    cm_key_unref(key);
}
END_TEST

/* --------------------------------------------------------------------- orders */

START_TEST(certificate_for_names_wildcard_and_ip)
{
    static const char *const names[] = { "a.test", "b.a.test", "*.w.test", "127.0.0.1", "::1" };
    struct cm_chain chain = { 0 };
    struct cm_key *key = NULL;
    char **alternates = NULL;
    struct who w;

    new_account(CM_PK_P256, &w);
    issue(&w, names, CM_ARRAY_LEN(names), NULL, &chain, &key, &alternates);
    ck_assert_ptr_null(alternates);
    cm_chain_free(&chain);
    cm_key_unref(key);
    drop(&w);
}
END_TEST

START_TEST(certificate_by_a_real_http_01_validation)
{
    static const char *const names[] = { "real.test" };
    struct scripted_http *serve = sh_start((unsigned)atol(env_of("HTTP01_PORT")));
    struct cm_chain chain = { 0 };
    struct cm_key *key = NULL;
    struct who w;

    new_account(CM_PK_P256, &w);
    issue(&w, names, 1, serve, &chain, &key, NULL);
    ck_assert_uint_ge(sh_count(serve, "GET", "/.well-known/acme-challenge/*"), 1);
    cm_chain_free(&chain);
    cm_key_unref(key);
    drop(&w);
    sh_stop(serve);
}
END_TEST

START_TEST(invalid_order_tells_and_the_authorization_says_why)
{
    static const char *const names[] = { "nobody-answers.test" };
    struct cm_acme_authz z = { 0 };
    struct cm_acme_order o;
    struct cm_op op = seconds(60);
    struct who w;
    bool found = false;

    new_account(CM_PK_P256, &w);
    order_of(&w, names, 1, &o);
    accept_all(&w, &o, NULL);
    ck_status(cm_acme_order_wait(acme, &op, &w.signer, &o, true, &err), CM_E_ACME);
    ck_assert_int_eq(o.status, CM_ACME_INVALID);
    ck_ok(cm_acme_authz_get(acme, &op, &w.signer, o.authz[0], &z, &err));
    ck_assert_int_eq(z.status, CM_ACME_INVALID);
    for (size_t i = 0; i < z.n_challenges; i++)
        if (cm_acme_problem_is(z.challenges[i].error.type, "connection"))
            found = true;
    ck_assert(found);
    cm_acme_authz_free(&z);
    cm_acme_order_free(&o);
    drop(&w);
}
END_TEST

/* newOrder, authorization, challenge, order, finalize, order, certificate. */
START_TEST(warm_certificate_takes_seven_requests)
{
    char name[32];
    const char *const names[] = { name };
    uint64_t before;
    uint64_t total;
    int64_t t0;
    int64_t t1;
    struct who w;

    new_account(CM_PK_P256, &w);
    before = cm_acme_request_count(acme);
    t0 = cm_env_system()->mono_ns(cm_env_system());
    for (int i = 0; i < 100; i++) {
        struct cm_chain chain = { 0 };
        struct cm_key *key = NULL;

        (void)snprintf(name, sizeof name, "n%d.test", i);
        issue(&w, names, 1, NULL, &chain, &key, NULL);
        cm_chain_free(&chain);
        cm_key_unref(key);
    }
    t1 = cm_env_system()->mono_ns(cm_env_system());
    total = cm_acme_request_count(acme) - before;
    printf("# 100 certificates: %llu requests, %lld ms\n", (unsigned long long)total,
           (long long)((t1 - t0) / CM_NS_PER_MS));
    ck_assert_uint_le(total, 710);
    drop(&w);
}
END_TEST

START_TEST(cold_certificate_takes_ten_requests)
{
    static const char *const names[] = { "cold.test" };
    struct cm_chain chain = { 0 };
    struct cm_key *key = NULL;
    struct who w;

    new_account(CM_PK_P256, &w);
    issue(&w, names, 1, NULL, &chain, &key, NULL);
    ck_assert_uint_le(cm_acme_request_count(acme), 10);
    cm_chain_free(&chain);
    cm_key_unref(key);
    drop(&w);
}
END_TEST

START_TEST(blocked_name_is_rejectedIdentifier_and_final)
{
    static const char *const names[] = { "blocked.test" };
    const struct cm_acme_new_order req = { .names = names, .n = 1 };
    struct cm_acme_order o = { 0 };
    struct cm_op op = seconds(30);
    struct who w;

    new_account(CM_PK_P256, &w);
    ck_status(cm_acme_order_new(acme, &op, &w.signer, &req, &o, &err), CM_E_ACME);
    ck_assert_msg(cm_acme_problem_is(err.problem, "rejectedIdentifier"), "%s", err.problem);
    ck_assert(err.no_retry);
    ck_assert_msg(strstr(err.msg, "blocked.test") != NULL, "%s", err.msg);
    drop(&w);
}
END_TEST

START_TEST(finalize_before_ready_is_orderNotReady)
{
    static const char *const names[] = { "early.test" };
    struct cm_buf csr = CM_BUF_INIT(64 * 1024);
    struct cm_key *key = NULL;
    struct cm_acme_order o;
    struct cm_op op = seconds(30);
    struct who w;

    new_account(CM_PK_P256, &w);
    order_of(&w, names, 1, &o);
    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_csr_make(key, names, 1, false, &csr, &err));
    ck_assert_int_eq(cm_acme_order_finalize(acme, &op, &w.signer, &o, cm_buf_span(&csr), &err),
                     CM_E_ACME);
    ck_assert_msg(cm_acme_problem_is(err.problem, "orderNotReady"), "%s", err.problem);
    ck_assert_int_eq(o.status, CM_ACME_PENDING);
    cm_buf_free(&csr);
    cm_key_unref(key);
    cm_acme_order_free(&o);
    drop(&w);
}
END_TEST

START_TEST(deactivated_authorization_ends_its_order)
{
    static const char *const names[] = { "deact.test" };
    struct cm_acme_authz z = { 0 };
    struct cm_acme_order o;
    struct cm_op op = seconds(30);
    struct who w;

    new_account(CM_PK_P256, &w);
    order_of(&w, names, 1, &o);
    ck_ok(cm_acme_authz_deactivate(acme, &op, &w.signer, o.authz[0], &err));
    ck_ok(cm_acme_authz_get(acme, &op, &w.signer, o.authz[0], &z, &err));
    ck_assert_int_eq(z.status, CM_ACME_DEACTIVATED);
    cm_acme_authz_free(&z);
    cm_acme_order_free(&o);
    drop(&w);
}
END_TEST

/* ------------------------------------------------------------------ revocation */

static void revoke_with(bool by_certificate_key)
{
    static const char *const names[] = { "revoke.test" };
    struct cm_acme_signer by;
    struct cm_chain chain = { 0 };
    struct cm_key *key = NULL;
    struct cm_op op = seconds(30);
    struct who w;

    new_account(CM_PK_P256, &w);
    issue(&w, names, 1, NULL, &chain, &key, NULL);
    by = w.signer;
    if (by_certificate_key) {
        by.key = key;
        by.kid = NULL;
    }
    ck_ok(cm_acme_revoke(acme, &op, &by, chain.der[0], 4, &err));
    ck_ok(cm_acme_revoke(acme, &op, &by, chain.der[0], -1, &err)); /* alreadyRevoked */
    cm_chain_free(&chain);
    cm_key_unref(key);
    drop(&w);
}

START_TEST(revoke_by_account_twice_is_ok)
{
    revoke_with(false);
}
END_TEST

START_TEST(revoke_by_certificate_key_twice_is_ok)
{
    revoke_with(true);
}
END_TEST

START_TEST(revoke_by_a_stranger_is_refused)
{
    static const char *const names[] = { "stranger.test" };
    struct cm_chain chain = { 0 };
    struct cm_key *key = NULL;
    struct cm_op op = seconds(30);
    struct who w;
    struct who other;

    new_account(CM_PK_P256, &w);
    new_account(CM_PK_P256, &other);
    issue(&w, names, 1, NULL, &chain, &key, NULL);
    ck_status(cm_acme_revoke(acme, &op, &other.signer, chain.der[0], -1, &err), CM_E_ACME);
    ck_assert_msg(err.http_status >= 400 && err.http_status < 500, "%s", err.msg);
    cm_chain_free(&chain);
    cm_key_unref(key);
    drop(&w);
    drop(&other);
}
END_TEST

/* ----------------------------------------------------------- external accounts */

static void eab_key(const char *text, struct cm_buf *out)
{
    ck_ok(cm_b64url_decode(cm_span_str(text), out, &err));
}

START_TEST(external_account_is_bound_with_hs256)
{
    struct cm_buf mac = CM_BUF_SECRET(256);
    struct cm_acme_new_account req = { .tos_agreed = true,
                                       .eab_kid = "kid-1",
                                       .eab_alg = CM_HMAC_SHA256 };
    const struct cm_acme_directory *d = NULL;
    struct cm_acme_account acc = { 0 };
    struct cm_op op = seconds(30);
    struct cm_key *key = NULL;

    ck_ok(cm_acme_directory(acme, &op, &d, &err));
    ck_assert(d->eab_required);
    eab_key("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W", &mac);
    req.eab_key = cm_buf_span(&mac);
    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_acme_account_new(acme, &op, key, &req, &acc, NULL, &err));
    ck_assert_ptr_nonnull(acc.eab_json);
    ck_assert_ptr_nonnull(strstr(acc.eab_json, "\"signature\""));
    cm_acme_account_free(&acc);
    cm_key_unref(key);
    cm_buf_free(&mac);
}
END_TEST

START_TEST(external_account_with_wrong_key_is_refused)
{
    struct cm_acme_new_account req = { .tos_agreed = true,
                                       .eab_kid = "kid-1",
                                       .eab_key = cm_span_str("0123456789abcdef0123456789abcdef") };
    struct cm_acme_account acc = { 0 };
    struct cm_op op = seconds(30);
    struct cm_key *key = NULL;

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_status(cm_acme_account_new(acme, &op, key, &req, &acc, NULL, &err), CM_E_ACME);
    cm_key_unref(key);
}
END_TEST

START_TEST(missing_external_account_is_externalAccountRequired)
{
    struct cm_acme_new_account req = { .tos_agreed = true };
    struct cm_acme_account acc = { 0 };
    struct cm_op op = seconds(30);
    struct cm_key *key = NULL;

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_status(cm_acme_account_new(acme, &op, key, &req, &acc, NULL, &err), CM_E_ACME);
    ck_assert_msg(cm_acme_problem_is(err.problem, "externalAccountRequired"), "%s", err.problem);
    ck_assert(err.no_retry);
    cm_key_unref(key);
}
END_TEST

/* ------------------------------------------------------------ alternate chains */

START_TEST(alternate_chains_are_listed_and_can_be_fetched)
{
    static const char *const names[] = { "alt.test" };
    struct cm_chain chain = { 0 };
    struct cm_key *key = NULL;
    char **alternates = NULL;
    struct cm_op op = seconds(30);
    char first[128];
    struct who w;
    size_t n = 0;

    new_account(CM_PK_P256, &w);
    issue(&w, names, 1, NULL, &chain, &key, &alternates);
    ck_ok(cm_chain_top_issuer_cn(&chain, first, sizeof first, &err));
    ck_assert_ptr_nonnull(alternates);
    for (; alternates[n] != NULL; n++) {
        struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
        struct cm_chain other = { 0 };
        char cn[128];

        ck_ok(cm_acme_certificate_get(acme, &op, &w.signer, alternates[n], &pem, NULL, &err));
        ck_ok(cm_chain_from_pem(cm_buf_span(&pem), &other, &err));
        ck_ok(cm_chain_top_issuer_cn(&other, cn, sizeof cn, &err));
        ck_assert_str_ne(cn, first);
        cm_chain_free(&other);
        cm_buf_free(&pem);
    }
    ck_assert_uint_eq(n, 2);
    cm_acme_strv_free(alternates);
    cm_chain_free(&chain);
    cm_key_unref(key);
    drop(&w);
}
END_TEST

/* ---------------------------------------------------------------------- trust */

static cm_status directory_with(const char *ca_file)
{
    const struct cm_acme_client_options o = { .directory_url = env_of("ACME_DIR"),
                                              .http = { .ca_file = ca_file } };
    const struct cm_acme_directory *d = NULL;
    struct cm_op op = seconds(30);
    struct cm_acme *a = NULL;
    cm_status rc;

    ck_ok(cm_acme_new(&o, &a, &err));
    rc = cm_acme_directory(a, &op, &d, &err);
    cm_acme_free(a);
    return rc;
}

START_TEST(ca_that_the_system_does_not_trust_is_refused)
{
    ck_status(directory_with(env_of("LAB_CA")), CM_OK);
    ck_status(directory_with(NULL), CM_E_TLS);
    ck_status(directory_with(env_of("PEBBLE_ROOT")), CM_E_TLS);
    ck_assert_msg(strstr(err.msg, "certificate") != NULL, "%s", err.msg);
}
END_TEST

/* Run where the system does trust the lab's CA: a pinned file must replace that trust, not add to
 * it (libcurl with GnuTLS would do the latter by itself). */
START_TEST(pinned_ca_file_replaces_the_systems_trust)
{
    ck_status(directory_with(NULL), CM_OK);
    ck_status(directory_with(env_of("PEBBLE_ROOT")), CM_E_TLS);
}
END_TEST

/* --------------------------------------------------------------- many at a time */

/* One step of crowd_member(), with the same second chance. */
#define step(call)                                                                                 \
    do {                                                                                           \
        for (int n = 0; rc == CM_OK && n < 3; n++) {                                               \
            rc = (call);                                                                           \
            if (rc != CM_E_ACME || !cm_acme_problem_is(e.problem, "badNonce"))                     \
                break;                                                                             \
            rc = n < 2 ? CM_OK : rc;                                                               \
        }                                                                                          \
    } while (0)

struct crowd {
    const struct who *w;
    atomic_int next;
    int total;
};

static void *crowd_member(void *arg)
{
    struct crowd *crowd = arg;
    int i;

    while ((i = atomic_fetch_add(&crowd->next, 1)) < crowd->total) {
        struct cm_err e = CM_ERR_INIT;
        struct cm_op op = seconds(60);
        char name[32];
        const char *const names[] = { name };
        const struct cm_acme_new_order req = { .names = names, .n = 1 };
        struct cm_acme_order o = { 0 };
        struct cm_acme_authz z = { 0 };
        struct cm_buf csr = CM_BUF_INIT(8192);
        struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
        struct cm_key *key = NULL;
        const struct cm_acme_signer *s = &crowd->w->signer;
        cm_status rc = CM_OK;

        (void)snprintf(name, sizeof name, "c%d.test", i);
        step(cm_acme_order_new(acme, &op, s, &req, &o, &e));
        step(cm_acme_authz_get(acme, &op, s, o.authz[0], &z, &e));
        step(cm_acme_challenge_accept(acme, &op, s, z.challenges[0].url, &e));
        step(cm_acme_order_wait(acme, &op, s, &o, true, &e));
        step(cm_key_generate(CM_PK_P256, &key, &e));
        step(cm_csr_make(key, names, 1, false, &csr, &e));
        step(cm_acme_order_finalize(acme, &op, s, &o, cm_buf_span(&csr), &e));
        step(cm_acme_order_wait(acme, &op, s, &o, false, &e));
        step(cm_acme_certificate_get(acme, &op, s, o.certificate, &pem, NULL, &e));
        if (rc != CM_OK)
            (void)fprintf(stderr, "# %s: %s\n", name, e.msg);
        cm_acme_order_free(&o);
        cm_acme_authz_free(&z);
        cm_buf_free(&csr);
        cm_buf_free(&pem);
        cm_key_unref(key);
        if (rc != CM_OK)
            return arg;
    }
    return NULL;
}

START_TEST(hundred_certificates_by_ten_threads)
{
    struct crowd crowd = { .total = 100 };
    unsigned failed = 0;
    pthread_t threads[10];
    uint64_t before;
    int64_t t0;
    int64_t t1;
    struct who w;

    new_account(CM_PK_P256, &w);
    crowd.w = &w;
    before = cm_acme_request_count(acme);
    t0 = cm_env_system()->mono_ns(cm_env_system());
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, crowd_member, &crowd), 0);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++) {
        void *result = NULL;

        ck_assert_int_eq(pthread_join(threads[i], &result), 0);
        failed += result != NULL;
    }
    ck_assert_uint_eq(failed, 0);
    t1 = cm_env_system()->mono_ns(cm_env_system());
    printf("# 100 certificates by 10 threads: %llu requests, %lld ms\n",
           (unsigned long long)(cm_acme_request_count(acme) - before),
           (long long)((t1 - t0) / CM_NS_PER_MS));
    drop(&w);
}
END_TEST

static void add(Suite *s, const char *name, const TTest *const *tests, size_t n)
{
    TCase *tc = tcase_create(name);

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(tc, tests[i]);
    suite_add_tcase(s, tc);
}
#define ADD(s, name, list) add(s, name, list, CM_ARRAY_LEN(list))

int main(void)
{
    const TTest *const protocol[] = {
        account_life_with_es256,
        account_life_with_es384,
        account_life_with_rs256,
        ed25519_account_is_refused_with_the_cas_reason,
        unknown_account_is_accountDoesNotExist,
        certificate_for_names_wildcard_and_ip,
        blocked_name_is_rejectedIdentifier_and_final,
        finalize_before_ready_is_orderNotReady,
        deactivated_authorization_ends_its_order,
        revoke_by_account_twice_is_ok,
        revoke_by_certificate_key_twice_is_ok,
        revoke_by_a_stranger_is_refused,
    };
    const TTest *const crowd[] = { hundred_certificates_by_ten_threads };
    const TTest *const counts[] = { warm_certificate_takes_seven_requests,
                                    cold_certificate_takes_ten_requests };
    const TTest *const real[] = { certificate_by_a_real_http_01_validation,
                                  invalid_order_tells_and_the_authorization_says_why };
    const TTest *const eab[] = { external_account_is_bound_with_hs256,
                                 external_account_with_wrong_key_is_refused,
                                 missing_external_account_is_externalAccountRequired };
    const TTest *const alternates[] = { alternate_chains_are_listed_and_can_be_fetched };
    const TTest *const trust[] = { ca_that_the_system_does_not_trust_is_refused };
    const TTest *const pinning[] = { pinned_ca_file_replaces_the_systems_trust };
    Suite *s = suite_create("acme against pebble");

    ADD(s, "protocol", protocol);
    ADD(s, "crowd", crowd);
    ADD(s, "counts", counts);
    ADD(s, "real", real);
    ADD(s, "eab", eab);
    ADD(s, "alternates", alternates);
    ADD(s, "trust", trust);
    ADD(s, "pinning", pinning);
    return run_suite(s);
}
