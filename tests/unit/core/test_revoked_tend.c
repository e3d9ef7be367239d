/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_crl.h"
#include "x509.h"

/* From the list on the CA's web server to the successor in the cache, by nothing but maintenance.
 */

#define SITE  "certificates/ca.test-dir/a.example/a.example"
#define ASIDE SITE ".key.compromised"

static struct cm_err err;
static const char *const names[] = { "a.example" };

static void put_pem(const char *suffix, const struct cm_buf *pem)
{
    CM_AUTO_FREE char *path = cm_asprintf(SITE "%s", suffix);

    kit_put(&k.storage.base, path, cm_buf_str(pem));
}

/* Number 7 of the CA that publishes lists, as an earlier run left it in storage. */
static void store_seven(void)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key_pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const struct mk_leaf what = {
        .serial = 7, .name = "a.example", .crl_url = URL, .from_s = START_S, .lifetime_s = 90 * DAY
    };
    struct cm_key *key = NULL;

    mk_leaf(&ca, &what, &der, &key);
    ck_ok(cm_cert_der_to_pem(cm_buf_span(&der), &chain, &err));
    ck_ok(cm_cert_der_to_pem(cm_buf_span(&ca.der), &chain, &err));
    ck_ok(cm_key_to_pem(key, &key_pem, &err));
    put_pem(".crt", &chain);
    put_pem(".key", &key_pem);
    cm_key_unref(key);
}

/* The serial number that is served, "" if nothing is. */
static const char *served(void)
{
    static char serial[64];
    struct cm_cert *found[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(k.cfg->cache, names[0], strlen(names[0]), found);

    serial[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(serial, sizeof serial, "%s", cm_cert_serial(found[i]));
        cm_cert_unref(found[i]);
    }
    return serial;
}

static void begin(void)
{
    struct mk_crl_entry entry = { 7, CM_REASON_KEY_COMPROMISE, START_S };

    crl_begin();
    store_seven();
    publish(&ca, &entry, 1, 7 * DAY);
}

START_TEST(maintenance_replaces_what_a_list_says_is_revoked)
{
    begin();
    CM_AUTO_FREE char *old_key = kit_get(&k.storage.base, SITE ".key");
    ck_ok(cm_manage(k.cfg, NULL, names, 1, &err));
    kit_until(strcmp(served(), "") != 0 && strcmp(served(), "07") != 0);
    kit_until(kit_has(&k.storage.base, ASIDE));
    CM_AUTO_FREE char *aside = kit_get(&k.storage.base, ASIDE);
    ck_assert_str_eq(aside, old_key);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    ck_assert_uint_eq(kit_logged("certificate_revoked"), 1);
    crl_end();
}
END_TEST

START_TEST(maintenance_takes_it_out_when_the_ca_refuses_and_tries_again)
{
    begin();
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    (void)!cm_manage(k.cfg, NULL, names, 1, &err); /* a failure, if it is so far already */
    kit_until(kit_logged("revoked_not_replaced") == 1);
    ck_assert_str_eq(served(), "");
    kit_until(cm_cache_next_due_s(k.cfg->cache) <=
              now_s() + 120); /* the next try, after a minute */
    atomic_store(&k.issuer->step, KIT_GO);
    pass_s(2 * 3600);
    ck_ok(cm_cache_maintain_now(k.cfg->cache, false, &err));
    kit_until(strcmp(served(), "") != 0);
    ck_assert_str_ne(served(), "07");
    ck_assert(kit_has(&k.storage.base, ASIDE));
    crl_end();
}
END_TEST

START_TEST(what_is_only_loaded_is_not_replaced_but_not_served_either)
{
    struct cm_cert *c = NULL;

    begin();
    ck_ok(cm_cache_managed(k.cfg, NULL, "a.example", &c, &err));
    ck_assert_str_eq(cm_cert_serial(c), "07");
    kit_until(kit_logged("revoked_not_replaced") == 1 && strcmp(served(), "") == 0);
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), 0);
    /* Nor is it loaded again. */
    ck_refused(cm_cache_managed(k.cfg, NULL, "a.example", NULL, &err), CM_E_CERT);
    ck_assert_ptr_nonnull(strstr(err.msg, "revoked"));
    pass_s(3600);
    ck_ok(cm_cache_maintain_now(k.cfg->cache, false, &err));
    ck_assert_str_eq(served(), "");
    cm_cert_unref(c);
    crl_end();
}
END_TEST

/* ---- of a name that a client asked for ---- */

static _Atomic bool says_no; /* to the next certificate of a name that has one */
static _Atomic unsigned renewals;

static void decide(void *user, const struct cm_ondemand_ask *ask, struct cm_decision *d)
{
    bool renew = ask->phase == CM_ONDEMAND_RENEW;

    (void)user;
    if (renew)
        atomic_fetch_add(&renewals, 1);
    cm_decision_answer(d, !renew || !atomic_load(&says_no), NULL);
}

/* A client's, to the end. */
static cm_status get(void)
{
    struct cm_pending *p = NULL;
    struct cm_cert *c = NULL;
    struct cm_hello h;

    kit_hello(&h, names[0]);
    cm_status rc = cm_get_certificate(k.cfg, &h, &c, &p, &err);
    if (rc == CM_E_AGAIN)
        rc = cm_pending_wait(p, NULL, &c, &err);
    cm_cert_unref(c);
    cm_pending_free(p);
    return rc;
}

START_TEST(a_no_to_the_successor_of_what_is_revoked_ends_its_serving)
{
    struct cm_ondemand_options od = CM_ONDEMAND_OPTIONS_INIT;

    begin();
    cm_config_free(k.cfg);
    od.decide = decide;
    k.opts.on_demand = &od;
    kit_start(&k);
    atomic_store(&says_no, true);
    atomic_store(&renewals, 0);
    (void)!get(); /* storage has one; nobody has looked at a list yet */
    kit_until(kit_logged("revoked_not_replaced") == 1);
    ck_assert_str_eq(served(), "");
    ck_assert_uint_eq(atomic_load(&renewals), 1);
    ck_assert_uint_eq(kit_logged("ondemand_not_renewed"), 1);
    ck_assert_uint_eq(kit_logged("certificate_revoked"), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert_int_ne(get(), CM_OK); /* nor does storage bring it back */
    ck_assert_str_eq(served(), "");
    pass_s(2 * 3600);
    ck_ok(get()); /* as if nobody had asked before: a decision, an order */
    ck_assert_str_ne(served(), "07");
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    crl_end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        maintenance_replaces_what_a_list_says_is_revoked,
        maintenance_takes_it_out_when_the_ca_refuses_and_tries_again,
        what_is_only_loaded_is_not_replaced_but_not_served_either,
        a_no_to_the_successor_of_what_is_revoked_ends_its_serving,
    };

    return kit_run("revoked_tend", tests, CM_ARRAY_LEN(tests));
}
