/* SPDX-License-Identifier: Apache-2.0 */
#include "index.h"
#include "kit.h"

#include <gnutls/x509.h>
#include <unistd.h>

static struct cm_err err;

static struct cm_cert *hollow1(const char *name, int64_t not_before_s, unsigned flags)
{
    return kit_hollow(&name, 1, not_before_s, flags);
}

static size_t find(struct cm_cache *cache, const char *name, struct cm_cert **ret)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(cache, name, strlen(name), certs);

    for (size_t i = 0; i < n; i++) {
        if (ret != NULL && i == 0)
            *ret = certs[0]; /* the cache holds it */
        cm_cert_unref(certs[i]);
    }
    return n;
}

static struct cm_cache *cache_of(size_t capacity)
{
    struct cm_cache_options o = { .size = (uint32_t)sizeof o, .capacity = capacity };
    struct cm_cache *cache = NULL;

    ck_ok(cm_cache_new(&o, &cache, &err));
    return cache;
}

/* The index against the plainest model of it. */
START_TEST(index_agrees_with_a_plain_list)
{
    enum { CERTS = 400, NAMES = 600, STEPS = 6000 };
    static char name[NAMES][24];
    struct cm_cert *certs[CERTS];
    bool in[CERTS] = { false };
    struct cm_index *x = NULL;
    uint64_t dice = 1;

    for (size_t i = 0; i < NAMES; i++)
        (void)snprintf(name[i], sizeof name[i], "%sh%zu.example", i % 7 == 0 ? "*." : "", i);
    for (size_t i = 0; i < CERTS; i++) {
        const char *three[3] = { name[i * 5 % NAMES], name[i * 7 % NAMES], name[i % 40] };

        certs[i] = kit_hollow(three, 3, (int64_t)(i * 37 % 101), 0);
    }
    ck_ok(cm_index_new(&x, &err));
    for (unsigned step = 0; step < STEPS; step++) {
        dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407u;
        size_t c = (size_t)(dice >> 33) % CERTS;
        const char *key = name[(size_t)(dice >> 40) % NAMES];
        size_t want = 0;
        size_t n;

        if (in[c])
            cm_index_remove(x, certs[c]);
        else
            ck_ok(cm_index_add(x, certs[c], &err));
        in[c] = !in[c];
        for (size_t i = 0; i < CERTS; i++)
            for (size_t k = 0; in[i] && k < 3; k++)
                if (strcmp(cm_cert_name(certs[i], k), key) == 0) {
                    want++;
                    break;
                }
        struct cm_cert *const *got = cm_index_peek(x, key, strlen(key), &n);
        ck_assert_uint_eq(n, want);
        for (size_t i = 1; i < n; i++) /* newest first */
            ck_assert_int_ge(cm_cert_not_before_s(got[i - 1]), cm_cert_not_before_s(got[i]));
    }
    cm_index_free(x);
    for (size_t i = 0; i < CERTS; i++)
        cm_cert_unref(certs[i]);
}
END_TEST

START_TEST(name_given_twice_is_indexed_once)
{
    const char *const twice[] = { "a.example", "a.example" };
    struct cm_cert *c = kit_hollow(twice, 2, 0, CM_CERT_MANAGED);
    struct cm_cache *cache = cache_of(0);

    ck_ok(cm_cache_put(cache, c, 1, &err));
    ck_assert_uint_eq(find(cache, "a.example", NULL), 1);
    ck_assert(cm_cache_remove(cache, c));
    ck_assert_uint_eq(find(cache, "a.example", NULL), 0);
    ck_assert(!cm_cache_remove(cache, c));
    cm_cert_unref(c);
    cm_cache_free(cache);
}
END_TEST

START_TEST(newer_one_takes_the_place_of_the_older)
{
    struct cm_cache *cache = cache_of(0);
    struct cm_cert *old = hollow1("a.example", 100, CM_CERT_MANAGED);
    struct cm_cert *new = hollow1("a.example", 200, CM_CERT_MANAGED);
    struct cm_cert *got = NULL;

    ck_ok(cm_cache_put(cache, old, 150, &err));
    ck_ok(cm_cache_put(cache, old, 150, &err)); /* again: nothing */
    ck_assert_uint_eq(cm_cache_count(cache), 1);
    ck_ok(cm_cache_put(cache, new, 250, &err));
    ck_assert_uint_eq(find(cache, "a.example", &got), 1);
    ck_assert_ptr_eq(got, new);
    ck_assert_uint_eq(cm_cache_count(cache), 1);
    cm_cert_unref(old);
    cm_cert_unref(new);
    cm_cache_free(cache);
}
END_TEST

START_TEST(certificate_from_the_future_leaves_the_old_one)
{
    struct cm_cache *cache = cache_of(0);
    struct cm_cert *old = hollow1("a.example", 100, CM_CERT_MANAGED);
    struct cm_cert *new = hollow1("a.example", 7200, CM_CERT_MANAGED);
    struct cm_cert *newest = hollow1("a.example", 7300, CM_CERT_MANAGED);

    ck_ok(cm_cache_put(cache, old, 150, &err));
    ck_ok(cm_cache_put(cache, new, 150, &err));
    ck_assert_uint_eq(find(cache, "a.example", NULL), 2);
    ck_ok(cm_cache_put(cache, newest, 7300, &err)); /* takes both out */
    ck_assert_uint_eq(find(cache, "a.example", NULL), 1);
    cm_cert_unref(old);
    cm_cert_unref(new);
    cm_cert_unref(newest);
    cm_cache_free(cache);
}
END_TEST

START_TEST(own_certificates_are_not_replaced)
{
    struct cm_cache *cache = cache_of(0);
    struct cm_cert *managed = hollow1("a.example", 200, CM_CERT_MANAGED);
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *const tags[] = { "mine", NULL };
    const char *const names[] = { "a.example" };
    struct cm_cert *own = NULL;

    kit_make_pair(CM_PK_P256, names, 1, 100, 86400, &chain, &key);
    ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), tags, &own, &err));
    ck_ok(cm_cache_put(cache, managed, 300, &err));
    ck_assert_uint_eq(find(cache, "a.example", NULL), 2);
    ck_assert(cm_cert_has_tag(own, "mine"));
    ck_assert(!cm_cert_is_managed(own));
    ck_assert(cm_cache_remove(cache, own));
    ck_assert_uint_eq(find(cache, "a.example", NULL), 1);
    cm_cert_unref(own);
    cm_cert_unref(managed);
    cm_cache_free(cache);
}
END_TEST

struct seen {
    size_t n;
    size_t stop_after;
    int64_t last;
};

static bool visit(void *user, struct cm_cert *cert)
{
    struct seen *s = user;

    s->n++;
    ck_assert_int_le(cm_cert_not_before_s(cert), s->last);
    s->last = cm_cert_not_before_s(cert);
    return s->n != s->stop_after;
}

START_TEST(capacity_evicts_managed_ones_that_nobody_asked_for)
{
    struct cm_cache *cache = cache_of(50);
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *const own[] = { "own.example" };
    char name[32];

    kit_make_pair(CM_PK_P256, own, 1, 100, 86400, &chain, &key);
    ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), NULL, NULL, &err));
    for (unsigned i = 0; i < 2000; i++) {
        struct cm_cert *c;

        (void)snprintf(name, sizeof name, "h%u.example", i);
        c = hollow1(name, 100, CM_CERT_MANAGED);
        ck_ok(cm_cache_put(cache, c, 200, &err));
        cm_cert_unref(c);
        ck_assert_uint_le(cm_cache_count(cache), 50);
        struct seen s = { 0, 0, INT64_MAX };
        cm_cache_match(cache, name, visit, &s); /* does not count as being asked for */
        ck_assert_uint_eq(s.n, 1);
        ck_assert_uint_eq(find(cache, "h0.example", NULL), 1); /* busy: stays */
    }
    ck_assert_uint_eq(find(cache, "own.example", NULL), 1);
    ck_assert_uint_eq(cm_cache_count(cache), 50);
    cm_cache_free(cache);
}
END_TEST

static void put_new(struct cm_cache *cache, const char *name, int64_t from_s, bool passing)
{
    struct cm_cert *c = hollow1(name, from_s, CM_CERT_MANAGED);

    if (passing)
        cm_cache_mark_passing(cache, c);
    ck_ok(cm_cache_put(cache, c, from_s + 100, &err));
    cm_cert_unref(c);
}

/* How many of x0.example, x1.example, ... are in? */
static unsigned those_in(struct cm_cache *cache, char kind, unsigned n)
{
    unsigned in = 0;
    char name[32];

    for (unsigned i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "%c%u.example", kind, i);
        struct seen s = { 0, 0, INT64_MAX };
        cm_cache_match(cache, name, visit, &s);
        in += s.n > 0;
    }
    return in;
}

START_TEST(what_clients_brought_makes_room_first)
{
    struct cm_cache *cache = cache_of(20);
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *const own[] = { "own.example" };
    struct cm_cert *some[16];
    struct cm_cache_walk walk = { 0 };
    char name[32];
    size_t n, walked = 0;

    kit_make_pair(CM_PK_P256, own, 1, 100, 86400, &chain, &key);
    ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), NULL, NULL, &err));
    for (unsigned i = 0; i < 10; i++) {
        (void)snprintf(name, sizeof name, "m%u.example", i);
        put_new(cache, name, 100, false);
    }
    for (unsigned i = 0; i < 500; i++) {
        (void)snprintf(name, sizeof name, "p%u.example", i);
        put_new(cache, name, 100, true);
        ck_assert_uint_eq(find(cache, "p0.example", NULL), 1); /* busy: stays */
        ck_assert_uint_le(cm_cache_count(cache), 20);
    }
    ck_assert_uint_eq(those_in(cache, 'm', 10), 10); /* which nobody has asked for */
    ck_assert_uint_eq(those_in(cache, 'p', 500), 9);
    ck_assert_uint_eq(find(cache, "own.example", NULL), 1);
    put_new(cache, "p0.example", 200, false); /* its successor is no other */
    for (unsigned i = 10; i < 19; i++) {
        (void)snprintf(name, sizeof name, "m%u.example", i);
        put_new(cache, name, 100, false);
    }
    ck_assert_uint_eq(those_in(cache, 'm', 19), 19);
    ck_assert_uint_eq(those_in(cache, 'p', 500), 0);
    put_new(cache, "p1.example", 100, true); /* one more than there is room for ... */
    ck_assert_uint_eq(cm_cache_count(cache), 21);
    put_new(cache, "p2.example", 100, true); /* ... but only one */
    ck_assert_uint_eq(cm_cache_count(cache), 21);
    ck_assert_uint_eq(those_in(cache, 'm', 19), 19);
    ck_assert_uint_eq(those_in(cache, 'p', 500), 1);
    while ((n = cm_cache_some(cache, &walk, some, CM_ARRAY_LEN(some))) > 0)
        for (walked += n; n > 0; n--)
            cm_cert_unref(some[n - 1]);
    ck_assert_uint_eq(walked, 21);
    struct seen s = { 0, 0, INT64_MAX };
    cm_cache_match(cache, NULL, visit, &s);
    ck_assert_uint_eq(s.n, 21);
    put_new(cache, "m19.example", 100, false);
    put_new(cache, "m20.example", 100, false); /* none left but the program's */
    ck_assert_uint_eq(those_in(cache, 'p', 500), 0);
    ck_assert_uint_eq(those_in(cache, 'm', 21), 20);
    cm_cache_free(cache);
}
END_TEST

START_TEST(renewal_in_a_full_cache_evicts_nothing_else)
{
    struct cm_cache *cache = cache_of(2);
    struct cm_cert *a = hollow1("a.example", 100, CM_CERT_MANAGED);
    struct cm_cert *b = hollow1("b.example", 100, CM_CERT_MANAGED);
    struct cm_cert *a2 = hollow1("a.example", 200, CM_CERT_MANAGED);

    ck_ok(cm_cache_put(cache, a, 300, &err));
    ck_ok(cm_cache_put(cache, b, 300, &err));
    ck_ok(cm_cache_put(cache, a2, 300, &err));
    ck_assert_uint_eq(find(cache, "a.example", NULL), 1);
    ck_assert_uint_eq(find(cache, "b.example", NULL), 1);
    ck_assert_uint_eq(cm_cache_count(cache), 2);
    cm_cert_unref(a);
    cm_cert_unref(b);
    cm_cert_unref(a2);
    cm_cache_free(cache);
}
END_TEST

START_TEST(match_hands_out_newest_first)
{
    static const char *const names[] = { "www.example", "*.example", "other.test" };
    struct cm_cache *cache = cache_of(0);

    for (int i = 0; i < 30; i++) {
        struct cm_cert *c = hollow1(names[i % 3], i * 7 % 31, 0);
        struct cm_cert *got = NULL;
        size_t n;

        /* own ones by the back door */
        c->flags = CM_CERT_MANAGED;
        c->key_type = (uint8_t)i; /* each another offer */
        ck_ok(cm_cache_put(cache, c, 1000, &err));
        n = find(cache, names[i % 3], &got);
        ck_assert_uint_gt(n, 0);
        cm_cert_unref(c);
    }
    struct seen s = { 0, 0, INT64_MAX };
    cm_cache_match(cache, "WWW.example.", visit, &s);
    ck_assert_uint_eq(s.n, 20);
    s = (struct seen){ 0, 0, INT64_MAX };
    cm_cache_match(cache, NULL, visit, &s);
    ck_assert_uint_eq(s.n, 30);
    s = (struct seen){ 0, 3, INT64_MAX };
    cm_cache_match(cache, NULL, visit, &s);
    ck_assert_uint_eq(s.n, 3);
    s = (struct seen){ 0, 0, INT64_MAX };
    cm_cache_match(cache, "no host name", visit, &s);
    ck_assert_uint_eq(s.n, 0);
    cm_cache_free(cache);
}
END_TEST

START_TEST(files_are_read_whole_and_only_files)
{
    char dir[] = "/tmp/cm-test-cache-XXXXXX";
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *const names[] = { "own.example" };
    struct cm_cache *cache = cache_of(0);
    char crt_path[64];
    char key_path[64];
    FILE *f;

    kit_make_pair(CM_PK_ED25519, names, 1, 100, 86400, &chain, &key);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(crt_path, sizeof crt_path, "%s/crt", dir);
    (void)snprintf(key_path, sizeof key_path, "%s/key", dir);
    f = fopen(crt_path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(chain.data, 1, chain.len, f), chain.len);
    ck_assert_int_eq(fclose(f), 0);
    ck_refused(cm_cache_add_files(cache, crt_path, key_path, NULL, NULL, &err), CM_E_NOTFOUND);
    f = fopen(key_path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(key.data, 1, key.len, f), key.len);
    ck_assert_int_eq(fclose(f), 0);
    ck_ok(cm_cache_add_files(cache, crt_path, key_path, NULL, NULL, &err));
    ck_assert_uint_eq(find(cache, "own.example", NULL), 1);
    ck_refused(cm_cache_add_files(cache, dir, key_path, NULL, NULL, &err), CM_E_INVAL);
    ck_refused(cm_cache_add_files(cache, "/dev/zero", key_path, NULL, NULL, &err), CM_E_INVAL);
    ck_refused(cm_cache_add_files(cache, key_path, crt_path, NULL, NULL, &err), CM_E_PARSE);
    ck_assert_ptr_nonnull(strstr(err.msg, key_path));
    ck_assert_int_eq(unlink(crt_path), 0);
    ck_assert_int_eq(unlink(key_path), 0);
    ck_assert_int_eq(rmdir(dir), 0);
    cm_cache_free(cache);
}
END_TEST

START_TEST(gnutls_objects_are_copied)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *const names[] = { "own.example" };
    struct cm_cache *cache = cache_of(0);
    struct cm_cert *got = NULL;
    gnutls_x509_crt_t crts[4];
    gnutls_x509_privkey_t priv;
    unsigned n = 4;

    kit_make_pair(CM_PK_P256, names, 1, 100, 86400, &chain, &key);
    gnutls_datum_t c = { chain.data, (unsigned)chain.len };
    gnutls_datum_t d = { key.data, (unsigned)key.len };
    ck_assert_int_eq(gnutls_x509_crt_list_import(crts, &n, &c, GNUTLS_X509_FMT_PEM, 0), 2);
    ck_assert_int_eq(gnutls_x509_privkey_init(&priv), 0);
    ck_assert_int_eq(gnutls_x509_privkey_import(priv, &d, GNUTLS_X509_FMT_PEM), 0);
    ck_ok(cm_cache_add_gnutls(cache, crts, 2, priv, NULL, &got, &err));
    ck_assert_uint_eq(cm_cert_chain_len(got), 2);
    ck_refused(cm_cache_add_gnutls(cache, crts + 1, 1, priv, NULL, NULL, &err), CM_E_KEY);
    for (unsigned i = 0; i < 2; i++)
        gnutls_x509_crt_deinit(crts[i]);
    gnutls_x509_privkey_deinit(priv);
    ck_assert_uint_eq(find(cache, "own.example", NULL), 1);
    cm_cert_unref(got);
    cm_cache_free(cache);
}
END_TEST

/* ---- threads ---- */

struct race {
    struct cm_cache *cache;
    _Atomic bool stop;
    _Atomic unsigned hits;
};

static void *look_up(void *arg)
{
    struct race *r = arg;
    struct cm_cert *certs[CM_CANDIDATES_MAX];

    while (!atomic_load(&r->stop)) {
        size_t n = cm_cache_find(r->cache, "hot.example", 11, certs);

        ck_assert_uint_gt(n, 0); /* never a gap */
        for (size_t i = 0; i < n; i++) {
            ck_assert_str_eq(cm_cert_name(certs[i], 0), "hot.example");
            cm_cert_unref(certs[i]);
        }
        (void)atomic_fetch_add(&r->hits, 1);
    }
    return NULL;
}

START_TEST(swaps_under_readers_leave_no_gap)
{
    struct race r = { .cache = cache_of(0) };
    pthread_t readers[4];
    char name[32];

    for (int i = 0; i < 1; i++) {
        struct cm_cert *c = hollow1("hot.example", 0, CM_CERT_MANAGED);

        ck_ok(cm_cache_put(r.cache, c, 1, &err));
        cm_cert_unref(c);
    }
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&readers[i], NULL, look_up, &r), 0);
    for (int i = 1; i < 1500; i++) {
        struct cm_cert *c = hollow1("hot.example", i, CM_CERT_MANAGED);

        ck_ok(cm_cache_put(r.cache, c, i, &err));
        cm_cert_unref(c);
        (void)snprintf(name, sizeof name, "cold%d.example", i);
        c = hollow1(name, i, CM_CERT_MANAGED);
        ck_ok(cm_cache_put(r.cache, c, i, &err)); /* tables grow meanwhile */
        if (i % 3 == 0)
            ck_assert(cm_cache_remove(r.cache, c));
        cm_cert_unref(c);
    }
    kit_until(atomic_load(&r.hits) > 1000);
    atomic_store(&r.stop, true);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_join(readers[i], NULL), 0);
    cm_cache_free(r.cache);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        index_agrees_with_a_plain_list,
        name_given_twice_is_indexed_once,
        newer_one_takes_the_place_of_the_older,
        certificate_from_the_future_leaves_the_old_one,
        own_certificates_are_not_replaced,
        capacity_evicts_managed_ones_that_nobody_asked_for,
        what_clients_brought_makes_room_first,
        renewal_in_a_full_cache_evicts_nothing_else,
        match_hands_out_newest_first,
        files_are_read_whole_and_only_files,
        gnutls_objects_are_copied,
        swaps_under_readers_leave_no_gap,
    };

    return kit_run("cache", tests, CM_ARRAY_LEN(tests));
}
