/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <string.h>

/* What certmagic's issuerKey answers; the first eleven are in docs/storage-format.md. */
static const struct {
    const char *url;
    const char *key;
} vectors[] = {
    { "https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org-directory" },
    { "https://acme-staging-v02.api.letsencrypt.org/directory",
      "acme-staging-v02.api.letsencrypt.org-directory" },
    { "https://acme.zerossl.com/v2/DV90", "acme.zerossl.com-v2-DV90" },
    { "https://localhost:14000/dir", "localhost:14000-dir" },
    { "https://dv.acme-v02.api.pki.goog/directory", "dv.acme-v02.api.pki.goog-directory" },
    { "https://ca.internal/acme/local/directory", "ca.internal-acme-local-directory" },
    { "https://[::1]:14000/dir", "[::1]:14000-dir" },
    { "https://ca/acme//x", "ca-acme--x" },
    { "acme.example.com/dir", "-acme.example.com-dir" },
    { "localhost:14000/dir", "" },
    { "127.0.0.1:14000/dir", "127.0.0.1:14000/dir" },
    { "", "" },
    { "*", "-*" },
    { "https://ca", "ca" },
    { "https://ca/", "ca" },
    { "https://ca///", "ca" },
    { "https://ca/-a-/", "ca-a" },
    { "https://CA.Example/Dir", "CA.Example-Dir" },
    { "HTTPS://user:pw@ca:1/dir?a=b#f", "ca:1-dir" },
    { "https://ca?dir", "ca" },
    { "https://ca/a%2Fb%5Cc%20d", "ca-a-b-c d" },
    { "https://ca/a\\b", "ca-a-b" },
    { "https://ca/%zz", "https://ca/%zz" },
    { "https://ca/%2", "https://ca/%2" },
    { "https://ca/a#%zz", "https://ca/a#%zz" },
    { "https://ca:port/dir", "https://ca:port/dir" },
    { "https://ca:/dir", "ca:-dir" },
    { "https://c a/dir", "https://c a/dir" },
    { "https://ca/a b", "ca-a b" },
    { "https://u^r@ca/dir", "https://u^r@ca/dir" },
    { "https://ca/\x01", "https://ca/\x01" },
    { "https://[::1/dir", "https://[::1/dir" },
    { "https://[::1]x/dir", "https://[::1]x/dir" },
    { "https://[fe80::1%25en0]:1/dir", "[fe80::1%en0]:1-dir" },
    { "https://c%41/dir", "https://c%41/dir" },
    { "https://c%25/dir", "c%-dir" },
    { "https://c%c3%a4/dir", "c\xc3\xa4-dir" },
    { "//ca/dir", "ca-dir" },
    { "///ca/dir", "-ca-dir" },
    { "https:/dir", "-dir" },
    { "https:///dir", "-dir" },
    { ":x", ":x" },
    { "mailto:a@b", "" },
    { "/dir", "-dir" },
};

START_TEST(issuer_key_is_the_one_of_certmagic)
{
    struct cm_err err = CM_ERR_INIT;

    for (size_t i = 0; i < CM_ARRAY_LEN(vectors); i++) {
        struct cm_buf key = CM_BUF_INIT(200);

        ck_assert_int_eq(cm_issuer_key_from_url(vectors[i].url, &key, &err), CM_OK);
        ck_assert_msg(strcmp(cm_buf_str(&key), vectors[i].key) == 0, "'%s': '%s', not '%s'",
                      vectors[i].url, cm_buf_str(&key), vectors[i].key);
        cm_buf_free(&key);
    }
}
END_TEST

START_TEST(issuer_key_is_appended_within_the_maximum)
{
    struct cm_buf key = CM_BUF_INIT(10);
    struct cm_err err = CM_ERR_INIT;

    ck_assert_int_eq(cm_buf_puts(&key, "acme/", &err), CM_OK);
    ck_assert_int_eq(cm_issuer_key_from_url("https://ca/dir", &key, &err), CM_E_LIMIT);
    ck_assert_str_eq(cm_buf_str(&key), "acme/");
    ck_assert_int_eq(cm_issuer_key_from_url("https://ca/d", &key, &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&key), "acme/ca-d");
    ck_assert_int_eq(cm_issuer_key_from_url(NULL, &key, &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&key), "acme/ca-d");
    cm_buf_free(&key);
}
END_TEST

START_TEST(issuer_key_survives_each_failed_allocation)
{
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = CM_E_NOMEM;

    for (unsigned n = 1; rc != CM_OK; n++) {
        struct cm_buf key = CM_BUF_INIT(200);

        cm_alloc_fail_at(n);
        rc = cm_issuer_key_from_url("https://ca.example/a/very/long/path/that/needs/to/grow/the/"
                                    "buffer/at/least/twice/on/its/way",
                                    &key, &err);
        cm_alloc_fail_at(0);
        ck_assert(rc == CM_OK || rc == CM_E_NOMEM);
        ck_assert(rc == CM_OK || key.len == 0);
        ck_assert_uint_lt(n, 20);
        cm_buf_free(&key);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        issuer_key_is_the_one_of_certmagic,
        issuer_key_is_appended_within_the_maximum,
        issuer_key_survives_each_failed_allocation,
    };

    return run_tests("urlkey", tests, CM_ARRAY_LEN(tests));
}
