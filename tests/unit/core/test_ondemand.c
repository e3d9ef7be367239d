/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand_kit.h"

#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* Names that clients ask for: who decides, and how little a flood of them costs. With CM_FULL=1 the
 * herd has 10,000 hellos and the flood 1,000,000 names; without, a twenty-fifth and a fiftieth. */

static bool full(void)
{
    const char *v = getenv("CM_FULL");

    return v != NULL && v[0] == '1';
}

/* ---- who decides ---- */

START_TEST(nobody_but_the_lists)
{
    static const char *const names[] = { "One.Example", "two.example" };
    static const char *const suffixes[] = { "shop.test" };

    set_up(YES);
    od.decide = NULL;
    od.names = names;
    od.n_names = 2;
    od.suffixes = suffixes;
    od.n_suffixes = 1;
    kit_start(&k);
    ck_ok(get("one.example"));
    ck_ok(get("a.shop.test"));
    ck_ok(get("A.b.shop.test."));
    ck_refused(get("shop.test"), CM_E_POLICY);
    ck_refused(get("xshop.test"), CM_E_POLICY);
    ck_refused(get("a.one.example"), CM_E_POLICY);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_UNRECOGNIZED_NAME);
    ck_refused(get("un_der.shop.test"), CM_E_POLICY);
    ck_ok(get("1.2.3.4.5.6.7.8.shop.test"));
    ck_refused(get("1.2.3.4.5.6.7.8.9.shop.test"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 4);
    ck_ok(get("one.example")); /* a hit now */
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 4);
    kit_stop(&k);
}
END_TEST

START_TEST(without_anything_nothing)
{
    static const char *const managed[] = { "managed.example" };

    set_up(YES);
    od.decide = NULL;
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, managed, 1, &err));
    ck_ok(get("managed.example"));
    ck_refused(get("other.example"), CM_E_POLICY);
    kit_stop(&k);
    set_up(YES);
    od.decide = NULL;
    od.allow_any_dangerous = true;
    kit_start(&k);
    ck_ok(get("other.example"));
    ck_refused(get("localhost"), CM_E_POLICY);
    kit_stop(&k);
}
END_TEST

START_TEST(a_yes_and_a_no)
{
    set_up(YES);
    kit_start(&k);
    ck_ok(get("yes.example"));
    ck_assert_str_eq(judge.name, "yes.example");
    ck_assert_str_eq(judge.client, "192.0.2.7");
    ck_assert_uint_eq(atomic_load(&judge.asked), 1);
    atomic_store(&judge.manner, NO);
    unsigned loads = atomic_load(&k.storage.loads);
    unsigned stores = atomic_load(&k.storage.stores) + atomic_load(&k.storage.commits);
    ck_refused(get("no.example"), CM_E_POLICY);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_UNRECOGNIZED_NAME);
    ck_assert_ptr_nonnull(strstr(err.msg, "not a customer\\x0a"));
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads);
    ck_assert_uint_eq(atomic_load(&k.storage.stores) + atomic_load(&k.storage.commits), stores);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(lists_narrow_what_is_asked)
{
    static const char *const suffixes[] = { "example" };

    set_up(YES);
    od.suffixes = suffixes;
    od.n_suffixes = 1;
    kit_start(&k);
    ck_refused(get("a.test"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&judge.asked), 0);
    ck_ok(get("a.example"));
    ck_assert_uint_eq(atomic_load(&judge.asked), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(what_was_denied_is_not_asked_again_for_longer_each_time)
{
    static const int64_t wait_s[] = { 10, 20, 40, 80, 160, 320, 640, 640 };

    set_up(NO);
    kit_start(&k);
    for (unsigned i = 0; i < CM_ARRAY_LEN(wait_s); i++) {
        ck_refused(get("no.example"), CM_E_POLICY);
        ck_assert_uint_eq(atomic_load(&judge.asked), i + 1);
        kit_pass(&k.env, (wait_s[i] - 1) * CM_NS_PER_S);
        ck_refused(get("no.example"), CM_E_POLICY);
        ck_assert_uint_eq(atomic_load(&judge.asked), i + 1);
        kit_pass(&k.env, CM_NS_PER_S);
    }
    atomic_store(&judge.manner, YES);
    ck_ok(get("no.example"));
    kit_stop(&k);
}
END_TEST

START_TEST(no_decision_in_time_is_a_no)
{
    struct cm_pending *p;

    set_up(KEEP);
    kit_start(&k);
    ck_refused(hello_from("", "slow.example", &p), CM_E_AGAIN);
    kit_until(atomic_load(&judge.n_kept) == 1);
    kit_pass(&k.env, 1999 * CM_NS_PER_MS);
    ck_assert_int_eq(cm_pending_take(p, &(struct cm_cert *){ NULL }, NULL), CM_E_AGAIN);
    kit_pass(&k.env, CM_NS_PER_MS);
    ck_refused(outcome(p), CM_E_POLICY);
    ck_assert_ptr_nonnull(strstr(err.msg, "in time"));
    cm_decision_answer(judge.kept[0], true, NULL); /* too late */
    ck_refused(get("slow.example"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    atomic_store(&judge.manner, DROP);
    ck_refused(get("dropped.example"), CM_E_POLICY);
    kit_stop(&k);
}
END_TEST

static void *answer_later(void *arg)
{
    (void)usleep(20000);
    cm_decision_answer(arg, true, "in good time");
    return NULL;
}

START_TEST(the_answer_may_come_later_from_any_thread)
{
    struct cm_pending *p;
    pthread_t t;

    set_up(KEEP);
    kit_start(&k);
    ck_refused(hello_from("2001:db8:1:2::3", "later.example", &p), CM_E_AGAIN);
    kit_until(atomic_load(&judge.n_kept) == 1);
    ck_assert_int_eq(pthread_create(&t, NULL, answer_later, judge.kept[0]), 0);
    ck_ok(outcome(p));
    ck_assert_int_eq(pthread_join(t, NULL), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(the_end_does_not_wait_for_answers)
{
    struct cm_pending *p, *q;

    set_up(KEEP);
    kit_start(&k);
    ck_refused(hello_from("", "a.example", &p), CM_E_AGAIN);
    ck_refused(hello_from("", "b.example", &q), CM_E_AGAIN);
    kit_until(atomic_load(&judge.n_kept) == 2);
    cm_pending_free(q);
    kit_stop(&k);
    struct cm_cert *c = NULL;
    cm_status rc = cm_pending_take(p, &c, &err);
    ck_assert(rc != CM_OK && rc != CM_E_AGAIN);
    cm_pending_free(p);
    cm_decision_answer(judge.kept[1], true, NULL);
    cm_decision_answer(judge.kept[0], false, "x");
}
END_TEST

/* ---- many ---- */

static void raise_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

static size_t herd(struct cm_pending **p, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        ck_refused(hello_from("198.51.100.1", name, &p[i]), CM_E_AGAIN);
    return n;
}

START_TEST(herd_makes_one_decision_and_one_order)
{
    static struct cm_pending *p[10000];
    size_t n = full() ? 10000 : 400;
    struct timespec t0, t1;

    raise_limit();
    set_up(KEEP);
    kit_start(&k);
    (void)herd(p, n, "herd.example");
    kit_until(atomic_load(&judge.n_kept) == 1);
    cm_decision_answer(judge.kept[0], true, NULL);
    for (size_t i = 0; i < n; i++)
        ck_ok(outcome(p[i]));
    ck_assert_uint_eq(atomic_load(&judge.asked), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);

    (void)herd(p, n, "denied.example");
    kit_until(atomic_load(&judge.n_kept) == 2);
    ck_assert_int_eq(clock_gettime(CLOCK_MONOTONIC, &t0), 0);
    cm_decision_answer(judge.kept[1], false, NULL);
    ck_assert_int_eq(clock_gettime(CLOCK_MONOTONIC, &t1), 0);
    double ms = (double)(t1.tv_sec - t0.tv_sec) * 1e3 + (double)(t1.tv_nsec - t0.tv_nsec) / 1e6;
    printf("# %zu hellos are refused %.1f ms after the decision\n", n, ms);
    (void)fflush(stdout);
    for (size_t i = 0; i < n; i++)
        ck_refused(outcome(p[i]), CM_E_POLICY);
    if (full())
        ck_assert(ms <= 100);
    ck_assert_uint_eq(atomic_load(&judge.asked), 2);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

static long resident_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long all = 0, resident = 0;

    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%ld %ld", &all, &resident), 2);
    (void)fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* 10,000 a second by the clock that stands; every client asks for many names. */
START_TEST(flood_of_names_costs_no_memory_no_storage_and_no_order)
{
    size_t n = full() ? 1000000 : 20000;
    size_t undecided = 0;
    char name[64], ip[32];
    long before = 0;

    set_up(NO);
    kit_start(&k);
    unsigned loads = atomic_load(&k.storage.loads);
    for (size_t i = 0; i < n; i++) {
        struct cm_pending *p;

        if (i == 1000) /* what there is in any case is there now */
            before = resident_kib();
        (void)snprintf(name, sizeof name, "n%zu.random%zu.example", i * 7919, i);
        (void)snprintf(ip, sizeof ip, "10.%zu.%zu.9", i % 50, i / 50 % 256);
        cm_status rc = hello_from(ip, name, &p);
        ck_assert(rc == CM_E_AGAIN || rc == CM_E_LIMIT || rc == CM_E_POLICY);
        if (rc == CM_E_AGAIN && ++undecided % 10 == 0)
            ck_refused(outcome(p), CM_E_POLICY);
        else
            cm_pending_free(p);
        kit_pass(&k.env, 100 * CM_NS_PER_MS / 1000);
    }
    long grown = resident_kib() - before;
    unsigned asked = atomic_load(&judge.asked);
    printf("# %zu names: %u decisions, resident growth %ld KiB\n", n, asked, grown);
    ck_assert_uint_le(asked, 1000 * (n / 10000 + 1));
    ck_assert_uint_ge(asked, 500 * (n / 10000)); /* and they were asked */
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads);
    ck_assert_uint_eq(atomic_load(&k.storage.stores) + atomic_load(&k.storage.commits), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ck_assert_int_le(grown, 16 * 1024);
#endif
    kit_stop(&k);
}
END_TEST

static cm_status keep_text(void *user, struct cm_span text, struct cm_err *e)
{
    return cm_buf_append(user, text.data, text.len, e);
}

START_TEST(clients_and_undecided_names_are_bounded)
{
    struct cm_pending *p[4];

    set_up(KEEP);
    od.asks_per_client_s = 2;
    od.max_asking = 3;
    kit_start(&k);
    ck_refused(hello_from("192.0.2.1", "a.example", &p[0]), CM_E_AGAIN);
    ck_refused(hello_from("192.0.2.2", "b.example", &p[1]), CM_E_AGAIN);
    ck_refused(hello_from("192.0.2.3", "c.example", &p[2]), CM_E_LIMIT); /* the same /24 */
    ck_refused(hello_from("192.0.2.3", "a.example", &p[2]), CM_E_AGAIN); /* nothing new */
    cm_pending_free(p[2]);
    ck_refused(hello_from("192.0.3.1", "c.example", &p[2]), CM_E_AGAIN);
    ck_refused(hello_from("192.0.4.1", "d.example", &p[3]), CM_E_LIMIT); /* three already */
    for (int i = 0; i < 3; i++)
        cm_pending_free(p[i]);
    kit_until(atomic_load(&judge.n_kept) == 3);
    for (int i = 0; i < 3; i++)
        cm_decision_answer(judge.kept[i], false, NULL);
    ck_refused(hello_from("192.0.2.1", "e.example", &p[0]), CM_E_LIMIT);
    kit_pass(&k.env, CM_NS_PER_S);
    atomic_store(&judge.manner, NO);
    ck_refused(hello_from("192.0.2.1", "e.example", &p[0]), CM_E_AGAIN);
    ck_refused(outcome(p[0]), CM_E_POLICY);
    /* a, b, c and e; c, d and e */
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(64 * 1024);
    ck_ok(cm_metrics_write(k.cfg, keep_text, &text, &err));
    ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), "ondemand_total{outcome=\"denied\"} 4"));
    ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), "ondemand_total{outcome=\"limited\"} 3"));
    ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), "ondemand_total{outcome=\"allowed\"} 0"));
    kit_stop(&k);
}
END_TEST

/* ---- options ---- */

START_TEST(options_that_make_no_sense)
{
    static const char *const bad[] = { "not a name" };
    struct cm_config *cfg = NULL;
    struct cm_issuer *is;

    set_up(YES);
    is = kit_issuer_new(&k.env, "ca.test-dir");
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    od.ask_url = "http://127.0.0.1/";
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    od.decide = NULL;
    od.ask_url = "ftp://127.0.0.1/";
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    od.ask_url = NULL;
    od.names = bad;
    od.n_names = 1;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    od.n_names = 0;
    od.orders = 1001;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    od.orders = 0;
    od.decide = decide;
    od.allow_any_dangerous = true;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    od.allow_any_dangerous = false;
    od.decide_timeout_ms = 60001;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    od.decide_timeout_ms = 0;
    k.opts.handshake_wait_ms = -1;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    k.opts.handshake_wait_ms = 0;
    kit_start(&k);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        nobody_but_the_lists,
        without_anything_nothing,
        a_yes_and_a_no,
        lists_narrow_what_is_asked,
        what_was_denied_is_not_asked_again_for_longer_each_time,
        no_decision_in_time_is_a_no,
        the_answer_may_come_later_from_any_thread,
        the_end_does_not_wait_for_answers,
        herd_makes_one_decision_and_one_order,
        flood_of_names_costs_no_memory_no_storage_and_no_order,
        clients_and_undecided_names_are_bounded,
        options_that_make_no_sense,
    };

    return kit_run("ondemand", tests, CM_ARRAY_LEN(tests));
}
