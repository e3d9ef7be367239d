/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

static struct cm_err err;

static void check_safe(const char *in, const char *want)
{
    CM_AUTO_BUF struct cm_buf b = CM_BUF_INIT(512);

    ck_ok(cm_safe_name(in, &b, &err));
    ck_assert_str_eq(cm_buf_str(&b), want);
}

START_TEST(certmagic_vectors_of_safe)
{
    check_safe("*.example.com", "wildcard_.example.com");
    check_safe("::1", "--1");
    check_safe("2001:db8::1", "2001-db8--1");
    check_safe("You+tag@Example.com", "you_plus_tag@example.com");
    check_safe("a,b", "ab");
    check_safe("foo_bar.com", "foo_bar.com");
    check_safe("M\xc3\x9cNCHEN.de", "mnchen.de");
    check_safe("\xe6\x97\xa5\xe6\x9c\xac.jp", ".jp");
    check_safe("localhost:14000-dir", "localhost-14000-dir");
    check_safe("acme.zerossl.com-v2-DV90", "acme.zerossl.com-v2-dv90");
    check_safe("issue_cert_*.example.com", "issue_cert_wildcard_.example.com");
    check_safe("ari_AbC-_x.ZzZ", "ari_abc-_x.zzz");
}
END_TEST

static void check_staple(const char *bundle, const char *want)
{
    char key[CM_KEY_BUF];

    ck_ok(cm_path_staple("example.com", cm_span_str(bundle), key, &err));
    ck_assert_str_eq(key, want);
}

START_TEST(certmagic_vectors_of_staple_keys)
{
    check_staple("", "ocsp/example.com-811c9dc5");
    check_staple("a", "ocsp/example.com-e40c292c");
    check_staple("foobar", "ocsp/example.com-bf9cf968");
    check_staple("t344", "ocsp/example.com-94f468");
    check_staple("t404", "ocsp/example.com-d9bf71");
    check_staple("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
                 "ocsp/example.com-600b2ad9");
}
END_TEST

START_TEST(what_would_climb_is_refused)
{
    CM_AUTO_BUF struct cm_buf b = CM_BUF_INIT(512);

    ck_refused(cm_safe_name("./.", &b, &err), CM_E_INVAL);
    ck_refused(cm_safe_name("", &b, &err), CM_E_INVAL);
    ck_refused(cm_safe_name("....", &b, &err), CM_E_INVAL);
    ck_refused(cm_safe_name("...", &b, &err), CM_E_INVAL);
}
END_TEST

static void check_issuer(const char *url, const char *key, const char *dir)
{
    CM_AUTO_BUF struct cm_buf b = CM_BUF_INIT(512);
    char path[CM_KEY_BUF];
    char want[CM_KEY_BUF];

    ck_ok(cm_issuer_key_from_url(url, &b, &err));
    ck_assert_str_eq(cm_buf_str(&b), key);
    ck_ok(cm_path_cert(cm_buf_str(&b), "n", ".crt", path, &err));
    (void)snprintf(want, sizeof want, "certificates/%s/n/n.crt", dir);
    ck_assert_str_eq(path, want);
}

START_TEST(certmagic_vectors_of_issuer_keys)
{
    check_issuer("https://acme-v02.api.letsencrypt.org/directory",
                 "acme-v02.api.letsencrypt.org-directory",
                 "acme-v02.api.letsencrypt.org-directory");
    check_issuer("https://acme-staging-v02.api.letsencrypt.org/directory",
                 "acme-staging-v02.api.letsencrypt.org-directory",
                 "acme-staging-v02.api.letsencrypt.org-directory");
    check_issuer("https://acme.zerossl.com/v2/DV90", "acme.zerossl.com-v2-DV90",
                 "acme.zerossl.com-v2-dv90");
    check_issuer("https://localhost:14000/dir", "localhost:14000-dir", "localhost-14000-dir");
    check_issuer("https://dv.acme-v02.api.pki.goog/directory", "dv.acme-v02.api.pki.goog-directory",
                 "dv.acme-v02.api.pki.goog-directory");
    check_issuer("https://ca.internal/acme/local/directory", "ca.internal-acme-local-directory",
                 "ca.internal-acme-local-directory");
    check_issuer("https://[::1]:14000/dir", "[::1]:14000-dir", "--1-14000-dir");
    check_issuer("https://ca/acme//x", "ca-acme--x", "ca-acme--x");
    check_issuer("acme.example.com/dir", "-acme.example.com-dir", "-acme.example.com-dir");
    check_issuer("127.0.0.1:14000/dir", "127.0.0.1:14000/dir", "127.0.0.1-14000dir");
}
END_TEST

START_TEST(issuer_without_key_has_no_place)
{
    char path[CM_KEY_BUF] = "untouched";

    ck_refused(cm_path_cert("", "n", ".crt", path, &err), CM_E_INVAL);
    ck_assert_str_eq(path, "untouched");
}
END_TEST

static void check_subject(const char *text, const char *ident, const char *dir)
{
    struct cm_subject *s = NULL;

    ck_ok(cm_subject_parse(text, &s, &err));
    ck_assert_str_eq(s->ident, ident);
    ck_assert_str_eq(s->dir, dir);
    cm_subject_free(s);
}

START_TEST(one_name_is_its_own_identity)
{
    check_subject("Example.COM.", "example.com", "example.com");
    check_subject("*.example.com", "*.example.com", "wildcard_.example.com");
    check_subject("m\xc3\xbcnchen.de", "xn--mnchen-3ya.de", "xn--mnchen-3ya.de");
    check_subject("2001:DB8:0::1", "2001:db8::1", "2001-db8--1");
    check_subject("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1");
    check_subject("foo_bar.example", "foo_bar.example", "foo_bar.example");
}
END_TEST

START_TEST(several_names_are_sorted_and_joined)
{
    check_subject("b.example,a.example", "a.example,b.example", "a.exampleb.example");
    check_subject("b.example,a.example,B.example", "a.example,b.example", "a.exampleb.example");
    check_subject("a.example,*.a.example", "*.a.example,a.example", "wildcard_.a.examplea.example");
}
END_TEST

START_TEST(many_names_fit_one_path_component)
{
    char store[CM_SUBJECT_MAX][32];
    const char *names[CM_SUBJECT_MAX];
    struct cm_subject *s = NULL;
    struct cm_subject *other = NULL;
    char lock[CM_LOCK_NAME_MAX + 1];
    char path[CM_KEY_BUF];

    for (size_t i = 0; i < CM_SUBJECT_MAX; i++) {
        (void)snprintf(store[i], sizeof store[i], "%shost-%02zu.example.com", i % 2 ? "*." : "", i);
        names[i] = store[i];
    }
    ck_ok(cm_subject_new(names, CM_SUBJECT_MAX, &s, &err));
    ck_assert_uint_le(strlen(s->dir), 230);
    ck_ok(cm_lock_issue(s->ident, lock, &err));
    ck_assert_uint_le(strlen(lock), 245);
    ck_ok(cm_path_journal(s->dir, path, &err));
    names[CM_SUBJECT_MAX - 1] = "other.example.com"; /* far behind what is kept of the list */
    ck_ok(cm_subject_new(names, CM_SUBJECT_MAX, &other, &err));
    ck_assert_str_ne(s->dir, other->dir);
    cm_subject_free(s);
    cm_subject_free(other);
    ck_refused(cm_subject_new(names, CM_SUBJECT_MAX + 1, &s, &err), CM_E_INVAL);
    ck_refused(cm_subject_new(names, 0, &s, &err), CM_E_INVAL);
}
END_TEST

START_TEST(bad_names_are_named)
{
    struct cm_subject *s = NULL;

    ck_refused(cm_subject_parse("a.example,..,b.example", &s, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, ".."));
    ck_refused(cm_subject_parse("", &s, &err), CM_E_INVAL);
    ck_refused(cm_subject_parse("a.*.example", &s, &err), CM_E_INVAL);
    ck_refused(cm_subject_parse("a/../b", &s, &err), CM_E_INVAL);
}
END_TEST

START_TEST(paths_of_certmagic)
{
    char path[CM_KEY_BUF];
    char lock[CM_LOCK_NAME_MAX + 1];

    ck_ok(cm_path_token("acme/ca-dir", "Example.com", path, &err));
    ck_assert_str_eq(path, "acme/ca-dir/challenge_tokens/example.com.json");
    ck_ok(cm_path_token("acme/ca-dir", "1.2.0.192.in-addr.arpa", path, &err));
    ck_assert_str_eq(path, "acme/ca-dir/challenge_tokens/1.2.0.192.in-addr.arpa.json");
    ck_ok(cm_lock_issue("*.example.com", lock, &err));
    ck_assert_str_eq(lock, "issue_cert_*.example.com");
    ck_ok(cm_path_journal("example.com", path, &err));
    ck_assert_str_eq(path, "certmesh/journal/example.com");
}
END_TEST

static void check_lock(const char *dir, const char *meta, const char *want)
{
    char lock[CM_LOCK_NAME_MAX + 1];

    ck_ok(cm_site_lock_name(dir, cm_span_str(meta), (struct cm_span){ NULL, 0 }, lock, &err));
    ck_assert_str_eq(lock, want);
}

/* Back from a directory to the lock that its names give. */
START_TEST(directories_tell_their_locks)
{
    char lock[CM_LOCK_NAME_MAX + 1];
    const struct cm_span none = { NULL, 0 };

    check_lock("a.test", "", "issue_cert_a.test");
    check_lock("wildcard_.a.test", "", "issue_cert_*.a.test");
    check_lock("2001-db8--1", "", "issue_cert_2001:db8::1");
    check_lock("--1", "", "issue_cert_::1");
    check_lock("192.0.2.1", "", "issue_cert_192.0.2.1");
    check_lock("my-host.test", "", "issue_cert_my-host.test");
    check_lock("a.testb.test", "", "issue_cert_a.testb.test");
    check_lock("a.testb.test", "{\"sans\":[\"b.test\",\"a.test\"]}", "issue_cert_a.test,b.test");
    check_lock("a.testb.test", "{\"sans\":[\"a.testb.test\"]}", "issue_cert_a.testb.test");
    check_lock("wildcard_.a.testa.test", "{\"sans\":[\"a.test\",\"*.a.test\"]}",
               "issue_cert_*.a.test,a.test");
    check_lock("2001-db8--1", "{\"sans\":[\"2001:DB8:0::1\"]}", "issue_cert_2001:db8::1");
    /* a peer that stores under one of several names */
    check_lock("a.test", "{\"sans\":[\"a.test\",\"www.a.test\"]}", "issue_cert_a.test");
    ck_refused(
        cm_site_lock_name("a.test", cm_span_str("{\"sans\":[\"b.test\"]}"), none, lock, &err),
        CM_E_CERT);
    ck_refused(cm_site_lock_name("a.test", cm_span_str("{"), none, lock, &err), CM_E_CERT);
    ck_refused(cm_site_lock_name("a/b", none, none, lock, &err), CM_E_INVAL);
    ck_refused(cm_site_lock_name("-", none, none, lock, &err), CM_E_INVAL);
}
END_TEST

/* Whatever the names are, who goes from them to the directory and back has the same lock. */
START_TEST(the_lock_of_many_names_is_the_issuers)
{
    CM_AUTO_BUF struct cm_buf meta = CM_BUF_INIT(65536);
    char names[60][32];
    const char *list[60];
    char want[CM_LOCK_NAME_MAX + 1];
    struct cm_subject *s = NULL;

    for (size_t i = 0; i < 60; i++) {
        (void)snprintf(names[i], sizeof names[i], "name-%zu.long.test", i);
        list[i] = names[i];
    }
    for (size_t n = 1; n <= 60; n += 7) {
        cm_buf_reset(&meta);
        ck_ok(cm_subject_new(list, n, &s, &err));
        ck_ok(cm_lock_issue(s->ident, want, &err));
        ck_ok(cm_meta_format(s->names, s->n, (struct cm_span){ NULL, 0 }, &meta, &err));
        check_lock(s->dir, cm_buf_str(&meta), want);
        cm_subject_free(s);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        certmagic_vectors_of_safe,
        certmagic_vectors_of_staple_keys,
        what_would_climb_is_refused,
        certmagic_vectors_of_issuer_keys,
        issuer_without_key_has_no_place,
        one_name_is_its_own_identity,
        several_names_are_sorted_and_joined,
        many_names_fit_one_path_component,
        bad_names_are_named,
        paths_of_certmagic,
        directories_tell_their_locks,
        the_lock_of_many_names_is_the_issuers,
    };

    return kit_run("keys", tests, CM_ARRAY_LEN(tests));
}
