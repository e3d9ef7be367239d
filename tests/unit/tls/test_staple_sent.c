/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"
#include "run.h"

/* The staple on its way to the client: to whom, for how long, and who keeps it meanwhile. */

static const char *const versions[] = { "NORMAL:-VERS-ALL:+VERS-TLS1.2",
                                        "NORMAL:-VERS-ALL:+VERS-TLS1.3" };

static struct cm_config *cfg;
static struct pair p;

static void setup(void)
{
    cfg = fake_config();
    (void)fake_add(cfg, "a.test", CM_PK_P256);
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

/* What the client got: the bytes of the staple as text, "" for none. */
static void check_staple(const char *priority, const char *want)
{
    gnutls_datum_t got = { NULL, 0 };

    pair_start(&p, cfg, PAIR_GATE, priority, "a.test", NULL);
    pair_run(&p, 5000);
    check_done();
    int rc = gnutls_ocsp_status_request_get2(p.client, 0, &got);
    if (want[0] == '\0') {
        ck_assert_msg(rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE, "%s: %d", priority, rc);
    } else {
        ck_assert_msg(rc == 0, "%s: %s", priority, gnutls_strerror(rc));
        ck_assert_uint_eq(got.size, strlen(want));
        ck_assert_mem_eq(got.data, want, got.size);
    }
}

START_TEST(staple_goes_to_who_asks_until_it_ends)
{
    int64_t now = cm_env_wall_s(cm_env_system());
    struct fake_name *e = &cfg->names[0];

    for (size_t v = 0; v < 2; v++) {
        fake_staple(e, cm_span_str("first"), now + 3600);
        check_staple(versions[v], "first");
        ck_assert_int_eq(fake_staple_refs(e), 2);
        pair_end(&p);
        ck_assert_int_eq(fake_staple_refs(e), 1);

        /* In the middle of a connection it may be replaced: who has it keeps it. */
        check_staple(versions[v], "first");
        fake_staple(e, cm_span_str("second"), now + 3600);
        pair_end(&p);
        check_staple(versions[v], "second");
        pair_end(&p);

        fake_staple(e, cm_span_str("past"), now - 1);
        check_staple(versions[v], "");
        pair_end(&p);
    }
}
END_TEST

START_TEST(staple_goes_to_nobody_else)
{
    int64_t now = cm_env_wall_s(cm_env_system());
    struct fake_name *e = &cfg->names[0];

    fake_staple(e, cm_span_str("staple"), now + 3600);
    for (size_t v = 0; v < 2; v++) {
        pair_client_flags = GNUTLS_NO_EXTENSIONS;
        pair_start(&p, cfg, PAIR_HOOK, versions[v], "a.test", NULL);
        pair_client_flags = 0;
        pair_run(&p, 5000);
        check_done();
        ck_assert_int_eq(fake_staple_refs(e), 1);
        pair_end(&p);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        staple_goes_to_who_asks_until_it_ends,
        staple_goes_to_nobody_else,
    };

    return run_tests_how("staple_sent", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
