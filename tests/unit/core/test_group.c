/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "kit_life.h"

#include "../../../lib/core/names.h" /* lib/pki has one, too */

/* Several names that are managed with one certificate. */

#define DAY_S INT64_C(86400)

static struct kit k;
static struct cm_err err;
static const char *const names[] = { "www.group.example", "group.example" };
static const char site[] = "certificates/ca.test-dir/group.examplewww.group.example/"
                           "group.examplewww.group.example.crt";

static struct cm_name_state state_of(const char *name)
{
    struct cm_name_state st;

    memset(&st, 0, sizeof st);
    ck_ok(cm_name_state(k.cfg, name, &st, &err));
    return st;
}

static struct cm_cert *served(const char *sni)
{
    struct cm_pending *p = NULL;
    struct cm_cert *c = NULL;
    struct cm_hello h;

    kit_hello(&h, sni);
    if (cm_get_certificate(k.cfg, &h, &c, &p, NULL) == CM_E_AGAIN)
        (void)!cm_pending_wait(p, NULL, &c, NULL);
    cm_pending_free(p);
    return c;
}

static bool is_one_for_both(void)
{
    struct cm_cert *a = served(names[0]), *b = served(names[1]);
    bool one = a != NULL && a == b && cm_cert_name_count(a) == 2;

    cm_cert_unref(a);
    cm_cert_unref(b);
    return one;
}

static int64_t since_s(void)
{
    struct cm_cert *c = served(names[0]);
    int64_t since = c != NULL ? cm_cert_not_before_s(c) : 0;

    cm_cert_unref(c);
    return since;
}

static void until_idle(void)
{
    kit_until(cm_maint_in_flight(cm_cache_maint(k.cfg->cache)) == 0 &&
              cm_cache_next_due_s(k.cfg->cache) > cm_env_wall_s(k.cfg->env));
}

START_TEST(names_have_one_certificate)
{
    static const char *const turned[] = { "GROUP.example", "www.group.example", "group.example" };

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_manage_together(k.cfg, NULL, names, 2, &err));
    ck_assert(is_one_for_both());
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    ck_assert_uint_eq(cm_cache_count(k.cfg->cache), 1);
    ck_assert(kit_has(&k.storage.base, site));
    for (size_t i = 0; i < 2; i++) {
        struct cm_name_state st = state_of(names[i]);

        ck_assert(st.managed && st.served && !st.busy);
        ck_assert_int_eq(st.phase, CM_PHASE_STORED);
    }
    /* The same in any order, or one of them, is no other. */
    ck_ok(cm_manage_together(k.cfg, NULL, turned, 3, &err));
    ck_ok(cm_manage(k.cfg, NULL, names, 2, &err));
    ck_ok(cm_manage_async(k.cfg, names, 1, &err));
    until_idle();
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(stored_one_is_served_without_an_order)
{
    for (int many = 0; many < 2; many++) {
        kit_init(&k);
        if (many != 0)
            kit_storage_loads_many(&k.storage);
        kit_start(&k);
        ck_ok(cm_obtain(k.cfg, NULL, names, 2, NULL, &err));
        ck_ok(cm_manage_together(k.cfg, NULL, names, 2, &err));
        ck_assert(is_one_for_both());
        ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
        kit_stop(&k);
    }
}
END_TEST

START_TEST(it_is_renewed_as_one)
{
    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_manage_together(k.cfg, NULL, names, 2, &err));
    until_idle();
    int64_t first_s = since_s();
    kit_pass(&k.env, 80 * DAY_S * CM_NS_PER_S);
    kit_until(atomic_load(&k.issuer->issued) == 2 && since_s() > first_s);
    until_idle();
    ck_assert(is_one_for_both());
    ck_assert_uint_eq(cm_cache_count(k.cfg->cache), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    ck_assert_str_ne(k.issuer->last_replaces, ""); /* it names its predecessor */
    kit_stop(&k);
}
END_TEST

START_TEST(peers_successor_is_served_for_all)
{
    struct cm_config *other;

    kit_init(&k);
    k.storage.has_feed = true;
    kit_start(&k);
    other = kit_peer(&k, NULL);
    ck_ok(cm_manage_together(k.cfg, NULL, names, 2, &err));
    until_idle();
    int64_t first_s = since_s();
    kit_pass(&k.env, 3600 * CM_NS_PER_S);
    ck_ok(cm_renew(other, NULL, "group.example,www.group.example", true, NULL, &err));
    kit_until(since_s() > first_s);
    ck_assert(is_one_for_both());
    cm_config_free(other);
    kit_stop(&k);
}
END_TEST

START_TEST(failures_are_those_of_all)
{
    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(cm_manage_together(k.cfg, NULL, names, 2, &err), CM_E_ACME);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(state_of(names[i]).phase, CM_PHASE_FAILED);
        ck_assert_uint_eq(state_of(names[i]).attempts, 1);
    }
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh/retry"), 1);
    struct cm_life_status st = { .size = (uint32_t)sizeof st };
    ck_ok(cm_status_of(k.cfg, NULL, "www.group.example", &st, &err));
    ck_assert_str_eq(st.name, "group.example,www.group.example");
    ck_assert_uint_eq(st.attempts, 1);
    ck_assert_str_ne(st.last_error, "");
    atomic_store(&k.issuer->step, KIT_GO);
    kit_pass(&k.env, 600 * CM_NS_PER_S);
    kit_until(state_of(names[0]).served && state_of(names[1]).served);
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh/retry"), 0);
    kit_stop(&k);
}
END_TEST

static cm_status count_status(void *user, const struct cm_life_status *st, struct cm_err *e)
{
    (void)e;
    ck_assert_str_eq(st->name, "group.example,www.group.example");
    ++*(unsigned *)user;
    return CM_OK;
}

START_TEST(status_tells_of_it_once)
{
    unsigned n = 0;

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_manage_together(k.cfg, NULL, names, 2, &err));
    ck_ok(cm_status_each(k.cfg, NULL, count_status, &n, &err));
    ck_assert_uint_eq(n, 1);
    kit_stop(&k);
}
END_TEST

START_TEST(name_is_managed_in_one_way)
{
    static const char *const alone[] = { "group.example" };
    static const char *const other[] = { "other.example", "www.group.example" };
    struct cm_name_state st;

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, alone, 1, &err));
    ck_refused(cm_manage_together(k.cfg, NULL, names, 2, &err), CM_E_EXISTS);
    ck_assert_ptr_nonnull(strstr(err.msg, "'group.example' is managed already, by itself"));
    ck_refused(cm_name_state(k.cfg, names[0], &st, &err), CM_E_NOTFOUND);
    ck_ok(cm_manage_together(k.cfg, NULL, other, 2, &err));
    ck_refused(cm_manage_together_async(k.cfg, names, 1 + 1, NULL, &err), CM_E_EXISTS);
    /* One name is one as ever, and none is none. */
    ck_ok(cm_manage_together(k.cfg, NULL, alone, 1, &err));
    ck_refused(cm_manage_together(k.cfg, NULL, alone, 0, &err), CM_E_INVAL);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    kit_stop(&k);
}
END_TEST

START_TEST(handshakes_wait_for_it_by_any_name)
{
    struct cm_pending *p[2] = { NULL, NULL };
    struct cm_cert *c[2] = { NULL, NULL };
    struct cm_hello h;

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_together_async(k.cfg, names, 2, NULL, &err));
    kit_until(atomic_load(&k.issuer->inside) == 1);
    for (size_t i = 0; i < 2; i++) {
        kit_hello(&h, names[i]);
        ck_refused(cm_get_certificate(k.cfg, &h, &c[i], &p[i], &err), CM_E_AGAIN);
    }
    atomic_store(&k.issuer->hold, false);
    for (size_t i = 0; i < 2; i++) {
        ck_ok(cm_pending_wait(p[i], NULL, &c[i], &err));
        cm_pending_free(p[i]);
    }
    ck_assert_ptr_eq(c[0], c[1]);
    cm_cert_unref(c[0]);
    cm_cert_unref(c[1]);
    kit_stop(&k);
}
END_TEST

START_TEST(what_was_given_up_is_loaded_again)
{
    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_manage_together(k.cfg, NULL, names, 2, &err));
    until_idle();
    struct cm_cert *c = served(names[1]);
    ck_assert(cm_cache_remove(k.cfg->cache, c));
    cm_cert_unref(c);
    kit_until(is_one_for_both());
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        names_have_one_certificate,
        stored_one_is_served_without_an_order,
        it_is_renewed_as_one,
        peers_successor_is_served_for_all,
        failures_are_those_of_all,
        status_tells_of_it_once,
        name_is_managed_in_one_way,
        handshakes_wait_for_it_by_any_name,
        what_was_given_up_is_loaded_again,
    };

    return kit_run("group", tests, CM_ARRAY_LEN(tests));
}
