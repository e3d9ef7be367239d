/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"
#include "run.h"

#include <certmesh/cm_openssl.h>

#include <openssl/err.h>
#include <string.h>

/* GnuTLS servers whose handshakes libcrypto signs: every signature scheme of TLS 1.2 and 1.3 with
 * every type of key, through both doors, and who signed. The client is GnuTLS, which checks the
 * signature. */

#define THREADS 4
#define SHAKES  12

/* Linked with --wrap: signatures of libcrypto are counted. */
int __real_EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *sig, size_t *len,
                         const unsigned char *hash, size_t hash_len);
int __wrap_EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *sig, size_t *len,
                         const unsigned char *hash, size_t hash_len);

static atomic_uint signatures;
static atomic_bool broken;
static struct cm_err err;
static struct cm_key *keys[5];

int __wrap_EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *sig, size_t *len,
                         const unsigned char *hash, size_t hash_len)
{
    atomic_fetch_add(&signatures, 1);
    if (atomic_load(&broken)) {
        ERR_raise(ERR_LIB_EVP, ERR_R_INTERNAL_ERROR);
        return 0;
    }
    return __real_EVP_PKEY_sign(ctx, sig, len, hash, hash_len);
}

static const struct {
    const char *name;
    enum cm_pk type;
    bool libcrypto; /* signs with it */
} kinds[] = {
    { "p256.test", CM_PK_P256, true },       { "rsa2048.test", CM_PK_RSA2048, true },
    { "rsa3072.test", CM_PK_RSA3072, true }, { "p384.test", CM_PK_P384, false },
    { "ed.test", CM_PK_ED25519, false },
};

static const struct {
    const char *version, *sign;
    unsigned keys; /* bits: kinds that can */
} schemes[] = {
    { "1.2", "ECDSA-SHA256", 1 | 8 },        { "1.2", "ECDSA-SHA384", 1 | 8 },
    { "1.2", "ECDSA-SHA512", 1 | 8 },        { "1.2", "RSA-SHA256", 2 | 4 },
    { "1.2", "RSA-SHA384", 2 | 4 },          { "1.2", "RSA-SHA512", 2 | 4 },
    { "1.2", "RSA-PSS-RSAE-SHA256", 2 | 4 }, { "1.2", "RSA-PSS-RSAE-SHA384", 2 | 4 },
    { "1.2", "RSA-PSS-RSAE-SHA512", 2 | 4 }, { "1.2", "EdDSA-Ed25519", 16 },
    { "1.3", "ECDSA-SECP256R1-SHA256", 1 },  { "1.3", "ECDSA-SECP384R1-SHA384", 8 },
    { "1.3", "RSA-PSS-RSAE-SHA256", 2 | 4 }, { "1.3", "RSA-PSS-RSAE-SHA384", 2 | 4 },
    { "1.3", "RSA-PSS-RSAE-SHA512", 2 | 4 }, { "1.3", "EdDSA-Ed25519", 16 },
};

/* Certificates that nobody has served; RSA keys take too long to make them anew for each test. */
static struct cm_config *config(void)
{
    struct cm_config *cfg = fake_config();

    for (size_t i = 0; i < CM_ARRAY_LEN(kinds); i++)
        (void)fake_add_key(cfg, kinds[i].name, keys[i]);
    return cfg;
}

static void drop(struct cm_config *cfg)
{
    fake_config_drop(cfg);
    ck_assert_uint_eq(fake_certs_alive(), 0);
}

static void sign_with_libcrypto(bool on)
{
    ck_assert_msg(cm_openssl_signing(on, &err) == CM_OK, "%s", err.msg);
}

static void setup(void)
{
    atomic_store(&signatures, 0);
    atomic_store(&broken, false);
}

static void teardown(void)
{
    sign_with_libcrypto(false);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}

/* The scheme that was agreed on, or GNUTLS_SIGN_UNKNOWN. */
static gnutls_sign_algorithm_t shake(struct cm_config *cfg, enum pair_door door,
                                     const char *priority, const char *name)
{
    gnutls_sign_algorithm_t ret = GNUTLS_SIGN_UNKNOWN;
    struct pair p;

    pair_start(&p, cfg, door, priority, name, NULL);
    pair_run(&p, 30000);
    if (p.server_rc == 0 && p.client_rc == 0)
        ret = (gnutls_sign_algorithm_t)gnutls_sign_algorithm_get(p.client);
    pair_end(&p);
    return ret;
}

static void matrix(enum pair_door door, bool libcrypto)
{
    struct cm_config *cfg;

    sign_with_libcrypto(libcrypto);
    cfg = config();
    for (size_t s = 0; s < CM_ARRAY_LEN(schemes); s++) {
        CM_AUTO_BUF struct cm_buf priority = CM_BUF_INIT(512);

        ck_assert_int_eq(cm_buf_printf(&priority, &err,
                                       "NORMAL:-VERS-ALL:+VERS-TLS%s:-SIGN-ALL:+SIGN-%s",
                                       schemes[s].version, schemes[s].sign),
                         CM_OK);
        for (size_t k = 0; k < CM_ARRAY_LEN(kinds); k++) {
            bool can = (schemes[s].keys & (1u << k)) != 0;
            unsigned before = atomic_load(&signatures);
            gnutls_sign_algorithm_t got = shake(cfg, door, cm_buf_str(&priority), kinds[k].name);
            unsigned n = atomic_load(&signatures) - before;

            ck_assert_msg((got != GNUTLS_SIGN_UNKNOWN) == can, "TLS %s, %s, %s: %s",
                          schemes[s].version, schemes[s].sign, kinds[k].name,
                          can ? "no handshake" : "a handshake");
            ck_assert_msg(!can || strcmp(gnutls_sign_get_name(got), schemes[s].sign) == 0,
                          "TLS %s, %s, %s: signed with %s", schemes[s].version, schemes[s].sign,
                          kinds[k].name, gnutls_sign_get_name(got));
            ck_assert_msg(n == (libcrypto && can && kinds[k].libcrypto ? 1 : 0),
                          "TLS %s, %s, %s: %u signatures of libcrypto", schemes[s].version,
                          schemes[s].sign, kinds[k].name, n);
        }
    }
    drop(cfg);
}

START_TEST(every_scheme_gate)
{
    matrix(PAIR_GATE, true);
}
END_TEST

START_TEST(every_scheme_hook)
{
    matrix(PAIR_HOOK, true);
}
END_TEST

/* What is refused with it is refused without. */
START_TEST(the_same_without)
{
    matrix(PAIR_GATE, false);
}
END_TEST

START_TEST(switching_is_for_new_certificates)
{
    struct cm_config *cfg = config();

    ck_assert_int_ne(shake(cfg, PAIR_GATE, "NORMAL", "p256.test"), GNUTLS_SIGN_UNKNOWN);
    sign_with_libcrypto(true);
    ck_assert_int_ne(shake(cfg, PAIR_GATE, "NORMAL", "p256.test"), GNUTLS_SIGN_UNKNOWN);
    ck_assert_uint_eq(atomic_load(&signatures), 0);
    ck_assert_int_ne(shake(cfg, PAIR_GATE, "NORMAL", "rsa2048.test"), GNUTLS_SIGN_UNKNOWN);
    ck_assert_uint_eq(atomic_load(&signatures), 1);
    sign_with_libcrypto(false);
    ck_assert_int_ne(shake(cfg, PAIR_GATE, "NORMAL", "rsa2048.test"), GNUTLS_SIGN_UNKNOWN);
    ck_assert_uint_eq(atomic_load(&signatures), 2);
    ck_assert_int_ne(shake(cfg, PAIR_GATE, "NORMAL", "rsa3072.test"), GNUTLS_SIGN_UNKNOWN);
    ck_assert_uint_eq(atomic_load(&signatures), 2);
    drop(cfg);
}
END_TEST

/* The handshake fails; what the program had in OpenSSL's queue of errors stays, and nothing is
 * added. */
START_TEST(a_signature_that_fails)
{
    struct cm_config *cfg;
    struct pair p;

    sign_with_libcrypto(true);
    cfg = config();
    ERR_raise(ERR_LIB_USER, 77);
    atomic_store(&broken, true);
    pair_start(&p, cfg, PAIR_GATE, "NORMAL", "p256.test", NULL);
    pair_run(&p, 30000);
    ck_assert_int_eq(p.server_rc, GNUTLS_E_PK_SIGN_FAILED);
    pair_end(&p);
    atomic_store(&broken, false);
    ck_assert_int_ne(shake(cfg, PAIR_GATE, "NORMAL", "p256.test"), GNUTLS_SIGN_UNKNOWN);
    ck_assert_int_ne(shake(cfg, PAIR_GATE, "NORMAL", "ed.test"), GNUTLS_SIGN_UNKNOWN);
    ck_assert_int_eq(ERR_GET_REASON(ERR_get_error()), 77);
    ck_assert_uint_eq(ERR_get_error(), 0);
    drop(cfg);
}
END_TEST

/* A fake config is one thread's; the certificates are shared, and nobody has served them. */
static void *shake_often(void *arg)
{
    struct cm_config *shared = arg, *cfg = fake_config();
    size_t good = 0;

    for (size_t k = 0; k < 2; k++)
        fake_add_refusal(cfg, kinds[k].name, CM_OK, 0)->cert = cm_cert_ref(shared->names[k].cert);
    for (size_t i = 0; i < SHAKES; i++)
        good += shake(cfg, i % 4 < 2 ? PAIR_GATE : PAIR_HOOK, "NORMAL", kinds[i % 2].name) !=
                GNUTLS_SIGN_UNKNOWN;
    fake_config_drop(cfg);
    return good == SHAKES ? shared : NULL;
}

START_TEST(threads_share_a_certificate)
{
    pthread_t thread[THREADS];
    struct cm_config *cfg;
    void *good = NULL;

    sign_with_libcrypto(true);
    cfg = config();
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, shake_often, cfg), 0);
    for (size_t i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(thread[i], &good), 0);
        ck_assert_ptr_nonnull(good);
    }
    ck_assert_uint_eq(atomic_load(&signatures), THREADS * SHAKES);
    drop(cfg);
}
END_TEST

static bool load_none(struct cm_span der, void **ret_key)
{
    (void)der;
    (void)ret_key;
    return false;
}

static cm_status sign_none(void *key, enum cm_sign_alg alg, struct cm_span input,
                           struct cm_buf *ret)
{
    (void)key;
    (void)alg;
    (void)input;
    (void)ret;
    return CM_E_TLS;
}

static void drop_none(void *key)
{
    (void)key;
}

START_TEST(tables_by_the_book)
{
    static const struct cm_signing foreign = { 77,        (uint32_t)sizeof foreign,
                                               "x",       load_none,
                                               sign_none, drop_none };
    static const struct cm_signing half = { CM_SPI_ABI, (uint32_t)sizeof half,
                                            "x",        load_none,
                                            sign_none,  NULL };
    static const struct cm_signing small = { CM_SPI_ABI, 8, "x", load_none, sign_none, drop_none };
    static const struct cm_signing none = { CM_SPI_ABI, (uint32_t)sizeof none,
                                            "x",        load_none,
                                            sign_none,  drop_none };
    struct cm_config *cfg = config();

    ck_assert_int_eq(cm_signing_use(&foreign, &err), CM_E_UNSUPPORTED);
    ck_assert_int_eq(cm_signing_use(&half, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_signing_use(&small, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_signing_use(&none, &err), CM_OK); /* GnuTLS signs what it does not take */
    ck_assert_int_ne(shake(cfg, PAIR_GATE, "NORMAL", "p256.test"), GNUTLS_SIGN_UNKNOWN);
    ck_assert_int_eq(cm_signing_use(NULL, &err), CM_OK);
    drop(cfg);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { every_scheme_gate,      every_scheme_hook,
                                   the_same_without,       switching_is_for_new_certificates,
                                   a_signature_that_fails, threads_share_a_certificate,
                                   tables_by_the_book };
    int rc;

    CM_ASSERT(CM_ARRAY_LEN(keys) == CM_ARRAY_LEN(kinds));
    for (size_t i = 0; i < CM_ARRAY_LEN(keys); i++)
        CM_ASSERT(cm_key_generate(kinds[i].type, &keys[i], NULL) == CM_OK);
    rc = run_tests_how("signing", tests, CM_ARRAY_LEN(tests),
                       (struct run_how){ .setup = setup, .teardown = teardown });
    for (size_t i = 0; i < CM_ARRAY_LEN(keys); i++)
        cm_key_unref(keys[i]);
    return rc;
}
