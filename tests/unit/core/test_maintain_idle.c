/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "maintain.h"

/* What names cost for which nothing is due: nothing. On a clock that runs while the maintenance
 * sleeps, and no further than it is allowed to. CM_IDLE_NAMES makes the large number larger. */

#define DAY_S INT64_C(86400)

static struct cm_err err;

static struct {
    struct cm_env base;
    _Atomic int64_t elapsed_ns, until_ns;
    _Atomic uint64_t waits, looks;
} idle;

static int64_t idle_wall(const struct cm_env *env)
{
    (void)env;
    (void)atomic_fetch_add(&idle.looks, 1);
    return START_S * CM_NS_PER_S + atomic_load(&idle.elapsed_ns);
}

static int64_t idle_mono(const struct cm_env *env)
{
    (void)env;
    (void)atomic_fetch_add(&idle.looks, 1);
    return CM_NS_PER_S + atomic_load(&idle.elapsed_ns);
}

static cm_status idle_random(const struct cm_env *env, void *out, size_t len)
{
    (void)env;
    return cm_env_system()->random(cm_env_system(), out, len);
}

static cm_status idle_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    (void)env;
    while (atomic_load(&idle.elapsed_ns) >= atomic_load(&idle.until_ns)) {
        if (cm_cancel_is_fired(cancel))
            return CM_E_CANCELED;
        kit_nap();
    }
    (void)atomic_fetch_add(&idle.waits, 1);
    (void)atomic_fetch_add(&idle.elapsed_ns, ns);
    return cm_cancel_is_fired(cancel) ? CM_E_CANCELED : CM_OK;
}

static void pass(int64_t s)
{
    int64_t until_ns = atomic_load(&idle.elapsed_ns) + s * CM_NS_PER_S;

    atomic_store(&idle.until_ns, until_ns);
    while (atomic_load(&idle.elapsed_ns) < until_ns) /* the test's time limit ends a hang */
        kit_nap();
}

/* So many names, each with a certificate of its own and the same DER. */
static void fill(struct cm_config *cfg, unsigned n)
{
    CM_AUTO_BUF struct cm_buf chain_pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key_pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *any[] = { "any.example" };
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    struct cm_key *key = NULL;

    kit_make_pair(CM_PK_P256, any, 1, START_S, 90 * DAY_S, &chain_pem, &key_pem);
    ck_ok(cm_chain_from_pem(cm_buf_span(&chain_pem), &chain, &err));
    ck_ok(cm_leaf_parse(chain.der[0], &leaf, &err));
    ck_ok(cm_key_from_pem(cm_buf_span(&key_pem), &key, &err));
    char **names = leaf->names;
    for (unsigned i = 0; i < n; i++) {
        const struct cm_cert_parts parts = {
            &chain, leaf, key, "ca.test-dir", NULL, CM_CERT_MANAGED
        };
        struct cm_cert *c = NULL;
        char text[32];
        char *one = text;
        const char *name = text;

        (void)snprintf(text, sizeof text, "n%06u.example", i);
        leaf->names = &one;
        ck_ok(cm_cert_new(&parts, &c, &err));
        ck_ok(cm_cache_put(cfg->cache, c, START_S + 60, &err));
        cm_cert_unref(c);
        ck_ok(cm_manage_async(cfg, &name, 1, &err));
    }
    leaf->names = names;
    cm_key_unref(key);
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
}

struct cost {
    uint64_t waits, looks; /* per day */
};

static struct cost cost_of(unsigned n)
{
    struct cost cost;
    struct kit k;

    memset(&idle, 0, sizeof idle);
    idle.base = (struct cm_env){ .abi = CM_ENV_ABI,
                                 .size = (uint32_t)sizeof idle.base,
                                 .wall_ns = idle_wall,
                                 .mono_ns = idle_mono,
                                 .random = idle_random,
                                 .wait = idle_wait };
    atomic_store(&idle.elapsed_ns, 60 * CM_NS_PER_S);
    kit_init(&k);
    k.opts.env = &idle.base;
    kit_start(&k);
    fill(k.cfg, n);
    struct cm_maint *mt = cm_cache_maint(k.cfg->cache);
    while (cm_maint_in_flight(mt) > 0) /* as above */
        kit_nap();
    pass(DAY_S);
    while (cm_maint_in_flight(mt) > 0)
        kit_nap();
    uint64_t waits = atomic_load(&idle.waits), looks = atomic_load(&idle.looks);
    pass(10 * DAY_S);
    cost.waits = (atomic_load(&idle.waits) - waits) / 10;
    cost.looks = (atomic_load(&idle.looks) - looks) / 10;
    printf("# %u names: %llu wake-ups and %llu looks at the clock a day\n", n,
           (unsigned long long)cost.waits, (unsigned long long)cost.looks);
    ck_assert_uint_eq(cm_cache_count(k.cfg->cache), n);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
    return cost;
}

START_TEST(idle_names_cost_nothing)
{
    const char *text = getenv("CM_IDLE_NAMES");
    unsigned many = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 10000;

    struct cost few = cost_of(1000);
    struct cost all = cost_of(many);
    ck_assert_uint_le(few.waits, 200); /* every ten minutes */
    ck_assert_uint_le(all.waits, 2 * few.waits);
    ck_assert_uint_le(few.waits, 2 * all.waits);
    ck_assert_uint_le(all.looks, 2 * few.looks);
    ck_assert_uint_le(few.looks, 2 * all.looks);
}
END_TEST

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    const TTest *const tests[] = { idle_names_cost_nothing };

    return kit_run("maintain_idle", tests, CM_ARRAY_LEN(tests));
}
