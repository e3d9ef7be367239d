/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"
#include "pem.h"
#include "run.h"

#include <stdio.h>

/* Keys by their URL, as far as no token is needed: it is not there in any of these tests. With one:
 * tests/cli/test_token.sh. */

#define URL "pkcs11:token=nowhere;id=%01;type=private?pin-source=file:/nonexistent"

static struct cm_err err;

/* The text that a key in a token would have, with the public half of @key. */
static void write_text(const struct cm_key *key, const char *url, struct cm_buf *out)
{
    CM_AUTO_BUF struct cm_buf spki = CM_BUF_INIT(4096);

    ck_ok(cm__key_spki(key, &spki, &err));
    ck_ok(cm_buf_printf(out, &err, "%s\n", url));
    ck_ok(cm_pem_encode("PUBLIC KEY", cm_buf_span(&spki), out, &err));
}

START_TEST(all_but_signing_goes_without_the_token)
{
    static const enum cm_pk types[] = { CM_PK_P256, CM_PK_P384, CM_PK_RSA2048, CM_PK_ED25519 };

    for (size_t i = 0; i < CM_ARRAY_LEN(types); i++) {
        CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_KEY_PEM_MAX);
        CM_AUTO_BUF struct cm_buf again = CM_BUF_SECRET(CM_KEY_PEM_MAX);
        CM_AUTO_BUF struct cm_buf der = CM_BUF_SECRET(CM_KEY_PEM_MAX);
        CM_AUTO_BUF struct cm_buf jwk = CM_BUF_INIT(4096);
        CM_AUTO_BUF struct cm_buf jwk_of_real = CM_BUF_INIT(4096);
        CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(4096);
        struct cm_key *real = NULL, *key = NULL, *loaded = NULL;

        ck_ok(cm_key_generate(types[i], &real, &err));
        write_text(real, URL, &text);
        ck_ok(cm_key_from_pem(cm_buf_span(&text), &key, &err));
        ck_assert(cm_key_is_elsewhere(key));
        ck_assert(!cm_key_is_elsewhere(real));
        ck_assert_int_eq(cm_key_type_of(key), types[i]);
        ck_ok(cm_key_check(key, &err));
        ck_ok(cm_key_jwk(key, &jwk, &err));
        ck_ok(cm_key_jwk(real, &jwk_of_real, &err));
        ck_assert_str_eq(cm_buf_str(&jwk), cm_buf_str(&jwk_of_real));

        ck_ok(cm_key_to_pem(key, &again, &err));
        ck_assert_str_eq(cm_buf_str(&again), cm_buf_str(&text));
        ck_ok(cm_key_to_der(key, &der, &err));
        ck_ok(cm_key_from_der(cm_buf_span(&der), &loaded, &err));
        ck_assert_int_eq(cm_key_type_of(loaded), types[i]);

        /* Not CM_E_KEY: nothing is to be thrown away for it. */
        ck_refused(cm_key_jws_sign(loaded, cm_span_str("x"), &out, &err), CM_E_IO, "PIN");
        ck_assert_uint_eq(out.len, 0);
        cm_key_unref(loaded);
        cm_key_unref(key);
        cm_key_unref(real);
    }
}
END_TEST

START_TEST(urls_that_are_refused)
{
    static const struct {
        const char *url, *why;
    } cases[] = {
        { "pkcs11:token=a?pin-value=1234", "holds a PIN" },
        { "pkcs11:pin-value=1234;token=a", "holds a PIN" },
        { "pkcs11:token=a?module-path=/tmp/x.so", "names a module" },
        { "pkcs11:token=a?x=y&module-name=x", "names a module" },
        { "pkcs11:token=a b", "byte 14 is a space" },
        { "pkcs11:token=\xc3\xa4", "no ASCII" },
    };
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_key *real = NULL, *key = NULL;
    char long_url[1100];

    ck_ok(cm_key_generate(CM_PK_P256, &real, &err));
    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        cm_buf_reset(&text);
        write_text(real, cases[i].url, &text);
        ck_refused(cm_key_from_pem(cm_buf_span(&text), &key, &err), CM_E_INVAL, cases[i].why);
        ck_refused(cm_key_url_check(cases[i].url, &err), CM_E_INVAL, cases[i].why);
        ck_assert_ptr_null(strstr(err.msg, "1234"));
    }
    (void)snprintf(long_url, sizeof long_url, "pkcs11:%01050d", 1);
    ck_refused(cm_key_url_check(long_url, &err), CM_E_INVAL, "1024");
    ck_refused(cm_key_url_check(NULL, &err), CM_E_INVAL, "pkcs11:");
    ck_refused(cm_key_url_check("pkcs11:token=a;object=b", &err), CM_E_INVAL, "object");
    ck_ok(cm_key_url_check("pkcs11:token=a;objects=b?x", &err));
    ck_refused(cm_key_generate_at("pkcs11:id=%01", CM_PK_P256, "x", &key, &err), CM_E_INVAL,
               "object");
    ck_refused(cm_key_generate_at("pkcs11:token=nowhere", CM_PK_OTHER, "x", &key, &err), CM_E_INVAL,
               "cannot be generated");
    ck_refused(cm_key_generate_at("pkcs11:token=a?pin-source=x", CM_PK_P256, "x", &key, &err),
               CM_E_INVAL, "pin-source");
    cm_key_unref(real);
}
END_TEST

START_TEST(public_halves_that_are_refused)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_key *real = NULL, *key = NULL;

    ck_ok(cm_key_generate(CM_PK_P256, &real, &err));
    write_text(real, URL, &text);
    size_t begin = (size_t)(strstr(cm_buf_str(&text), "KEY-----\n") - cm_buf_str(&text)) + 9;
    for (size_t at = begin; at + 40 < text.len; at++) {
        uint8_t was = text.data[at];

        if (was == '\n')
            continue;
        text.data[at] = was == 'A' ? 'Q' : 'A';
        /* A point may be any bytes; it shows when somebody verifies. */
        if (cm_key_from_pem(cm_buf_span(&text), &key, &err) == CM_OK)
            cm_key_unref(key);
        text.data[at] = was;
    }
    text.data[begin] = '!';
    ck_refused(cm_key_from_pem(cm_buf_span(&text), &key, &err), CM_E_PARSE, "public half");
    ck_refused(cm_key_from_pem(cm_span_str(URL "\n-----BEGIN PUBLIC KEY-----\nMAA=\n"
                                               "-----END PUBLIC KEY-----\n"),
                               &key, &err),
               CM_E_PARSE, "malformed");
    ck_refused(cm_key_from_der(cm_span_str(URL), &key, &err), CM_E_PARSE, "missing");
    /* Without it the token is asked, and its PIN looked for. */
    ck_refused(cm_key_from_pem(cm_span_str(URL), &key, &err), CM_E_IO, "/nonexistent");
    cm_key_unref(real);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { all_but_signing_goes_without_the_token, urls_that_are_refused,
                                   public_halves_that_are_refused };

    return run_tests("key_token", tests, CM_ARRAY_LEN(tests));
}
