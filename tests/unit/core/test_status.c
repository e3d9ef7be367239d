/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_life.h"
#include "staple.h"

#define DAY INT64_C(86400)

static struct kit k;
static struct cm_err err;

static void set_up(void)
{
    kit_init(&k);
    kit_start(&k);
}

static void put_site(const char *issuer, const char *name, int64_t from_s, int64_t lifetime_s)
{
    kit_store_pair(&k.storage.base, issuer, name, from_s, lifetime_s);
}

static struct cm_life_status status_of(const char *name)
{
    struct cm_life_status st;

    memset(&st, 0xA5, sizeof st);
    st.size = (uint32_t)sizeof st;
    ck_ok(cm_status_of(k.cfg, NULL, name, &st, &err));
    return st;
}

static const struct cm_err refused = { .status = CM_E_ACME,
                                       .problem = "urn:ietf:params:acme:error:connection",
                                       .msg = "the CA could not connect" };

/* ---- states ---- */

START_TEST(a_good_certificate_is_told_in_full)
{
    set_up();
    put_site("ca.test-dir", "a.example", START_S, 90 * DAY);
    struct cm_life_status st = status_of("A.example.");
    ck_assert_int_eq(st.state, CM_LIFE_GOOD);
    ck_assert_uint_eq(st.size, sizeof st);
    ck_assert_str_eq(st.name, "a.example");
    ck_assert_str_eq(st.issuer_key, "ca.test-dir");
    ck_assert_uint_ge(strlen(st.serial), 8);
    ck_assert_int_eq(st.not_before_s, START_S - 60); /* as the kit's CA dates back */
    ck_assert_int_eq(st.not_after_s, START_S + 90 * DAY);
    ck_assert_int_eq(st.renew_at_s, START_S + 60 * DAY - 19);
    ck_assert_str_eq(st.renew_rule, "ratio");
    ck_assert_str_eq(st.next_action, "renew");
    ck_assert_int_eq(st.next_at_s, st.renew_at_s);
    ck_assert_uint_eq(st.attempts, 0);
    ck_assert(!st.ari_known && !st.staple_known && !st.no_retry);
    ck_assert_str_eq(st.last_error, "");
    ck_assert_str_eq(st.lock_holder, "");
    ck_assert_int_eq(st.ca_paused_until_s, 0);
    kit_stop(&k);
}
END_TEST

START_TEST(time_makes_it_due_then_expired)
{
    set_up();
    put_site("ca.test-dir", "a.example", START_S, 90 * DAY);
    kit_pass(&k.env, 60 * DAY * CM_NS_PER_S);
    struct cm_life_status st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_DUE);
    ck_assert_str_eq(st.next_action, "renew");
    ck_assert_int_eq(st.next_at_s, st.renew_at_s);
    ck_assert_int_le(st.next_at_s, START_S + 60 * DAY);
    kit_pass(&k.env, 30 * DAY * CM_NS_PER_S);
    ck_assert_int_eq(status_of("a.example").state, CM_LIFE_DUE); /* the last second of all */
    kit_pass(&k.env, CM_NS_PER_S);
    st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_EXPIRED);
    ck_assert_str_eq(st.next_action, "renew");
    kit_stop(&k);
}
END_TEST

START_TEST(the_best_of_any_issuer_counts)
{
    set_up();
    put_site("elsewhere", "a.example", START_S - DAY, 90 * DAY);
    ck_assert_str_eq(status_of("a.example").issuer_key, "elsewhere");
    put_site("ca.test-dir", "a.example", START_S + 30 * DAY, 90 * DAY);
    struct cm_life_status st = status_of("a.example");
    ck_assert_str_eq(st.issuer_key, "elsewhere"); /* valid before not valid */
    ck_assert_int_eq(st.state, CM_LIFE_GOOD);
    put_site("ca.test-dir", "a.example", START_S, 90 * DAY);
    ck_assert_str_eq(status_of("a.example").issuer_key, "ca.test-dir"); /* then the newest */
    kit_put(&k.storage.base, "certificates/ca.test-dir/a.example/a.example.crt", "rubbish");
    st = status_of("a.example");
    ck_assert_str_eq(st.issuer_key, "elsewhere");
    ck_assert_int_eq(st.state, CM_LIFE_GOOD);
    kit_stop(&k);
}
END_TEST

START_TEST(a_failure_shows_with_a_certificate_and_without)
{
    set_up();
    put_site("ca.test-dir", "a.example", START_S - 70 * DAY, 90 * DAY);
    kit_note_failure(k.cfg, "a.example", &refused, 3);
    kit_note_failure(k.cfg, "new.example", &refused, 1);
    struct cm_life_status st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_FAILING);
    ck_assert_uint_eq(st.attempts, 3);
    ck_assert_int_eq(st.last_failed_s, START_S);
    ck_assert_int_gt(st.next_try_s, START_S);
    ck_assert_str_eq(st.next_action, "retry");
    ck_assert_int_eq(st.next_at_s, st.next_try_s);
    ck_assert_str_eq(st.problem, refused.problem);
    ck_assert_str_eq(st.last_error, refused.msg);
    ck_assert_int_eq(st.not_after_s, START_S + 20 * DAY);
    st = status_of("new.example");
    ck_assert_int_eq(st.state, CM_LIFE_FAILING);
    ck_assert_str_eq(st.name, "new.example");
    ck_assert_str_eq(st.serial, "");
    ck_assert_int_eq(st.not_after_s, 0);
    kit_stop(&k);
}
END_TEST

START_TEST(what_failed_before_the_certificate_came_is_over)
{
    set_up();
    kit_note_failure(k.cfg, "a.example", &refused, 2);
    kit_pass(&k.env, DAY * CM_NS_PER_S);
    put_site("ca.test-dir", "a.example", START_S + DAY, 90 * DAY);
    struct cm_life_status st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_GOOD);
    ck_assert_uint_eq(st.attempts, 0);
    ck_assert_str_eq(st.last_error, "");
    kit_stop(&k);
}
END_TEST

START_TEST(what_is_final_has_no_next_try)
{
    const struct cm_err final = { .status = CM_E_POLICY, .no_retry = true, .msg = "not here" };

    set_up();
    kit_note_failure(k.cfg, "a.example", &final, 1);
    struct cm_life_status st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_FAILING);
    ck_assert(st.no_retry);
    ck_assert_int_eq(st.next_try_s, 0);
    ck_assert_str_eq(st.next_action, "none");
    ck_assert_int_eq(st.next_at_s, 0);
    kit_stop(&k);
}
END_TEST

START_TEST(damage_is_told)
{
    set_up();
    kit_put(&k.storage.base, "certificates/ca.test-dir/a.example/a.example.crt", "rubbish");
    kit_put(&k.storage.base, "certificates/ca.test-dir/a.example/a.example.key", "rubbish");
    struct cm_life_status st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_DAMAGED);
    ck_assert_ptr_nonnull(strstr(st.last_error, "a.example.crt"));
    ck_assert_str_eq(st.next_action, "obtain");
    put_site("ca.test-dir", "b.example", START_S, 90 * DAY);
    char *crt = kit_get(&k.storage.base, "certificates/ca.test-dir/b.example/b.example.crt");
    char *key = kit_get(&k.storage.base, "certificates/ca.test-dir/b.example/b.example.key");
    kit_put(&k.storage.base, "certificates/ca.test-dir/a.example/a.example.crt", crt);
    kit_put(&k.storage.base, "certificates/ca.test-dir/a.example/a.example.key", key);
    free(crt);
    free(key);
    st = status_of("a.example"); /* what lies there is for another name */
    ck_assert_int_eq(st.state, CM_LIFE_DAMAGED);
    ck_assert_ptr_nonnull(strstr(st.last_error, "b.example"));
    kit_stop(&k);
}
END_TEST

START_TEST(nothing_known_is_not_found)
{
    struct cm_life_status st = { .size = sizeof st, .attempts = 77 };

    set_up();
    ck_refused(cm_status_of(k.cfg, NULL, "a.example", &st, &err), CM_E_NOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.msg, "a.example"));
    kit_put(&k.storage.base, "certificates/ca.test-dir/a.example/a.example.key.compromised", "x");
    ck_refused(cm_status_of(k.cfg, NULL, "a.example", &st, &err), CM_E_NOTFOUND);
    kit_put(&k.storage.base, "certificates/ca.test-dir/a.example/a.example.key", "x");
    ck_refused(cm_status_of(k.cfg, NULL, "b.example", &st, &err), CM_E_NOTFOUND);
    ck_assert_uint_eq(st.attempts, 77);
    ck_assert_int_eq(status_of("a.example").state, CM_LIFE_MISSING); /* one half is something */
    ck_refused(cm_status_of(k.cfg, NULL, "a..b", &st, &err), CM_E_INVAL);
    ck_refused(cm_status_of(k.cfg, NULL, NULL, &st, &err), CM_E_INVAL);
    ck_refused(cm_status_of(NULL, NULL, "a.example", &st, &err), CM_E_INVAL);
    ck_refused(cm_status_of(k.cfg, NULL, "a.example", NULL, &err), CM_E_INVAL);
    kit_stop(&k);
}
END_TEST

START_TEST(a_caller_of_an_older_library_gets_what_fits)
{
    struct cm_life_status st = { .size = offsetof(struct cm_life_status, attempts),
                                 .attempts = 77 };

    set_up();
    put_site("ca.test-dir", "a.example", START_S, 90 * DAY);
    ck_ok(cm_status_of(k.cfg, NULL, "a.example", &st, &err));
    ck_assert_uint_eq(st.size, offsetof(struct cm_life_status, attempts));
    ck_assert_str_eq(st.next_action, "renew");
    ck_assert_uint_eq(st.attempts, 77);
    kit_stop(&k);
}
END_TEST

/* ---- by what name ---- */

static void put_two_names(const char *a, const char *b, int64_t from_s)
{
    const char *const names[] = { a, b };
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_FREE char *base = cm_asprintf("certificates/ca.test-dir/%s%s/%s%s", a, b, a, b);
    CM_AUTO_FREE char *crt_key = cm_asprintf("%s.crt", base);
    CM_AUTO_FREE char *key_key = cm_asprintf("%s.key", base);

    kit_make_pair(CM_PK_P256, names, 2, from_s, 90 * DAY, &chain, &key);
    kit_put(&k.storage.base, crt_key, cm_buf_str(&chain));
    kit_put(&k.storage.base, key_key, cm_buf_str(&key));
}

START_TEST(a_certificate_is_found_by_each_of_its_names_and_by_its_folder)
{
    static const char *const how[] = { "x.example,y.example", "y.example,X.example", "y.example",
                                       "x.exampley.example" };

    set_up();
    put_two_names("w.example", "y.example", START_S - DAY);
    put_two_names("x.example", "y.example", START_S);
    put_two_names("y.example", "z.example", START_S - DAY);
    put_site("ca.test-dir", "*.w.example", START_S, 90 * DAY);
    for (size_t i = 0; i < CM_ARRAY_LEN(how); i++) {
        struct cm_life_status st = status_of(how[i]);

        ck_assert_msg(strcmp(st.name, "x.example,y.example") == 0, "%s: %s", how[i], st.name);
        ck_assert_int_eq(st.state, CM_LIFE_GOOD);
    }
    ck_assert_str_eq(status_of("*.w.example").name, "*.w.example");
    ck_assert_str_eq(status_of("wildcard_.w.example").name, "*.w.example");
    kit_stop(&k);
}
END_TEST

/* ---- what else is known ---- */

START_TEST(the_suggestion_of_the_ca_is_told_if_it_is_for_this_certificate)
{
    set_up();
    put_site("ca.test-dir", "a.example", START_S, 90 * DAY);
    kit_put_suggestion(&k.storage.base, "a.example", NULL, "2026-01-21T12:00:00Z");
    struct cm_life_status st = status_of("a.example");
    ck_assert(st.ari_known);
    ck_assert_int_eq(st.ari_start_s, START_S + 19 * DAY);
    ck_assert_int_eq(st.ari_end_s, START_S + 21 * DAY);
    ck_assert_int_eq(st.ari_selected_s, START_S + 20 * DAY + DAY / 2);
    ck_assert_int_eq(st.ari_again_s, START_S + DAY / 4);
    ck_assert_int_eq(st.renew_at_s, st.ari_selected_s);
    ck_assert_str_eq(st.renew_rule, "ari");
    ck_assert_str_eq(st.next_action, "ari");
    ck_assert_int_eq(st.next_at_s, st.ari_again_s);
    kit_put_suggestion(&k.storage.base, "a.example", "of.another", "2026-01-21T12:00:00Z");
    st = status_of("a.example");
    ck_assert(!st.ari_known);
    ck_assert_str_eq(st.renew_rule, "ratio");
    kit_stop(&k);
}
END_TEST

START_TEST(the_staple_is_told)
{
    set_up();
    kit_put_stapled(&k.storage.base);
    struct cm_life_status st = status_of("stapled.example");
    ck_assert_str_eq(st.ocsp_url, "http://ocsp.example/");
    ck_assert(!st.staple_known);
    kit_put_response(&k.storage.base, START_S - 2 * DAY, START_S + 4 * DAY, false);
    st = status_of("stapled.example");
    ck_assert_int_eq(st.state, CM_LIFE_GOOD);
    ck_assert(st.staple_known);
    ck_assert_int_eq(st.staple_this_update_s, START_S - 2 * DAY);
    ck_assert_int_eq(st.staple_next_update_s, START_S + 4 * DAY);
    ck_assert_int_eq(st.staple_refresh_s, START_S + DAY);
    ck_assert_str_eq(st.next_action, "staple");
    ck_assert_int_eq(st.next_at_s, START_S + DAY);
    kit_put_response(&k.storage.base, START_S, 0, true);
    st = status_of("stapled.example");
    ck_assert_int_eq(st.state, CM_LIFE_REVOKED);
    ck_assert_str_eq(st.next_action, "renew");
    ck_assert(!st.staple_known);
    kit_stop(&k);
}
END_TEST

START_TEST(what_this_process_found_revoked_is_told)
{
    struct cm_cert *cert = NULL;
    bool first = false;

    set_up();
    put_site("ca.test-dir", "a.example", START_S, 90 * DAY);
    ck_ok(cm_load_stored(k.cfg, NULL, "a.example", &cert, &err));
    ck_ok(cm_revoked_note(k.cfg, cert, 1, &first, &err));
    cm_cert_unref(cert);
    struct cm_life_status st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_REVOKED);
    ck_assert_str_eq(st.next_action, "renew");
    ck_assert_int_eq(st.next_at_s, START_S);
    kit_note_failure(k.cfg, "a.example", &refused, 1); /* the attempt to replace it */
    st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_REVOKED);
    ck_assert_str_eq(st.next_action, "retry");
    ck_assert_int_eq(st.next_at_s, st.next_try_s);
    kit_stop(&k);
}
END_TEST

START_TEST(a_staple_that_only_this_process_has_is_told)
{
    CM_AUTO_BUF struct cm_buf crt = CM_BUF_INIT(CM_PEM_FILE_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(4096);
    const struct cm_ocsp none = { 0 };
    struct cm_stapling *slot = NULL;
    struct cm_staple *staple = NULL;
    struct cm_cert *cert = NULL;

    kit_init(&k);
    k.opts.disable_ocsp = true; /* nobody looks after the one that is put in by hand */
    kit_start(&k);
    kit_put_stapled(&k.storage.base);
    kit_put_staple(&k.storage.base, "elsewhere", START_S - DAY, START_S + 3 * DAY, false);
    ck_ok(cm_storage_load(&k.storage.base, NULL, "elsewhere", &der, &err));
    ck_ok(cm_storage_load(&k.storage.base, NULL,
                          "certificates/elsewhere/stapled.example/stapled.example.crt", &crt,
                          &err));
    ck_ok(cm_storage_load(&k.storage.base, NULL,
                          "certificates/elsewhere/stapled.example/stapled.example.key", &key,
                          &err));
    ck_ok(cm_cache_add_pem(cm_config_cache(k.cfg), cm_buf_span(&crt), cm_buf_span(&key), NULL,
                           &cert, &err));
    ck_ok(cm_stapling_get(cert, &slot, &err));
    ck_ok(cm_staple_new(cm_buf_span(&der), &none, &staple, &err));
    cm_stapling_swap(slot, staple);
    cm_cert_unref(cert);
    struct cm_life_status st = status_of("stapled.example");
    ck_assert(st.staple_known);
    ck_assert_int_eq(st.staple_next_update_s, START_S + 3 * DAY);
    kit_stop(&k);
}
END_TEST

START_TEST(who_works_on_it_is_told)
{
    struct cm_lease *lease = NULL;

    set_up();
    put_site("ca.test-dir", "a.example", START_S, 90 * DAY);
    kit_pass(&k.env, 5 * CM_NS_PER_S);
    ck_ok(cm_lease_acquire(&k.storage.base, NULL, "issue_cert_a.example", NULL, &lease, &err));
    struct cm_life_status st = status_of("a.example");
    ck_assert_ptr_nonnull(strstr(st.lock_holder, "process"));
    ck_assert_int_eq(st.lock_since_s, START_S + 5);
    cm_lease_release(lease);
    ck_assert_str_eq(status_of("a.example").lock_holder, "");
    kit_stop(&k);
}
END_TEST

static void put_ca(const char *text)
{
    kit_put(&k.storage.base, "certmesh/gates/ca.test-dir", text);
}

START_TEST(a_ca_that_is_paused_holds_up_what_is_next)
{
    set_up();
    put_site("ca.test-dir", "a.example", START_S - 70 * DAY, 90 * DAY);
    put_ca("{\"paused_until\":\"2026-01-01T02:00:00Z\",\"reason\":\"rate limited\","
           "\"updated\":\"2026-01-01T00:00:00Z\"}");
    struct cm_life_status st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_DUE);
    ck_assert_int_eq(st.ca_paused_until_s, START_S + 7200);
    ck_assert_str_eq(st.ca_reason, "rate limited");
    ck_assert_int_eq(st.next_at_s, START_S + 7200);
    kit_note_failure(k.cfg, "a.example", &refused, 1);
    st = status_of("a.example");
    ck_assert_int_lt(st.next_try_s, START_S + 7200);
    ck_assert_int_eq(st.next_at_s, START_S + 7200);
    kit_stop(&k);
}
END_TEST

START_TEST(what_this_process_manages_is_told)
{
    static const char *const names[] = { "a.example" };

    set_up();
    k.issuer->fail_status = CM_E_NET;
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(cm_manage(k.cfg, NULL, names, 1, &err), CM_E_NET);
    struct cm_life_status st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_FAILING);
    ck_assert_uint_ge(st.attempts, 1);
    ck_assert_uint_gt(strlen(st.last_error), 0);
    /* Without the note in storage this process knows it still. */
    ck_ok(cm_storage_remove(&k.storage.base, NULL, CM_RETRY_DIR, &err));
    st = status_of("a.example");
    ck_assert_int_eq(st.state, CM_LIFE_FAILING);
    ck_assert_uint_gt(strlen(st.last_error), 0);
    ck_assert_int_gt(st.next_try_s, START_S);
    ck_assert_int_eq(st.last_failed_s, 0);
    kit_stop(&k);
}
END_TEST

/* ---- all of them ---- */

struct seen {
    struct cm_life_status at[16];
    size_t n;
};

static cm_status see(void *user, const struct cm_life_status *st, struct cm_err *e)
{
    struct seen *s = user;

    ck_assert_uint_lt(s->n, 16);
    s->at[s->n++] = *st;
    return strcmp(st->name, "stop.example") == 0 ? cm_fail(e, CM_E_BUSY, "enough") : CM_OK;
}

static void saw(const struct seen *s, size_t i, const char *name, enum cm_life_state state)
{
    ck_assert_uint_lt(i, s->n);
    ck_assert_str_eq(s->at[i].name, name);
    ck_assert_msg(s->at[i].state == state, "%s: %s", name, cm_life_state_text(s->at[i].state));
}

START_TEST(each_name_that_anybody_knows_is_told_once)
{
    static struct seen s;

    set_up();
    ck_ok(cm_status_each(k.cfg, NULL, see, &s, &err));
    ck_assert_uint_eq(s.n, 0);
    put_site("ca.test-dir", "good.example", START_S, 90 * DAY);
    put_site("elsewhere", "good.example", START_S, 90 * DAY);
    put_site("elsewhere", "*.old.example", START_S - 100 * DAY, 90 * DAY);
    put_site("ca.test-dir", "due.example", START_S - 70 * DAY, 90 * DAY);
    put_site("ca.test-dir", "fails.example", START_S - 70 * DAY, 90 * DAY);
    put_two_names("x.example", "y.example", START_S);
    kit_note_failure(k.cfg, "fails.example", &refused, 1);
    kit_note_failure(k.cfg, "new.example", &refused, 1);
    kit_put(&k.storage.base, "certificates/ca.test-dir/bad.example/bad.example.crt", "x");
    kit_put(&k.storage.base, "certificates/ca.test-dir/bad.example/bad.example.key", "x");
    kit_put(&k.storage.base, "certificates/elsewhere/left/left.key.compromised", "x");
    ck_ok(cm_status_each(k.cfg, NULL, see, &s, &err));
    ck_assert_uint_eq(s.n, 7);
    saw(&s, 0, "bad.example", CM_LIFE_DAMAGED);
    saw(&s, 1, "due.example", CM_LIFE_DUE);
    saw(&s, 2, "fails.example", CM_LIFE_FAILING);
    saw(&s, 3, "good.example", CM_LIFE_GOOD);
    saw(&s, 4, "new.example", CM_LIFE_FAILING);
    saw(&s, 5, "*.old.example", CM_LIFE_EXPIRED);
    saw(&s, 6, "x.example,y.example", CM_LIFE_GOOD);
    kit_stop(&k);
}
END_TEST

START_TEST(what_is_managed_is_among_them)
{
    static const char *const names[] = { "*.m.example", "a.example" };
    static struct seen s;

    set_up();
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, names, 2, &err));
    kit_until(atomic_load(&k.issuer->inside) == 2);
    ck_ok(cm_status_each(k.cfg, NULL, see, &s, &err));
    ck_assert_uint_eq(s.n, 2);
    saw(&s, 0, "a.example", CM_LIFE_MISSING);
    saw(&s, 1, "*.m.example", CM_LIFE_MISSING);
    atomic_store(&k.issuer->hold, false);
    kit_stop(&k);
}
END_TEST

START_TEST(one_that_cannot_be_read_does_not_hide_the_rest)
{
    static struct seen s;

    set_up();
    put_site("ca.test-dir", "a.example", START_S, 90 * DAY);
    put_site("ca.test-dir", "b.example", START_S, 90 * DAY);
    k.storage.fail_key = "a.example.key";
    atomic_store(&k.storage.fail_loads, -1);
    ck_ok(cm_status_each(k.cfg, NULL, see, &s, &err));
    ck_assert_uint_eq(s.n, 2);
    saw(&s, 0, "a.example", CM_LIFE_DAMAGED);
    ck_assert_ptr_nonnull(strstr(s.at[0].last_error, "injected fault"));
    saw(&s, 1, "b.example", CM_LIFE_GOOD);
    struct cm_life_status st;
    ck_refused(cm_status_of(k.cfg, NULL, "a.example", &st, &err), CM_E_IO);
    kit_stop(&k);
}
END_TEST

START_TEST(the_visitor_ends_it)
{
    static struct seen s;

    set_up();
    put_site("ca.test-dir", "stop.example", START_S, 90 * DAY);
    put_site("ca.test-dir", "then.example", START_S, 90 * DAY);
    ck_refused(cm_status_each(k.cfg, NULL, see, &s, &err), CM_E_BUSY);
    ck_assert_uint_eq(s.n, 1);
    ck_refused(cm_status_each(k.cfg, NULL, NULL, NULL, &err), CM_E_INVAL);
    kit_stop(&k);
}
END_TEST

START_TEST(to_look_changes_nothing)
{
    static struct seen s;

    set_up();
    kit_put_stapled(&k.storage.base);
    put_site("ca.test-dir", "a.example", START_S - 100 * DAY, 90 * DAY);
    kit_note_failure(k.cfg, "b.example", &refused, 1);
    kit_put(&k.storage.base, "certificates/ca.test-dir/bad.example/bad.example.crt", "x");
    unsigned stores = atomic_load(&k.storage.stores);
    unsigned commits = atomic_load(&k.storage.commits);
    unsigned locks = atomic_load(&k.storage.locks);
    size_t n = kit_count(&k.storage.base, "");
    ck_ok(cm_status_each(k.cfg, NULL, see, &s, &err));
    (void)status_of("a.example");
    ck_assert_uint_eq(atomic_load(&k.storage.stores), stores);
    ck_assert_uint_eq(atomic_load(&k.storage.commits), commits);
    ck_assert_uint_eq(atomic_load(&k.storage.locks), locks);
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), n);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(states_have_names)
{
    ck_assert_str_eq(cm_life_state_text(CM_LIFE_MISSING), "missing");
    ck_assert_str_eq(cm_life_state_text(CM_LIFE_DAMAGED), "damaged");
    ck_assert_str_eq(cm_life_state_text((enum cm_life_state)99), "unknown");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_good_certificate_is_told_in_full,
        time_makes_it_due_then_expired,
        the_best_of_any_issuer_counts,
        a_failure_shows_with_a_certificate_and_without,
        what_failed_before_the_certificate_came_is_over,
        what_is_final_has_no_next_try,
        damage_is_told,
        nothing_known_is_not_found,
        a_caller_of_an_older_library_gets_what_fits,
        a_certificate_is_found_by_each_of_its_names_and_by_its_folder,
        the_suggestion_of_the_ca_is_told_if_it_is_for_this_certificate,
        the_staple_is_told,
        what_this_process_found_revoked_is_told,
        a_staple_that_only_this_process_has_is_told,
        who_works_on_it_is_told,
        a_ca_that_is_paused_holds_up_what_is_next,
        what_this_process_manages_is_told,
        each_name_that_anybody_knows_is_told_once,
        what_is_managed_is_among_them,
        one_that_cannot_be_read_does_not_hide_the_rest,
        the_visitor_ends_it,
        to_look_changes_nothing,
        states_have_names,
    };

    return kit_run("status", tests, CM_ARRAY_LEN(tests));
}
