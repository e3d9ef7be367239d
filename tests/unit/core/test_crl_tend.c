/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_crl.h"
#include "x509.h"

static struct cm_err err;

START_TEST(revoked_certificate_is_found_and_another_is_not)
{
    static const struct mk_crl_entry entries[] = { { 7, 1, START_S - DAY }, { 9, 4, START_S } };
    struct cm_revocation rv;
    int64_t again = 0;

    crl_begin();
    struct cm_cert *bad = cert_of(7, URL, NULL);
    struct cm_cert *fine = cert_of(8, URL, NULL);
    publish(&ca, entries, 2, 2 * DAY);
    ck_ok(tend_by(k.cfg, bad, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    ck_assert_int_eq(rv.reason, 1);
    ck_assert_int_eq(rv.at_s, START_S - DAY);
    ck_assert_str_eq(rv.source, "crl");
    ck_assert_str_eq(web.last, "GET " URL);
    ck_assert_uint_eq(web.last_max, CM_CRL_MAX);
    ck_ok(tend_by(k.cfg, fine, true, &again, &rv, &err));
    ck_assert(!rv.revoked);
    ck_assert_uint_eq(atomic_load(&web.fetches), 1);
    /* half of two days, less a tenth at most */
    ck_assert_int_le(again, START_S + DAY);
    ck_assert_int_ge(again, START_S + DAY - DAY / 10);
    cm_cert_unref(bad);
    cm_cert_unref(fine);
    crl_end();
}
END_TEST

START_TEST(certificates_with_a_responder_or_no_pointer_are_left_alone)
{
    struct cm_ocsp_override none = { "http://ocsp.example", "" };
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *with_ocsp = cert_of(7, URL, "http://ocsp.example");
    struct cm_cert *no_url = cert_of(7, NULL, NULL);
    ck_ok(tend_by(k.cfg, with_ocsp, true, &again, &rv, &err));
    ck_assert(again == INT64_MAX);
    ck_ok(tend_by(k.cfg, no_url, true, &again, &rv, &err));
    ck_assert(again == INT64_MAX);
    ck_assert_uint_eq(atomic_load(&web.fetches), 0);
    k.cfg->ocsp_overrides = &none; /* the responder is not to be asked: then the list is */
    k.cfg->n_ocsp_overrides = 1;
    ck_ok(tend_by(k.cfg, with_ocsp, true, &again, &rv, &err));
    ck_assert_uint_eq(atomic_load(&web.fetches), 1);
    k.cfg->ocsp_overrides = NULL;
    k.cfg->n_ocsp_overrides = 0;
    k.cfg->disable_ocsp = true;
    ck_ok(tend_by(k.cfg, with_ocsp, true, &again, &rv, &err));
    ck_assert(again != INT64_MAX);
    k.cfg->disable_crl = true;
    ck_ok(tend_by(k.cfg, with_ocsp, true, &again, &rv, &err));
    ck_assert(again == INT64_MAX);
    k.cfg->disable_crl = false;
    k.cfg->fetcher = NULL;
    ck_ok(tend_by(k.cfg, with_ocsp, true, &again, &rv, &err));
    ck_assert(again == INT64_MAX);
    cm_cert_unref(with_ocsp);
    cm_cert_unref(no_url);
    crl_end();
}
END_TEST

START_TEST(without_leave_to_fetch_the_network_is_asked_for_once_storage_has_nothing)
{
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    ck_ok(tend_by(k.cfg, cert, false, &again, &rv, &err));
    ck_assert_int_eq(again, now_s());
    ck_assert_uint_eq(atomic_load(&web.fetches), 0);
    unsigned loads = atomic_load(&k.storage.loads);
    ck_assert_uint_ge(loads, 1);
    ck_ok(tend_by(k.cfg, cert, false, &again, &rv, &err));
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads); /* not again so soon */
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

START_TEST(ten_thousand_certificates_cost_one_fetch)
{
    enum { N = 10000 };
    struct mk_crl_entry entry = { 4242, 1, START_S };
    struct cm_cert **certs = calloc(N, sizeof *certs);
    struct cm_revocation rv;
    unsigned revoked = 0;
    unsigned wrong = 0;
    int64_t again;

    crl_begin();
    publish(&ca, &entry, 1, 7 * DAY);
    for (size_t i = 0; i < N; i++)
        certs[i] = cert_of(i + 1, URL, NULL);
    for (int may_fetch = 0; may_fetch <= 1; may_fetch++)
        for (size_t i = 0; i < N; i++) {
            wrong += tend_by(k.cfg, certs[i], may_fetch, &again, &rv, &err) != CM_OK;
            wrong += rv.revoked && i + 1 != 4242;
            revoked += rv.revoked;
        }
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_eq(revoked, 1);
    ck_assert_uint_eq(atomic_load(&web.fetches), 1);
    ck_assert_uint_le(atomic_load(&k.storage.loads), 4);
    ck_assert_uint_eq(cm_crl_table_lists(), 1);
    for (size_t i = 0; i < N; i++)
        cm_cert_unref(certs[i]);
    free(certs);
    crl_end();
}
END_TEST

START_TEST(failures_back_off_from_a_minute_to_an_hour_and_success_forgets_them)
{
    static const int64_t waits[] = { 60, 120, 240, 480, 960, 1920, 3600, 3600 };
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    web.rc = CM_E_NET;
    for (size_t i = 0; i < CM_ARRAY_LEN(waits); i++) {
        ck_refused(tend_by(k.cfg, cert, true, &again, &rv, &err), CM_E_NET);
        ck_assert_ptr_nonnull(strstr(err.msg, "no way to '" URL "'"));
        ck_assert_int_le(again - now_s(), waits[i]);
        ck_assert_int_ge(again - now_s(), waits[i] - waits[i] / 10);
        ck_assert_uint_eq(atomic_load(&web.fetches), i + 1);
        ck_refused(tend_by(k.cfg, cert, true, &again, &rv, &err), CM_E_NET); /* too soon */
        ck_assert_uint_eq(atomic_load(&web.fetches), i + 1);
        pass_s(again - now_s());
    }
    ck_assert_uint_eq(kit_logged("crl_failed"), CM_ARRAY_LEN(waits));
    web.rc = CM_OK;
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    pass_s(DAY);
    web.rc = CM_E_NET;
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err)); /* what is known still holds */
    ck_assert_int_le(again - now_s(), 60);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

/* What is wrong with it does not matter: nothing is revoked, and it is asked for again. */
static void refused_with(const char *part)
{
    struct cm_revocation rv;
    int64_t again;

    struct cm_cert *cert = cert_of(7, URL, NULL);
    err.msg[0] = '\0';
    ck_assert_int_ne(tend_by(k.cfg, cert, true, &again, &rv, &err), CM_OK);
    ck_assert_msg(strstr(err.msg, part) != NULL, "%s", err.msg);
    ck_assert(!rv.revoked);
    ck_assert_int_gt(again, now_s());
    ck_assert_int_le(again, now_s() + 60);
    ck_assert_uint_eq(kit_count(&k.storage.base, CM_CRL_DIR), 0);
    ck_assert_uint_eq(cm_crl_table_bytes(), 0);
    cm_cert_unref(cert);
}

START_TEST(what_cannot_be_believed_revokes_nothing)
{
    struct mk_crl_entry entry = { 7, 1, START_S };
    struct mk_ca impostor;

    crl_begin();
    mk_ca_make(&impostor, "Test CA", START_S, CM_KU_KEY_CERT_SIGN | CM_KU_CRL_SIGN);
    publish(&impostor, &entry, 1, DAY);
    refused_with("revocation list of '" URL "'");
    mk_ca_free(&impostor);
    crl_end();
    crl_begin();
    publish(&ca, &entry, 1, -1);
    refused_with("expired");
    crl_end();
    crl_begin();
    cm_buf_reset(&web.body);
    ck_ok(cm_buf_puts(&web.body, "<html>welcome</html>", &err));
    refused_with("neither DER nor PEM");
    crl_end();
    crl_begin();
    publish(&ca, &entry, 1, DAY);
    web.status = 404;
    refused_with("status 404");
    crl_end();
    crl_begin();
    web.rc = CM_E_LIMIT;
    refused_with("no way to");
    crl_end();
}
END_TEST

START_TEST(older_list_does_not_take_the_place_of_a_newer_one)
{
    struct mk_crl_entry entry = { 7, 1, START_S };
    CM_AUTO_BUF struct cm_buf old = CM_BUF_INIT(65536);
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    ck_ok(cm_buf_append(&old, web.body.data, web.body.len, &err)); /* nobody is revoked in it */
    pass_s(3600);
    publish(&ca, &entry, 1, 7 * DAY);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    pass_s(again - now_s());
    cm_buf_reset(&web.body);
    ck_ok(cm_buf_append(&web.body, old.data, old.len, &err));
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    ck_assert_uint_eq(kit_logged("older than one seen"), 1);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

START_TEST(expired_list_says_nothing_and_that_is_said_once)
{
    struct mk_crl_entry entry = { 7, 1, START_S };
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    publish(&ca, &entry, 1, DAY);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    web.rc = CM_E_NET;
    pass_s(DAY - 1);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    pass_s(1);
    for (int i = 0; i < 3; i++) {
        ck_refused(tend_by(k.cfg, cert, true, &again, &rv, &err), CM_E_NET);
        ck_assert(!rv.revoked);
        pass_s(4000);
    }
    ck_assert_uint_eq(kit_logged("crl_expired"), 1);
    ck_assert_uint_eq(cm_crl_table_bytes(), 0);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

START_TEST(refresh_is_between_ten_minutes_and_a_day)
{
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    publish(&ca, NULL, 0, 60);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert_int_eq(again, now_s() + CM_CRL_REFRESH_MIN_S);
    cm_crl_table_clear();
    pass_s(60);
    publish(&ca, NULL, 0, 365 * DAY);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert_int_le(again, now_s() + CM_CRL_REFRESH_MAX_S);
    ck_assert_int_ge(again, now_s() + CM_CRL_REFRESH_MAX_S * 9 / 10);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        revoked_certificate_is_found_and_another_is_not,
        certificates_with_a_responder_or_no_pointer_are_left_alone,
        without_leave_to_fetch_the_network_is_asked_for_once_storage_has_nothing,
        ten_thousand_certificates_cost_one_fetch,
        failures_back_off_from_a_minute_to_an_hour_and_success_forgets_them,
        what_cannot_be_believed_revokes_nothing,
        older_list_does_not_take_the_place_of_a_newer_one,
        expired_list_says_nothing_and_that_is_said_once,
        refresh_is_between_ten_minutes_and_a_day,
    };

    return kit_run("crl_tend", tests, CM_ARRAY_LEN(tests));
}
