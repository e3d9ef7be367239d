/* SPDX-License-Identifier: Apache-2.0 */
#define RUN_TIMEOUT_S 60
#include "run.h"

#include "autocert.h"
#include "core_private.h"
#include "must.h"
#include "temp_dir.h"

#include <string.h>
#include <sys/stat.h>

/* autocert's format, and a manager over the local CA, so that nothing leaves the process. */

static struct cm_err err;

/* -------------------------------------------------------------------- blobs */

static struct cm_key *ca_key;
static struct cm_buf ca_der = CM_BUF_INIT(CM_CERT_DER_MAX);
static int64_t now_s;

static void setup(void)
{
    now_s = cm_env_wall_s(cm_env_system());
    cm_buf_free(&ca_der);
    must(cm_ca_make_root("test root", now_s, 30, &ca_key, &ca_der, &err));
}

static void teardown(void)
{
    cm_key_unref(ca_key);
    cm_buf_free(&ca_der);
}

/* Key and chain for @host, valid for an hour. */
static void make_parts(enum cm_pk type, const char *host, struct cm_buf *key_pem,
                       struct cm_buf *chain_pem)
{
    struct cm_buf csr = CM_BUF_INIT(CM_CERT_DER_MAX), leaf = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_key *key = NULL;

    must(cm_key_generate(type, &key, &err));
    must(cm_csr_make(key, &host, 1, false, &csr, &err));
    must(cm_ca_sign_csr(ca_key, cm_buf_span(&ca_der), cm_buf_span(&csr), &host, 1, now_s, 3600,
                        &leaf, &err));
    must(cm_key_to_pem(key, key_pem, &err));
    must(cm_cert_der_to_pem(cm_buf_span(&leaf), chain_pem, &err));
    must(cm_cert_der_to_pem(cm_buf_span(&ca_der), chain_pem, &err));
    cm_key_unref(key);
    cm_buf_free(&csr);
    cm_buf_free(&leaf);
}

static void make_blob(enum cm_pk type, const char *host, struct cm_buf *blob)
{
    struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX), chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    make_parts(type, host, &key, &chain);
    must(autocert_blob_write(cm_buf_span(&key), cm_buf_span(&chain), blob, &err));
    cm_buf_free(&key);
    cm_buf_free(&chain);
}

static cm_status read_blob(struct cm_span blob, const char *host, enum autocert_kind kind,
                           int64_t at_s)
{
    struct autocert_pair p = AUTOCERT_PAIR_INIT;
    cm_status rc = autocert_blob_read(blob, host, kind, at_s, &p, &err);

    if (rc == CM_OK) {
        ck_assert(strstr(cm_buf_str(&p.key_pem), "PRIVATE KEY") != NULL);
        ck_assert(strstr(cm_buf_str(&p.key_pem), "BEGIN CERTIFICATE") == NULL);
        ck_assert(strncmp(cm_buf_str(&p.chain_pem), "-----BEGIN CERTIFICATE", 22) == 0);
        ck_assert_int_gt(p.not_after_s, now_s);
    }
    autocert_pair_free(&p);
    return rc;
}

START_TEST(blob_is_read)
{
    struct cm_buf blob = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);

    make_blob(CM_PK_P256, "a.example.com", &blob);
    must(read_blob(cm_buf_span(&blob), "a.example.com", AUTOCERT_EC, now_s));
    cm_buf_free(&blob);
    make_blob(CM_PK_RSA2048, "a.example.com", &blob);
    must(read_blob(cm_buf_span(&blob), "a.example.com", AUTOCERT_OF_RSA, now_s));
    cm_buf_free(&blob);
}
END_TEST

START_TEST(blob_rules)
{
    struct cm_buf ec = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    struct cm_buf rsa = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    struct cm_buf bad = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX), chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    make_blob(CM_PK_P256, "a.example.com", &ec);
    make_blob(CM_PK_RSA2048, "a.example.com", &rsa);
    must_fail(read_blob(cm_buf_span(&ec), "b.example.com", AUTOCERT_EC, now_s), CM_E_CERT);
    must_fail(read_blob(cm_buf_span(&ec), "a.example.com", AUTOCERT_OF_RSA, now_s), CM_E_CERT);
    must_fail(read_blob(cm_buf_span(&rsa), "a.example.com", AUTOCERT_EC, now_s), CM_E_CERT);
    must_fail(read_blob(cm_buf_span(&ec), "a.example.com", AUTOCERT_EC, now_s + 7200), CM_E_CERT);
    must_fail(read_blob(cm_buf_span(&ec), "a.example.com", AUTOCERT_EC, now_s - 86400 * 2),
              CM_E_CERT);
    /* the key of another certificate */
    make_parts(CM_PK_P256, "a.example.com", &key, &chain);
    cm_buf_reset(&key);
    make_blob(CM_PK_P256, "c.example.com", &bad);
    must(cm_buf_append(&key, bad.data,
                       (size_t)(strstr(cm_buf_str(&bad), "-----BEGIN CERT") - cm_buf_str(&bad)),
                       &err));
    cm_buf_reset(&bad);
    must(autocert_blob_write(cm_buf_span(&key), cm_buf_span(&chain), &bad, &err));
    must_fail(read_blob(cm_buf_span(&bad), "a.example.com", AUTOCERT_EC, now_s), CM_E_KEY);
    /* the chain first; no chain; nothing; something else */
    cm_buf_reset(&bad);
    must(autocert_blob_write(cm_buf_span(&chain), cm_buf_span(&key), &bad, &err));
    must_fail(read_blob(cm_buf_span(&bad), "a.example.com", AUTOCERT_EC, now_s), CM_E_PARSE);
    must_fail(read_blob(cm_buf_span(&key), "a.example.com", AUTOCERT_EC, now_s), CM_E_PARSE);
    must_fail(read_blob((struct cm_span){ NULL, 0 }, "a.example.com", AUTOCERT_EC, now_s),
              CM_E_PARSE);
    must_fail(read_blob(cm_span_str("hello\n"), "a.example.com", AUTOCERT_EC, now_s), CM_E_PARSE);
    /* cut anywhere it is of no use, and no harm */
    for (size_t n = 0; n + 3 < ec.len; n += 7) {
        cm_status rc =
            read_blob((struct cm_span){ ec.data, n }, "a.example.com", AUTOCERT_EC, now_s);

        /* but where the last certificate of the chain, the root, is not there at all */
        ck_assert(rc != CM_OK || n > ec.len / 2);
    }
    cm_buf_free(&ec);
    cm_buf_free(&rsa);
    cm_buf_free(&bad);
    cm_buf_free(&key);
    cm_buf_free(&chain);
}
END_TEST

/* -------------------------------------------------------------------- caches */

static void cache_contract(struct cm_autocert_cache *c)
{
    struct cm_buf got = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    struct cm_buf open_buf = CM_BUF_INIT(100);
    static const uint8_t much[CM_AUTOCERT_BLOB_MAX + 1];
    static const char *const bad[] = { "", "a/b", "..", ".x", "a\\b", "a\nb" };

    must_fail(cm_autocert_cache_get(c, NULL, "a.example.com+rsa", &got, &err), CM_E_NOTFOUND);
    must(cm_autocert_cache_remove(c, NULL, "a.example.com+rsa", &err));
    must(cm_autocert_cache_put(c, NULL, "a.example.com+rsa", cm_span_str("one"), &err));
    must(cm_autocert_cache_put(c, NULL, "a.example.com+rsa", cm_span_str("two"), &err));
    must(cm_autocert_cache_get(c, NULL, "a.example.com+rsa", &got, &err));
    ck_assert_str_eq(cm_buf_str(&got), "two");
    must_fail(cm_autocert_cache_get(c, NULL, "a.example.com+rsa", &open_buf, &err), CM_E_INVAL);
    must(cm_autocert_cache_remove(c, NULL, "a.example.com+rsa", &err));
    cm_buf_reset(&got);
    must_fail(cm_autocert_cache_get(c, NULL, "a.example.com+rsa", &got, &err), CM_E_NOTFOUND);
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        must_fail(cm_autocert_cache_put(c, NULL, bad[i], cm_span_str("x"), &err), CM_E_INVAL);
    must_fail(cm_autocert_cache_put(c, NULL, "x", (struct cm_span){ much, sizeof much }, &err),
              CM_E_LIMIT);
    cm_buf_free(&got);
}

START_TEST(directory_cache)
{
    struct cm_autocert_cache *c = NULL;
    char dir[64], path[128];
    struct stat st;

    ck_assert(temp_dir_make("autocert", false, dir, sizeof dir));
    (void)snprintf(path, sizeof path, "%s/made/when/needed", dir);
    must(cm_autocert_dircache(path, &c, &err));
    cache_contract(c);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0700);
    must(cm_autocert_cache_put(c, NULL, "k", cm_span_str("x"), &err));
    (void)snprintf(path, sizeof path, "%s/made/when/needed/k", dir);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0600);
    cm_autocert_cache_free(c);
    must_fail(cm_autocert_dircache("", &c, &err), CM_E_INVAL);
    temp_dir_remove(dir);
}
END_TEST

START_TEST(storage_cache)
{
    struct cm_autocert_cache *c = NULL;
    struct cm_storage *st = NULL;
    struct cm_buf got = CM_BUF_SECRET(100);

    must(cm_storage_open("memory:autocert-cache", NULL, &st, &err));
    must(cm_autocert_storage_cache(st, NULL, &c, &err));
    cache_contract(c);
    must(cm_autocert_cache_put(c, NULL, "a.example.com", cm_span_str("x"), &err));
    must(cm_storage_load(st, NULL, "autocert/a.example.com", &got, &err));
    cm_autocert_cache_free(c);
    must_fail(cm_autocert_storage_cache(st, "../x", &c, &err), CM_E_INVAL);
    cm_storage_close(st);
    cm_buf_free(&got);
}
END_TEST

/* ------------------------------------------------------------------- managers */

/* A cache that counts, and fails when told to. */
struct counting {
    struct cm_autocert_cache base;
    struct cm_autocert_cache *inner;
    _Atomic unsigned gets, puts;
    _Atomic cm_status fail;
};

static cm_status counting_get(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                              struct cm_buf *ret, struct cm_err *e)
{
    struct counting *k = (struct counting *)(void *)c;

    k->gets++;
    if (k->fail != CM_OK)
        return cm_fail(e, k->fail, "the cache is away");
    return cm_autocert_cache_get(k->inner, op, name, ret, e);
}

static cm_status counting_put(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                              struct cm_span blob, struct cm_err *e)
{
    struct counting *k = (struct counting *)(void *)c;

    k->puts++;
    if (k->fail != CM_OK)
        return cm_fail(e, k->fail, "the cache is away");
    return cm_autocert_cache_put(k->inner, op, name, blob, e);
}

static cm_status counting_remove(struct cm_autocert_cache *c, const struct cm_op *op,
                                 const char *name, struct cm_err *e)
{
    return cm_autocert_cache_remove(((struct counting *)(void *)c)->inner, op, name, e);
}

static const struct cm_autocert_cache_ops counting_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_autocert_cache_ops),
    .name = "counting",
    .get = counting_get,
    .put = counting_put,
    .remove = counting_remove,
};

static _Atomic unsigned asked;

static cm_status policy(void *user, const struct cm_op *op, const char *host, struct cm_err *e)
{
    (void)user;
    (void)op;
    asked++;
    return strcmp(host, "no.example.com") == 0 ? cm_fail(e, CM_E_POLICY, "not this one") : CM_OK;
}

static struct cm_autocert *manager(struct cm_autocert_cache *cache)
{
    struct cm_config_options c = CM_CONFIG_OPTIONS_INIT;
    struct cm_autocert_options o = CM_AUTOCERT_OPTIONS_INIT;
    struct cm_autocert *m = NULL;

    c.internal = true;
    o.config = &c;
    o.prompt = cm_accept_tos;
    o.policy = policy;
    o.cache = cache;
    must(cm_autocert_new(&o, &m, &err));
    return m;
}

static struct cm_hello hello_for(const char *name, bool ec)
{
    struct cm_hello h = { .n_suites = 1, .n_sigalgs = 1, .n_versions = 1, .n_groups = 1 };

    (void)snprintf(h.server_name, sizeof h.server_name, "%s", name);
    h.suites[0] = ec ? 0xC02B : 0xC02F;
    h.sigalgs[0] = ec ? 0x0403 : 0x0804;
    h.versions[0] = 0x0303;
    h.groups[0] = 23;
    return h;
}

static cm_status ask(struct cm_autocert *m, const char *name, bool ec, struct cm_cert **ret)
{
    struct cm_hello h = hello_for(name, ec);

    return cm_autocert_get_certificate(m, NULL, &h, ret, &err);
}

START_TEST(options_are_checked)
{
    static const char *const hosts[] = { "a.example.com" }, *const bad[] = { "a..b" };
    static const uint8_t null[] = { 0x05, 0x00 };
    struct cm_csr_extension extension = { .oid = "2.5.29.17", .value = { null, sizeof null } };
    struct cm_config_extra extra = CM_CONFIG_EXTRA_INIT;
    struct cm_config_options c = CM_CONFIG_OPTIONS_INIT;
    struct cm_autocert_options o = CM_AUTOCERT_OPTIONS_INIT;
    struct cm_autocert *m = NULL;

    extra.csr_extensions = &extension;
    extra.n_csr_extensions = 1;
    c.internal = true;
    must_fail(cm_autocert_new(NULL, &m, &err), CM_E_INVAL);
    must_fail(cm_autocert_new(&o, &m, &err), CM_E_INVAL);
    o.prompt = cm_accept_tos;
    must_fail(cm_autocert_new(&o, &m, &err), CM_E_INVAL);
    ck_assert(strstr(err.msg, "policy") != NULL); /* never for all names by default */
    o.hosts = bad;
    o.n_hosts = 1;
    must_fail(cm_autocert_new(&o, &m, &err), CM_E_INVAL);
    o.hosts = hosts;
    o.policy = policy;
    must_fail(cm_autocert_new(&o, &m, &err), CM_E_INVAL);
    o.policy = NULL;
    o.config = &c;
    c.storage = "memory:";
    must_fail(cm_autocert_new(&o, &m, &err), CM_E_INVAL);
    ck_assert(strstr(err.msg, "config->storage") != NULL);
    c.storage = NULL;
    c.extra = &extra; /* extensions of requests go on to both of its configs */
    must_fail(cm_autocert_new(&o, &m, &err), CM_E_INVAL);
    ck_assert(strstr(err.msg, "subjectAltName") != NULL);
    extension.oid = "1.2.3";
    must(cm_autocert_new(&o, &m, &err));
    for (size_t i = 0; i < 2; i++)
        ck_assert_uint_gt(m->half[i].cfg->csr_exts.len, 0);
    cm_autocert_free(m);
    cm_autocert_free(NULL);
}
END_TEST

START_TEST(first_client_orders)
{
    struct counting cache = { .base = { &counting_ops } };
    struct cm_storage *st = NULL;
    struct cm_cert *c1 = NULL, *c2 = NULL, *rsa = NULL;
    struct cm_autocert *m;

    must(cm_storage_open("memory:autocert-first", NULL, &st, &err));
    must(cm_autocert_storage_cache(st, NULL, &cache.inner, &err));
    m = manager(&cache.base);
    must_fail(ask(m, "no.example.com", true, &c1), CM_E_POLICY);
    ck_assert_int_eq(err.tls_alert, 112);
    asked = 0;
    must(ask(m, "a.example.com", true, &c1));
    ck_assert_uint_eq(asked, 1);
    ck_assert_int_eq(cm_cert_key_type(c1), CM_KEY_P256);
    must(ask(m, "A.Example.com", true, &c2));
    ck_assert_str_eq(cm_cert_serial(c1), cm_cert_serial(c2));
    ck_assert_uint_eq(asked, 1);
    must(ask(m, "a.example.com", false, &rsa));
    ck_assert_int_eq(cm_cert_key_type(rsa), CM_KEY_RSA2048);
    ck_assert_uint_eq(cache.puts, 2);
    cm_cert_unref(c2);
    cm_cert_unref(rsa);
    cm_autocert_free(m);
    /* another process with this cache */
    m = manager(&cache.base);
    must(ask(m, "a.example.com", true, &c2));
    ck_assert_str_eq(cm_cert_serial(c1), cm_cert_serial(c2));
    must(ask(m, "a.example.com", false, &rsa));
    ck_assert_int_eq(cm_cert_key_type(rsa), CM_KEY_RSA2048);
    ck_assert_uint_eq(cache.puts, 2);
    cm_cert_unref(c1);
    cm_cert_unref(c2);
    cm_cert_unref(rsa);
    cm_autocert_free(m);
    cm_autocert_cache_free(cache.inner);
    cm_storage_close(st);
}
END_TEST

/* While it is not known what others have, nothing is ordered; what is served is served. */
START_TEST(cache_is_away)
{
    struct counting cache = { .base = { &counting_ops } };
    struct cm_storage *st = NULL;
    struct cm_cert *cert = NULL;
    struct cm_autocert *m;

    must(cm_storage_open("memory:autocert-away", NULL, &st, &err));
    must(cm_autocert_storage_cache(st, NULL, &cache.inner, &err));
    m = manager(&cache.base);
    must(ask(m, "a.example.com", true, &cert));
    cm_cert_unref(cert);
    cache.fail = CM_E_IO;
    must(ask(m, "a.example.com", true, &cert));
    cm_cert_unref(cert);
    asked = 0;
    must_fail(ask(m, "b.example.com", true, &cert), CM_E_IO);
    ck_assert_int_eq(err.tls_alert, 80);
    ck_assert_uint_eq(asked, 0);
    cache.fail = CM_OK;
    must(ask(m, "b.example.com", true, &cert));
    cm_cert_unref(cert);
    cm_autocert_free(m);
    cm_autocert_cache_free(cache.inner);
    cm_storage_close(st);
}
END_TEST

START_TEST(names_are_checked_first)
{
    static const char *const bad[] = {
        "", "localhost", "a+b.example.com", "a/b.example.com", "a\\b.example.com", "10.0.0.1"
    };
    struct counting cache = { .base = { &counting_ops }, .fail = CM_E_IO };
    struct cm_autocert *m = manager(&cache.base);
    struct cm_cert *cert = NULL;
    unsigned before = cache.gets;

    asked = 0;
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        must_fail(ask(m, bad[i], true, &cert), CM_E_INVAL);
        ck_assert_int_eq(err.tls_alert, 112);
    }
    ck_assert_uint_eq(cache.gets, before);
    ck_assert_uint_eq(asked, 0);
    cm_autocert_free(m);
}
END_TEST

START_TEST(failures_are_remembered)
{
    struct cm_autocert *m = manager(NULL);
    struct cm_err why = CM_ERR_INIT;
    char host[CM_NAME_BUF];

    (void)cm_fail(&why, CM_E_ACME, "the CA said no");
    must(autocert_failed_lately(m, "a.example.com", false, &err));
    autocert_note_failure(m, "a.example.com", false, &why);
    must_fail(autocert_failed_lately(m, "a.example.com", false, &err), CM_E_ACME);
    ck_assert_str_eq(err.msg, "the CA said no");
    must(autocert_failed_lately(m, "a.example.com", true, &err));
    m->failures[0].until_ns = 1; /* a minute later */
    must(autocert_failed_lately(m, "a.example.com", false, &err));
    /* however many there are, the table is what it is */
    for (unsigned i = 0; i < 3 * FAILURES_MAX; i++) {
        (void)snprintf(host, sizeof host, "n%u.example.com", i);
        autocert_note_failure(m, host, false, &why);
        must_fail(autocert_failed_lately(m, host, false, &err), CM_E_ACME);
    }
    cm_autocert_free(m);
}
END_TEST

START_TEST(plain_http)
{
    struct cm_autocert_reply r = CM_AUTOCERT_REPLY_INIT;
    struct cm_autocert *m = manager(NULL);
    const struct {
        const char *method, *host, *target;
        int status;
        const char *location;
    } t[] = {
        { "GET", "a.example.com", "/", 302, "https://a.example.com/" },
        { "HEAD", "A.example.com:8080", "/x?y=%20", 302, "https://a.example.com/x?y=%20" },
        { "GET", "[2001:db8::1]:80", "/", 302, "https://[2001:db8::1]/" },
        { "POST", "a.example.com", "/", 400, "" },
        { "GET", "a.example.com\r\nX: y", "/", 400, "" },
        { "GET", "a.example.com", "/\r\nX: y", 400, "" },
        { "GET", "a.example.com@evil", "/", 400, "" },
        { "GET", NULL, "/", 400, "" },
        { "GET", "a.example.com", "http://other/", 400, "" },
        { "GET", "no.example.com", "/.well-known/acme-challenge/abc", 403, "" },
        { "GET", "a.example.com", "/.well-known/acme-challenge/abc", 404, "" },
        { "GET", "a.example.com", "/.well-known/acme-challenge/../x", 404, "" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(t); i++) {
        must(cm_autocert_http(m, NULL, t[i].method, t[i].host, t[i].target, false, &r, &err));
        ck_assert_msg(r.status == t[i].status, "%zu: %d", i, r.status);
        ck_assert_str_eq(r.location, t[i].location);
        cm_buf_free(&r.body);
    }
    must_fail(cm_autocert_http(m, NULL, "GET", "a.example.com", "/", true, &r, &err),
              CM_E_NOTFOUND);
    must(cm_autocert_http(m, NULL, "GET", "a.example.com", "/.well-known/acme-challenge/abc", true,
                          &r, &err));
    ck_assert_int_eq(r.status, 404);
    cm_buf_free(&r.body);
    cm_autocert_free(m);
}
END_TEST

START_TEST(any_host_when_it_is_said)
{
    struct cm_config_options c = CM_CONFIG_OPTIONS_INIT;
    struct cm_autocert_options o = CM_AUTOCERT_OPTIONS_INIT;
    struct cm_autocert *m = NULL;
    struct cm_cert *cert = NULL;

    c.internal = true;
    o.config = &c;
    o.prompt = cm_accept_tos;
    o.policy = cm_autocert_any_host;
    must(cm_autocert_new(&o, &m, &err));
    must(ask(m, "no.example.com", true, &cert));
    ck_assert_str_eq(cm_cert_name(cert, 0), "no.example.com");
    cm_cert_unref(cert);
    must_fail(ask(m, "one-label", true, &cert), CM_E_INVAL);
    cm_autocert_free(m);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        blob_is_read,
        blob_rules,
        directory_cache,
        storage_cache,
        options_are_checked,
        first_client_orders,
        cache_is_away,
        names_are_checked_first,
        failures_are_remembered,
        plain_http,
        any_host_when_it_is_said,
    };

    return run_tests_how("autocert", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
