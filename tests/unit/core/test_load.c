/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

/* Names that are loaded many at a time. */

#define NAMES_MAX 400u

static struct kit k;
static struct cm_err err;
static char texts[NAMES_MAX][32];
static const char *names[NAMES_MAX];

/* One pair for all that are stored: names of one wildcard. */
static void store_all(size_t n)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *const wildcard[] = { "*.many.example" };
    char path[CM_KEY_BUF];

    kit_make_pair(CM_PK_P256, wildcard, 1, START_S - 86400, 90 * 86400, &chain, &key);
    for (size_t i = 0; i < n; i++) {
        ck_ok(cm_path_cert("ca.test-dir", names[i], ".key", path, &err));
        kit_put(k.storage.inner, path, cm_buf_str(&key));
        ck_ok(cm_path_cert("ca.test-dir", names[i], ".crt", path, &err));
        kit_put(k.storage.inner, path, cm_buf_str(&chain));
    }
}

static void begin(size_t stored)
{
    kit_init(&k);
    kit_storage_loads_many(&k.storage);
    for (size_t i = 0; i < NAMES_MAX; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "n%03zu.many.example", i);
        names[i] = texts[i];
    }
    store_all(stored);
}

static cm_status get(const char *sni, struct cm_pending **ret)
{
    struct cm_cert *c = NULL;
    struct cm_hello h;

    kit_hello(&h, sni);
    cm_status rc = cm_get_certificate(k.cfg, &h, &c, ret, &err);
    cm_cert_unref(c);
    return rc;
}

static void served(const char *sni)
{
    struct cm_pending *p = NULL;

    ck_ok(get(sni, &p));
}

static struct cm_name_state state_of(const char *name)
{
    struct cm_name_state s = { .size = (uint32_t)sizeof s };

    ck_ok(cm_name_state(k.cfg, name, &s, &err));
    return s;
}

START_TEST(what_storage_has_is_asked_for_together)
{
    begin(NAMES_MAX);
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, names, NAMES_MAX, &err));
    for (size_t i = 0; i < NAMES_MAX; i++)
        ck_assert(state_of(names[i]).phase == CM_PHASE_STORED);
    served(names[0]);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0);
    ck_assert_uint_gt(atomic_load(&k.storage.most_keys), 100);
    ck_assert_uint_le(atomic_load(&k.storage.most_keys), 256);
    kit_stop(&k);
}
END_TEST

/* The file of name @i. */
static char *path_of(size_t i, const char *suffix)
{
    static char path[CM_KEY_BUF];

    ck_ok(cm_path_cert("ca.test-dir", names[i], suffix, path, &err));
    return path;
}

START_TEST(what_is_wrong_with_one_name_is_no_matter_to_the_others)
{
    struct cm_name_state s;

    begin(60);
    k.opts.max_parallel = 2;
    kit_start(&k);
    kit_put(k.storage.inner, path_of(3, ".key"), "damaged");                   /* mended */
    ck_ok(cm_storage_remove(k.storage.inner, NULL, path_of(4, ".key"), &err)); /* as if absent */
    ck_ok(cm_storage_remove(k.storage.inner, NULL, path_of(5, ".crt"), &err)); /* the same */
    kit_store_pair(k.storage.inner, "ca.test-dir", names[6], START_S - 99 * 86400, 90 * 86400);
    char *huge = calloc(1, CM_PEM_FILE_MAX + 2);
    ck_assert_ptr_nonnull(huge);
    memset(huge, 'x', CM_PEM_FILE_MAX + 1);
    kit_put(k.storage.inner, path_of(7, ".crt"), huge);
    free(huge);
    k.storage.fail_key = "n008.many.example.crt"; /* cannot be read */
    atomic_store(&k.storage.fail_status, CM_E_PERM);
    atomic_store(&k.storage.fail_loads, -1);
    ck_refused(cm_manage(k.cfg, NULL, names, 60, &err), CM_E_PERM);
    for (size_t i = 0; i < 60; i++) {
        s = state_of(names[i]);
        ck_assert_msg(s.phase == (i == 8 ? CM_PHASE_FAILED : CM_PHASE_STORED), "%s: %s", names[i],
                      s.last.msg);
    }
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 5);
    ck_assert_uint_ge(kit_logged("stored_certificate_unusable"), 1);
    /* Only those were looked at by themselves. */
    ck_assert_uint_gt(atomic_load(&k.storage.many_calls), 0);
    kit_stop(&k);
}
END_TEST

static struct cm_buf right_key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

static _Atomic unsigned looks;

/* A peer has just written the key, and now writes the chain. */
static void write_other_half(struct kit_storage *s, const char *key)
{
    (void)key;
    if (atomic_fetch_add(&looks, 1) > 0)
        return;
    kit_put(s->inner, path_of(3, ".key"), cm_buf_str(&right_key));
}

START_TEST(what_is_half_written_is_waited_for)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf other = CM_BUF_SECRET(CM_KEY_PEM_MAX);

    begin(20);
    k.opts.max_parallel = 1;
    kit_start(&k);
    atomic_store(&k.issuer->hold, true); /* the CA is silent, and everybody there waits */
    ck_ok(cm_manage_async(k.cfg, names + 100, 20, &err));
    kit_until(atomic_load(&k.issuer->inside) > 0);
    ck_ok(cm_storage_load(k.storage.inner, NULL, path_of(3, ".key"), &right_key, &err));
    kit_make_pair(CM_PK_P256, names, 1, START_S, 86400, &chain, &other);
    kit_put(k.storage.inner, path_of(3, ".key"), cm_buf_str(&other));
    atomic_store(&looks, 0);
    k.storage.on_load = write_other_half;
    ck_ok(cm_manage(k.cfg, NULL, names, 20, &err));
    ck_assert_uint_ge(atomic_load(&looks), 2); /* by itself, and all the others not */
    kit_stop(&k);
    cm_buf_free(&right_key);
}
END_TEST

START_TEST(the_newest_of_several_issuers_is_served)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    struct cm_issuer *issuers[2];

    begin(30);
    issuers[0] = kit_issuer_new(&k.env, "ca.test-dir");
    issuers[1] = kit_issuer_new(&k.env, "other.test-dir");
    k.opts.issuers = issuers;
    k.opts.n_issuers = 2;
    kit_start(&k);
    kit_store_pair(k.storage.inner, "other.test-dir", names[7], START_S - 3600, 90 * 86400);
    kit_store_pair(k.storage.inner, "other.test-dir", names[8], START_S - 99 * 86400, 95 * 86400);
    ck_ok(cm_manage(k.cfg, NULL, names, 30, &err));
    for (size_t i = 7; i <= 8; i++) {
        size_t n = cm_cache_find(k.cfg->cache, names[i], strlen(names[i]), certs);
        bool other = false;

        for (size_t c = 0; c < n; c++) {
            other = other || strcmp(cm_cert_issuer_key(certs[c]), "other.test-dir") == 0;
            cm_cert_unref(certs[c]);
        }
        ck_assert(other == (i == 7));
    }
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0);
    ck_assert_uint_le(atomic_load(&k.storage.most_keys), 256);
    kit_stop(&k);
}
END_TEST

START_TEST(storage_that_is_down_is_no_reason_to_order)
{
    begin(100);
    kit_start(&k);
    atomic_store(&k.storage.fail_many, -1);
    ck_refused(cm_manage(k.cfg, NULL, names, 100, &err), CM_E_IO);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0); /* once is enough to know */
    ck_assert_uint_eq(kit_logged("storage_down"), 1);
    for (size_t i = 0; i < 100; i++)
        ck_assert_int_eq(state_of(names[i]).last.status, CM_E_IO);
    atomic_store(&k.storage.fail_many, 0);
    ck_ok(cm_manage(k.cfg, NULL, names, 100, &err));
    ck_assert_uint_eq(kit_logged("storage_up"), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(what_came_before_the_storage_failed_is_served)
{
    unsigned good = 0;

    begin(40);
    kit_start(&k);
    atomic_store(&k.storage.many_before, 10);
    atomic_store(&k.storage.fail_many, -1);
    ck_refused(cm_manage(k.cfg, NULL, names, 16, &err), CM_E_IO);
    for (size_t i = 0; i < 16; i++)
        good += state_of(names[i]).phase == CM_PHASE_STORED;
    ck_assert_uint_ge(good, 5);
    ck_assert_uint_lt(good, 16);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

/* ---- those who wait ---- */

static atomic_bool go;
static _Atomic unsigned stuck;

static void get_stuck(struct kit_storage *s, const struct cm_op *op, size_t n)
{
    (void)s;
    if (n <= 32)
        return;
    (void)atomic_fetch_add(&stuck, 1);
    while (!atomic_load(&go) && cm_op_check(op, NULL) == CM_OK)
        kit_nap();
}

START_TEST(who_waits_does_not_wait_for_many)
{
    struct cm_pending *p[20] = { NULL };
    struct cm_cert *c = NULL;
    size_t last = NAMES_MAX - 20;

    begin(NAMES_MAX);
    atomic_store(&go, false);
    atomic_store(&stuck, 0);
    k.storage.on_many = get_stuck;
    kit_start(&k);
    ck_ok(cm_manage_async(k.cfg, names, NAMES_MAX, &err));
    kit_until(atomic_load(&stuck) == CM_IO_WORKERS - 1); /* one goes on by itself */
    for (size_t i = 0; i < 20; i++) {
        cm_status rc = get(names[last + i], &p[i]);
        ck_assert(rc == CM_OK || rc == CM_E_AGAIN);
    }
    for (size_t i = 0; i < 20; i++) {
        if (p[i] != NULL)
            ck_ok(cm_pending_wait(p[i], NULL, &c, &err));
        cm_pending_free(p[i]);
        cm_cert_unref(c);
        c = NULL;
    }
    ck_assert_uint_eq(atomic_load(&stuck), CM_IO_WORKERS - 1);
    ck_assert(!atomic_load(&go));
    atomic_store(&go, true);
    ck_ok(cm_manage(k.cfg, NULL, names, NAMES_MAX, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(freeing_ends_what_is_being_loaded)
{
    begin(NAMES_MAX);
    atomic_store(&go, false);
    atomic_store(&stuck, 0);
    k.storage.on_many = get_stuck;
    kit_start(&k);
    ck_ok(cm_manage_async(k.cfg, names, NAMES_MAX, &err));
    kit_until(atomic_load(&stuck) == CM_IO_WORKERS - 1);
    kit_stop(&k); /* the test's time limit would end a hang */
}
END_TEST

START_TEST(who_stays_wanted_by_nobody_is_not_loaded)
{
    struct cm_op op = { .env = &k.env.base };

    begin(NAMES_MAX);
    atomic_store(&go, false);
    atomic_store(&stuck, 0);
    k.storage.on_many = get_stuck;
    kit_start(&k);
    ck_ok(cm_manage_async(k.cfg, names, 390, &err));
    kit_until(atomic_load(&stuck) == CM_IO_WORKERS - 1);
    ck_ok(cm_cancel_new(NULL, &op.cancel, &err));
    cm_cancel_fire(op.cancel);
    ck_refused(cm_manage(k.cfg, &op, names, NAMES_MAX, &err), CM_E_CANCELED);
    atomic_store(&go, true);
    ck_ok(cm_manage(k.cfg, NULL, names, 390, &err));
    cm_cancel_free(op.cancel);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_storage_has_is_asked_for_together,
        what_is_wrong_with_one_name_is_no_matter_to_the_others,
        what_is_half_written_is_waited_for,
        the_newest_of_several_issuers_is_served,
        storage_that_is_down_is_no_reason_to_order,
        what_came_before_the_storage_failed_is_served,
        who_waits_does_not_wait_for_many,
        freeing_ends_what_is_being_loaded,
        who_stays_wanted_by_nobody_is_not_loaded,
    };

    return kit_run("load", tests, CM_ARRAY_LEN(tests));
}
