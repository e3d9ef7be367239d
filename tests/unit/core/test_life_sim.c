/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "life.h"

/* Years in the life of many certificates, on a clock that jumps from one thing that is due to the
 * next: maintenance, storage, locks, jobs and acceptance are the real ones, only keys are not made
 * anew each time. CM_SIM_NAMES and CM_SIM_DAYS make it as large as wanted. */

#define DAY  INT64_C(86400)
#define LIFE (90 * DAY)
/* From when it is due: jitter of an hour, and what rounding does. */
#define LATE_MAX_S (3600 + 60)
/* The CA begins a little before now, so that a life is a little longer. */
#define SLACK_S 60

static struct kit k;
static struct cm_err err;
static struct cm_cache *cache;
static struct cm_lease *heart;

static unsigned setting(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

/* ---- keys ---- */

static struct cm_buf one_key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

static cm_status same_key(struct cm_key_source *ks, const struct cm_op *op, int type,
                          const char *const *names, size_t n, struct cm_buf *ret_pem,
                          struct cm_err *e)
{
    (void)ks;
    (void)op;
    (void)type;
    (void)names;
    (void)n;
    return cm_buf_append(ret_pem, one_key.data, one_key.len, e);
}

static const struct cm_key_source_ops key_ops = {
    .abi = CM_SPI_ABI, .size = (uint32_t)sizeof key_ops, .name = "one", .new_key = same_key
};
static struct cm_key_source keys = { &key_ops };

static void make_key(void)
{
    struct cm_key *key = NULL;

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_key_to_pem(key, &one_key, &err));
    cm_key_unref(key);
}

/* ---- what is watched ---- */

static struct {
    _Atomic unsigned renewals, too_early, too_late, failures;
    _Atomic unsigned this_hour, most_in_an_hour;
    _Atomic int64_t hour;
} seen;

static void count_in_hour(void)
{
    int64_t hour = cm_env_wall_s(&k.env.base) / 3600;

    if (atomic_exchange(&seen.hour, hour) != hour)
        atomic_store(&seen.this_hour, 0);
    unsigned n = atomic_fetch_add(&seen.this_hour, 1) + 1;
    if (n > atomic_load(&seen.most_in_an_hour))
        atomic_store(&seen.most_in_an_hour, n);
}

static cm_status on_event(void *user, const struct cm_event *ev, struct cm_err *e)
{
    (void)user;
    (void)e;
    if (ev->type == CM_EVENT_CERT_FAILED)
        (void)atomic_fetch_add(&seen.failures, 1);
    if (ev->type != CM_EVENT_CERT_OBTAINED)
        return CM_OK;
    count_in_hour();
    if (!ev->renewal)
        return CM_OK;
    (void)atomic_fetch_add(&seen.renewals, 1);
    if (ev->remaining_s > LIFE / 3 + SLACK_S)
        (void)atomic_fetch_add(&seen.too_early, 1);
    if (ev->remaining_s < LIFE / 3 - LATE_MAX_S)
        (void)atomic_fetch_add(&seen.too_late, 1);
    return CM_OK;
}

/* ---- the stage ---- */

static void open_stage(void)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co, .no_thread = true };

    memset(&seen, 0, sizeof seen);
    make_key();
    kit_init(&k);
    cache = NULL;
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    k.opts.key_source = &keys;
    k.opts.on_event = on_event;
    k.opts.log.min_level = CM_LOG_ERROR;
    kit_start(&k);
    k.issuer->lifetime_s = LIFE;
    /* The threads that refresh leases come and go with them. One that stays, lost or not, spares
     * the many renewals to start them each time. */
    ck_ok(cm_lease_acquire(&k.storage.base, NULL, "heart", NULL, &heart, &err));
}

static void close_stage(void)
{
    cm_lease_release(heart);
    cm_config_free(k.cfg);
    cm_cache_free(cache);
    kit_storage_free(&k.storage);
    cm_buf_free(&one_key);
}

static void name_of(unsigned i, char ret[32])
{
    (void)snprintf(ret, 32, "n%06u.example", i);
}

static void manage(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char text[32];
        const char *name = text;

        name_of(i, text);
        ck_ok(cm_manage_async(k.cfg, &name, 1, &err));
    }
    ck_ok(cm_cache_maintain_now(cache, false, &err));
}

static int64_t now_s(void)
{
    return cm_env_wall_s(&k.env.base);
}

/* Until @until_s, from one due thing to the next. Returns how often something was. */
static unsigned live(int64_t until_s)
{
    unsigned steps = 0;

    while (now_s() < until_s) {
        int64_t next_s = cm_cache_next_due_s(cache);

        if (next_s > until_s)
            next_s = until_s;
        if (next_s > now_s())
            kit_pass(&k.env, (next_s - now_s()) * CM_NS_PER_S);
        else
            kit_pass(&k.env, CM_NS_PER_S);
        ck_ok(cm_cache_maintain_now(cache, false, &err));
        steps++;
    }
    return steps;
}

/* How many of the first @n names are served with a certificate that is valid now. */
static unsigned served_well(unsigned n)
{
    unsigned well = 0;

    for (unsigned i = 0; i < n; i++) {
        struct cm_cert *certs[CM_CANDIDATES_MAX];
        char name[32];
        bool good = false;

        name_of(i, name);
        size_t found = cm_cache_find(cache, name, strlen(name), certs);
        for (size_t c = 0; c < found; c++) {
            good = good || cm_cert_is_valid_at(certs[c], now_s(), 0);
            cm_cert_unref(certs[c]);
        }
        well += good ? 1u : 0u;
    }
    return well;
}

/* ---- scenes ---- */

START_TEST(every_renewal_comes_in_its_time)
{
    unsigned n = setting("CM_SIM_NAMES", 240), days = setting("CM_SIM_DAYS", 400);
    unsigned steps = 0;

    open_stage();
    for (unsigned day = 0; day < 60; day++) { /* nobody gets all his names on one day */
        manage(n * day / 60, n * (day + 1) / 60);
        steps += live(START_S + (day + 1) * DAY);
    }
    ck_assert_uint_eq(served_well(n), n);
    for (unsigned day = 60; day < days; day += 20) {
        steps += live(START_S + (day + 20) * DAY);
        ck_assert_uint_eq(served_well(n), n);
    }
    unsigned renewals = atomic_load(&seen.renewals);
    printf("# %u names, %u days: %u renewals, %u steps, at most %u in an hour\n", n, days, renewals,
           steps, atomic_load(&seen.most_in_an_hour));
    ck_assert_uint_eq(atomic_load(&seen.too_early), 0);
    ck_assert_uint_eq(atomic_load(&seen.too_late), 0);
    ck_assert_uint_ge(renewals, n * ((days - 60) / 61));
    ck_assert_uint_le(renewals, n * (days / 59));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), n + renewals);
    ck_assert_uint_eq(atomic_load(&seen.failures), 0);
    close_stage();
}
END_TEST

/* Orders that the CA gets while it is down, by name. */
START_TEST(month_without_the_ca_is_weathered)
{
    unsigned n = setting("CM_SIM_NAMES", 120);

    open_stage();
    for (unsigned day = 0; day < 60; day++) {
        manage(n * day / 60, n * (day + 1) / 60);
        (void)live(START_S + (day + 1) * DAY);
    }
    /* From now on one name after the other falls due, and nobody answers for 29 days. */
    k.issuer->fail_status = CM_E_NET;
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    unsigned before = atomic_load(&k.issuer->asked);
    (void)live(START_S + 89 * DAY);
    unsigned asked = atomic_load(&k.issuer->asked) - before;
    ck_assert_uint_eq(served_well(n), n);
    ck_assert_uint_gt(asked, 0);
    ck_assert_uint_le(asked, 45 * n);
    /* It is back: within a day all that is due has been renewed, and the rest goes on. */
    atomic_store(&k.issuer->step, KIT_GO);
    unsigned renewed = atomic_load(&seen.renewals);
    (void)live(START_S + 90 * DAY + DAY / 2);
    ck_assert_uint_eq(served_well(n), n);
    printf("# a month without the CA: asked %u times for %u names, then %u renewals in 36 hours\n",
           asked, n, atomic_load(&seen.renewals) - renewed);
    ck_assert_uint_ge(atomic_load(&seen.renewals) - renewed, n * 28 / 60);
    (void)live(START_S + 120 * DAY);
    ck_assert_uint_eq(served_well(n), n);
    close_stage();
}
END_TEST

static void break_storage(bool broken)
{
    int how_often = broken ? -1 : 0;

    atomic_store(&k.storage.fail_status, CM_E_IO);
    k.storage.fail_key = NULL;
    atomic_store(&k.storage.fail_loads, how_often);
    atomic_store(&k.storage.fail_commits, how_often);
    atomic_store(&k.storage.fail_locks, how_often);
}

START_TEST(day_without_storage_is_weathered)
{
    unsigned n = setting("CM_SIM_NAMES", 120);

    open_stage();
    for (unsigned day = 0; day < 60; day++) {
        manage(n * day / 60, n * (day + 1) / 60);
        (void)live(START_S + (day + 1) * DAY);
    }
    unsigned orders = atomic_load(&k.issuer->orders);
    break_storage(true);
    (void)live(START_S + 61 * DAY);
    ck_assert_uint_eq(served_well(n), n);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), orders); /* no lock, no order */
    break_storage(false);
    (void)live(START_S + 62 * DAY);
    ck_assert_uint_eq(served_well(n), n);
    ck_assert_uint_ge(atomic_load(&k.issuer->orders) - orders, n / 60);
    close_stage();
}
END_TEST

/* Neither CA nor storage, from the first moment of a new process on: what storage holds is served
 * when it is back, the CA when it is. */
START_TEST(start_without_anything_is_weathered)
{
    unsigned n = setting("CM_SIM_NAMES", 60);

    open_stage();
    manage(0, n);
    cm_config_free(k.cfg);
    kit_pass(&k.env, 61 * DAY * CM_NS_PER_S); /* and all is due */
    kit_start(&k);
    k.issuer->lifetime_s = LIFE;
    k.issuer->fail_status = CM_E_NET;
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    break_storage(true);
    manage(0, n);
    (void)live(START_S + 61 * DAY + DAY / 2);
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), 0);
    break_storage(false);
    (void)live(START_S + 61 * DAY + DAY / 2 + 3600);
    ck_assert_uint_eq(served_well(n), n);
    break_storage(true); /* both, while it runs */
    (void)live(START_S + 63 * DAY);
    ck_assert_uint_eq(served_well(n), n);
    break_storage(false);
    atomic_store(&k.issuer->step, KIT_GO);
    (void)live(START_S + 65 * DAY);
    ck_assert_uint_eq(served_well(n), n);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), n);
    close_stage();
}
END_TEST

/* Whatever the clock is set to, no name is ordered more than once because of it, and all are
 * served. */
START_TEST(wrong_clocks_start_no_storm)
{
    static const int64_t jumps[] = { 60 * DAY, -3652 * DAY, 4082 * DAY /* 2038 */,
                                     8770 * DAY /* 2050 */, -60 * DAY };
    unsigned n = setting("CM_SIM_NAMES", 40);

    if (n > 1000)
        n = 1000;
    for (size_t i = 0; i < CM_ARRAY_LEN(jumps); i++) {
        open_stage();
        manage(0, n);
        (void)live(START_S + 5 * DAY);
        ck_assert_uint_eq(atomic_load(&k.issuer->orders), n);
        atomic_store(&k.env.wrong_ns, jumps[i] * CM_NS_PER_S);
        for (int h = 0; h < 48; h++) {
            kit_pass(&k.env, 3600 * CM_NS_PER_S);
            ck_ok(cm_cache_maintain_now(cache, false, &err));
        }
        unsigned orders = atomic_load(&k.issuer->orders) - n;
        printf("# clock %+lld days: %u orders for %u names\n", (long long)(jumps[i] / DAY), orders,
               n);
        ck_assert_uint_le(orders, 2 * n);
        if (jumps[i] <= 60 * DAY)
            ck_assert_uint_le(orders, n);
        ck_assert_uint_eq(cm_cache_count(cache), n);
        /* Mended: all goes on as if nothing had been. */
        atomic_store(&k.env.wrong_ns, 0);
        (void)live(START_S + 9 * DAY);
        ck_assert_uint_eq(served_well(n), n);
        ck_assert_uint_le(atomic_load(&k.issuer->orders), 3 * n);
        close_stage();
    }
}
END_TEST

/* Nothing ran for a week, and now all is due at once: the CA is asked no faster than it allows, and
 * for what ends first, first. */
static struct {
    _Atomic unsigned n, upside_down;
    _Atomic int64_t last_end_s;
    int64_t all_there_s; /* until then names come into the line, spread over ten minutes */
} order_of_renewals;

static cm_status note_order(void *user, const struct cm_event *ev, struct cm_err *e)
{
    if (ev->type == CM_EVENT_CERT_OBTAINED && ev->renewal) {
        int64_t end_s = now_s() + ev->remaining_s;

        unsigned before = atomic_fetch_add(&order_of_renewals.n, 1);

        /* The first ten begin before the others are there. And ten are at work at once, ten are
         * told to come later: so neighbours may overtake each other. */
        if (before > 10 && now_s() >= order_of_renewals.all_there_s &&
            end_s < atomic_load(&order_of_renewals.last_end_s) - 40 * 3600)
            (void)atomic_fetch_add(&order_of_renewals.upside_down, 1);
        if (before >= 10 && now_s() >= order_of_renewals.all_there_s)
            atomic_store(&order_of_renewals.last_end_s, end_s);
    }
    return on_event(user, ev, e);
}

START_TEST(week_of_downtime_is_made_up_for_in_order)
{
    unsigned n = setting("CM_SIM_OVERDUE", 200);
    unsigned events = n / 20;

    open_stage();
    /* By number the later ones are the more urgent ones; each an hour apart. */
    for (unsigned i = 0; i < n; i++) {
        char name[32];

        name_of(i, name);
        kit_store_pair(&k.storage.base, "ca.test-dir", name,
                       START_S - LIFE + 20 * DAY - (int64_t)(i % 400) * 3600, LIFE);
    }
    cm_config_free(k.cfg);
    k.opts.on_event = note_order;
    struct cm_issuer *is = kit_issuer_new(&k.env, "ca.test-dir");
    kit_issuer_of(is)->lifetime_s = LIFE;
    kit_issuer_of(is)->limits =
        (struct cm_issuer_limits){ .size = (uint32_t)sizeof(struct cm_issuer_limits),
                                   .events = events,
                                   .window_ns = 60 * CM_NS_PER_S };
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    kit_start(&k);
    k.opts.issuers = NULL;
    kit_pass(&k.env, 2 * DAY * CM_NS_PER_S); /* they were not stored just now */
    int64_t from_s = now_s();
    manage(0, n);
    ck_assert_uint_eq(served_well(n), n);
    order_of_renewals.all_there_s = from_s + (n < 60000 ? n / 100 + 1 : 600);
    (void)live(from_s + 60 * 20 + 3600);
    printf("# %u overdue: renewed %u in %lld min, %u out of order\n", n,
           atomic_load(&order_of_renewals.n), (long long)(now_s() - from_s) / 60,
           atomic_load(&order_of_renewals.upside_down));
    ck_assert_uint_eq(atomic_load(&order_of_renewals.n), n);
    ck_assert_uint_eq(atomic_load(&order_of_renewals.upside_down), 0);
    ck_assert_uint_le(atomic_load(&seen.most_in_an_hour), events * 61);
    close_stage();
}
END_TEST

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    const TTest *const tests[] = {
        every_renewal_comes_in_its_time,  month_without_the_ca_is_weathered,
        day_without_storage_is_weathered, start_without_anything_is_weathered,
        wrong_clocks_start_no_storm,      week_of_downtime_is_made_up_for_in_order
    };

    return kit_run("life_sim", tests, CM_ARRAY_LEN(tests));
}
