/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

/* Two configs on one cache and one storage, each with its own kind of key: two pairs for a name. */

static struct kit k;
static struct cm_err err;
static struct cm_config *other;
static struct kit_issuer *other_issuer;
static const char *const names[] = { "example.com" };

static void begin(void)
{
    struct cm_config_options o;
    static struct cm_issuer *issuers[1];

    kit_init(&k);
    k.opts.key_type = CM_KEY_P256;
    kit_start(&k);
    o = k.opts;
    issuers[0] = kit_issuer_new(&k.env, "ca.test-dir+rsa2048");
    other_issuer = kit_issuer_of(issuers[0]);
    o.issuers = issuers;
    o.n_issuers = 1;
    o.cache = cm_config_cache(k.cfg);
    o.key_type = CM_KEY_RSA2048;
    ck_ok(cm_config_new(&o, &other, &err));
}

static void end(void)
{
    cm_config_free(other);
    kit_stop(&k);
}

static void ask(uint16_t sigalg, uint16_t suite, struct cm_hello *h)
{
    kit_hello(h, "example.com");
    h->n_sigalgs = h->n_suites = 1;
    h->sigalgs[0] = sigalg;
    h->suites[0] = suite;
    h->has_versions_ext = false;
    h->n_versions = 1;
    h->versions[0] = 0x0303;
}

static const char *served(struct cm_config *cfg, uint16_t sigalg, uint16_t suite)
{
    struct cm_pending *p = NULL;
    struct cm_cert *cert = NULL;
    struct cm_hello h;

    ask(sigalg, suite, &h);
    ck_ok(cm_get_certificate(cfg, &h, &cert, &p, &err));
    const char *key = cm_cert_issuer_key(cert);
    bool rsa = strstr(key, "+rsa") != NULL;
    cm_cert_unref(cert);
    return rsa ? "rsa" : "ecdsa";
}

#define EC_SIG    0x0403
#define RSA_SIG   0x0401
#define EC_SUITE  0xc02b
#define RSA_SUITE 0xc02f

START_TEST(each_client_gets_what_it_can_check)
{
    begin();
    ck_ok(cm_manage(k.cfg, NULL, names, 1, &err));
    ck_ok(cm_manage(other, NULL, names, 1, &err));
    ck_assert_uint_eq(cm_cache_count(cm_config_cache(k.cfg)), 2);
    ck_assert_str_eq(served(k.cfg, EC_SIG, EC_SUITE), "ecdsa");
    ck_assert_str_eq(served(k.cfg, RSA_SIG, RSA_SUITE), "rsa");
    end();
}
END_TEST

START_TEST(both_are_renewed)
{
    begin();
    ck_ok(cm_manage(k.cfg, NULL, names, 1, &err));
    ck_ok(cm_manage(other, NULL, names, 1, &err));
    kit_pass(&k.env, k.issuer->lifetime_s * CM_NS_PER_S * 3 / 4);
    ck_ok(cm_cache_maintain_now(cm_config_cache(k.cfg), false, &err));
    kit_until(atomic_load(&k.issuer->issued) == 2 && atomic_load(&other_issuer->issued) == 2);
    kit_until(cm_cache_count(cm_config_cache(k.cfg)) == 2);
    ck_assert_str_eq(served(k.cfg, EC_SIG, EC_SUITE), "ecdsa");
    ck_assert_str_eq(served(k.cfg, RSA_SIG, RSA_SUITE), "rsa");
    end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        each_client_gets_what_it_can_check,
        both_are_renewed,
    };

    return kit_run("dual", tests, CM_ARRAY_LEN(tests));
}
