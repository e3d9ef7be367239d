/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#define DAY INT64_C(86400)

static struct kit k;
static struct cm_err err;

struct told {
    char keys[16][128];
    char why[16][32];
    size_t n;
};

static void tell(void *user, const char *key, const char *why)
{
    struct told *t = user;

    ck_assert_uint_lt(t->n, 16);
    (void)snprintf(t->keys[t->n], sizeof t->keys[0], "%s", key);
    (void)snprintf(t->why[t->n], sizeof t->why[0], "%s", why);
    t->n++;
}

static struct cm_clean_report clean(bool dry_run, struct told *t)
{
    struct cm_clean_options o = { .size = (uint32_t)sizeof o, .dry_run = dry_run };
    struct cm_clean_report r;

    memset(&r, 0, sizeof r);
    if (t != NULL) {
        memset(t, 0, sizeof *t);
        o.each = tell;
        o.user = t;
    }
    ck_ok(cm_storage_clean(k.cfg, NULL, &o, &r, &err));
    return r;
}

/* A name expired @days ago. */
static void put_expired(const char *name, int64_t days)
{
    kit_store_pair(&k.storage.base, "ca.test-dir", name, START_S - (days + 90) * DAY, 90 * DAY);
}

START_TEST(expired_past_grace_goes_and_nothing_else)
{
    struct told t;

    kit_init(&k);
    kit_start(&k);
    put_expired("old.example", 15);
    put_expired("*.old.example", 100);
    put_expired("grace.example", 13);
    kit_store_pair(&k.storage.base, "other-ca", "old.example", START_S - 200 * DAY, 90 * DAY);
    kit_store_pair(&k.storage.base, "ca.test-dir", "live.example", START_S, 90 * DAY);
    size_t before = kit_count(&k.storage.base, "");

    struct cm_clean_report r = clean(true, &t);
    ck_assert_uint_eq(r.removed, 3);
    ck_assert_uint_eq(t.n, 3);
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), before); /* only said so */

    r = clean(false, &t);
    ck_assert_uint_eq(r.examined, 5);
    ck_assert_uint_eq(r.removed, 3);
    ck_assert_uint_eq(r.malformed, 0);
    ck_assert_str_eq(t.why[0], "expired");
    ck_assert_uint_eq(kit_count(&k.storage.base, "certificates"), 6);
    ck_assert(kit_has(&k.storage.base, "certificates/ca.test-dir/grace.example"));
    ck_assert(kit_has(&k.storage.base, "certificates/ca.test-dir/live.example"));
    ck_assert(!kit_has(&k.storage.base, "certificates/ca.test-dir/old.example"));
    ck_assert(!kit_has(&k.storage.base, "certificates/other-ca"));
    ck_assert_uint_eq(clean(false, NULL).removed, 0);
    kit_stop(&k);
}
END_TEST

START_TEST(what_a_peer_works_on_stays)
{
    struct cm_lease *lease = NULL;

    kit_init(&k);
    kit_start(&k);
    put_expired("old.example", 15);
    ck_ok(cm_lease_acquire(&k.storage.base, NULL, "issue_cert_old.example", NULL, &lease, &err));
    struct cm_clean_report r = clean(false, NULL);
    ck_assert_uint_eq(r.removed, 0);
    ck_assert_uint_eq(r.malformed, 0);
    ck_assert(kit_has(&k.storage.base, "certificates/ca.test-dir/old.example"));
    cm_lease_release(lease);
    ck_assert_uint_eq(clean(false, NULL).removed, 1);
    kit_stop(&k);
}
END_TEST

/* A peer renews between the look and the lock. */
static void renew_meanwhile(struct kit_storage *s, const char *key)
{
    if (strcmp(key, "certificates/ca.test-dir/old.example/old.example.crt") != 0)
        return;
    if (atomic_load(&s->locks) < 2)
        return; /* the first look: the cleaner has only its own lock */
    s->on_load = NULL;
    kit_store_pair(s->inner, "ca.test-dir", "old.example", START_S, 90 * DAY);
}

START_TEST(what_was_renewed_meanwhile_stays)
{
    kit_init(&k);
    kit_start(&k);
    put_expired("old.example", 15);
    k.storage.on_load = renew_meanwhile;
    ck_assert_uint_eq(clean(false, NULL).removed, 0);
    ck_assert(k.storage.on_load == NULL);
    ck_assert_uint_eq(kit_count(&k.storage.base, "certificates"), 3);
    kit_stop(&k);
}
END_TEST

START_TEST(damage_is_counted_and_left)
{
    kit_init(&k);
    kit_start(&k);
    kit_put(&k.storage.base, "certificates/ca.test-dir/bad.example/bad.example.crt", "rubbish");
    kit_put(&k.storage.base, "certificates/ca.test-dir/half.example/half.example.key", "x");
    kit_put(&k.storage.base, "certificates/stray", "x");
    kit_put(&k.storage.base, "certmesh/journal/bad.example", "rubbish");
    put_expired("old.example", 15);
    struct cm_clean_report r = clean(false, NULL);
    ck_assert_uint_eq(r.malformed, 2);
    ck_assert_uint_eq(r.removed, 1);
    ck_assert(kit_has(&k.storage.base, "certificates/ca.test-dir/bad.example"));
    ck_assert(kit_has(&k.storage.base, "certificates/ca.test-dir/half.example"));
    ck_assert_uint_eq(kit_logged("clean_skipped"), 2);
    kit_stop(&k);
}
END_TEST

START_TEST(challenges_go_after_an_hour)
{
    struct told t;

    kit_init(&k);
    kit_start(&k);
    kit_put(&k.storage.base, "acme/ca.test-dir/challenge_tokens/old.example.json", "{}");
    kit_put(&k.storage.base, "acme/other-ca/challenge_tokens/old.example.json", "{}");
    kit_put(&k.storage.base, "acme/ca.test-dir/users/default/default.json", "{}");
    kit_put(&k.storage.base, "rw_test_1234567890", "x");
    kit_put(&k.storage.base, "rw_test_mine", "x");
    kit_pass(&k.env, 59 * 60 * CM_NS_PER_S);
    ck_assert_uint_eq(clean(false, NULL).removed, 0);
    kit_put(&k.storage.base, "acme/ca.test-dir/challenge_tokens/new.example.json", "{}");
    kit_pass(&k.env, 2 * 60 * CM_NS_PER_S);
    ck_assert_uint_eq(clean(true, NULL).removed, 3);
    ck_assert_uint_eq(clean(false, &t).removed, 3);
    ck_assert_ptr_nonnull(strstr(t.keys[0], "old.example"));
    ck_assert_str_eq(t.keys[2], "rw_test_1234567890");
    ck_assert(kit_has(&k.storage.base, "rw_test_mine"));
    ck_assert(kit_has(&k.storage.base, "acme/ca.test-dir/challenge_tokens/new.example.json"));
    ck_assert(kit_has(&k.storage.base, "acme/ca.test-dir/users/default/default.json"));
    kit_stop(&k);
}
END_TEST

START_TEST(journals_go_after_a_week)
{
    const char *const names[] = { "example.com" };

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_CRASH_AFTER_CHECKPOINT);
    ck_refused(cm_obtain(k.cfg, NULL, names, 1, NULL, &err), CM_E_NET);
    kit_pass(&k.env, 7 * DAY * CM_NS_PER_S);
    ck_assert_uint_eq(clean(false, NULL).removed, 0);
    kit_pass(&k.env, 3600 * CM_NS_PER_S);
    ck_assert_uint_eq(clean(true, NULL).removed, 1);
    ck_assert(kit_has(&k.storage.base, "certmesh/journal/example.com"));
    ck_assert_uint_eq(clean(false, NULL).removed, 1);
    ck_assert(!kit_has(&k.storage.base, "certmesh/journal/example.com"));
    kit_stop(&k);
}
END_TEST

START_TEST(staples_go_when_expired_or_no_response)
{
    struct told t;

    kit_init(&k);
    kit_start(&k);
    kit_put_staple(&k.storage.base, "ocsp/fresh.example-1", START_S - DAY, START_S + DAY, false);
    kit_put_staple(&k.storage.base, "ocsp/ended.example-2", START_S - 8 * DAY, START_S - DAY,
                   false);
    kit_put_staple(&k.storage.base, "ocsp/just.example-3", START_S - DAY, START_S - 600, false);
    kit_put_staple(&k.storage.base, "ocsp/endless.example-4", START_S - DAY, 0, false);
    kit_put_staple(&k.storage.base, "ocsp/new-endless.example-5", START_S - 3600, 0, false);
    kit_put(&k.storage.base, "ocsp/rubbish.example-6", "<html>");
    kit_put(&k.storage.base, "ocsp/123456789", "a peer is writing this");
    kit_put(&k.storage.base, "ocsp/.tmp-1", "and this");
    ck_assert_uint_eq(clean(true, NULL).removed, 3);
    struct cm_clean_report r = clean(false, &t);
    ck_assert_uint_eq(r.removed, 3);
    ck_assert_uint_eq(r.malformed, 0);
    ck_assert_str_eq(t.keys[0], "ocsp/ended.example-2");
    ck_assert_str_eq(t.why[0], "expired staple");
    ck_assert_str_eq(t.keys[1], "ocsp/endless.example-4");
    ck_assert_str_eq(t.keys[2], "ocsp/rubbish.example-6");
    ck_assert_uint_eq(kit_count(&k.storage.base, "ocsp"), 5);
    kit_pass(&k.env, (DAY + 60) * CM_NS_PER_S); /* nobody writes for a day */
    ck_assert_uint_eq(clean(false, &t).removed, 3);
    ck_assert(!kit_has(&k.storage.base, "ocsp/123456789"));
    ck_assert(kit_has(&k.storage.base, "ocsp/.tmp-1"));
    ck_assert(kit_has(&k.storage.base, "ocsp/fresh.example-1")); /* clocks differ by minutes */
    kit_stop(&k);
}
END_TEST

START_TEST(records_go_after_sixty_days)
{
    kit_init(&k);
    kit_start(&k);
    kit_put(&k.storage.base, "certmesh/retry/gone.example", "{}");
    kit_put(&k.storage.base, "certmesh/gates/old-ca", "{}");
    kit_put(&k.storage.base, "certmesh/crl/0123/0", "x");
    kit_put(&k.storage.base, "certmesh/crl/0123/1", "x");
    kit_put(&k.storage.base, "certmesh/crl/4567", "x");
    kit_put(&k.storage.base, "certmesh/other/thing", "not ours to judge");
    kit_put(&k.storage.base, "certmesh/ca/local/root.key", "the local CA");
    kit_pass(&k.env, 60 * DAY * CM_NS_PER_S);
    kit_put(&k.storage.base, "certmesh/retry/failing.example", "{}");
    ck_assert_uint_eq(clean(false, NULL).removed, 0);
    kit_pass(&k.env, 60 * CM_NS_PER_S);
    ck_assert_uint_eq(clean(false, NULL).removed, 5);
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh"), 3);
    ck_assert(kit_has(&k.storage.base, "certmesh/ca/local/root.key"));
    ck_assert(kit_has(&k.storage.base, "certmesh/retry/failing.example"));
    kit_stop(&k);
}
END_TEST

START_TEST(compromised_keys_go_only_when_told_to)
{
    static const char key[] = "certificates/ca.test-dir/a.example/a.example.key.compromised";
    struct cm_clean_options o = { .size = (uint32_t)sizeof o, .compromised_after_s = 90 * DAY };
    struct cm_clean_report r = { .size = (uint32_t)sizeof r };

    kit_init(&k);
    kit_start(&k);
    kit_put(&k.storage.base, key, "secret");
    kit_pass(&k.env, 90 * DAY * CM_NS_PER_S);
    kit_store_pair(&k.storage.base, "ca.test-dir", "a.example", START_S + 60 * DAY, 90 * DAY);
    ck_ok(cm_storage_clean(k.cfg, NULL, &o, &r, &err));
    ck_assert_uint_eq(r.removed, 0);
    kit_pass(&k.env, DAY * CM_NS_PER_S);
    ck_assert_uint_eq(clean(false, NULL).removed, 0);
    ck_assert(kit_has(&k.storage.base, key));
    ck_ok(cm_storage_clean(k.cfg, NULL, &o, &r, &err));
    ck_assert_uint_eq(r.removed, 1);
    ck_assert(!kit_has(&k.storage.base, key));
    ck_assert_uint_eq(kit_count(&k.storage.base, "certificates"), 3);
    kit_stop(&k);
}
END_TEST

START_TEST(an_old_compromised_key_outlives_its_certificate)
{
    kit_init(&k);
    kit_start(&k);
    put_expired("old.example", 15);
    kit_put(&k.storage.base, "certificates/ca.test-dir/old.example/old.example.key.compromised",
            "secret");
    ck_assert_uint_eq(clean(false, NULL).removed, 1);
    ck_assert_uint_eq(kit_count(&k.storage.base, "certificates"), 1);
    kit_stop(&k);
}
END_TEST

/* ---- lists ---- */

static cm_status list_one(void *user, const struct cm_stored_cert *sc, struct cm_err *e)
{
    struct told *t = user;

    (void)e;
    ck_assert((sc->cert == NULL) == (sc->problem != NULL));
    tell(t, sc->name, sc->cert != NULL ? "good" : "bad");
    return t->n == 4 ? CM_E_BUSY : CM_OK; /* the caller's wish to stop */
}

START_TEST(list_shows_good_and_bad)
{
    struct told t;

    kit_init(&k);
    kit_start(&k);
    memset(&t, 0, sizeof t);
    ck_ok(cm_storage_certs(k.cfg, NULL, list_one, &t, &err));
    ck_assert_uint_eq(t.n, 0);
    kit_store_pair(&k.storage.base, "ca.test-dir", "a.example", START_S, DAY);
    kit_store_pair(&k.storage.base, "elsewhere", "*.b.example", START_S, DAY);
    kit_put(&k.storage.base, "certificates/ca.test-dir/bad/bad.crt", "x");
    ck_ok(cm_storage_certs(k.cfg, NULL, list_one, &t, &err));
    ck_assert_uint_eq(t.n, 3);
    ck_assert_str_eq(t.keys[0], "a.example");
    ck_assert_str_eq(t.why[0], "good");
    ck_assert_str_eq(t.keys[1], "bad");
    ck_assert_str_eq(t.why[1], "bad");
    ck_assert_str_eq(t.keys[2], "wildcard_.b.example");
    ck_refused(cm_storage_certs(k.cfg, NULL, list_one, &t, &err), CM_E_BUSY);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        expired_past_grace_goes_and_nothing_else,
        what_a_peer_works_on_stays,
        what_was_renewed_meanwhile_stays,
        damage_is_counted_and_left,
        challenges_go_after_an_hour,
        journals_go_after_a_week,
        staples_go_when_expired_or_no_response,
        records_go_after_sixty_days,
        compromised_keys_go_only_when_told_to,
        an_old_compromised_key_outlives_its_certificate,
        list_shows_good_and_bad,
    };

    return kit_run("clean", tests, CM_ARRAY_LEN(tests));
}
