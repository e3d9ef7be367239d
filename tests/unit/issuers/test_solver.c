/* SPDX-License-Identifier: Apache-2.0 */
#include "core.h"
#include "issuers.h"
#include "kit.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The shared solver: what it puts into storage, byte for byte, and that it takes it back. */

static struct cm_err err;
static struct cm_issuer_host host;
static struct cm_solver *solver;

#define PREFIX "acme/ca.test-dir"

static bool is_open(uint16_t port)
{
    int fd = kit_dial(port);

    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static void set_up(void)
{
    host = (struct cm_issuer_host){ .size = sizeof host,
                                    .env = cm_env_system(),
                                    .listen_host = "127.0.0.1",
                                    .http_port = kit_free_port(),
                                    .tls_port = kit_free_port() };
    ck_assert_msg(cm_storage_open("memory:", NULL, &host.storage, &err) == CM_OK, "%s", err.msg);
    ck_assert_int_eq(cm_board_new(&host.board, &err), CM_OK);
    ck_assert_int_eq(cm_solver_shared_new(&host, NULL, &solver, &err), CM_OK);
}

static void tear_down(void)
{
    cm_solver_destroy(solver);
    cm_board_free(host.board);
    cm_storage_close(host.storage);
}

static void expect_stored(const char *key, const char *want)
{
    struct cm_buf got = CM_BUF_INIT(4096);
    cm_status rc = cm_storage_load(host.storage, NULL, key, &got, &err);
    if (want == NULL) {
        ck_assert_int_eq(rc, CM_E_NOTFOUND);
    } else {
        ck_assert_msg(rc == CM_OK, "%s", err.msg);
        ck_assert_str_eq(cm_buf_str(&got), want);
    }
    cm_buf_free(&got);
}

static void present_and_take_back(const struct cm_challenge *ch, const char *key, const char *json,
                                  uint16_t port)
{
    void *state = NULL;
    ck_assert(!is_open(port));
    ck_assert_msg(cm_solver_present(solver, NULL, ch, &state, &err) == CM_OK, "%s", err.msg);
    expect_stored(key, json);
    ck_assert(is_open(port));
    cm_solver_cleanup(solver, NULL, state);
    expect_stored(key, NULL);
    ck_assert(!is_open(port));
}

START_TEST(http_token_is_stored_as_peers_write_it)
{
    const struct cm_challenge ch = { .type = "http-01",
                                     .url = "https://ca.test/chal/1",
                                     .token = "tok",
                                     .key_authorization = "tok.thumb",
                                     .ident_type = CM_IDENT_DNS,
                                     .ident = "example.com",
                                     .prefix = PREFIX };
    present_and_take_back(&ch, PREFIX "/challenge_tokens/example.com.json",
                          "{\"type\":\"http-01\",\"url\":\"https://ca.test/chal/1\","
                          "\"status\":\"pending\",\"token\":\"tok\","
                          "\"keyAuthorization\":\"tok.thumb\","
                          "\"identifier\":{\"type\":\"dns\",\"value\":\"example.com\"}}",
                          host.http_port);
}
END_TEST

START_TEST(alpn_token_of_an_address_lies_under_its_reverse_name)
{
    const struct cm_challenge ch = { .type = "tls-alpn-01",
                                     .url = "https://ca.test/chal/2",
                                     .token = "tok2",
                                     .key_authorization = "tok2.thumb",
                                     .ident_type = CM_IDENT_IP,
                                     .ident = "192.0.2.1",
                                     .prefix = PREFIX };
    present_and_take_back(&ch, PREFIX "/challenge_tokens/1.2.0.192.in-addr.arpa.json",
                          "{\"type\":\"tls-alpn-01\",\"url\":\"https://ca.test/chal/2\","
                          "\"status\":\"pending\",\"token\":\"tok2\","
                          "\"keyAuthorization\":\"tok2.thumb\","
                          "\"identifier\":{\"type\":\"ip\",\"value\":\"192.0.2.1\"}}",
                          host.tls_port);
}
END_TEST

START_TEST(port_stays_open_until_the_last_challenge_is_over)
{
    struct cm_challenge ch = { .type = "http-01",
                               .url = "https://ca.test/chal/3",
                               .token = "tok3",
                               .key_authorization = "tok3.thumb",
                               .ident = "a.test",
                               .prefix = PREFIX };
    void *a = NULL;
    void *b = NULL;
    ck_assert_int_eq(cm_solver_present(solver, NULL, &ch, &a, &err), CM_OK);
    ch.ident = "b.test";
    ck_assert_int_eq(cm_solver_present(solver, NULL, &ch, &b, &err), CM_OK);
    cm_solver_cleanup(solver, NULL, a);
    ck_assert(is_open(host.http_port));
    cm_solver_cleanup(solver, NULL, b);
    ck_assert(!is_open(host.http_port));
}
END_TEST

START_TEST(port_lingers_while_another_process_has_a_challenge_open)
{
    static const char other[] = PREFIX "/challenge_tokens/other.test.json";
    const struct cm_challenge ch = { .type = "http-01",
                                     .url = "https://ca.test/chal/4",
                                     .token = "tok4",
                                     .key_authorization = "tok4.thumb",
                                     .ident = "a.test",
                                     .prefix = PREFIX };
    const struct cm_op op = { NULL, 0, NULL };
    void *state = NULL;
    ck_assert_int_eq(cm_solver_present(solver, NULL, &ch, &state, &err), CM_OK);
    ck_assert_int_eq(cm_storage_store(host.storage, NULL, other, cm_span_str("{}"), &err), CM_OK);
    cm_solver_cleanup(solver, NULL, state);
    ck_assert(is_open(host.http_port));
    ck_assert_int_eq(cm_storage_remove(host.storage, NULL, other, &err), CM_OK);
    for (int i = 0; i < 200 && is_open(host.http_port); i++)
        ck_assert_int_eq(cm_op_wait(&op, 10 * CM_NS_PER_MS, &err), CM_OK);
    ck_assert(!is_open(host.http_port));
}
END_TEST

START_TEST(token_lies_under_both_prefixes_if_wanted_and_leaves_both)
{
    const struct cm_challenge ch = { .type = "http-01",
                                     .url = "u",
                                     .token = "tok6",
                                     .key_authorization = "tok6.thumb",
                                     .ident_type = CM_IDENT_DNS,
                                     .ident = "a.test",
                                     .prefix = PREFIX };
    static const char json[] = "{\"type\":\"http-01\",\"url\":\"u\",\"status\":\"pending\","
                               "\"token\":\"tok6\",\"keyAuthorization\":\"tok6.thumb\","
                               "\"identifier\":{\"type\":\"dns\",\"value\":\"a.test\"}}";
    struct cm_solver *both = NULL;
    void *state = NULL;

    ck_assert_int_eq(cm_solver_shared_new(&host, "acme/production", &both, &err), CM_OK);
    ck_assert_msg(cm_solver_present(both, NULL, &ch, &state, &err) == CM_OK, "%s", err.msg);
    expect_stored(PREFIX "/challenge_tokens/a.test.json", json);
    expect_stored("acme/production/challenge_tokens/a.test.json", json);
    cm_solver_cleanup(both, NULL, state);
    expect_stored(PREFIX "/challenge_tokens/a.test.json", NULL);
    expect_stored("acme/production/challenge_tokens/a.test.json", NULL);
    cm_solver_destroy(both);
}
END_TEST

START_TEST(port_that_somebody_has_is_left_to_him)
{
    struct sockaddr_in a = kit_loopback(host.http_port);
    const struct cm_challenge ch = { .type = "http-01",
                                     .url = "https://ca.test/chal/5",
                                     .token = "tok5",
                                     .key_authorization = "tok5.thumb",
                                     .ident = "a.test",
                                     .prefix = PREFIX };
    void *state = NULL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    ck_assert_int_eq(cm_solver_present(solver, NULL, &ch, &state, &err), CM_OK);
    expect_stored(PREFIX "/challenge_tokens/a.test.json",
                  "{\"type\":\"http-01\",\"url\":\"https://ca.test/chal/5\","
                  "\"status\":\"pending\",\"token\":\"tok5\",\"keyAuthorization\":\"tok5.thumb\","
                  "\"identifier\":{\"type\":\"dns\",\"value\":\"a.test\"}}");
    cm_solver_cleanup(solver, NULL, state);
    ck_assert(is_open(host.http_port));
    (void)close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("solver");
    TCase *tc = tcase_create("solver");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, http_token_is_stored_as_peers_write_it);
    tcase_add_test(tc, alpn_token_of_an_address_lies_under_its_reverse_name);
    tcase_add_test(tc, port_stays_open_until_the_last_challenge_is_over);
    tcase_add_test(tc, port_lingers_while_another_process_has_a_challenge_open);
    tcase_add_test(tc, port_that_somebody_has_is_left_to_him);
    tcase_add_test(tc, token_lies_under_both_prefixes_if_wanted_and_leaves_both);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
