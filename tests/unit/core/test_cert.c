/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <gnutls/abstract.h>

static struct cm_err err;
static const char *const names[] = { "example.com", "*.example.com" };

static struct cm_cert *make(enum cm_pk type, const char *const *tags)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_cert *c = NULL;

    kit_make_pair(type, names, 2, START_S, 90 * 86400, &chain, &key);
    ck_ok(cm_cert_from_pem(cm_buf_span(&chain), cm_buf_span(&key), "ca.test-dir", tags,
                           CM_CERT_MANAGED, &c, &err));
    return c;
}

START_TEST(certificate_says_what_is_in_it)
{
    const char *const tags[] = { "blue", "green", NULL };
    struct cm_cert *c = make(CM_PK_P384, tags);
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_key *key = NULL;
    bool fits = false;

    ck_assert_uint_eq(cm_cert_name_count(c), 2);
    ck_assert(cm_cert_covers(c, "example.com"));
    ck_assert(cm_cert_covers(c, "www.example.com"));
    ck_assert(!cm_cert_covers(c, "a.b.example.com"));
    ck_assert_ptr_null(cm_cert_name(c, 2));
    ck_assert_int_eq(cm_cert_key_type(c), CM_KEY_P384);
    ck_assert_str_eq(cm_cert_issuer_cn(c), "Kit CA");
    ck_assert_str_eq(cm_cert_issuer_key(c), "ca.test-dir");
    ck_assert(cm_cert_is_managed(c));
    ck_assert(!cm_cert_is_challenge(c));
    ck_assert(cm_cert_has_tag(c, "green"));
    ck_assert(!cm_cert_has_tag(c, "gree"));
    ck_assert_uint_gt(strlen(cm_cert_serial(c)), 8);
    ck_assert_uint_eq(cm_cert_chain_len(c), 2);
    ck_assert_uint_gt(cm_cert_der(c, 1).len, 100);
    ck_assert_uint_eq(cm_cert_der(c, 2).len, 0);
    ck_ok(cm_cert_key(c, &key, &err));
    ck_ok(cm_key_matches_cert(key, cm_cert_der(c, 0), &fits, &err));
    ck_assert(fits);
    ck_ok(cm_cert_chain_pem(c, &pem, &err));
    ck_assert_str_eq(strstr(cm_buf_str(&pem), "-----BEGIN"), cm_buf_str(&pem));
    cm_key_unref(key);
    cm_cert_unref(c);
}
END_TEST

START_TEST(chain_above_the_leaf_is_shared)
{
    struct cm_cert *a = make(CM_PK_P256, NULL);
    struct cm_cert *b = make(CM_PK_P256, NULL);

    ck_assert_ptr_eq(cm_cert_der(a, 1).data, cm_cert_der(b, 1).data);
    ck_assert_ptr_eq(cm_cert_issuer_key(a), cm_cert_issuer_key(b));
    cm_cert_unref(a);
    ck_assert_uint_gt(cm_cert_der(b, 1).len, 0);
    cm_cert_unref(b);
}
END_TEST

START_TEST(key_of_another_is_refused)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf other = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_cert *c = NULL;

    kit_make_pair(CM_PK_P256, names, 2, START_S, 86400, &chain, &key);
    cm_buf_reset(&key);
    kit_make_pair(CM_PK_P256, names, 2, START_S, 86400, &other, &key);
    ck_refused(cm_cert_from_pem(cm_buf_span(&chain), cm_buf_span(&key), NULL, NULL, 0, &c, &err),
               CM_E_KEY);
    ck_assert_ptr_null(c);
}
END_TEST

START_TEST(key_in_a_token_is_for_gnutls_alone)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf der = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_cert *c = NULL, *token = NULL;
    gnutls_privkey_t priv = NULL;
    gnutls_pubkey_t pub = NULL;
    gnutls_datum_t pem = { NULL, 0 };

    kit_make_pair(CM_PK_P256, names, 2, START_S, 86400, &chain, &key);
    gnutls_datum_t in = { key.data, (unsigned)key.len };
    ck_assert_int_eq(gnutls_privkey_init(&priv), 0);
    ck_assert_int_eq(gnutls_privkey_import_x509_raw(priv, &in, GNUTLS_X509_FMT_PEM, NULL, 0), 0);
    ck_assert_int_eq(gnutls_pubkey_init(&pub), 0);
    ck_assert_int_eq(gnutls_pubkey_import_privkey(pub, priv, 0, 0), 0);
    ck_assert_int_eq(gnutls_pubkey_export2(pub, GNUTLS_X509_FMT_PEM, &pem), 0);
    ck_ok(
        cm_buf_printf(&text, &err, "pkcs11:token=nowhere;id=%%01\n%.*s", (int)pem.size, pem.data));
    gnutls_free(pem.data);
    gnutls_pubkey_deinit(pub);
    gnutls_privkey_deinit(priv);

    ck_ok(cm_cert_from_pem(cm_buf_span(&chain), cm_buf_span(&key), NULL, NULL, 0, &c, &err));
    ck_ok(cm_cert_key_der(c, &der, &err));
    ck_assert_uint_gt(der.len, 100);
    cm_buf_reset(&der);
    ck_ok(cm_cert_from_pem(cm_buf_span(&chain), cm_buf_span(&text), NULL, NULL, 0, &token, &err));
    ck_ok(cm_store_check(token, &err));
    ck_refused(cm_cert_key_der(token, &der, &err), CM_E_UNSUPPORTED);
    ck_assert_uint_eq(der.len, 0);
    cm_cert_unref(token);
    cm_cert_unref(c);
}
END_TEST

static unsigned destroyed;

struct form {
    struct cm_attachment base;
    unsigned weight;
};

static void destroy(struct cm_attachment *a)
{
    destroyed += CM_CONTAINER_OF(a, struct form, base)->weight;
}

START_TEST(first_serving_form_of_each_owner_is_kept)
{
    struct cm_cert *c = make(CM_PK_P256, NULL);
    static const char mine, other;
    struct form one = { { &mine, destroy, NULL }, 1 };
    struct form ten = { { &mine, destroy, NULL }, 10 };
    struct form hundred = { { &other, destroy, NULL }, 100 };

    ck_assert_ptr_null(cm_cert_attached(c, &mine));
    ck_assert_ptr_eq(cm_cert_attach(c, &one.base), &one.base);
    ck_assert_ptr_eq(cm_cert_attach(c, &ten.base), &one.base);
    ck_assert_ptr_null(cm_cert_attached(c, &other));
    ck_assert_ptr_eq(cm_cert_attach(c, &hundred.base), &hundred.base);
    ck_assert_ptr_eq(cm_cert_attached(c, &mine), &one.base);
    ck_assert_ptr_eq(cm_cert_attached(c, &other), &hundred.base);
    ck_assert_ptr_eq(cm_cert_ref(c), c);
    cm_cert_unref(c);
    ck_assert_uint_eq(destroyed, 0);
    cm_cert_unref(c);
    ck_assert_uint_eq(destroyed, 101);
}
END_TEST

START_TEST(validity_includes_both_ends)
{
    struct cm_cert *c = make(CM_PK_P256, NULL);
    int64_t nb = cm_cert_not_before_s(c);
    int64_t na = cm_cert_not_after_s(c);

    ck_assert(!cm_cert_is_valid_at(c, nb - 1, 0));
    ck_assert(cm_cert_is_valid_at(c, nb, 0));
    ck_assert(cm_cert_is_valid_at(c, nb - 60, 60));
    ck_assert(cm_cert_is_valid_at(c, na, 0));
    ck_assert(!cm_cert_is_valid_at(c, na + 1, 3600));
    cm_cert_unref(c);
}
END_TEST

START_TEST(idle_certificate_is_small)
{
    struct cm_cert *c = make(CM_PK_P256, NULL);
    size_t own = sizeof *c + c->key_len + strlen(cm_cert_serial(c)) + 1 + sizeof "example.com" +
                 sizeof "*.example.com";

    /* what one costs beside its DER */
    ck_assert_uint_le(own, 280);
    cm_cert_unref(c);
}
END_TEST

START_TEST(key_types_have_names)
{
    enum cm_key_type t = CM_KEY_DEFAULT;

    ck_assert_str_eq(cm_key_type_name(CM_KEY_P256), "p256");
    ck_assert_str_eq(cm_key_type_name(CM_KEY_DEFAULT), "p256");
    ck_assert_ptr_null(cm_key_type_name((enum cm_key_type)99));
    ck_ok(cm_key_type_parse("rsa3072", &t, &err));
    ck_assert_int_eq(t, CM_KEY_RSA3072);
    ck_refused(cm_key_type_parse("dsa", &t, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "ed25519"));
    ck_assert_str_eq(cm_version(), CM_VERSION);
}
END_TEST

START_TEST(no_allocation_failure_leaks_or_crashes)
{
    const char *const tags[] = { "blue", NULL };
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    cm_status rc = CM_E_NOMEM;
    unsigned n = 0;

    kit_make_pair(CM_PK_P256, names, 2, START_S, 86400, &chain, &key);
    for (n = 1; rc != CM_OK && n < 1000; n++) {
        struct cm_cache *cache = NULL;
        struct cm_cert *c = NULL;

        (void)cm_alloc_fail_at(n);
        rc = cm_cache_new(NULL, &cache, &err);
        if (rc == CM_OK)
            rc = cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), tags, &c, &err);
        (void)cm_alloc_fail_at(0);
        if (rc != CM_OK)
            ck_assert_ptr_null(c);
        cm_cert_unref(c);
        cm_cache_free(cache);
    }
    ck_assert_uint_gt(n, 20);
    ck_assert_int_eq(rc, CM_OK);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        certificate_says_what_is_in_it,
        chain_above_the_leaf_is_shared,
        key_of_another_is_refused,
        first_serving_form_of_each_owner_is_kept,
        key_in_a_token_is_for_gnutls_alone,
        validity_includes_both_ends,
        idle_certificate_is_small,
        key_types_have_names,
        no_allocation_failure_leaks_or_crashes,
    };

    return kit_run("cert", tests, CM_ARRAY_LEN(tests));
}
