/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

static struct kit k;
static struct cm_err err;

static void bad(const char *what)
{
    struct cm_issuer *is = kit_issuer_new(&k.env, "ca.test-dir");
    struct cm_config_options o = k.opts;
    struct cm_config *cfg = NULL;

    if (o.issuers == NULL) {
        o.issuers = &is;
        o.n_issuers = 1;
    }
    cm_status rc = cm_config_new(&o, &cfg, &err);
    ck_assert_msg(rc == CM_E_INVAL, "%s: %s", what, cm_status_name(rc));
    ck_assert_msg(strstr(err.msg, what) != NULL, "%s: '%s'", what, err.msg);
    ck_assert_ptr_null(cfg);
    cm_issuer_destroy(is); /* not taken over */
}

START_TEST(bad_options_are_named)
{
    kit_init(&k);
    k.opts.key_type = (enum cm_key_type)42;
    bad("key_type");
    k.opts.key_type = CM_KEY_DEFAULT;
    k.opts.renew_ratio = 1;
    bad("renew_ratio");
    k.opts.renew_ratio = -0.1;
    bad("renew_ratio");
    k.opts.renew_ratio = 0;
    k.opts.default_name = "*.example.com";
    bad("default_name");
    k.opts.default_name = NULL;
    k.opts.fallback_name = "a b";
    bad("fallback_name");
    k.opts.fallback_name = NULL;
    k.opts.max_parallel = 5000;
    bad("max_parallel");
    k.opts.max_parallel = 0;
    k.opts.handshake_wait_ms = INT64_MAX;
    bad("handshake_wait_ms");
    k.opts.handshake_wait_ms = 0;
    k.opts.storage = "memory:";
    bad("storage_object");
    k.opts.storage = NULL;
    k.opts.size = 0;
    bad("size");
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(issuers_are_told_apart_by_key)
{
    struct cm_issuer *two[2];
    struct cm_config *cfg = NULL;

    kit_init(&k);
    two[0] = kit_issuer_new(&k.env, "same");
    two[1] = kit_issuer_new(&k.env, "same");
    k.opts.issuers = two;
    k.opts.n_issuers = 2;
    bad("same");
    cm_issuer_destroy(two[1]);
    two[1] = kit_issuer_new(&k.env, "..");
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    k.opts.n_issuers = 0;
    bad("issuers");
    cm_issuer_destroy(two[0]);
    cm_issuer_destroy(two[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(defaults_are_as_written)
{
    kit_init(&k);
    kit_start(&k);
    ck_assert_uint_eq(cm_config_http_port(k.cfg), 80);
    ck_assert_uint_eq(cm_config_tls_port(k.cfg), 443);
    ck_assert_int_eq(cm_config_handshake_wait_ns(k.cfg), 8 * CM_NS_PER_S);
    ck_assert(cm_config_tickets(k.cfg));
    ck_assert_ptr_null(cm_config_listen_host(k.cfg));
    ck_assert_str_eq(cm_config_priority(k.cfg),
                     "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE");
    ck_assert_ptr_eq(cm_config_env(k.cfg), &k.env.base);
    ck_assert_ptr_eq(cm_config_storage(k.cfg), &k.storage.base);
    ck_assert_ptr_eq(cm_config_issuer(k.cfg, 0), &k.issuer->base);
    ck_assert_ptr_null(cm_config_issuer(k.cfg, 1));
    kit_stop(&k);
    cm_config_free(NULL);
}
END_TEST

START_TEST(older_program_with_shorter_options_works)
{
    struct cm_issuer *is;

    kit_init(&k);
    is = kit_issuer_new(&k.env, "ca.test-dir");
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    k.opts.handshake_wait_ms = 1;
    k.opts.size = (uint32_t)offsetof(struct cm_config_options, must_staple);
    kit_start(&k); /* what lies past its size is not looked at */
    ck_assert_int_eq(cm_config_handshake_wait_ns(k.cfg), 8 * CM_NS_PER_S);
    ck_assert_ptr_ne(cm_config_env(k.cfg), &k.env.base);
    kit_stop(&k);
}
END_TEST

START_TEST(own_storage_and_cache_are_closed)
{
    struct cm_issuer *is;
    struct cm_config *cfg = NULL;
    const char *const names[] = { "example.com" };

    kit_init(&k);
    is = kit_issuer_new(&k.env, "ca.test-dir");
    k.opts.storage_object = NULL;
    k.opts.storage = "memory:";
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    ck_ok(cm_config_new(&k.opts, &cfg, &err));
    ck_ok(cm_manage(cfg, NULL, names, 1, &err));
    ck_assert_uint_eq(cm_cache_count(cm_config_cache(cfg)), 1);
    cm_config_free(cfg);
    k.opts.storage = "nosuch://x";
    is = kit_issuer_new(&k.env, "ca.test-dir");
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    cm_issuer_destroy(is);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(constructors_are_used_without_issuers)
{
    struct cm_config *cfg = NULL;

    kit_init(&k);
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_POLICY); /* the tests' ACME */
    k.opts.internal = true;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_UNSUPPORTED);
    ck_refused(cm_config_new(NULL, &cfg, &err), CM_E_INVAL);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(no_allocation_failure_leaks_or_crashes)
{
    cm_status rc = CM_E_NOMEM;
    unsigned n;

    kit_init(&k);
    for (n = 1; rc != CM_OK && n < 500; n++) {
        struct cm_issuer *is = kit_issuer_new(&k.env, "ca.test-dir");
        struct cm_config_options o = k.opts;
        struct cm_config *cfg = NULL;

        o.issuers = &is;
        o.n_issuers = 1;
        o.fallback_name = "example.com";
        (void)cm_alloc_fail_at(n);
        rc = cm_config_new(&o, &cfg, &err);
        (void)cm_alloc_fail_at(0);
        if (rc != CM_OK)
            cm_issuer_destroy(is);
        cm_config_free(cfg);
    }
    ck_assert_int_eq(rc, CM_OK);
    ck_assert_uint_gt(n, 20);
    kit_storage_free(&k.storage);
}
END_TEST

/* A whole issuance with each allocation failing once: afterwards the next attempt succeeds, and
 * what was served before still is. */
START_TEST(no_allocation_failure_wedges_a_name)
{
    const char *const names[] = { "example.com" };
    cm_status rc = CM_E_NOMEM;
    bool hit = true; /* some failures are nobody's but the clockwork's, and it bears them */
    unsigned n;

    for (n = 1; hit && n < 3000; n += n < 40 ? 1 : 7) {
        kit_init(&k);
        kit_start(&k);
        (void)cm_alloc_fail_at(n);
        rc = cm_manage(k.cfg, NULL, names, 1, &err);
        hit = cm_alloc_fail_at(0) >= n;
        if (rc != CM_OK)
            ck_ok(cm_manage(k.cfg, NULL, names, 1, &err));
        ck_assert_uint_le(atomic_load(&k.issuer->orders), 2);
        kit_stop(&k);
    }
    ck_assert_int_eq(rc, CM_OK);
    ck_assert_uint_gt(n, 50);
}
END_TEST

START_TEST(fetcher_is_built_in_unless_one_is_given_or_none_is_needed)
{
    static const struct cm_fetcher_ops ops = { .abi = CM_SPI_ABI, .size = sizeof ops };
    struct cm_fetcher mine = { &ops };

    kit_init(&k);
    kit_start(&k);
    ck_assert_ptr_nonnull(k.cfg->fetcher);
    ck_assert(k.cfg->owns_fetcher);
    kit_stop(&k);
    kit_init(&k);
    k.opts.fetcher = &mine;
    kit_start(&k);
    ck_assert_ptr_eq(k.cfg->fetcher, &mine);
    ck_assert(!k.cfg->owns_fetcher);
    kit_stop(&k);
    kit_init(&k);
    k.opts.disable_ocsp = k.opts.disable_crl = true;
    kit_start(&k);
    ck_assert_ptr_null(k.cfg->fetcher);
    kit_stop(&k);
}
END_TEST

START_TEST(extra_is_copied_and_checked)
{
    static const uint8_t null[] = { 0x05, 0x00 };
    struct cm_csr_extension e[CM_CSR_EXTENSIONS_MAX + 1] = { { .oid = "1.2.3",
                                                               .value = { null, sizeof null } } };
    struct cm_config_extra x = CM_CONFIG_EXTRA_INIT;

    kit_init(&k);
    k.opts.http_port = 8080;
    kit_start(&k);
    ck_assert_uint_eq(k.cfg->host.http_port, 8080);
    ck_assert_uint_eq(k.cfg->host.tls_port, 443);
    ck_assert_uint_eq(k.cfg->csr_exts.len, 0);
    kit_stop(&k);

    kit_init(&k);
    k.opts.http_port = 8080;
    k.opts.extra = &x;
    x.csr_extensions = e;
    x.n_csr_extensions = 1;
    x.alt_http_port = 5002;
    x.alt_tls_port = 5001;
    kit_start(&k);
    e[0].oid = "1.2.4";
    ck_assert_uint_gt(k.cfg->csr_exts.len, 0);
    ck_assert_uint_eq(k.cfg->host.http_port, 5002); /* challenges */
    ck_assert_uint_eq(k.cfg->host.tls_port, 5001);
    ck_assert_uint_eq(cm_config_http_port(k.cfg), 8080); /* listeners */
    ck_assert_uint_eq(cm_config_tls_port(k.cfg), 443);
    kit_stop(&k);

    kit_init(&k);
    k.opts.extra = &x;
    x.n_csr_extensions = CM_ARRAY_LEN(e);
    bad("csr_extensions");
    x.csr_extensions = NULL;
    x.n_csr_extensions = 1;
    bad("csr_extensions");
    x.csr_extensions = e;
    e[0].oid = "2.5.29.17";
    bad("subjectAltName");
    x.size = 0;
    bad("size");
    kit_storage_free(&k.storage);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        bad_options_are_named,
        issuers_are_told_apart_by_key,
        extra_is_copied_and_checked,
        defaults_are_as_written,
        older_program_with_shorter_options_works,
        own_storage_and_cache_are_closed,
        constructors_are_used_without_issuers,
        no_allocation_failure_leaks_or_crashes,
        no_allocation_failure_wedges_a_name,
        fetcher_is_built_in_unless_one_is_given_or_none_is_needed,
    };

    return kit_run("config", tests, CM_ARRAY_LEN(tests));
}
