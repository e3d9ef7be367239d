/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_crl.h"
#include "x509.h"

#include "../../../lib/core/names.h" /* lib/pki has one, too */

/* A CA revokes all that it has issued, and two nodes have to replace it within the CA's quota: on a
 * clock that jumps, with the real maintenance, storage, locks and lists. CM_MASS_NAMES makes it as
 * large as wanted. Of each kind of name there are as many: with a key that others know (even
 * numbers), and without. */

#define NODES    2
#define WINDOW_S INT64_C(3600)

static struct cm_err err;
static struct cm_cache *caches[NODES];
static struct cm_config *nodes[NODES];
static struct kit_issuer *issuers[NODES];
static unsigned n_names;

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

/* ---- the CA's quota ---- */

static struct {
    pthread_mutex_t lock;
    unsigned most; /* in a window; 0 = any number */
    unsigned taken, in_vain;
    int64_t from_s;
} quota = { .lock = PTHREAD_MUTEX_INITIALIZER };

static cm_status ask_ca(struct kit_issuer *is, struct cm_err *e)
{
    cm_status rc = CM_OK;

    (void)is;
    cm_mutex_lock(&quota.lock);
    if (now_s() - quota.from_s >= WINDOW_S) {
        quota.from_s = now_s();
        quota.taken = 0;
    }
    if (quota.most > 0 && quota.taken >= quota.most) {
        quota.in_vain++;
        rc = cm_fail(e, CM_E_RATELIMITED, "too many orders of this account");
        e->whole_ca = true;
        e->retry_after_s = quota.from_s + WINDOW_S - now_s();
    } else {
        quota.taken++;
    }
    cm_mutex_unlock(&quota.lock);
    return rc;
}

/* ---- what is watched ---- */

static struct {
    _Atomic unsigned obtained, compromised, failed;
    _Atomic unsigned others_first; /* that were replaced while compromised ones waited ... */
    _Atomic int64_t all_there_s;   /* ... after all had come into the line */
} seen;

static cm_status on_event(void *user, const struct cm_event *ev, struct cm_err *e)
{
    (void)user;
    (void)e;
    if (ev->type == CM_EVENT_CERT_FAILED)
        (void)atomic_fetch_add(&seen.failed, 1);
    if (ev->type != CM_EVENT_CERT_OBTAINED)
        return CM_OK;
    unsigned number = (unsigned)strtoul(ev->identifier + 1, NULL, 10);
    (void)atomic_fetch_add(&seen.obtained, 1);
    if (number % 2 == 0)
        (void)atomic_fetch_add(&seen.compromised, 1);
    else if (atomic_load(&seen.compromised) + 10 * NODES < n_names / 2 &&
             now_s() > atomic_load(&seen.all_there_s))
        (void)atomic_fetch_add(&seen.others_first, 1);
    return CM_OK;
}

/* ---- the stage ---- */

static void name_of(unsigned i, char ret[32])
{
    (void)snprintf(ret, 32, "n%06u.example", i);
}

static void store(unsigned i, struct cm_key **key)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key_pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    char name[32];

    name_of(i, name);
    const struct mk_leaf what = {
        .serial = i + 1, .name = name, .crl_url = URL, .from_s = START_S, .lifetime_s = 90 * DAY
    };
    mk_leaf(&ca, &what, &der, key);
    ck_ok(cm_cert_der_to_pem(cm_buf_span(&der), &chain, &err));
    ck_ok(cm_cert_der_to_pem(cm_buf_span(&ca.der), &chain, &err));
    ck_ok(cm_key_to_pem(*key, &key_pem, &err));
    CM_AUTO_FREE char *crt = cm_asprintf("certificates/ca.test-dir/%s/%s.crt", name, name);
    CM_AUTO_FREE char *pem = cm_asprintf("certificates/ca.test-dir/%s/%s.key", name, name);
    kit_put(&k.storage.base, crt, cm_buf_str(&chain));
    kit_put(&k.storage.base, pem, cm_buf_str(&key_pem));
}

static void node_start(unsigned i, const struct cm_issuer_limits *limits)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co, .no_thread = true };
    struct cm_issuer *is = kit_issuer_new(&k.env, "ca.test-dir");
    struct cm_config_options o = k.opts;

    issuers[i] = kit_issuer_of(is);
    issuers[i]->lifetime_s = 90 * DAY;
    issuers[i]->on_asked = ask_ca;
    if (limits != NULL)
        issuers[i]->limits = *limits;
    ck_ok(cm_cache_new(&co, &caches[i], &err));
    o.cache = caches[i];
    o.issuers = &is;
    o.n_issuers = 1;
    ck_ok(cm_config_new(&o, &nodes[i], &err));
}

static void step(void)
{
    for (unsigned i = 0; i < NODES; i++)
        ck_ok(cm_cache_maintain_now(caches[i], false, &err));
}

static void open_stage(const struct cm_issuer_limits *limits)
{
    const char *text = getenv("CM_MASS_NAMES");
    struct cm_key *key = NULL;

    n_names = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 300;
    memset(&seen, 0, sizeof seen);
    crl_begin();
    for (unsigned i = 0; i < n_names; i++)
        store(i, &key);
    cm_key_unref(key);
    ck_ok(cm_key_generate(CM_PK_P256, &key, &err)); /* of the successors */
    ck_ok(cm_key_to_pem(key, &one_key, &err));
    cm_key_unref(key);
    pass_s(3 * DAY); /* they were not stored just now */
    publish(&ca, NULL, 0, 7 * DAY);
    k.opts.key_source = &keys;
    k.opts.on_event = on_event;
    k.opts.log.min_level = CM_LOG_WARN;
    k.storage.has_feed = true;
    for (unsigned i = 0; i < NODES; i++)
        node_start(i, limits);
    for (unsigned i = 0; i < n_names; i++) {
        char name[32];
        const char *one = name;

        name_of(i, name);
        for (unsigned at = 0; at < NODES; at++)
            ck_ok(cm_manage_async(nodes[at], &one, 1, &err));
    }
    step();
}

static void close_stage(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        cm_config_free(nodes[i]);
        cm_cache_free(caches[i]);
    }
    crl_end();
    cm_buf_free(&one_key);
    one_key = (struct cm_buf)CM_BUF_SECRET(CM_KEY_PEM_MAX);
}

/* How many names a node serves; *@ret_new: how many with a successor. */
static unsigned served(unsigned node, unsigned *ret_new)
{
    unsigned n = 0;

    *ret_new = 0;
    for (unsigned i = 0; i < n_names; i++) {
        struct cm_cert *certs[CM_CANDIDATES_MAX];
        char name[32];
        bool is_new = false;

        name_of(i, name);
        size_t found = cm_cache_find(caches[node], name, strlen(name), certs);
        n += found > 0;
        for (size_t c = 0; c < found; c++) {
            is_new = is_new || cm_cert_not_before_s(certs[c]) > START_S + DAY;
            cm_cert_unref(certs[c]);
        }
        *ret_new += is_new;
    }
    return n;
}

static unsigned operations(void)
{
    const struct kit_storage *s = &k.storage;

    return atomic_load(&s->loads) + atomic_load(&s->stores) + atomic_load(&s->commits) +
           atomic_load(&s->locks) + atomic_load(&s->lists) + atomic_load(&s->stats) +
           atomic_load(&s->removes);
}

static unsigned orders(void)
{
    return atomic_load(&issuers[0]->orders) + atomic_load(&issuers[1]->orders);
}

static void all_are_revoked(void)
{
    struct mk_crl_entry *entries = calloc(n_names, sizeof *entries);

    for (unsigned i = 0; i < n_names; i++)
        entries[i] =
            (struct mk_crl_entry){ i + 1, i % 2 == 0 ? CM_REASON_KEY_COMPROMISE : 4, now_s() };
    publish(&ca, entries, n_names, 7 * DAY);
    free(entries);
}

/* The next thing that is due on any node, but no more than @most_s from now. */
static void jump(int64_t most_s)
{
    int64_t to_s = now_s() + most_s;

    for (unsigned i = 0; i < NODES; i++)
        if (cm_cache_next_due_s(caches[i]) < to_s)
            to_s = cm_cache_next_due_s(caches[i]);
    pass_s(to_s > now_s() ? to_s - now_s() : 1);
    step();
}

struct outcome {
    int64_t took_s;
    unsigned most_ops;    /* in a minute of the clock */
    unsigned most_orders; /* in an hour */
    unsigned least_served;
    unsigned ops;
};

/* Until all is replaced. */
static struct outcome replace_all(int64_t limit_s)
{
    struct outcome o = { .least_served = n_names };
    unsigned new_ones[NODES] = { 0, 0 }, of_hour = orders(), of_minute = operations();
    unsigned ops = operations();
    int64_t began_s = now_s(), hour_s = now_s(), minute_s = now_s();

    while ((new_ones[0] < n_names || new_ones[1] < n_names) && now_s() - began_s < limit_s) {
        jump(60);
        if (operations() - of_minute > o.most_ops)
            o.most_ops = operations() - of_minute;
        if (orders() - of_hour > o.most_orders)
            o.most_orders = orders() - of_hour;
        if (now_s() - minute_s >= 60) {
            minute_s = now_s();
            of_minute = operations();
        }
        if (now_s() - hour_s >= WINDOW_S) {
            hour_s = now_s();
            of_hour = orders();
        }
        for (unsigned i = 0; i < NODES; i++) {
            unsigned n = served(i, &new_ones[i]);

            o.least_served = n < o.least_served ? n : o.least_served;
        }
    }
    o.took_s = now_s() - began_s;
    o.ops = operations() - ops;
    return o;
}

static void find_out(void)
{
    all_are_revoked();
    unsigned fetches = atomic_load(&web.fetches);
    for (int i = 0; i < 3 * 1440 && atomic_load(&web.fetches) == fetches; i++)
        jump(60);
    ck_assert_uint_eq(atomic_load(&web.fetches), fetches + 1);
    atomic_store(&seen.all_there_s, now_s() + 600);
}

/* ---- scenes ---- */

/* Our own limit: so many orders in an hour, of each node. */
START_TEST(all_are_replaced_at_the_pace_that_is_known)
{
    const char *text = getenv("CM_MASS_NAMES");
    unsigned n = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 300;
    const struct cm_issuer_limits limits = { .size = (uint32_t)sizeof limits,
                                             .events = n / 10,
                                             .window_ns = WINDOW_S * CM_NS_PER_S };

    open_stage(&limits);
    find_out();
    struct outcome o = replace_all(2 * DAY);
    printf("# %u revoked: replaced in %lld min by %u orders, %u in an hour at most; %u operations "
           "on storage for each, %u in a minute at most; at least %u served\n",
           n_names, (long long)o.took_s / 60, orders(), o.most_orders, o.ops / n_names, o.most_ops,
           o.least_served);
    ck_assert_uint_eq(atomic_load(&seen.obtained), n_names); /* once per fleet */
    ck_assert_uint_eq(orders(), n_names);
    ck_assert_uint_eq(o.least_served, n_names);
    ck_assert_uint_eq(atomic_load(&seen.failed), 0);
    ck_assert_uint_le(o.most_orders, NODES * 2 * (n_names / 10) + 2);
    ck_assert_int_le(o.took_s, 7 * WINDOW_S);
    ck_assert_uint_le(o.ops / n_names, 60);
    /* Those that were at work when the limit was reached are told to come later. */
    ck_assert_uint_le(atomic_load(&seen.others_first), 10 * NODES + n_names / 100);
    close_stage();
}
END_TEST

/* A limit of the account that we do not know until the CA says so. */
START_TEST(quota_of_the_ca_is_kept_and_serving_goes_on)
{
    open_stage(NULL);
    quota.most = n_names / 6;
    find_out();
    struct outcome o = replace_all(2 * DAY);
    printf("# %u revoked: replaced in %lld min by %u orders and %u in vain; %u operations on "
           "storage for each; at least %u served\n",
           n_names, (long long)o.took_s / 60, orders(), quota.in_vain, o.ops / n_names,
           o.least_served);
    ck_assert_uint_eq(atomic_load(&seen.obtained), n_names);
    ck_assert_uint_eq(orders(), n_names);
    ck_assert_uint_eq(o.least_served, n_names);
    ck_assert_int_le(o.took_s, 9 * WINDOW_S);
    ck_assert_uint_le(quota.in_vain, 9 * NODES * 10);
    ck_assert_uint_le(o.ops / n_names, 60);
    close_stage();
}
END_TEST

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    const TTest *const tests[] = {
        all_are_replaced_at_the_pace_that_is_known,
        quota_of_the_ca_is_kept_and_serving_goes_on,
    };

    return kit_run("mass_revoked", tests, CM_ARRAY_LEN(tests));
}
