/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"
#include "run.h"

#define TLS12 "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define TLS13 "NORMAL:-VERS-ALL:+VERS-TLS1.3"

static const char *const versions[] = { TLS12, TLS13 };
static const enum pair_door doors[] = { PAIR_GATE, PAIR_HOOK };

static struct cm_config *cfg;
static struct pair p;

static void setup(void)
{
    cfg = fake_config();
    (void)fake_add(cfg, "a.test", CM_PK_P256);
    (void)fake_add(cfg, "b.test", CM_PK_P256);
}

static void teardown(void)
{
    fake_config_drop(cfg);
    ck_assert_uint_eq(fake_certs_alive(), 0);
}

static void check_done(void)
{
    ck_assert_msg(p.server_rc == 0, "server: %s", gnutls_strerror(p.server_rc));
    ck_assert_msg(p.client_rc == 0, "client: %s", gnutls_strerror(p.client_rc));
}

static bool client_sees(const char *name)
{
    unsigned n = 0;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(p.client, &n);
    gnutls_x509_crt_t crt;
    bool r;

    if (list == NULL || n == 0)
        return false;
    ck_assert_int_eq(gnutls_x509_crt_init(&crt), 0);
    ck_assert_int_eq(gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER), 0);
    r = gnutls_x509_crt_check_hostname(crt, name) != 0;
    gnutls_x509_crt_deinit(crt);
    return r;
}

START_TEST(each_door_serves_each_version)
{
    for (size_t d = 0; d < 2; d++) {
        for (size_t v = 0; v < 2; v++) {
            pair_start(&p, cfg, doors[d], versions[v], "b.test", NULL);
            pair_run(&p, 5000);
            check_done();
            ck_assert(client_sees("b.test"));
            pair_end(&p);
        }
    }
    ck_assert_uint_eq(atomic_load(&cfg->asked), 4);
}
END_TEST

START_TEST(hello_may_come_in_records_and_writes_of_any_size)
{
    static const size_t sizes[] = { 1, 2, 3, 4, 5, 7, 100, 300 };

    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < CM_ARRAY_LEN(sizes); i++) {
            pair_start(&p, cfg, PAIR_GATE, versions[v], "a.test", NULL);
            p.record = sizes[i];
            pair_run(&p, 5000);
            check_done();
            pair_end(&p);
            pair_start(&p, cfg, PAIR_GATE, versions[v], "a.test", NULL);
            p.write_max = sizes[i];
            pair_run(&p, 5000);
            check_done();
            pair_end(&p);
        }
    }
}
END_TEST

START_TEST(gate_answers_again_until_the_certificate_is_there)
{
    for (size_t v = 0; v < 2; v++) {
        cfg->names[0].delay_ms = 150;
        pair_start(&p, cfg, PAIR_GATE, versions[v], "a.test", NULL);
        pair_run(&p, 5000);
        check_done();
        ck_assert_uint_gt(p.server_waits, 0);
        ck_assert_int_eq(cm_tls_wait_fd(p.server), p.fd[0]);
        ck_assert_uint_eq(atomic_load(&cfg->waiting), 0);
        pair_end(&p);
    }
    ck_assert_uint_eq(atomic_load(&cfg->asked), 2);
}
END_TEST

START_TEST(hook_waits_by_itself)
{
    cfg->names[0].delay_ms = 150;
    for (size_t v = 0; v < 2; v++) {
        pair_start(&p, cfg, PAIR_HOOK, versions[v], "a.test", NULL);
        pair_run(&p, 5000);
        check_done();
        ck_assert_uint_eq(p.server_waits, 0);
        pair_end(&p);
    }
    ck_assert_uint_eq(atomic_load(&cfg->waiting), 0);
}
END_TEST

START_TEST(answer_that_never_comes_ends_with_an_internal_error)
{
    struct cm_err err;

    cfg->names[0].delay_ms = -1;
    cfg->wait_ns = 100 * CM_NS_PER_MS;
    for (size_t d = 0; d < 2; d++) {
        pair_start(&p, cfg, doors[d], TLS13, "a.test", NULL);
        pair_run(&p, 5000);
        ck_assert_int_eq(p.client_alert, 80);
        ck_assert_int_eq(cm_tls_refusal(p.server, &err), CM_E_TIMEOUT);
        pair_end(&p);
    }
    ck_assert_uint_eq(atomic_load(&cfg->waiting), 0);
}
END_TEST

/* GnuTLS would ask for a certificate once per cipher suite. */
START_TEST(refusal_is_decided_once_and_told_truly)
{
    static const struct {
        cm_status rc;
        int alert, seen;
    } cases[] = { { CM_E_NOTFOUND, 112, 112 }, { CM_E_NOTFOUND, 0, 112 },
                  { CM_E_POLICY, 0, 112 },     { CM_E_IO, 0, 80 },
                  { CM_E_IO, 40, 40 },         { CM_E_UNSUPPORTED, 0, 40 },
                  { CM_E_LIMIT, 47, 47 },      { CM_E_IO, 109, 109 },
                  { CM_E_IO, 116, 116 } };
    struct cm_err err;

    (void)fake_add_refusal(cfg, "no.test", CM_OK, 0);
    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        cfg->names[2].rc = cases[i].rc;
        cfg->names[2].alert = cases[i].alert;
        for (size_t d = 0; d < 2; d++) {
            for (size_t v = 0; v < 2; v++) {
                atomic_store(&cfg->asked, 0);
                pair_start(&p, cfg, doors[d], versions[v], "no.test", NULL);
                pair_run(&p, 5000);
                ck_assert_int_eq(p.client_alert, cases[i].seen);
                ck_assert_uint_eq(atomic_load(&cfg->asked), 1);
                ck_assert_int_eq(cm_tls_refusal(p.server, &err), cases[i].rc);
                ck_assert_int_eq(err.tls_alert, cases[i].seen);
                ck_assert_ptr_nonnull(strstr(err.msg, "no.test"));
                pair_end(&p);
            }
        }
    }
}
END_TEST

START_TEST(name_that_is_none_is_refused_without_a_look)
{
    for (size_t d = 0; d < 2; d++) {
        pair_start(&p, cfg, doors[d], TLS13, "*.a.test", NULL);
        pair_run(&p, 5000);
        ck_assert_int_eq(p.client_alert, 112);
        pair_end(&p);
    }
    ck_assert_uint_eq(atomic_load(&cfg->asked), 0);
}
END_TEST

/* ------------------------------------------------------------ hello retry request */

#define SERVER_P384 "NORMAL:-GROUP-ALL:+GROUP-SECP384R1"

START_TEST(retry_keeps_the_decision)
{
    cfg->priority = SERVER_P384;
    for (size_t d = 0; d < 2; d++) {
        atomic_store(&cfg->asked, 0);
        pair_start(&p, cfg, doors[d], TLS13, "a.test", NULL);
        pair_run(&p, 5000);
        check_done();
        ck_assert(client_sees("a.test"));
        ck_assert_uint_eq(atomic_load(&cfg->asked), 1);
        ck_assert((gnutls_session_get_flags(p.server) & GNUTLS_SFLAGS_RFC7919) == 0);
        ck_assert_int_eq(gnutls_group_get(p.server), GNUTLS_GROUP_SECP384R1);
        pair_end(&p);
    }
}
END_TEST

static int change_name(gnutls_session_t session, unsigned int htype, unsigned when,
                       unsigned int incoming, const gnutls_datum_t *msg)
{
    (void)htype;
    (void)when;
    (void)incoming;
    (void)msg;
    return gnutls_server_name_set(session, GNUTLS_NAME_DNS, "b.test", 6);
}

START_TEST(retry_with_another_name_is_an_illegal_parameter)
{
    cfg->priority = SERVER_P384;
    for (size_t d = 0; d < 2; d++) {
        pair_start(&p, cfg, doors[d], TLS13, "a.test", NULL);
        gnutls_handshake_set_hook_function(p.client, GNUTLS_HANDSHAKE_HELLO_RETRY_REQUEST,
                                           GNUTLS_HOOK_BOTH, change_name);
        pair_run(&p, 5000);
        ck_assert_int_eq(p.server_rc, GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER);
        ck_assert_int_eq(p.client_alert, 47);
        pair_end(&p);
    }
    ck_assert_uint_eq(atomic_load(&cfg->asked), 2);
}
END_TEST

/* --------------------------------------------------------------- ALPN, challenges */

START_TEST(sole_acme_protocol_gets_the_challenge_and_nobody_else)
{
    gnutls_datum_t got;

    (void)fake_add_challenge(cfg, "a.test");
    for (size_t d = 0; d < 2; d++) {
        for (size_t v = 0; v < 2; v++) {
            pair_start(&p, cfg, doors[d], versions[v], "a.test", "acme-tls/1");
            pair_run(&p, 5000);
            check_done();
            ck_assert(cm_tls_is_challenge(p.server));
            ck_assert_int_eq(gnutls_alpn_get_selected_protocol(p.client, &got), 0);
            ck_assert_uint_eq(got.size, 10);
            ck_assert_mem_eq(got.data, "acme-tls/1", 10);
            pair_end(&p);
            pair_start(&p, cfg, doors[d], versions[v], "a.test", "http/1.1");
            pair_run(&p, 5000);
            check_done();
            ck_assert(!cm_tls_is_challenge(p.server));
            pair_end(&p);
            pair_start(&p, cfg, doors[d], versions[v], "b.test", "acme-tls/1");
            pair_run(&p, 5000);
            ck_assert_int_eq(p.client_alert, 112);
            pair_end(&p);
        }
    }
}
END_TEST

START_TEST(protocol_we_do_not_have_gets_its_alert)
{
    pair_start(&p, cfg, PAIR_GATE, TLS13, "a.test", "h2");
    pair_run(&p, 5000);
    ck_assert_int_eq(p.client_alert, 120);
    pair_end(&p);
    pair_start(&p, cfg, PAIR_GATE, TLS13, "a.test", NULL);
    pair_run(&p, 5000);
    check_done();
    pair_end(&p);
}
END_TEST

/* ------------------------------------------------------------------------ tickets */

static void get_ticket(enum pair_door door, const char *version, gnutls_datum_t *ret)
{
    char byte;

    pair_start(&p, cfg, door, version, "a.test", NULL);
    pair_run(&p, 5000);
    check_done();
    ck_assert_int_eq(gnutls_session_is_resumed(p.server), 0);
    ck_assert_int_eq(gnutls_record_recv(p.client, &byte, 1), GNUTLS_E_AGAIN); /* 1.3: takes it in */
    ck_assert_int_eq(gnutls_session_get_data2(p.client, ret), 0);
    pair_end(&p);
}

static bool resumes(enum pair_door door, const char *version, const char *name,
                    const gnutls_datum_t *data)
{
    bool r;

    pair_start(&p, cfg, door, version, name, NULL);
    ck_assert_int_eq(gnutls_session_set_data(p.client, data->data, data->size), 0);
    pair_run(&p, 5000);
    check_done();
    r = gnutls_session_is_resumed(p.server) != 0;
    ck_assert(r == (gnutls_session_is_resumed(p.client) != 0));
    ck_assert(r || client_sees(name));
    pair_end(&p);
    return r;
}

START_TEST(ticket_resumes_its_own_name_and_no_other)
{
    for (size_t d = 0; d < 2; d++) {
        for (size_t v = 0; v < 2; v++) {
            gnutls_datum_t data = { NULL, 0 };

            get_ticket(doors[d], versions[v], &data);
            ck_assert(resumes(doors[d], versions[v], "a.test", &data));
            ck_assert(!resumes(doors[d], versions[v], "b.test", &data));
            gnutls_free(data.data);
        }
    }
}
END_TEST

/* Does a ticket that @from gave for @name resume a session for @other at @at? */
static bool ticket_goes(struct cm_config *from, const char *name, struct cm_config *at,
                        const char *other)
{
    gnutls_datum_t data = { NULL, 0 };
    char byte;
    bool r;

    pair_start(&p, from, PAIR_HOOK, TLS13, name, NULL);
    pair_run(&p, 5000);
    check_done();
    ck_assert_int_eq(gnutls_record_recv(p.client, &byte, 1), GNUTLS_E_AGAIN);
    ck_assert_int_eq(gnutls_session_get_data2(p.client, &data), 0);
    pair_end(&p);
    pair_start(&p, at, PAIR_GATE, TLS13, other, NULL);
    ck_assert_int_eq(gnutls_session_set_data(p.client, data.data, data.size), 0);
    pair_run(&p, 5000);
    check_done();
    r = gnutls_session_is_resumed(p.server) != 0;
    pair_end(&p);
    gnutls_free(data.data);
    return r;
}

START_TEST(names_of_one_certificate_keep_their_tickets_apart)
{
    static const char *const names[] = { "n0.test", "n1.test", "n2.test",
                                         "n3.test", "n4.test", "n5.test" };
    const size_t n = CM_ARRAY_LEN(names);

    for (size_t i = 0; i < n; i++)
        fake_add_refusal(cfg, names[i], CM_OK, 0)->cert = cm_cert_ref(cfg->names[0].cert);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++)
            ck_assert(ticket_goes(cfg, names[i], cfg, names[k]) == (i == k));
    }
}
END_TEST

START_TEST(configs_that_share_a_certificate_keep_their_tickets_apart)
{
    struct cm_config *other = fake_config();

    fake_add_refusal(other, "a.test", CM_OK, 0)->cert = cm_cert_ref(cfg->names[0].cert);
    for (size_t i = 0; i < 3; i++) { /* while keys are derived, kept and found */
        ck_assert(ticket_goes(cfg, "a.test", cfg, "a.test"));
        ck_assert(!ticket_goes(cfg, "a.test", other, "a.test"));
        ck_assert(ticket_goes(other, "a.test", other, "a.test"));
    }
    fake_config_drop(other);
}
END_TEST

START_TEST(tickets_of_the_last_key_and_of_the_next_are_read)
{
    uint8_t keys[4][CM_TICKET_KEY_LEN];
    gnutls_datum_t data = { NULL, 0 };

    for (size_t i = 0; i < CM_ARRAY_LEN(keys); i++)
        memset(keys[i], (int)i + 1, sizeof keys[i]);
    for (size_t d = 0; d < 2; d++) {
        for (size_t v = 0; v < 2; v++) {
            fake_ticket_keys(cfg, keys, 1);
            get_ticket(doors[d], versions[v], &data);
            for (size_t i = 0; i < CM_ARRAY_LEN(keys); i++) { /* the first, as number i of four */
                uint8_t order[4][CM_TICKET_KEY_LEN];

                for (size_t k = 0; k < CM_ARRAY_LEN(keys); k++)
                    memcpy(order[(k + i) % CM_ARRAY_LEN(keys)], keys[k], sizeof keys[k]);
                fake_ticket_keys(cfg, order, CM_ARRAY_LEN(keys));
                ck_assert(resumes(doors[d], versions[v], "a.test", &data));
                ck_assert(resumes(doors[d], versions[v], "a.test", &data)); /* as kept */
                ck_assert(!resumes(doors[d], versions[v], "b.test", &data));
            }
            fake_ticket_keys(cfg, keys + 1, CM_ARRAY_LEN(keys) - 1);
            ck_assert(!resumes(doors[d], versions[v], "a.test", &data));
            gnutls_free(data.data);
        }
    }
}
END_TEST

START_TEST(ticket_does_not_outlive_the_right_to_the_name)
{
    gnutls_datum_t data = { NULL, 0 };

    get_ticket(PAIR_GATE, TLS13, &data);
    cm_cert_unref(cfg->names[0].cert);
    cfg->names[0].cert = NULL;
    cfg->names[0].rc = CM_E_NOTFOUND;
    pair_start(&p, cfg, PAIR_GATE, TLS13, "a.test", NULL);
    ck_assert_int_eq(gnutls_session_set_data(p.client, data.data, data.size), 0);
    pair_run(&p, 5000);
    ck_assert_int_eq(p.client_alert, 112);
    pair_end(&p);
    gnutls_free(data.data);
}
END_TEST

START_TEST(no_tickets_when_disabled_and_none_for_challenges)
{
    gnutls_datum_t data = { NULL, 0 };
    char byte;

    cfg->no_tickets = true;
    get_ticket(PAIR_GATE, TLS13, &data);
    cfg->no_tickets = false;
    ck_assert(!resumes(PAIR_GATE, TLS13, "a.test", &data));
    gnutls_free(data.data);
    (void)fake_add_challenge(cfg, "a.test");
    for (size_t v = 0; v < 2; v++) {
        pair_start(&p, cfg, PAIR_GATE, versions[v], "a.test", "acme-tls/1");
        pair_run(&p, 5000);
        check_done();
        ck_assert_int_eq(gnutls_record_recv(p.client, &byte, 1), GNUTLS_E_AGAIN);
        ck_assert((gnutls_session_get_flags(p.client) & GNUTLS_SFLAGS_SESSION_TICKET) == 0);
        pair_end(&p);
    }
}
END_TEST

/* ------------------------------------------------------------------------ lifetime */

START_TEST(certificate_lives_as_long_as_the_session)
{
    unsigned alive = fake_certs_alive();

    pair_start(&p, cfg, PAIR_GATE, TLS13, "a.test", NULL);
    pair_run(&p, 5000);
    check_done();
    cm_cert_unref(cfg->names[0].cert); /* taken out of the cache */
    cfg->names[0].cert = NULL;
    ck_assert_uint_eq(fake_certs_alive(), alive);
    ck_assert_ptr_nonnull(gnutls_certificate_get_ours(p.server));
    pair_end(&p);
    ck_assert_uint_eq(fake_certs_alive(), alive - 1);
}
END_TEST

START_TEST(session_may_end_while_it_waits)
{
    cfg->names[0].delay_ms = -1;
    pair_start(&p, cfg, PAIR_GATE, TLS13, "a.test", NULL);
    pair_run(&p, 100);
    ck_assert_uint_eq(atomic_load(&cfg->waiting), 1);
    pair_end(&p);
    ck_assert_uint_eq(atomic_load(&cfg->waiting), 0);
}
END_TEST

START_TEST(lack_of_memory_fails_a_handshake_and_no_more)
{
    size_t failed = 0;

    for (size_t d = 0; d < 2; d++) {
        for (uint64_t n = 1; n < 25; n++) {
            pair_start(&p, cfg, doors[d], TLS13, n % 2 == 0 ? "a.test" : "b.test", NULL);
            (void)cm_alloc_fail_at(n);
            pair_run(&p, 2000);
            (void)cm_alloc_fail_at(0);
            ck_assert_int_ne(p.server_rc, GNUTLS_E_AGAIN);
            failed += p.server_rc < 0;
            pair_end(&p);
        }
    }
    ck_assert_uint_gt(failed, 0);
    pair_start(&p, cfg, PAIR_GATE, TLS13, "a.test", NULL);
    pair_run(&p, 2000);
    check_done();
    pair_end(&p);
}
END_TEST

START_TEST(application_keeps_its_pointer_and_its_extension)
{
    static int mine;
    gnutls_session_t s;

    ck_assert_int_eq(gnutls_init(&s, GNUTLS_SERVER), 0);
    gnutls_session_set_ptr(s, &mine);
    ck_assert_int_eq(gnutls_session_ext_register(s, "app", 0xFDE8, GNUTLS_EXT_TLS, NULL, NULL, NULL,
                                                 NULL, NULL, 0),
                     0);
    gnutls_ext_set_data(s, 0xFDE8, &mine);
    ck_assert_int_eq(cm_config_tls_setup(cfg, s, -1, NULL), CM_OK);
    ck_assert_ptr_eq(gnutls_session_get_ptr(s), &mine);
    ck_assert(!cm_tls_is_challenge(s));
    ck_assert_int_eq(cm_tls_refusal(s, NULL), CM_OK);
    ck_assert_int_eq(cm_config_tls_setup(cfg, s, -1, NULL), CM_E_STATE);
    gnutls_deinit(s);
}
END_TEST

START_TEST(session_of_somebody_else_is_none_of_ours)
{
    gnutls_session_t s;

    ck_assert_int_eq(gnutls_init(&s, GNUTLS_SERVER), 0);
    ck_assert_int_eq(cm_tls_wait_fd(s), -1);
    ck_assert(!cm_tls_is_challenge(s));
    ck_assert_int_eq(cm_tls_refusal(s, NULL), CM_E_STATE);
    ck_assert_int_lt(cm_tls_retrieve(s, NULL, NULL, NULL, NULL, NULL, NULL, NULL), 0);
    gnutls_deinit(s);
}
END_TEST

START_TEST(wrong_setup_is_refused)
{
    const char *const nine[] = { "1", "2", "3", "4", "5", "6", "7", "8", "9", NULL };
    const char *const acme[] = { "h2", "acme-tls/1", NULL };
    gnutls_session_t s;

    ck_assert_int_eq(gnutls_init(&s, GNUTLS_SERVER), 0);
    ck_assert_int_eq(cm_config_tls_setup(NULL, s, -1, NULL), CM_E_INVAL);
    ck_assert_int_eq(cm_config_tls_setup(cfg, NULL, -1, NULL), CM_E_INVAL);
    ck_assert_int_eq(cm_config_tls_setup_alpn(cfg, s, -1, nine, NULL), CM_E_INVAL);
    ck_assert_int_eq(cm_config_tls_setup_alpn(cfg, s, -1, acme, NULL), CM_E_INVAL);
    cfg->priority = "NORMAL:+NONSENSE";
    ck_assert_int_eq(cm_config_tls_setup(cfg, s, -1, NULL), CM_E_INVAL);
    gnutls_deinit(s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        each_door_serves_each_version,
        hello_may_come_in_records_and_writes_of_any_size,
        gate_answers_again_until_the_certificate_is_there,
        hook_waits_by_itself,
        answer_that_never_comes_ends_with_an_internal_error,
        refusal_is_decided_once_and_told_truly,
        name_that_is_none_is_refused_without_a_look,
        retry_keeps_the_decision,
        retry_with_another_name_is_an_illegal_parameter,
        sole_acme_protocol_gets_the_challenge_and_nobody_else,
        protocol_we_do_not_have_gets_its_alert,
        ticket_resumes_its_own_name_and_no_other,
        names_of_one_certificate_keep_their_tickets_apart,
        configs_that_share_a_certificate_keep_their_tickets_apart,
        tickets_of_the_last_key_and_of_the_next_are_read,
        ticket_does_not_outlive_the_right_to_the_name,
        no_tickets_when_disabled_and_none_for_challenges,
        certificate_lives_as_long_as_the_session,
        session_may_end_while_it_waits,
        lack_of_memory_fails_a_handshake_and_no_more,
        application_keeps_its_pointer_and_its_extension,
        session_of_somebody_else_is_none_of_ours,
        wrong_setup_is_refused,
    };

    return run_tests_how("doors", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
