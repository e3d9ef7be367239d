/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <string.h>

static struct cm_key *key;
static struct cm_buf out;

static void setup(void)
{
    memset(&err, 0, sizeof err);
    out = (struct cm_buf)CM_BUF_INIT(64 * 1024);
    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
}

static void teardown(void)
{
    cm_buf_free(&out);
    cm_key_unref(key);
    key = NULL;
}

/* Member @name of the JWS, decoded. */
static char *part(const char *jws, const char *name)
{
    struct json_object *o = NULL;
    struct cm_buf text = CM_BUF_INIT(64 * 1024);
    const char *value;
    char *copy;

    ck_ok(cm__json_parse(cm_span_str(jws), "JWS", &o, &err));
    ck_assert_int_eq(json_object_object_length(o), 3);
    value = cm__json_str(o, name, 64 * 1024);
    ck_assert_ptr_nonnull(value);
    ck_ok(cm_b64url_decode(cm_span_str(value), &text, &err));
    copy = strdup(cm_buf_str(&text));
    cm_buf_free(&text);
    json_object_put(o);
    return copy;
}

START_TEST(header_with_kid)
{
    const struct cm_acme_signer who = { key, "https://ca/acct/\"1" };
    char *h;

    ck_ok(cm__jws_make(&who, "https://ca/order", "n0nce", cm_span_str("{\"a\":1}"), &out, &err));
    h = part(cm_buf_str(&out), "protected");
    ck_assert_str_eq(h, "{\"alg\":\"ES256\",\"kid\":\"https://ca/acct/\\\"1\",\"nonce\":\"n0nce\","
                        "\"url\":\"https://ca/order\"}");
    free(h);
    h = part(cm_buf_str(&out), "payload");
    ck_assert_str_eq(h, "{\"a\":1}");
    free(h);
}
END_TEST

START_TEST(header_with_jwk_and_empty_payload)
{
    const struct cm_acme_signer who = { key, NULL };
    struct cm_buf jwk = CM_BUF_INIT(4096);
    char *h;

    ck_ok(cm_key_jwk(key, &jwk, &err));
    ck_ok(cm__jws_make(&who, "https://ca/new", "x", cm_span_str(NULL), &out, &err));
    h = part(cm_buf_str(&out), "protected");
    ck_has(h, cm_buf_str(&jwk));
    ck_assert_ptr_null(strstr(h, "kid"));
    free(h);
    ck_has(cm_buf_str(&out), "\"payload\":\"\"");
    cm_buf_free(&jwk);
}
END_TEST

START_TEST(algorithm_follows_the_key)
{
    static const struct {
        enum cm_pk type;
        const char *alg;
        size_t sig; /* base64url characters */
    } cases[] = { { CM_PK_P256, "ES256", 86 },
                  { CM_PK_P384, "ES384", 128 },
                  { CM_PK_ED25519, "EdDSA", 86 },
                  { CM_PK_RSA2048, "RS256", 342 } };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_key *k = NULL;
        struct cm_acme_signer who = { NULL, "https://ca/1" };
        const char *sig;
        char *h;

        ck_ok(cm_key_generate(cases[i].type, &k, &err));
        who.key = k;
        cm_buf_reset(&out);
        ck_ok(cm__jws_make(&who, "https://ca/x", "n", cm_span_str("{}"), &out, &err));
        h = part(cm_buf_str(&out), "protected");
        ck_has(h, cases[i].alg);
        free(h);
        sig = strstr(cm_buf_str(&out), "\"signature\":\"");
        ck_assert_ptr_nonnull(sig);
        ck_assert_uint_eq(strcspn(sig + 13, "\""), cases[i].sig);
        cm_key_unref(k);
    }
}
END_TEST

/* RFC 8555 7.3.4: no nonce inside, the outer URL, the key as payload, the MAC over both. */
START_TEST(external_account_binding)
{
    static const char *const algs[] = { "HS256", "HS384", "HS512" };

    for (int alg = CM_HMAC_SHA256; alg <= CM_HMAC_SHA512; alg++) {
        const struct cm_acme_new_account req = { .eab_kid = "kid-1",
                                                 .eab_key = cm_span_str("secret"),
                                                 .eab_alg = (enum cm_hmac)alg };
        struct cm_buf jwk = CM_BUF_INIT(4096);
        struct cm_buf input = CM_BUF_INIT(8192);
        struct cm_buf mac = CM_BUF_INIT(64);
        struct cm_buf want = CM_BUF_INIT(128);
        const char *p;
        char *h;

        cm_buf_reset(&out);
        ck_ok(cm__jws_make_eab(&req, key, "https://ca/new-acct", &out, &err));
        h = part(cm_buf_str(&out), "protected");
        ck_has(h, algs[alg]);
        ck_has(h, "\"kid\":\"kid-1\"");
        ck_has(h, "\"url\":\"https://ca/new-acct\"");
        ck_assert_ptr_null(strstr(h, "nonce"));
        free(h);
        h = part(cm_buf_str(&out), "payload");
        ck_ok(cm_key_jwk(key, &jwk, &err));
        ck_assert_str_eq(h, cm_buf_str(&jwk));
        free(h);

        p = strstr(cm_buf_str(&out), "\"protected\":\"") + 13;
        ck_ok(cm_buf_append(&input, p, strcspn(p, "\""), &err));
        ck_ok(cm_buf_puts(&input, ".", &err));
        p = strstr(cm_buf_str(&out), "\"payload\":\"") + 11;
        ck_ok(cm_buf_append(&input, p, strcspn(p, "\""), &err));
        ck_ok(cm_hmac(req.eab_alg, req.eab_key, cm_buf_span(&input), &mac, &err));
        ck_ok(cm_b64url_encode(cm_buf_span(&mac), &want, &err));
        ck_has(cm_buf_str(&out), cm_buf_str(&want));
        cm_buf_free(&jwk);
        cm_buf_free(&input);
        cm_buf_free(&mac);
        cm_buf_free(&want);
    }
}
END_TEST

START_TEST(external_account_without_key_is_refused)
{
    const struct cm_acme_new_account req = { .eab_kid = "kid-1" };

    ck_status(cm__jws_make_eab(&req, key, "https://ca/new-acct", &out, &err), CM_E_INVAL);
}
END_TEST

START_TEST(key_authorization_checks_its_token)
{
    char thumbprint[CM_THUMBPRINT_BUF];

    ck_ok(cm_key_thumbprint(key, thumbprint, &err));
    ck_ok(cm_acme_key_authorization("abc_-1", key, &out, &err));
    ck_assert_int_eq(strncmp(cm_buf_str(&out), "abc_-1.", 7), 0);
    ck_assert_str_eq(cm_buf_str(&out) + 7, thumbprint);
    ck_status(cm_acme_key_authorization("", key, &out, &err), CM_E_PARSE);
    ck_status(cm_acme_key_authorization("../x", key, &out, &err), CM_E_PARSE);
    ck_status(cm_acme_key_authorization(NULL, key, &out, &err), CM_E_PARSE);
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        header_with_kid,
        header_with_jwk_and_empty_payload,
        algorithm_follows_the_key,
        external_account_binding,
        external_account_without_key_is_refused,
        key_authorization_checks_its_token,
    };
    Suite *s = suite_create("jws");

    ADD_TESTS(s, "jws", setup, teardown, all);
    return run_suite(s);
}
