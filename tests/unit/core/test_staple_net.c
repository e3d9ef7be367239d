/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "staple_kit.h"

/* Whom the tending of staples asks: which address, whose certificate, and whom it spares. */

static struct cm_err err;
static struct world w;

static void setup(void)
{
    world_start(&w);
}

static void teardown(void)
{
    world_stop(&w);
}

#define URL "http://ocsp.test/"

/* -------------------------------------------------------------------- addresses */

/* Start anew with @o as the table of overrides. */
static void restart_with(const struct cm_ocsp_override *o, size_t n)
{
    world_stop(&w);
    world_init(&w);
    w.k.opts.ocsp_overrides = o;
    w.k.opts.n_ocsp_overrides = n;
    world_go(&w);
}

START_TEST(another_responder_may_be_asked)
{
    char from[] = URL;
    char to[] = "http://other.test/ocsp";
    const struct cm_ocsp_override table[] = { { "http://unrelated.test/", "" }, { from, to } };

    restart_with(table, 2);
    from[7] = to[7] = '-'; /* copied they were */
    ck_ok(tend(&w, true));
    ck_assert_str_eq(w.responder.last_url, "http://other.test/ocsp");
    check_has_staple(&w, true);
}
END_TEST

START_TEST(an_empty_address_means_no_staple)
{
    const struct cm_ocsp_override table[] = { { URL, "" } };

    restart_with(table, 1);
    ck_ok(tend(&w, true));
    ck_assert(w.again_s == INT64_MAX);
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 0);
    check_has_staple(&w, false);
}
END_TEST

START_TEST(overrides_without_addresses_are_refused)
{
    const struct cm_ocsp_override table[] = { { URL, "" }, { URL, NULL } };
    struct cm_issuer *is = kit_issuer_new(&w.k.env, "ca.other-dir");
    struct cm_config_options o = w.k.opts;
    struct cm_config *cfg = NULL;

    o.issuers = &is;
    o.n_issuers = 1;
    o.ocsp_overrides = table;
    o.n_ocsp_overrides = 2;
    ck_refused(cm_config_new(&o, &cfg, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "entry 2"));
    o.n_ocsp_overrides = 1001;
    ck_refused(cm_config_new(&o, &cfg, &err), CM_E_INVAL);
    cm_issuer_destroy(is);
}
END_TEST

static void check_nothing_to_tend(void)
{
    unsigned loads = atomic_load(&w.k.storage.loads);

    ck_ok(tend(&w, true));
    ck_assert(w.again_s == INT64_MAX);
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 0);
    /* Nor is storage asked for what cannot be there. */
    ck_assert_uint_eq(atomic_load(&w.k.storage.loads), loads);
}

START_TEST(without_address_there_is_nothing_to_do)
{
    world_replace_cert(&w, &(struct ok_cert){ .url = NULL }, CM_CERT_MANAGED, true);
    check_nothing_to_tend();
    ck_assert_ptr_null(cm_stapling_look(w.cert)); /* and it costs nothing */
    world_replace_cert(&w, &(struct ok_cert){ .url = "ldap://ocsp.test/" }, CM_CERT_MANAGED, true);
    check_nothing_to_tend();
    world_replace_cert(&w, &(struct ok_cert){ .url = URL, .self_issued = true }, 0, false);
    check_nothing_to_tend();
    world_replace_cert(&w, &(struct ok_cert){ .url = URL, .to_s = START_S - 1 }, 0, true);
    check_nothing_to_tend();
    world_replace_cert(&w, &(struct ok_cert){ .url = URL }, CM_CERT_CHALLENGE, true);
    check_nothing_to_tend();
}
END_TEST

START_TEST(switched_off_or_without_fetcher_nothing_is_asked)
{
    for (int i = 0; i < 2; i++) {
        world_stop(&w);
        world_init(&w);
        w.k.opts.disable_ocsp = i == 0;
        world_go(&w);
        if (i == 1)
            w.k.cfg->fetcher = NULL;
        check_nothing_to_tend();
    }
}
END_TEST

START_TEST(who_knows_nothing_leaves_the_verdict_of_others)
{
    world_replace_cert(&w, &(struct ok_cert){ .url = NULL }, CM_CERT_MANAGED, true);
    w.revoked = (struct cm_revocation){ .revoked = true, .source = "crl" };
    check_nothing_to_tend();
    ck_assert(w.revoked.revoked);
    /* Nor does the watch of lists speak of a certificate that has a responder. */
    world_replace_cert(&w, &(struct ok_cert){ .url = URL }, CM_CERT_MANAGED, true);
    w.revoked = (struct cm_revocation){ .revoked = true, .source = "ocsp" };
    ck_ok(cm_crl_tend(w.cfg, NULL, w.cert, true, &w.again_s, &w.revoked, &err));
    ck_assert(w.again_s == INT64_MAX);
    ck_assert(w.revoked.revoked);
}
END_TEST

static uint64_t count(enum cm_counter c)
{
    return atomic_load(&w.cfg->counters->n[c]);
}

START_TEST(what_happens_is_counted)
{
    struct world other;

    ck_ok(tend(&w, true));
    ck_assert_uint_eq(count(CM_COUNT_STAPLE_FETCHED), 1);
    ck_assert_uint_eq(count(CM_COUNT_STAPLE_LOADED), 0);
    world_join(&other, &w);
    ck_ok(tend(&other, true));
    ck_assert_uint_eq(atomic_load(&other.cfg->counters->n[CM_COUNT_STAPLE_LOADED]), 1);
    ck_assert_uint_eq(atomic_load(&other.cfg->counters->n[CM_COUNT_STAPLE_FETCHED]), 0);
    world_leave(&other);
    world_pass(&w, w.again_s - now_s(&w));
    w.responder.mode = ANSWER_GARBAGE;
    ck_assert(tend(&w, true) != CM_OK);
    ck_assert_uint_eq(count(CM_COUNT_STAPLE_FAILED), 1);
}
END_TEST

START_TEST(must_staple_without_responder_is_told_once)
{
    world_replace_cert(&w, &(struct ok_cert){ .must_staple = true }, CM_CERT_MANAGED, true);
    for (int i = 0; i < 3; i++)
        check_nothing_to_tend();
    ck_assert_uint_eq(kit_logged("must_staple_without_responder"), 1);
    world_replace_cert(&w, &(struct ok_cert){ .must_staple = true, .url = URL }, CM_CERT_MANAGED,
                       true);
    ck_ok(tend(&w, true));
    ck_assert_uint_eq(kit_logged("must_staple_without_responder"), 1);
    check_has_staple(&w, true);
}
END_TEST

static void refuse_must_staple(struct cm_issuer *is, struct cm_issuer_limits *ret)
{
    (void)is;
    ret->refuses_must_staple = true;
}

START_TEST(a_ca_that_refuses_must_staple_is_told_of_at_the_start)
{
    for (int must = 0; must < 2; must++) {
        struct cm_issuer *is = kit_issuer_new(&w.k.env, "ca.other-dir");
        struct cm_issuer_ops ops = *is->ops;
        struct cm_config_options o = w.k.opts;
        struct cm_config *cfg = NULL;

        ops.limits = refuse_must_staple;
        ops.size = (uint32_t)sizeof ops;
        is->ops = &ops;
        o.issuers = &is;
        o.n_issuers = 1;
        o.must_staple = must == 1;
        ck_ok(cm_config_new(&o, &cfg, &err));
        ck_assert_uint_eq(kit_logged("must_staple_refused"), (unsigned)must);
        cm_config_free(cfg);
    }
}
END_TEST

/* ------------------------------------------------------ the issuer's certificate */

#define CA_URL "http://ca.test/ca.der"

START_TEST(issuer_is_fetched_where_the_chain_has_none)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    ok_chain_pem(cm_buf_span(&w.ca.der), NULL, &pem);
    for (int form = 0; form < 2; form++) {
        world_replace_cert(&w, &(struct ok_cert){ .url = URL, .issuer = CA_URL }, 0, false);
        w.responder.cert = cm_buf_span(form == 0 ? &w.ca.der : &pem);
        atomic_store(&w.responder.gets, 0);
        ck_ok(tend(&w, false));
        ck_assert_int_le(w.again_s, now_s(&w));
        ck_assert_uint_eq(atomic_load(&w.responder.gets), 0);
        ck_ok(tend(&w, true));
        check_has_staple(&w, true);
        ck_assert_uint_eq(atomic_load(&w.responder.gets), 1);
        /* It is kept for the next time. */
        world_pass(&w, w.again_s - now_s(&w));
        ck_ok(tend(&w, true));
        ck_assert_uint_eq(atomic_load(&w.responder.gets), 1);
    }
}
END_TEST

START_TEST(what_is_not_the_issuer_is_not_taken_for_it)
{
    struct ok_ca impostor;
    unsigned gets = 0;

    ok_ca_make(&impostor, "Staple CA", START_S);
    world_replace_cert(&w, &(struct ok_cert){ .url = URL, .issuer = CA_URL }, 0, false);
    const struct cm_span wrong[] = { cm_buf_span(&impostor.der), cm_cert_der(w.cert, 0),
                                     cm_span_str("garbage"), cm_span_str("-----BEGIN nothing"),
                                     cm_span_str("") };

    for (size_t i = 0; i < CM_ARRAY_LEN(wrong); i++) {
        w.responder.cert = wrong[i];
        ck_assert_msg(tend(&w, true) != CM_OK, "%zu", i);
        ck_assert_uint_eq(atomic_load(&w.responder.gets), ++gets);
        ck_assert_uint_eq(atomic_load(&w.responder.calls), 0);
        check_has_staple(&w, false);
        /* Longer than the host is spared. */
        world_pass(&w, 3600);
    }
    ok_ca_free(&impostor);
}
END_TEST

START_TEST(a_chain_with_another_ca_is_no_reason_to_remove_anything)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_OCSP_MAX);
    struct ok_ca impostor, right = w.ca;

    ok_ca_make(&impostor, "Staple CA", START_S);
    make_response(&w, &(struct ok_response){ .reason = 0 }, &der);
    world_replace_cert(&w, &(struct ok_cert){ .url = URL }, 0, false);
    w.ca = impostor; /* puts its certificate behind a leaf that it did not sign */
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    ok_chain_pem(cm_cert_der(w.cert, 0), &w.ca, &pem);
    ck_ok(cm_key_to_pem(w.key_of_cert, &key, &err));
    cm_cert_unref(w.cert);
    ck_ok(cm_cert_from_pem(cm_buf_span(&pem), cm_buf_span(&key), "x", NULL, 0, &w.cert, &err));
    ck_ok(cm_path_staple("ocsp.test", cm_buf_span(&pem), w.key, &err));
    put_span(&w, w.key, cm_buf_span(&der));
    ck_refused(tend(&w, true), CM_E_CERT);
    ck_assert(kit_has(&w.k.storage.base, w.key));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 0);
    w.ca = right;
    ok_ca_free(&impostor);
}
END_TEST

/* ------------------------------------------------------------- failing responders */

static struct cm_cert *one_more(size_t i, const char *url)
{
    char name[64];

    (void)snprintf(name, sizeof name, "n%zu.test", i);
    struct cm_cert *kept = cm_cert_ref(w.cert);
    world_replace_cert(&w, &(struct ok_cert){ .name = name, .url = url, .serial = 1000 + i }, 0,
                       true);
    struct cm_cert *made = w.cert;
    w.cert = kept;
    return made;
}

#define MANY 300

START_TEST(failing_host_is_asked_once_a_minute_whoever_wants_it)
{
    static struct cm_cert *certs[MANY];
    static int64_t again[MANY];
    struct cm_revocation revoked;
    struct cm_cert *elsewhere = one_more(9999, "http://elsewhere.test:8080/");

    for (size_t i = 0; i < MANY; i++)
        certs[i] = one_more(i, i % 2 == 0 ? "http://Dead.test/x" : "http://dead.test/y?z");
    w.responder.mode = ANSWER_NET;
    for (int minute = 0; minute < 10; minute++) {
        for (size_t i = 0; i < MANY; i++) {
            if (again[i] > now_s(&w))
                continue;
            ck_assert(cm_staple_tend(w.cfg, NULL, certs[i], true, &again[i], &revoked, &err) !=
                      CM_OK);
            ck_assert_int_gt(again[i], now_s(&w));
        }
        world_pass(&w, 60);
    }
    /* Three in the first minute, one in each of the others. */
    ck_assert_uint_ge(atomic_load(&w.responder.calls), 3 + 8);
    ck_assert_uint_le(atomic_load(&w.responder.calls), 3 + 9);
    ck_assert_uint_eq(kit_logged("responder_failing"), 1);
    /* Who may not ask does not take the lock for it either. */
    ck_assert_uint_eq(atomic_load(&w.k.storage.locks), atomic_load(&w.responder.calls));

    kit_log_reset();
    /* Others are not affected, and one good answer is enough. */
    w.responder.mode = ANSWER_OCSP;
    ck_ok(cm_staple_tend(w.cfg, NULL, w.cert, true, &w.again_s, &revoked, &err));
    struct cm_cert *mine = w.cert;
    w.cert = elsewhere;
    ck_ok(tend(&w, true));
    w.cert = mine;
    world_pass(&w, 7200);
    unsigned before = atomic_load(&w.responder.calls);
    for (size_t i = 0; i < MANY; i++) {
        w.cert = certs[i];
        ck_ok(tend(&w, true));
    }
    w.cert = mine;
    ck_assert_uint_eq(atomic_load(&w.responder.calls), before + MANY);
    ck_assert_uint_eq(kit_logged("responder_back"), 1);
    for (size_t i = 0; i < MANY; i++)
        cm_cert_unref(certs[i]);
    cm_cert_unref(elsewhere);
}
END_TEST

START_TEST(failing_host_of_issuers_certificates_is_spared_too)
{
    for (uint64_t i = 0; i < 10; i++) {
        world_replace_cert(&w, &(struct ok_cert){ .url = URL, .issuer = CA_URL, .serial = 50 + i },
                           0, false);
        ck_assert(tend(&w, true) != CM_OK);
        ck_assert_int_ge(w.again_s, now_s(&w) + 60);
    }
    ck_assert_uint_eq(atomic_load(&w.responder.gets), 3);
}
END_TEST

START_TEST(many_failing_hosts_are_remembered_in_a_bounded_place)
{
    struct cm_responders *r = NULL;
    char url[64];

    ck_ok(cm_responders_new(&w.k.env.base, &r, &err));
    for (int i = 0; i < 500; i++) {
        (void)snprintf(url, sizeof url, "http://h%d.test/", i);
        for (int n = 0; n < 3; n++)
            cm_responders_note(r, NULL, url, false, "dead");
        ck_assert_int_eq(cm_responders_wait_s(r, url), 60);
        ck_assert_int_eq(cm_responders_admit(r, url), 60);
        kit_pass(&w.k.env, CM_NS_PER_S);
    }
    kit_pass(&w.k.env, 60 * CM_NS_PER_S);
    ck_assert_int_eq(cm_responders_wait_s(r, url), 0);
    ck_assert_int_eq(cm_responders_admit(r, url), 0);
    ck_assert_int_eq(cm_responders_admit(r, url), 60);
    cm_responders_note(r, NULL, url, true, "");
    ck_assert_int_eq(cm_responders_wait_s(r, url), 0);
    /* Not a host, not remembered. */
    for (int n = 0; n < 5; n++)
        cm_responders_note(r, NULL, "http:///x", false, "dead");
    ck_assert_int_eq(cm_responders_wait_s(r, "http:///x"), 0);
    cm_responders_free(r);
}
END_TEST

START_TEST(answers_that_are_wrong_for_one_are_not_held_against_the_host)
{
    w.responder.want.wrong = OK_WRONG_SERIAL;
    for (int i = 0; i < 6; i++) {
        ck_refused(tend(&w, true), CM_E_CERT);
        world_pass(&w, w.again_s - now_s(&w));
    }
    w.responder.mode = ANSWER_UNAUTHORIZED;
    ck_refused(tend(&w, true), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 7);
    ck_assert_uint_eq(kit_logged("responder_failing"), 0);
}
END_TEST

/* --------------------------------------------------------------------- robustness */

START_TEST(without_memory_nothing_is_lost_but_the_moment)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_OCSP_MAX);
    uint64_t most = 0;

    for (uint64_t n = 1;; n++) {
        world_replace_cert(&w, &(struct ok_cert){ .url = URL, .serial = 100 + n }, 0, true);
        cm_buf_reset(&der);
        make_response(&w, &(struct ok_response){ .reason = 0 }, &der);
        w.responder.canned = cm_buf_span(&der);
        w.responder.mode = ANSWER_CANNED;
        (void)cm_alloc_fail_at(n);
        cm_status rc = tend(&w, true);
        uint64_t made = cm_alloc_fail_at(0);

        if (rc != CM_OK)
            ck_assert_msg(rc == CM_E_NOMEM || w.again_s > now_s(&w), "%s", err.msg);
        if (made > most)
            most = made;
        if (made < n)
            break;
        w.responder.mode = ANSWER_OCSP;
        if (w.again_s > now_s(&w))
            world_pass(&w, w.again_s - now_s(&w));
        if (rc != CM_OK)
            ck_ok(tend(&w, true));
    }
    check_has_staple(&w, true);
    ck_assert_uint_gt(most, 5);
}
END_TEST

static _Atomic bool over;
static _Atomic uint64_t reads;

static void *read_on(void *arg)
{
    struct cm_cert *c = arg;

    while (!atomic_load(&over)) {
        struct cm_staple *s = cm_cert_staple(c);

        if (s == NULL)
            continue;
        struct cm_span der = cm_staple_der(s);
        unsigned sum = 0;

        for (size_t i = 0; i < der.len; i += 61)
            sum += der.data[i];
        (void)sum;
        (void)atomic_fetch_add(&reads, 1);
        cm_staple_unref(s);
    }
    return NULL;
}

START_TEST(staples_are_replaced_while_handshakes_take_them)
{
    pthread_t readers[3];
    unsigned swaps = 0;

    for (size_t i = 0; i < CM_ARRAY_LEN(readers); i++)
        ck_assert_int_eq(pthread_create(&readers[i], NULL, read_on, w.cert), 0);
    /* Through the whole of it, each time from the responder; and now and then there is none. */
    while (swaps < 300 || atomic_load(&reads) < 20000) {
        w.responder.want = (struct ok_response){ .status = swaps % 10 == 9 ? OK_REVOKED : OK_GOOD,
                                                 .next_s = now_s(&w) + 60 };
        ck_ok(tend(&w, true));
        ck_assert_int_eq(w.revoked.revoked, swaps % 10 == 9);
        swaps++;
        world_pass(&w, w.again_s - now_s(&w));
    }
    ck_assert_uint_eq(atomic_load(&w.responder.calls), swaps);
    atomic_store(&over, true);
    for (size_t i = 0; i < CM_ARRAY_LEN(readers); i++)
        ck_assert_int_eq(pthread_join(readers[i], NULL), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        another_responder_may_be_asked,
        an_empty_address_means_no_staple,
        overrides_without_addresses_are_refused,
        without_address_there_is_nothing_to_do,
        switched_off_or_without_fetcher_nothing_is_asked,
        who_knows_nothing_leaves_the_verdict_of_others,
        what_happens_is_counted,
        must_staple_without_responder_is_told_once,
        a_ca_that_refuses_must_staple_is_told_of_at_the_start,
        issuer_is_fetched_where_the_chain_has_none,
        what_is_not_the_issuer_is_not_taken_for_it,
        a_chain_with_another_ca_is_no_reason_to_remove_anything,
        failing_host_is_asked_once_a_minute_whoever_wants_it,
        failing_host_of_issuers_certificates_is_spared_too,
        many_failing_hosts_are_remembered_in_a_bounded_place,
        answers_that_are_wrong_for_one_are_not_held_against_the_host,
        without_memory_nothing_is_lost_but_the_moment,
        staples_are_replaced_while_handshakes_take_them,
    };

    return kit_run_with("staple_net", tests, CM_ARRAY_LEN(tests), setup, teardown);
}
