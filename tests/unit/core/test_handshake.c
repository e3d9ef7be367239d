/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <poll.h>

static struct kit k;
static struct cm_err err;
static const char *const example[] = { "example.com" };

static struct cm_cert *add(enum cm_pk type, const char *const *names, size_t n)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_cert *c = NULL;

    kit_make_pair(type, names, n, START_S - 60, 86400, &chain, &key);
    ck_ok(cm_cache_add_pem(cm_config_cache(k.cfg), cm_buf_span(&chain), cm_buf_span(&key), NULL, &c,
                           &err));
    cm_cert_unref(c); /* the cache has it */
    return c;
}

static cm_status ask(const struct cm_hello *h, struct cm_cert **ret)
{
    struct cm_pending *p = NULL;

    *ret = NULL;
    cm_status rc = cm_get_certificate(k.cfg, h, ret, &p, &err);
    ck_assert_int_eq(rc == CM_E_AGAIN, p != NULL);
    cm_pending_free(p);
    return rc;
}

static void gets(const char *sni, const struct cm_cert *want)
{
    struct cm_cert *c;
    struct cm_hello h;

    kit_hello(&h, sni);
    ck_ok(ask(&h, &c));
    ck_assert_ptr_eq(c, want);
    cm_cert_unref(c);
}

static void refused(const char *sni)
{
    struct cm_cert *c;
    struct cm_hello h;

    kit_hello(&h, sni);
    cm_status rc = ask(&h, &c);
    ck_assert_msg(rc != CM_OK && rc != CM_E_AGAIN, "'%s' was not refused", sni);
    ck_assert_ptr_null(c);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_UNRECOGNIZED_NAME);
}

START_TEST(exact_name_before_wildcard)
{
    const char *const exact[] = { "www.example.com" };
    const char *const wild[] = { "*.example.com" };

    kit_init(&k);
    kit_start(&k);
    struct cm_cert *w = add(CM_PK_P256, wild, 1);
    struct cm_cert *e = add(CM_PK_P256, exact, 1);
    gets("www.example.com", e);
    gets("WWW.Example.COM", e);
    gets("www.example.com.", e);
    gets("mail.example.com", w);
    gets("m_il.example.com", w);
    refused("example.com");
    refused("a.b.example.com"); /* one label deep, no more */
    refused("xwww.example.org");
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0); /* a miss reads nothing */
    kit_stop(&k);
}
END_TEST

START_TEST(what_is_no_host_name_is_refused)
{
    static const char *const bad[] = { ".",
                                       "..",
                                       ".example.com",
                                       "a..example.com",
                                       "*.example.com",
                                       "a b.example.com",
                                       "a,b.example.com",
                                       "a/example.com",
                                       "192.0.2.1",
                                       "2001:db8::1",
                                       "a\xc3\xbc.example.com",
                                       "example.com..",
                                       "%00.example.com" };
    const char *const wild[] = { "*.example.com" };
    struct cm_cert *c;
    struct cm_hello h;
    char label[300];

    kit_init(&k);
    k.opts.fallback_name = "www.example.com"; /* not even that */
    kit_start(&k);
    struct cm_cert *w = add(CM_PK_P256, wild, 1);
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        refused(bad[i]);
    memset(label, 'a', sizeof label);
    memcpy(label + 63, ".example.com", 13);
    gets(label, w);
    memset(label, 'a', 64);
    memcpy(label + 64, ".example.com", 13);
    refused(label);
    for (size_t i = 0; i < 255; i++)
        label[i] = i % 2 ? '.' : 'a';
    label[255] = '\0';
    refused(label);
    kit_hello(&h, "");
    h.sni_invalid = true;
    ck_assert_int_ne(ask(&h, &c), CM_OK);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_UNRECOGNIZED_NAME);
    kit_stop(&k);
}
END_TEST

START_TEST(name_has_253_characters_at_most)
{
    char longest[257];
    const char *const names[] = { longest };

    memset(longest, 'a', sizeof longest);
    longest[63] = longest[127] = longest[191] = '.';
    longest[253] = '\0';
    kit_init(&k);
    k.opts.fallback_name = "www.example.com";
    kit_start(&k);
    struct cm_cert *c = add(CM_PK_P256, names, 1);
    const char *const known[] = { "www.example.com" };
    struct cm_cert *fallback = add(CM_PK_P256, known, 1);
    gets(longest, c);
    longest[252] = 'b';
    gets(longest, fallback); /* unknown, but a name */
    longest[252] = 'a';
    memcpy(longest + 253, ".", 2);
    gets(longest, c);
    memcpy(longest + 253, "a", 2);
    refused(longest);
    memcpy(longest + 253, "a.", 3);
    refused(longest);
    memcpy(longest + 252, ".a", 3); /* 254 again, in a label more */
    refused(longest);
    kit_stop(&k);
}
END_TEST

START_TEST(fallback_is_for_names_nobody_knows)
{
    const char *const other[] = { "fallback.example" };

    kit_init(&k);
    k.opts.fallback_name = "Fallback.example";
    kit_start(&k);
    struct cm_cert *f = add(CM_PK_P256, other, 1);
    gets("unknown.example", f);
    /* a name that is managed but has nothing yet gets nothing else either */
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(cm_manage(k.cfg, NULL, example, 1, &err), CM_E_ACME);
    struct cm_cert *c;
    struct cm_hello h;
    kit_hello(&h, "example.com");
    ck_refused(ask(&h, &c), CM_E_STATE);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_INTERNAL);
    kit_stop(&k);
}
END_TEST

START_TEST(no_name_means_address_then_default)
{
    const char *const ip4[] = { "192.0.2.7" };
    const char *const ip6[] = { "fe80::1" };
    const char *const def[] = { "default.example" };
    struct cm_cert *c;
    struct cm_hello h;

    kit_init(&k);
    k.opts.default_name = "default.example";
    kit_start(&k);
    kit_hello(&h, NULL);
    ck_assert_int_ne(ask(&h, &c), CM_OK);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_UNRECOGNIZED_NAME);
    struct cm_cert *d = add(CM_PK_P256, def, 1);
    struct cm_cert *four = add(CM_PK_P256, ip4, 1);
    struct cm_cert *six = add(CM_PK_P256, ip6, 1);
    gets(NULL, d);
    (void)snprintf(h.local_ip, sizeof h.local_ip, "192.0.2.7");
    ck_ok(ask(&h, &c));
    ck_assert_ptr_eq(c, four);
    cm_cert_unref(c);
    (void)snprintf(h.local_ip, sizeof h.local_ip, "fe80::1%%eth0");
    ck_ok(ask(&h, &c));
    ck_assert_ptr_eq(c, six);
    cm_cert_unref(c);
    (void)snprintf(h.local_ip, sizeof h.local_ip, "192.0.2.8");
    ck_ok(ask(&h, &c));
    ck_assert_ptr_eq(c, d);
    cm_cert_unref(c);
    /* the default is not for names that are unknown */
    refused("unknown.example");
    kit_stop(&k);
}
END_TEST

START_TEST(kind_of_key_follows_the_client)
{
    struct cm_cert *c;
    struct cm_hello h;

    kit_init(&k);
    kit_start(&k);
    struct cm_cert *ec = add(CM_PK_P256, example, 1);
    struct cm_cert *rsa = add(CM_PK_RSA2048, example, 1);
    gets("example.com", ec);
    kit_hello(&h, "example.com");
    h.sigalgs[0] = 0x0804;
    h.n_sigalgs = 1;
    ck_ok(ask(&h, &c));
    ck_assert_ptr_eq(c, rsa);
    cm_cert_unref(c);
    kit_stop(&k);
}
END_TEST

static struct cm_cert *pick_last(void *user, const struct cm_hello *hello,
                                 struct cm_cert *const *certs, size_t n)
{
    unsigned *calls = user;

    ck_assert_str_eq(hello->server_name, "example.com");
    ++*calls;
    if (*calls == 1)
        return NULL;
    return *calls == 2 ? certs[n - 1] : (struct cm_cert *)(void *)calls; /* not on offer */
}

START_TEST(program_may_choose_among_what_matches)
{
    unsigned calls = 0;

    kit_init(&k);
    k.opts.select = pick_last;
    k.opts.select_user = &calls;
    kit_start(&k);
    struct cm_cert *ec = add(CM_PK_P256, example, 1);
    struct cm_cert *rsa = add(CM_PK_RSA2048, example, 1);
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(cm_config_cache(k.cfg), "example.com", 11, certs);
    ck_assert_uint_eq(n, 2);
    struct cm_cert *last = certs[1];
    cm_cert_unref(certs[0]);
    cm_cert_unref(certs[1]);
    gets("example.com", ec); /* NULL: the built-in ranking */
    gets("example.com", last);
    gets("example.com", ec); /* a stray pointer: likewise */
    ck_assert_uint_eq(calls, 3);
    (void)rsa;
    kit_stop(&k);
}
END_TEST

/* ---- waiting ---- */

static struct cm_pending *pend(const char *sni)
{
    struct cm_pending *p = NULL;
    struct cm_cert *c = NULL;
    struct cm_hello h;

    kit_hello(&h, sni);
    ck_refused(cm_get_certificate(k.cfg, &h, &c, &p, &err), CM_E_AGAIN);
    return p;
}

static bool readable(const struct cm_pending *p, int ms)
{
    struct pollfd f = { .fd = cm_pending_fd(p), .events = POLLIN };

    return poll(&f, 1, ms) == 1;
}

START_TEST(two_hundred_waiters_are_all_answered)
{
    struct cm_pending *p[200];
    struct cm_cert *c;

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    for (size_t i = 0; i < 200; i++)
        p[i] = pend("example.com");
    for (size_t i = 0; i < 200; i++)
        ck_assert(!readable(p[i], 0));
    ck_refused(cm_pending_take(p[0], &c, &err), CM_E_AGAIN);
    cm_pending_free(p[7]); /* gave up before */
    cm_pending_free(p[8]);
    atomic_store(&k.issuer->hold, false);
    for (size_t i = 0; i < 200; i++) {
        if (i == 7 || i == 8)
            continue;
        ck_assert(readable(p[i], 10000));
        ck_ok(cm_pending_take(p[i], &c, &err));
        ck_assert(cm_cert_covers(c, "example.com"));
        cm_cert_unref(c);
        ck_ok(cm_pending_take(p[i], &c, &err)); /* may be asked again */
        cm_cert_unref(c);
        cm_pending_free(p[i]);
    }
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(failure_answers_the_waiters)
{
    struct cm_pending *p;
    struct cm_cert *c = NULL;

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    atomic_store(&k.issuer->step, KIT_FAIL_AFTER_CHECKPOINT);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    p = pend("example.com");
    atomic_store(&k.issuer->hold, false);
    kit_until(cm_pending_take(p, &c, &err) != CM_E_AGAIN);
    ck_refused(cm_pending_take(p, &c, &err), CM_E_STATE); /* at once, not when its time is over */
    ck_assert_int_eq(err.tls_alert, CM_ALERT_INTERNAL);
    ck_assert(readable(p, 0));
    ck_assert_ptr_null(c);
    cm_pending_free(p);
    kit_stop(&k);
}
END_TEST

START_TEST(wait_is_bounded_on_either_clock)
{
    struct cm_pending *p;
    struct cm_cert *c = NULL;

    kit_init(&k);
    k.opts.handshake_wait_ms = 150;
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    p = pend("example.com");
    kit_pass(&k.env, 151 * CM_NS_PER_MS);
    ck_refused(cm_pending_take(p, &c, &err), CM_E_TIMEOUT);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_INTERNAL);
    ck_assert(readable(p, 1000));
    cm_pending_free(p);
    p = pend("example.com");
    ck_assert(readable(p, 10000)); /* by itself, in real time */
    ck_refused(cm_pending_take(p, &c, &err), CM_E_TIMEOUT);
    cm_pending_free(p);
    p = pend("example.com");
    ck_refused(cm_pending_wait(p, NULL, &c, &err), CM_E_TIMEOUT);
    cm_pending_free(p);
    kit_stop(&k);
}
END_TEST

START_TEST(who_does_not_want_to_wait_is_refused_at_once)
{
    struct cm_cert *c = NULL;
    struct cm_hello h;

    kit_init(&k);
    k.opts.handshake_wait_ms = -1;
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    kit_hello(&h, "example.com");
    ck_refused(ask(&h, &c), CM_E_STATE);
    kit_stop(&k);
}
END_TEST

START_TEST(waiters_of_one_name_are_bounded)
{
    static struct cm_pending *p[CM_WAITERS_PER_NAME];
    struct cm_cert *c = NULL;
    struct cm_hello h;
    size_t n = 0;

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    kit_hello(&h, "example.com");
    /* descriptors may run out before the bound is reached: that must be refused just as well */
    while (n < CM_WAITERS_PER_NAME && cm_get_certificate(k.cfg, &h, &c, &p[n], &err) == CM_E_AGAIN)
        n++;
    ck_assert_uint_gt(n, 200);
    struct cm_pending *extra = NULL;
    cm_status rc = cm_get_certificate(k.cfg, &h, &c, &extra, &err);
    ck_assert(rc != CM_OK && rc != CM_E_AGAIN);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_INTERNAL);
    ck_assert_ptr_null(extra);
    for (size_t i = 0; i < n; i++)
        cm_pending_free(p[i]);
    cm_pending_free(pend("example.com")); /* there is room again */
    kit_stop(&k);
}
END_TEST

START_TEST(evicted_certificate_is_loaded_again)
{
    static const char *const names[] = { "a.example", "b.example", "c.example" };
    struct cm_cache_options co = { .size = (uint32_t)sizeof co, .capacity = 1 };
    struct cm_cache *cache = NULL;

    kit_init(&k);
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, names, 3, &err));
    for (size_t i = 0; i < 12; i++) {
        struct cm_pending *p = NULL;
        struct cm_cert *c = NULL;
        struct cm_hello h;

        kit_hello(&h, names[i % 3]);
        cm_status rc = cm_get_certificate(k.cfg, &h, &c, &p, &err);
        if (rc == CM_E_AGAIN)
            rc = cm_pending_wait(p, NULL, &c, &err);
        ck_assert_msg(rc == CM_OK, "%s: %s", names[i % 3], err.msg);
        ck_assert(cm_cert_covers(c, names[i % 3]));
        cm_cert_unref(c);
        cm_pending_free(p);
    }
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 3);
    ck_assert_uint_eq(cm_cache_count(cache), 1);
    kit_stop(&k);
    cm_cache_free(cache);
}
END_TEST

START_TEST(pending_outlives_its_config)
{
    struct cm_pending *p;
    struct cm_cert *c = NULL;

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    p = pend("example.com");
    kit_stop(&k);
    ck_assert_int_ne(cm_pending_take(p, &c, &err), CM_OK);
    ck_assert_int_ne(cm_pending_take(p, &c, &err), CM_E_AGAIN);
    cm_pending_free(p);
}
END_TEST

/* ---- threads ---- */

static void *wait_blocking(void *arg)
{
    struct cm_err mine = CM_ERR_INIT;
    struct cm_pending *p = NULL;
    struct cm_cert *c = NULL;
    struct cm_hello h;

    kit_hello(&h, "example.com");
    cm_status rc = cm_get_certificate(k.cfg, &h, &c, &p, &mine);
    if (rc == CM_E_AGAIN)
        rc = cm_pending_wait(p, NULL, &c, &mine);
    cm_pending_free(p);
    cm_cert_unref(c);
    return rc == CM_OK ? arg : NULL;
}

static void *come_and_go(void *arg)
{
    for (int i = 0; i < 50; i++) {
        struct cm_err mine = CM_ERR_INIT;
        struct cm_pending *p = NULL;
        struct cm_cert *c = NULL;
        struct cm_hello h;

        kit_hello(&h, "example.com");
        cm_status rc = cm_get_certificate(k.cfg, &h, &c, &p, &mine);
        if (rc == CM_E_AGAIN && i % 2 == 0)
            (void)!cm_pending_take(p, &c, &mine);
        cm_pending_free(p);
        cm_cert_unref(c);
    }
    return arg;
}

START_TEST(waiting_threads_come_and_go)
{
    pthread_t threads[60];
    void *ret;

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    for (size_t i = 0; i < 60; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, i % 3 ? wait_blocking : come_and_go, &k),
                         0);
    for (int i = 0; i < 30; i++)
        kit_nap();
    atomic_store(&k.issuer->hold, false);
    for (size_t i = 0; i < 60; i++) {
        ck_assert_int_eq(pthread_join(threads[i], &ret), 0);
        ck_assert_ptr_nonnull(ret);
    }
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        exact_name_before_wildcard,
        what_is_no_host_name_is_refused,
        name_has_253_characters_at_most,
        fallback_is_for_names_nobody_knows,
        no_name_means_address_then_default,
        kind_of_key_follows_the_client,
        program_may_choose_among_what_matches,
        two_hundred_waiters_are_all_answered,
        failure_answers_the_waiters,
        wait_is_bounded_on_either_clock,
        who_does_not_want_to_wait_is_refused_at_once,
        waiters_of_one_name_are_bounded,
        evicted_certificate_is_loaded_again,
        pending_outlives_its_config,
        waiting_threads_come_and_go,
    };

    return kit_run("handshake", tests, CM_ARRAY_LEN(tests));
}
