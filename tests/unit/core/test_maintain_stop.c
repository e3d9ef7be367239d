/* SPDX-License-Identifier: Apache-2.0 */
#include "staple_kit.h"

#include "maintain.h"

#include <dirent.h>
#include <unistd.h>

/* Maintenance is stopped, at whatever point it is: soon, for good, and without a trace. */

#define DAY_S INT64_C(86400)
#define MANY  1000u

static struct kit k;
static struct cm_err err;
static struct cm_cache *cache;

/* ---- what is running ---- */

/* Threads whose names begin so; the library's all begin with "cm-". */
static unsigned threads(const char *name)
{
    DIR *d = opendir("/proc/self/task");
    unsigned n = 0;

    ck_assert_ptr_nonnull(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char path[300], text[32] = "";

        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "r");
        if (f == NULL) /* it has just ended */
            continue;
        if (fgets(text, sizeof text, f) != NULL)
            n += strncmp(text, name, strlen(name)) == 0;
        (void)fclose(f);
    }
    (void)closedir(d);
    return n;
}

static bool is_locked(const char *name)
{
    struct cm_lock_info info = { .size = (uint32_t)sizeof info };
    char lock[CM_LOCK_NAME_MAX + 1];

    ck_ok(cm_lock_issue(name, lock, &err));
    return cm_storage_lock_info(&k.storage.base, NULL, lock, &info, NULL) == CM_OK;
}

static int64_t real_ns(void)
{
    return cm_env_system()->mono_ns(cm_env_system());
}

static void number(unsigned i, char ret[32])
{
    (void)snprintf(ret, 32, "n%04u.example", i);
}

/* ---- beginning and end ---- */

static void prepare(void)
{
    cache = NULL;
    kit_init(&k);
    ck_ok(cm_cache_new(NULL, &cache, &err));
    k.opts.cache = cache;
}

static void manage(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char text[32];
        const char *name = text;

        number(i, text);
        ck_ok(cm_manage_async(k.cfg, &name, 1, &err));
    }
}

static void check_stopped(unsigned n)
{
    ck_assert_uint_eq(cm_maint_in_flight(cm_cache_maint(cache)), 0);
    ck_assert_uint_eq(cm_pump_length(k.cfg->pump), 0);
    kit_until(threads("cm-maintain") == 0);
    ck_refused(cm_cache_maintain_now(cache, false, &err), CM_E_STATE);
    for (unsigned i = 0; i < n; i++) {
        struct cm_name_state st = { .size = (uint32_t)sizeof st };
        char name[32];

        number(i, name);
        ck_assert(!is_locked(name));
        ck_ok(cm_name_state(k.cfg, name, &st, &err));
        ck_assert(!st.busy);
    }
}

/* Whoever looks after names now does so for whom it is asked for. */
static void check_use_after_stop(void)
{
    static const char *const stored[] = { "stored.example" };
    static const char *const fresh[] = { "fresh.example" };
    unsigned orders = atomic_load(&k.issuer->orders);

    kit_store_pair(&k.storage.base, "ca.test-dir", stored[0], START_S - DAY_S, 90 * DAY_S);
    ck_ok(cm_manage(k.cfg, NULL, stored, 1, &err));
    ck_refused(cm_manage(k.cfg, NULL, fresh, 1, &err), CM_E_CANCELED);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), orders);
    kit_until(cm_maint_in_flight(cm_cache_maint(cache)) == 0);
}

static void stop(unsigned n)
{
    int64_t from_ns = real_ns();

    cm_cache_stop(cache);
    ck_assert_int_lt(real_ns() - from_ns, 5 * CM_NS_PER_S);
    check_stopped(n);
    cm_cache_stop(cache);
    check_stopped(n);
}

static void end(void)
{
    int64_t from_ns = real_ns();

    cm_config_free(k.cfg);
    cm_cache_free(cache);
    ck_assert_int_lt(real_ns() - from_ns, 5 * CM_NS_PER_S);
    kit_storage_free(&k.storage);
    kit_until(threads("cm-") == 0); /* one that was joined may need a moment to leave the list */
}

/* ---- points at which it is stopped ---- */

static void hold_in_issue(void)
{
    atomic_store(&k.issuer->hold, true);
    manage(30);
    kit_until(atomic_load(&k.issuer->inside) == 10 && cm_pump_length(k.cfg->pump) == 20);
}

START_TEST(stopped_while_the_ca_does_not_answer)
{
    prepare();
    kit_start(&k);
    hold_in_issue();
    stop(30);
    atomic_store(&k.issuer->hold, false);
    check_use_after_stop();
    end();
}
END_TEST

START_TEST(freed_without_a_stop_while_the_ca_does_not_answer)
{
    prepare();
    kit_start(&k);
    hold_in_issue();
    end();
}
END_TEST

static void *wait_for_it(void *arg)
{
    static const char *const name[] = { "n0000.example" };
    struct cm_err why;

    (void)arg;
    return (void *)(intptr_t)cm_manage(k.cfg, NULL, name, 1, &why);
}

START_TEST(who_waits_for_a_name_is_told_of_the_stop)
{
    pthread_t thread;
    void *rc;

    prepare();
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_it, NULL), 0);
    kit_until(atomic_load(&k.issuer->inside) == 1);
    stop(1);
    ck_assert_int_eq(pthread_join(thread, &rc), 0);
    ck_assert_int_eq((int)(intptr_t)rc, CM_E_CANCELED);
    end();
}
END_TEST

/* A storage whose every answer takes long, and which hears when it is not wanted any more. */
static struct cm_storage_ops slow_ops;
static cm_status (*quick_load)(struct cm_storage *, const struct cm_op *, const char *,
                               struct cm_buf *, struct cm_err *);
static _Atomic int naps;
static _Atomic unsigned inside;

static cm_status slow_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                           struct cm_buf *ret, struct cm_err *e)
{
    cm_status rc = CM_OK;

    (void)atomic_fetch_add(&inside, 1);
    for (int i = 0; i < atomic_load(&naps) && rc == CM_OK; i++) {
        kit_nap();
        rc = cm_op_check(op, e);
    }
    (void)atomic_fetch_sub(&inside, 1);
    return rc == CM_OK ? quick_load(st, op, key, ret, e) : rc;
}

static void slow_down(int ms)
{
    slow_ops = *k.storage.base.ops;
    quick_load = slow_ops.load;
    slow_ops.load = slow_load;
    k.storage.base.ops = &slow_ops;
    atomic_store(&naps, ms);
    atomic_store(&inside, 0);
}

START_TEST(stopped_while_storage_does_not_answer)
{
    prepare();
    slow_down(1 << 30);
    kit_start(&k);
    manage(8);
    kit_until(atomic_load(&inside) == 4);
    stop(8);
    atomic_store(&naps, 0);
    check_use_after_stop();
    end();
}
END_TEST

START_TEST(stopped_while_a_thousand_names_are_loaded)
{
    for (int mode = 0; mode < 2; mode++) {
        prepare();
        slow_down(30);
        kit_start(&k);
        manage(MANY);
        kit_until(atomic_load(&inside) > 0);
        if (mode == 0)
            stop(MANY);
        atomic_store(&naps, 0);
        if (mode == 0)
            check_use_after_stop();
        end();
    }
}
END_TEST

/* A responder that never answers. */
static cm_status never(struct cm_fetcher *f, const struct cm_op *op, const struct cm_fetch *req,
                       int *ret_http_status, struct cm_buf *ret_body, struct cm_err *e)
{
    cm_status rc = CM_OK;

    (void)f;
    (void)req;
    (void)ret_http_status;
    (void)ret_body;
    (void)atomic_fetch_add(&inside, 1);
    while (rc == CM_OK) {
        kit_nap();
        rc = cm_op_check(op, e);
    }
    (void)atomic_fetch_sub(&inside, 1);
    return rc;
}

static const struct cm_fetcher_ops never_ops = {
    .abi = CM_SPI_ABI, .size = (uint32_t)sizeof never_ops, .name = "never", .fetch = never
};

static void make_stapled(const char *name, struct cm_buf *chain, struct cm_buf *key_pem)
{
    struct cm_key *key = ok_key();
    CM_AUTO_BUF struct cm_buf leaf = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct ok_ca ca;

    ok_ca_make(&ca, "Staple CA", START_S);
    ok_cert_make(&ca,
                 &(struct ok_cert){ .name = name,
                                    .url = "http://ocsp.test/",
                                    .from_s = START_S - DAY_S,
                                    .to_s = START_S + 89 * DAY_S },
                 key, &leaf);
    ok_chain_pem(cm_buf_span(&leaf), &ca, chain);
    ck_ok(cm_key_to_pem(key, key_pem, &err));
    cm_key_unref(key);
    ok_ca_free(&ca);
}

static void store_stapled(unsigned i)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    char name[32], path[128];

    number(i, name);
    make_stapled(name, &chain, &key);
    (void)snprintf(path, sizeof path, "certificates/ca.test-dir/%s/%s.crt", name, name);
    kit_put(&k.storage.base, path, cm_buf_str(&chain));
    (void)snprintf(path, sizeof path, "certificates/ca.test-dir/%s/%s.key", name, name);
    kit_put(&k.storage.base, path, cm_buf_str(&key));
}

/* Four are asked for, the others wait for a worker. */
START_TEST(stopped_while_no_responder_answers)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    static struct cm_fetcher fetcher = { &never_ops };

    for (int mode = 0; mode < 2; mode++) {
        prepare();
        atomic_store(&inside, 0);
        k.opts.fetcher = &fetcher;
        kit_start(&k);
        for (unsigned i = 0; i < 12; i++)
            store_stapled(i);
        make_stapled("mine.example", &chain, &key);
        ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), NULL, NULL, &err));
        kit_until(atomic_load(&inside) == 1); /* the program's own is asked for like the others */
        manage(12);
        kit_until(atomic_load(&inside) == 4 && cm_runq_length(k.cfg->fetch) == 9);
        if (mode == 0)
            stop(12);
        ck_assert_uint_eq(cm_cache_count(cache), 13);
        if (mode == 0)
            check_use_after_stop();
        end();
        cm_buf_reset(&chain);
        cm_buf_reset(&key);
    }
}
END_TEST

/* At many moments of a renewal; nothing holds it up. */
START_TEST(stopped_at_any_moment_of_renewals)
{
    for (int i = 0; i < 40; i++) {
        prepare();
        kit_start(&k);
        manage(20);
        kit_until(cm_cache_count(cache) == 20 && cm_maint_in_flight(cm_cache_maint(cache)) == 0);
        kit_pass(&k.env, (60 * DAY_S + 3601) * CM_NS_PER_S);
        (void)usleep((useconds_t)i * 500);
        if (i % 4 != 3)
            stop(20);
        ck_assert_uint_eq(cm_cache_count(cache), 20);
        end();
    }
}
END_TEST

/* ---- one cache for two ---- */

START_TEST(one_of_two_configs_goes_and_the_other_goes_on)
{
    static const char *const name[] = { "other.example" };
    struct kit_issuer *others;

    for (int who = 0; who < 2; who++) { /* the one whose clock it is, or the other one */
        prepare();
        kit_start(&k);
        struct cm_config *other = kit_peer(&k, &others);
        manage(5);
        ck_ok(cm_manage(other, NULL, name, 1, &err));
        kit_until(cm_cache_count(cache) == 6);
        atomic_store(&(who == 0 ? k.issuer : others)->hold, true);
        kit_pass(&k.env, (60 * DAY_S + 3601) * CM_NS_PER_S);
        if (who == 0) {
            cm_config_free(k.cfg);
            k.cfg = other;
            kit_until(atomic_load(&others->orders) == 2);
        } else {
            cm_config_free(other);
            kit_until(atomic_load(&k.issuer->orders) == 10);
        }
        ck_assert_uint_eq(cm_cache_count(cache), 6);
        kit_until(cm_maint_in_flight(cm_cache_maint(cache)) == 0);
        kit_until(cm_cache_next_due_s(cache) > cm_env_wall_s(&k.env.base));
        end();
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        stopped_while_the_ca_does_not_answer,
        freed_without_a_stop_while_the_ca_does_not_answer,
        who_waits_for_a_name_is_told_of_the_stop,
        stopped_while_storage_does_not_answer,
        stopped_while_a_thousand_names_are_loaded,
        stopped_while_no_responder_answers,
        stopped_at_any_moment_of_renewals,
        one_of_two_configs_goes_and_the_other_goes_on,
    };

    return kit_run("maintain_stop", tests, CM_ARRAY_LEN(tests));
}
