/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"
#include "run.h"

#include <certmesh/cm_keys.h>

#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Keys that a signer of the program's has: certificates are made and served with them, in the whole
 * of what GnuTLS asks signatures for. */

#define ck_is(call, want)                                                                          \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)

static struct cm_err err;
static struct cm_config *cfg;

/* ------------------------------------------------------------------- a signer */

struct safe {
    struct cm_signer base;
    gnutls_privkey_t key; /* called "k1" */
    atomic_uint calls, ends;
    atomic_bool broken, slow;
};

static gnutls_sign_algorithm_t to_gnutls(enum cm_sign_alg alg)
{
    switch (alg) {
    case CM_SIGN_RSA_PKCS1_SHA256:
        return GNUTLS_SIGN_RSA_SHA256;
    case CM_SIGN_RSA_PKCS1_SHA384:
        return GNUTLS_SIGN_RSA_SHA384;
    case CM_SIGN_RSA_PKCS1_SHA512:
        return GNUTLS_SIGN_RSA_SHA512;
    case CM_SIGN_RSA_PSS_SHA256:
        return GNUTLS_SIGN_RSA_PSS_RSAE_SHA256;
    case CM_SIGN_RSA_PSS_SHA384:
        return GNUTLS_SIGN_RSA_PSS_RSAE_SHA384;
    case CM_SIGN_RSA_PSS_SHA512:
        return GNUTLS_SIGN_RSA_PSS_RSAE_SHA512;
    case CM_SIGN_ECDSA_SHA256:
        return GNUTLS_SIGN_ECDSA_SHA256;
    case CM_SIGN_ECDSA_SHA384:
        return GNUTLS_SIGN_ECDSA_SHA384;
    case CM_SIGN_ECDSA_SHA512:
        return GNUTLS_SIGN_ECDSA_SHA512;
    case CM_SIGN_ED25519:
    default:
        return GNUTLS_SIGN_EDDSA_ED25519;
    }
}

static cm_status safe_sign(struct cm_signer *s, const struct cm_op *op, const char *key,
                           enum cm_sign_alg alg, struct cm_span input, struct cm_buf *ret,
                           struct cm_err *e)
{
    struct safe *safe = CM_CONTAINER_OF(s, struct safe, base);
    gnutls_datum_t in = { (unsigned char *)(uintptr_t)input.data, (unsigned)input.len };
    gnutls_datum_t sig = { NULL, 0 };
    int rc;

    atomic_fetch_add(&safe->calls, 1);
    if (strcmp(key, "k1") != 0)
        return cm_fail(e, CM_E_KEY, "there is no '%s' here", key);
    if (atomic_load(&safe->broken))
        return cm_fail(e, CM_E_NET, "the service of keys is down");
    if (atomic_load(&safe->slow)) {
        cm_status rc_slow = cm_op_wait(op, 60 * CM_NS_PER_S, e);
        atomic_fetch_add(&safe->ends, 1);
        return rc_slow;
    }
    if (alg == CM_SIGN_ED25519)
        rc = gnutls_privkey_sign_data2(safe->key, to_gnutls(alg), 0, &in, &sig);
    else
        rc = gnutls_privkey_sign_hash2(safe->key, to_gnutls(alg), 0, &in, &sig);
    if (rc < 0)
        return cm_fail(e, CM_E_KEY, "%s", gnutls_strerror(rc));
    cm_status st = cm_buf_append(ret, sig.data, sig.size, e);
    gnutls_free(sig.data);
    return st;
}

static const struct cm_signer_ops ops = { CM_SPI_ABI, (uint32_t)sizeof ops, "safe", safe_sign };

/* A key that only @safe has, by its text. */
static struct cm_key *put_into(struct safe *safe, gnutls_pk_algorithm_t pk, unsigned bits,
                               const char *name)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    gnutls_pubkey_t pub = NULL;
    gnutls_datum_t pem = { NULL, 0 };
    struct cm_key *key = NULL;

    *safe = (struct safe){ .base = { &ops } };
    ck_assert_int_eq(gnutls_privkey_init(&safe->key), 0);
    ck_assert_int_eq(gnutls_privkey_generate(safe->key, pk, bits, 0), 0);
    ck_assert_int_eq(gnutls_pubkey_init(&pub), 0);
    ck_assert_int_eq(gnutls_pubkey_import_privkey(pub, safe->key, 0, 0), 0);
    ck_assert_int_eq(gnutls_pubkey_export2(pub, GNUTLS_X509_FMT_PEM, &pem), 0);
    ck_is(cm_buf_printf(&text, &err, "signer:%s\n%.*s", name, (int)pem.size, pem.data), CM_OK);
    gnutls_free(pem.data);
    gnutls_pubkey_deinit(pub);
    ck_is(cm_key_from_pem(cm_buf_span(&text), &key, &err), CM_OK);
    return key;
}

static void setup(void)
{
    cfg = fake_config();
}

static void teardown(void)
{
    fake_config_drop(cfg);
    ck_assert_uint_eq(fake_certs_alive(), 0);
}

/* ----------------------------------------------------------------------- tests */

static const struct {
    gnutls_pk_algorithm_t pk;
    unsigned bits;
    const char *name;
} kinds[] = {
    { GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), "p256.test" },
    { GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1), "p384.test" },
    { GNUTLS_PK_RSA, 2048, "rsa.test" },
    { GNUTLS_PK_EDDSA_ED25519, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519), "ed.test" },
};

START_TEST(every_kind_of_key_in_both_versions)
{
    static const char *const versions[] = { "NORMAL:-VERS-ALL:+VERS-TLS1.2",
                                            "NORMAL:-VERS-ALL:+VERS-TLS1.3",
                                            "NORMAL:-VERS-ALL:+VERS-TLS1.2:-SIGN-ALL:+SIGN-RSA-"
                                            "SHA512:+SIGN-ECDSA-SHA512:+SIGN-EDDSA-ED25519:"
                                            "+SIGN-ECDSA-SHA256:+SIGN-ECDSA-SHA384" };

    for (size_t i = 0; i < CM_ARRAY_LEN(kinds); i++) {
        struct safe safe;
        struct cm_key *key = put_into(&safe, kinds[i].pk, kinds[i].bits, "safe/k1");
        CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(4096);

        ck_is(cm_signer_register("safe", &safe.base, 0, &err), CM_OK);
        ck_is(cm_key_jws_sign(key, cm_span_str("x"), &out, &err), CM_OK);
        /* The CSR is signed by it, and the CA of the test looks at that. */
        (void)fake_add_key(cfg, kinds[i].name, key);
        for (size_t v = 0; v < CM_ARRAY_LEN(versions); v++) {
            unsigned before = atomic_load(&safe.calls);
            struct pair p;

            pair_start(&p, cfg, PAIR_GATE, versions[v], kinds[i].name, NULL);
            pair_run(&p, 20000);
            ck_assert_msg(p.server_rc == 0 && p.client_rc == 0, "%s %s: %s, %s", kinds[i].name,
                          versions[v], gnutls_strerror(p.server_rc), gnutls_strerror(p.client_rc));
            ck_assert_uint_eq(atomic_load(&safe.calls), before + 1);
            pair_end(&p);
        }
        cm_signer_unregister("safe");
        gnutls_privkey_deinit(safe.key);
        cm_key_unref(key);
    }
}
END_TEST

START_TEST(what_the_signer_says_is_told)
{
    struct safe safe;
    struct cm_key *key = put_into(&safe, kinds[0].pk, kinds[0].bits, "safe/k1");
    struct safe second;
    struct cm_key *other = put_into(&second, kinds[0].pk, kinds[0].bits, "safe/k2");
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(4096);
    struct pair p;

    ck_is(cm_key_jws_sign(key, cm_span_str("x"), &out, &err), CM_E_IO);
    ck_assert_ptr_nonnull(strstr(err.msg, "this process has none"));
    ck_is(cm_signer_register("safe", &safe.base, 200, &err), CM_OK);
    ck_is(cm_key_jws_sign(other, cm_span_str("x"), &out, &err), CM_E_IO); /* never CM_E_KEY */
    ck_assert_str_eq(err.msg, "signer 'safe': there is no 'k2' here");
    ck_assert_int_eq(err.status, CM_E_IO);
    (void)fake_add_key(cfg, "a.test", key);
    atomic_store(&safe.broken, true);
    ck_is(cm_key_jws_sign(key, cm_span_str("x"), &out, &err), CM_E_NET);
    pair_start(&p, cfg, PAIR_GATE, "NORMAL", "a.test", NULL);
    pair_run(&p, 20000);
    ck_assert_int_eq(p.server_rc, GNUTLS_E_PK_SIGN_FAILED);
    pair_end(&p);
    atomic_store(&safe.broken, false);
    atomic_store(&safe.slow, true);
    int64_t begin = cm_env_system()->mono_ns(cm_env_system());
    ck_is(cm_key_jws_sign(key, cm_span_str("x"), &out, &err), CM_E_TIMEOUT);
    ck_assert_int_lt(cm_env_system()->mono_ns(cm_env_system()) - begin, 30 * CM_NS_PER_S);
    atomic_store(&safe.slow, false);
    ck_assert_uint_eq(out.len, 0);
    pair_start(&p, cfg, PAIR_GATE, "NORMAL", "a.test", NULL); /* and it is back */
    pair_run(&p, 20000);
    ck_assert_int_eq(p.server_rc, 0);
    pair_end(&p);
    cm_signer_unregister("safe");
    cm_signer_unregister("safe");
    cm_signer_unregister("");
    cm_key_unref(key);
    cm_key_unref(other);
    gnutls_privkey_deinit(safe.key);
    gnutls_privkey_deinit(second.key);
}
END_TEST

struct late {
    struct cm_key *key;
    cm_status rc;
};

static void *sign_late(void *arg)
{
    struct late *l = arg;
    struct cm_buf out = CM_BUF_INIT(4096);

    l->rc = cm_key_jws_sign(l->key, cm_span_str("x"), &out, NULL);
    cm_buf_free(&out);
    return NULL;
}

START_TEST(unregistering_waits_for_calls_under_way)
{
    struct safe safe;
    struct late late = { .key = put_into(&safe, kinds[0].pk, kinds[0].bits, "safe/k1") };
    pthread_t thread;

    ck_is(cm_signer_register("safe", &safe.base, 1500, &err), CM_OK);
    atomic_store(&safe.slow, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, sign_late, &late), 0);
    while (atomic_load(&safe.calls) == 0)
        (void)cm_env_system()->wait(cm_env_system(), NULL, CM_NS_PER_MS);
    clock_t cpu = clock();
    cm_signer_unregister("safe");
    ck_assert_uint_eq(atomic_load(&safe.ends), 1);
    ck_assert_int_lt((clock() - cpu) * 1000 / CLOCKS_PER_SEC, 500); /* not by spinning */
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(late.rc, CM_E_TIMEOUT);
    cm_key_unref(late.key);
    gnutls_privkey_deinit(safe.key);
}
END_TEST

START_TEST(signers_by_the_book)
{
    static const struct cm_signer_ops foreign = { 77, (uint32_t)sizeof foreign, "x", safe_sign };
    static const struct cm_signer_ops empty = { CM_SPI_ABI, (uint32_t)sizeof empty, "x", NULL };
    struct cm_signer s = { &ops }, f = { &foreign }, e = { &empty };
    struct cm_key *key = NULL;
    char name[8];

    ck_is(cm_signer_register("", &s, 0, &err), CM_E_INVAL);
    ck_is(cm_signer_register("A", &s, 0, &err), CM_E_INVAL);
    ck_is(cm_signer_register("a234567890123456789012345678901234", &s, 0, &err), CM_E_INVAL);
    ck_is(cm_signer_register("a", NULL, 0, &err), CM_E_INVAL);
    ck_is(cm_signer_register("a", &s, -1, &err), CM_E_INVAL);
    ck_is(cm_signer_register("a", &f, 0, &err), CM_E_UNSUPPORTED);
    ck_is(cm_signer_register("a", &e, 0, &err), CM_E_UNSUPPORTED);
    for (unsigned i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof name, "s%u", i);
        ck_is(cm_signer_register(name, &s, 0, &err), CM_OK);
        ck_is(cm_signer_register(name, &s, 0, &err), CM_E_EXISTS);
    }
    ck_is(cm_signer_register("more", &s, 0, &err), CM_E_LIMIT);
    for (unsigned i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof name, "s%u", i);
        cm_signer_unregister(name);
    }
    ck_is(cm_key_from_pem(cm_span_str("signer:safe/k1\n"), &key, &err), CM_E_PARSE);
    ck_is(cm_key_from_pem(cm_span_str("signer:/k1\n"), &key, &err), CM_E_INVAL);
    ck_is(cm_key_from_pem(cm_span_str("signer:safe\n"), &key, &err), CM_E_INVAL);
    ck_is(cm_key_from_pem(cm_span_str("signer:safe/\n"), &key, &err), CM_E_INVAL);
    ck_is(cm_key_url_check("signer:safe/k1", &err), CM_E_INVAL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { every_kind_of_key_in_both_versions, what_the_signer_says_is_told,
                                   unregistering_waits_for_calls_under_way, signers_by_the_book };

    return run_tests_how("signer", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
