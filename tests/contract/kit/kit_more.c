/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "contract.h"

#include "history.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------- many keys */

/* So many in one directory, and some in a hundred others beside it. */
#define FOLDERS    100u
#define PER_FOLDER 10u
#define IN_FOLDERS (FOLDERS * PER_FOLDER)

static unsigned many(void)
{
    return IN_FOLDERS + (kit.quick ? 2000 : 100000);
}

static void many_key(unsigned i, char out[64])
{
    if (i < IN_FOLDERS)
        (void)snprintf(out, 64, "many/%03u/%06u", i / PER_FOLDER, i);
    else
        (void)snprintf(out, 64, "many/all/%06u", i);
}

/* How much more memory it takes at most. Where values are held in memory, or what is freed is kept
 * to find faults, that tells nothing. */
#define LIST_KIB_MAX (24 * 1024)

static long peak_kib(void)
{
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void stays_small(long before_kib)
{
    long more_kib = peak_kib() - before_kib;

    if (getenv("CM_SHOW") != NULL)
        (void)fprintf(stderr, "# the lists took %ld KiB\n", more_kib);
    if (!CONTRACT_SANITIZED && kit_nature->shared)
        ck_assert_msg(more_kib <= LIST_KIB_MAX, "the list took %ld KiB", more_kib);
}

static void store_many(unsigned n)
{
    static char keys[CM_COMMIT_MAX][64];

    for (unsigned i = 0; i < n;) {
        struct cm_commit_item items[CM_COMMIT_MAX];
        unsigned k = 0;

        for (; k < CM_COMMIT_MAX && i < n; k++, i++) {
            many_key(i, keys[k]);
            items[k] = (struct cm_commit_item){ keys[k], cm_span_str(keys[k]), false };
        }
        must(cm_storage_commit(st, NULL, NULL, items, k, &err));
    }
}

static cm_status count_in_order(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    unsigned *n = user;
    char want[64];

    many_key((*n)++, want);
    if (strcmp(info->key, want) != 0)
        return cm_fail(e, CM_E_INTERNAL, "'%s' where '%s' should be", info->key, want);
    if (!info->terminal || info->size != strlen(want))
        return cm_fail(e, CM_E_INTERNAL, "'%s' has not its size", info->key);
    return CM_OK;
}

static cm_status count(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    (void)info;
    (void)e;
    ++*(unsigned *)user;
    return CM_OK;
}

static cm_status count_loaded(void *user, size_t index, cm_status status, struct cm_span value,
                              const struct cm_err *why, struct cm_err *e)
{
    unsigned *n = user;
    char want[64];

    many_key((unsigned)index, want);
    if (status != CM_OK)
        return cm_fail(e, status, "'%s': %s", want, why->msg);
    if (value.len != strlen(want) || memcmp(value.data, want, value.len) != 0)
        return cm_fail(e, CM_E_INTERNAL, "'%s' has the value of another", want);
    ++*n;
    return CM_OK;
}

START_TEST(lists_and_loads_of_very_many_keys_are_complete)
{
    unsigned n = many();
    unsigned got = 0;
    char after[64];
    char(*text)[64] = calloc(n, sizeof *text);
    const char **keys = calloc(n, sizeof *keys);

    ck_assert(text != NULL && keys != NULL);
    store_many(n);
    long before_kib = peak_kib();
    must(cm_storage_list(st, NULL, "many", true, count_in_order, &got, &err));
    ck_assert_uint_eq(got, n);
    got = n - 300;
    many_key(got - 1, after);
    must(cm_storage_list_after(st, NULL, "many", after, true, count_in_order, &got, &err));
    ck_assert_uint_eq(got, n);
    got = 0;
    must(cm_storage_list(st, NULL, "many/all", false, count, &got, &err));
    ck_assert_uint_eq(got, n - IN_FOLDERS);
    stays_small(before_kib);
    got = 0;
    must(cm_storage_list(st, NULL, "many", false, count, &got, &err));
    ck_assert_uint_eq(got, FOLDERS + 1);
    got = 0;
    for (unsigned i = 0; i < n; i++) {
        many_key(i, text[i]);
        keys[i] = text[i];
    }
    must(cm_storage_load_many(st, NULL, keys, n, count_loaded, &got, &err));
    ck_assert_uint_eq(got, n);
    must(cm_storage_remove(st, NULL, "many", &err));
    got = 0;
    must(cm_storage_list(st, NULL, "many", true, count, &got, &err));
    ck_assert_uint_eq(got, 0);
    free(text);
    free(keys);
}
END_TEST

struct churn {
    _Atomic bool stop;
    _Atomic unsigned failed;
};

static void *churn_writer(void *arg)
{
    struct churn *c = arg;
    unsigned i = 0;

    while (!c->stop) {
        struct cm_err e = CM_ERR_INIT;
        char key[64];

        (void)snprintf(key, sizeof key, "list/%02u/x", i++ % 50);
        if (cm_storage_store(st, NULL, key, cm_span_str("x"), &e) != CM_OK ||
            cm_storage_remove(st, NULL, key, &e) != CM_OK)
            c->failed++;
    }
    return NULL;
}

static cm_status count_stays(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    size_t len = strlen(info->key);

    (void)e;
    if (len > 5 && strcmp(info->key + len - 5, "stays") == 0)
        ++*(unsigned *)user;
    return CM_OK;
}

/* Whatever comes and goes around them. */
START_TEST(lists_show_what_is_there_all_the_time)
{
    struct churn c = { .stop = false };
    pthread_t thread;

    for (unsigned i = 0; i < 50; i++) {
        char key[64];

        (void)snprintf(key, sizeof key, "list/%02u/stays", i);
        put(key, "x");
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, churn_writer, &c), 0);
    for (unsigned i = 0; i < (kit.quick ? 50u : 300u); i++) {
        unsigned n = 0;

        must(cm_storage_list(st, NULL, "list", true, count_stays, &n, &err));
        ck_assert_uint_eq(n, 50);
    }
    c.stop = true;
    (void)pthread_join(thread, NULL);
    ck_assert_uint_eq(c.failed, 0);
}
END_TEST

TCase *kit_many_cases(void)
{
    TCase *c = tcase_create("scale");

    tcase_set_timeout(c, 1800);
    tcase_add_test(c, lists_and_loads_of_very_many_keys_are_complete);
    tcase_add_test(c, lists_show_what_is_there_all_the_time);
    return c;
}

/* ------------------------------------------------------------------- clocks */

#define HOUR_NS (3600 * CM_NS_PER_S)

/* The real environment of a host whose wall clock is wrong. */
struct skewed {
    struct cm_env env;
    int64_t off_ns;
};

static int64_t skewed_wall(const struct cm_env *env)
{
    const struct cm_env *real = cm_env_system();

    return real->wall_ns(real) + ((const struct skewed *)(const void *)env)->off_ns;
}

static struct skewed skewed_by(int64_t off_ns)
{
    struct skewed s = { *cm_env_system(), off_ns };

    s.env.wall_ns = skewed_wall;
    return s;
}

START_TEST(wall_clocks_that_disagree_do_not_share_a_lock)
{
    static const int64_t offs[] = { -HOUR_NS, 0, HOUR_NS };

    for (int i = 0; i < 3; i++) {
        struct skewed holder = skewed_by(offs[i]);
        struct cm_op holder_op = { .env = &holder.env };
        struct cm_storage *its = contract_open(&holder.env);
        struct cm_grant mine;
        char name[16];

        (void)snprintf(name, sizeof name, "skew-%d", i);
        must(cm_storage_try_lock(its, &holder_op, name, 5 * CM_NS_PER_S, &mine, NULL, &err));
        for (int k = 0; k < 3; k++) {
            struct skewed other = skewed_by(offs[k]);
            struct cm_op other_op = { .env = &other.env };
            struct cm_storage *st2 = contract_open(&other.env);
            struct cm_grant theirs;

            for (int n = 0; n < 3; n++)
                must_fail(
                    cm_storage_try_lock(st2, &other_op, name, 5 * CM_NS_PER_S, &theirs, NULL, &err),
                    CM_E_BUSY);
            must(cm_storage_refresh(its, &holder_op, &mine, &err));
            cm_storage_close(st2);
        }
        must(cm_storage_unlock(its, &holder_op, &mine, &err));
        cm_storage_close(its);
    }
}
END_TEST

START_TEST(an_abandoned_lock_is_free_in_time_whatever_the_wall_clock_says)
{
    struct skewed holder = skewed_by(HOUR_NS);
    struct skewed other = skewed_by(-HOUR_NS);
    struct cm_op holder_op = { .env = &holder.env };
    struct cm_op other_op = { .env = &other.env };
    struct cm_storage *its = contract_open(&holder.env);
    struct cm_storage *st2 = contract_open(&other.env);
    const struct cm_env *real = cm_env_system();
    int64_t began_ns = real->mono_ns(real);
    struct cm_grant mine;
    struct cm_grant theirs;
    cm_status rc;

    must(cm_storage_try_lock(its, &holder_op, "left", CM_NS_PER_S, &mine, NULL, &err));
    cm_storage_drop(its, &mine);
    while ((rc = cm_storage_try_lock(st2, &other_op, "left", CM_NS_PER_S, &theirs, NULL, &err)) ==
           CM_E_BUSY) {
        ck_assert_msg(real->mono_ns(real) - began_ns < 30 * CM_NS_PER_S,
                      "a lease of a second is still held after 30");
        (void)real->wait(real, NULL, 20 * CM_NS_PER_MS);
    }
    must(rc);
    ck_assert_uint_gt(theirs.fence, mine.fence);
    must(cm_storage_unlock(st2, &other_op, &theirs, &err));
    cm_storage_close(its);
    cm_storage_close(st2);
}
END_TEST

TCase *kit_clock_cases(void)
{
    TCase *c = tcase_create("clock");

    tcase_add_test(c, wall_clocks_that_disagree_do_not_share_a_lock);
    tcase_add_test(c, an_abandoned_lock_is_free_in_time_whatever_the_wall_clock_says);
    return c;
}

/* ---------------------------------------------------------------- histories */

static cm_status open_plain(struct cm_storage **ret, struct cm_err *e)
{
    return kit_open(NULL, ret, e);
}

/* Of three processes one is an hour behind, one ahead. */
static cm_status open_skewed(struct cm_storage **ret, struct cm_err *e)
{
    static struct skewed host; /* outlives what is opened with it; one storage per process */
    struct cm_storage_open_options opts = CM_STORAGE_OPEN_OPTIONS_INIT;

    host = skewed_by((getpid() % 3 - 1) * HOUR_NS);
    opts.env = &host.env;
    return kit_open(&opts, ret, e);
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
    (void)s;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void history(cm_status (*open)(struct cm_storage **ret, struct cm_err *e), int64_t limit_ns)
{
    struct history_plan plan = {
        .open = open,
        .seed = kit.seed,
        .locks = 4,
        .workers = 6,
        .ttl_ns = 300 * CM_NS_PER_MS,
        .ops = UINT64_MAX, /* the time ends it */
        .limit_ns = limit_ns,
        .leases_only = true,
    };
    char dir[256];

    if (!kit_nature->shared)
        kit_skip("no other process sees this storage");
    (void)snprintf(dir, sizeof dir, "%s/certmesh-storage-test-XXXXXX", kit.work);
    ck_assert_msg(mkdtemp(dir) != NULL, "%s: %s", dir, strerror(errno));
    plan.dir = dir;
    int rc = history_run(&plan);
    ck_assert_msg(rc == 0, "the run ended badly; its history is in %s", dir);
    rc = history_check(dir);
    ck_assert_msg(rc == 0, "a promise was broken; the history is in %s", dir);
    if (!kit.keep)
        (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Processes take locks and commit under them while others of them are killed and stopped; from what
 * all of them wrote down is then proved that no two held a lock, nobody lost an update, and nobody
 * saw half a commit. */
START_TEST(histories_of_processes_that_are_killed_and_stopped)
{
    history(open_plain, (kit.quick ? 6 : 45) * CM_NS_PER_S);
}
END_TEST

/* The same on hosts whose wall clocks are up to two hours apart. */
START_TEST(histories_of_hosts_whose_clocks_disagree)
{
    history(open_skewed, (kit.quick ? 4 : 20) * CM_NS_PER_S);
}
END_TEST

TCase *kit_history_cases(void)
{
    TCase *c = tcase_create("history");

    tcase_set_timeout(c, 300);
    tcase_add_test(c, histories_of_processes_that_are_killed_and_stopped);
    tcase_add_test(c, histories_of_hosts_whose_clocks_disagree);
    return c;
}
