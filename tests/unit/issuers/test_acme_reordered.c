/* SPDX-License-Identifier: Apache-2.0 */
#define RUN_TIMEOUT_S 60
#include "core.h"
#include "issuers.h"
#include "run.h"
#include "scripted_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A CA says what it says in any order: authorizations in another one than the names of the order,
 * challenges in another one in each. RFC 8555 promises none. */

static struct cm_err err;
static struct cm_issuer_host host;
static struct scripted_http *ca;
static struct cm_issuer *issuer;
static atomic_uint wrong;

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == CM_OK, "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);        \
    } while (0)

static const char order[] =
    "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"c.test\"},"
    "{\"type\":\"dns\",\"value\":\"a.test\"},{\"type\":\"dns\",\"value\":\"b.test\"}],"
    "\"authorizations\":[\"{BASE}/z/b\",\"{BASE}/z/c\",\"{BASE}/z/a\"],"
    "\"finalize\":\"{BASE}/fin\"}";
static const char order_is_valid[] =
    "{\"status\":\"valid\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"b.test\"},"
    "{\"type\":\"dns\",\"value\":\"c.test\"},{\"type\":\"dns\",\"value\":\"a.test\"}],"
    "\"authorizations\":[\"{BASE}/z/a\",\"{BASE}/z/b\",\"{BASE}/z/c\"],"
    "\"finalize\":\"{BASE}/fin\",\"certificate\":\"{BASE}/cert\"}";

/* The name in question, by the last letter of a path. */
static char name_of(const struct sh_request *req)
{
    return req->path[strlen(req->path) - 1];
}

/* Each with its tokens, and its challenges turned by one more. */
static void tell_authz(void *user, struct scripted_http *sh, const struct sh_request *req,
                       struct sh_reply *reply)
{
    static const char *const types[] = { "dns-01", "tls-alpn-01", "http-01" };
    const char n = name_of(req);
    char *text = NULL;
    char c[3][160];

    (void)user;
    for (int i = 0; i < 3; i++) {
        const char *type = types[(i + n) % 3];

        (void)snprintf(c[i], sizeof c[i],
                       "{\"type\":\"%s\",\"url\":\"%s/%s/%c\",\"token\":\"%s-%c\"}", type,
                       sh_base(sh), type, n, type, n);
    }
    if (asprintf(&text,
                 "{\"challenges\":[%s,%s,%s],\"status\":\"pending\",\"identifier\":"
                 "{\"value\":\"%c.test\",\"type\":\"dns\"}}",
                 c[0], c[1], c[2], n) < 0)
        abort();
    reply->body = sh_keep(sh, text);
}

/* The CA would look now: what is put up for that name? */
static void accept_challenge(void *user, struct scripted_http *sh, const struct sh_request *req,
                             struct sh_reply *reply)
{
    struct cm_buf json = CM_BUF_INIT(16 * 1024);
    struct cm_err why = CM_ERR_INIT;
    char key[256], token[64];
    const char n = name_of(req);

    (void)user;
    (void)sh;
    (void)snprintf(key, sizeof key, "%s/challenge_tokens/%c.test.json",
                   cm_issuer_challenge_prefix(issuer, 0), n);
    (void)snprintf(token, sizeof token, "\"token\":\"http-01-%c\"", n);
    if (cm_storage_load(host.storage, NULL, key, &json, &why) != CM_OK ||
        strstr(cm_buf_str(&json), token) == NULL)
        (void)atomic_fetch_add(&wrong, 1);
    cm_buf_free(&json);
    reply->body = "{}";
}

static void set_up(void)
{
    struct cm_acme_options o = { .agreed = true };

    ca = sh_start(0);
    sh_on(ca, "GET", "/dir",
          &(struct sh_reply){ .body =
                                  "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/acct\","
                                  "\"newOrder\":\"{BASE}/order\"}",
                              .no_nonce = true });
    sh_on(ca, "HEAD", "/nonce", &(struct sh_reply){ 0 });
    sh_on(ca, "POST", "/acct",
          &(struct sh_reply){ .status = 201,
                              .headers = "Location: {BASE}/acct/1\r\n",
                              .body = "{\"status\":\"valid\"}" });
    sh_on(ca, "POST", "/order",
          &(struct sh_reply){
              .status = 201, .headers = "Location: {BASE}/order/1\r\n", .body = order });
    sh_handle(ca, "POST", "/z/*", tell_authz, NULL);
    sh_handle(ca, "POST", "/http-01/*", accept_challenge, NULL);
    sh_on(ca, "POST", "/order/1", &(struct sh_reply){ .body = order_is_valid });
    sh_on(ca, "POST", "/cert", &(struct sh_reply){ .body = "the chain" });
    host = (struct cm_issuer_host){ .size = sizeof host, .listen_host = "127.0.0.1" };
    ck_ok(cm_storage_open("memory:", NULL, &host.storage, &err));
    ck_ok(cm_board_new(&host.board, &err));
    o.directory_url = sh_url(ca, "/dir");
    o.allow_plain_http = true;
    o.challenges = CM_CHALLENGE_HTTP01;
    ck_ok(cm_acme_issuer_new(&o, &issuer, &err));
    ck_ok(cm_issuer_attach(issuer, &host, &err));
}

static void tear_down(void)
{
    cm_issuer_destroy(issuer);
    cm_board_free(host.board);
    cm_storage_close(host.storage);
    sh_stop(ca);
}

static cm_status checkpoint(void *user, const struct cm_op *o, struct cm_span state,
                            struct cm_err *e)
{
    (void)user;
    (void)o;
    (void)state;
    (void)e;
    return CM_OK;
}

START_TEST(each_name_is_answered_for_whatever_the_order)
{
    static const char *const names[] = { "a.test", "b.test", "c.test" };
    const struct cm_issue_request req = { .size = sizeof req,
                                          .names = names,
                                          .n_names = 3,
                                          .csr_der = cm_span_str("csr"),
                                          .checkpoint = checkpoint };
    struct cm_issued is = { CM_BUF_INIT(CM_CHAIN_PEM_MAX), CM_BUF_INIT(65536) };

    ck_ok(cm_issuer_issue(issuer, NULL, &req, &is, &err));
    ck_assert_str_eq(cm_buf_str(&is.chain_pem), "the chain");
    ck_assert_uint_eq(sh_count(ca, "POST", "/order"), 1);
    ck_assert_uint_eq(sh_count(ca, "POST", "/http-01/a"), 1);
    ck_assert_uint_eq(sh_count(ca, "POST", "/http-01/b"), 1);
    ck_assert_uint_eq(sh_count(ca, "POST", "/http-01/c"), 1);
    ck_assert_uint_eq(atomic_load(&wrong), 0);
    cm_buf_free(&is.chain_pem);
    cm_buf_free(&is.issuer_data);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { each_name_is_answered_for_whatever_the_order };

    return run_tests_how("acme_reordered", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = set_up, .teardown = tear_down });
}
