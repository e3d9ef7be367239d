/* SPDX-License-Identifier: Apache-2.0 */
#define RUN_TIMEOUT_S 60
#include "run.h"

#include "must.h"
#include "public.h"

#include <stdio.h>
#include <string.h>

/* The client of cm_acme.h over a transport of the test's own: nothing leaves the process. */

#define CA "https://ca.example.com"

static struct cm_err err;

/* ---------------------------------------------------------------- a scripted CA */

struct answer {
    const char *url; /* what follows CA */
    int status;
    const char *headers; /* more of them */
    const char *body;
    unsigned times; /* how often it is given; then the next one for this URL */
};

struct ca {
    struct cm_acme_transport base;
    const struct answer *answers;
    size_t n;
    unsigned used[32];
    unsigned nonces, posts, net_failures;
    char payload[4096]; /* of the last POST, decoded */
    char protected_header[4096];
};

static void decode_part(const char *body, const char *member, char *ret, size_t size)
{
    struct cm_buf out = CM_BUF_INIT(size - 1);
    const char *from = strstr(body, member);

    ck_assert(from != NULL);
    from += strlen(member) + 3; /* ":" */
    size_t len = strcspn(from, "\"");
    ret[0] = '\0';
    if (len > 0) {
        must(cm_b64url_decode((struct cm_span){ (const uint8_t *)from, len }, &out, &err));
        (void)snprintf(ret, size, "%s", cm_buf_str(&out));
    }
    cm_buf_free(&out);
}

static cm_status give(struct ca *ca, const struct answer *a, int *ret_status,
                      struct cm_buf *headers, struct cm_buf *body, struct cm_err *e)
{
    *ret_status = a->status;
    cm_status rc = cm_buf_printf(headers, e, "Replay-Nonce: nonce%u\n%s", ++ca->nonces,
                                 a->headers != NULL ? a->headers : "");
    return rc == CM_OK ? cm_buf_puts(body, a->body != NULL ? a->body : "", e) : rc;
}

static cm_status exchange(struct cm_acme_transport *t, const struct cm_op *op,
                          const struct cm_acme_exchange *x, int *ret_status, struct cm_buf *headers,
                          struct cm_buf *body, struct cm_err *e)
{
    static const struct answer nonce = { .status = 200 }, missing = { .status = 500 };
    struct ca *ca = (struct ca *)(void *)t;

    (void)op;
    ck_assert_int_eq(strncmp(x->url, CA, sizeof CA - 1), 0);
    if (strcmp(x->method, "HEAD") == 0)
        return give(ca, &nonce, ret_status, headers, body, e);
    if (ca->net_failures > 0) {
        ca->net_failures--;
        return cm_fail(e, CM_E_NET, "the line is cut");
    }
    if (strcmp(x->method, "POST") == 0) {
        CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(CM_ACME_REQUEST_MAX);

        must(cm_buf_append(&text, x->body.data, x->body.len, &err));
        ck_assert_str_eq(x->content_type, "application/jose+json");
        decode_part(cm_buf_str(&text), "\"payload", ca->payload, sizeof ca->payload);
        decode_part(cm_buf_str(&text), "\"protected", ca->protected_header,
                    sizeof ca->protected_header);
        ca->posts++;
    }
    for (size_t i = 0; i < ca->n; i++) {
        const struct answer *a = &ca->answers[i];

        if (strcmp(a->url, x->url + sizeof CA - 1) == 0 &&
            (a->times == 0 || ca->used[i] < a->times)) {
            ca->used[i]++;
            return give(ca, a, ret_status, headers, body, e);
        }
    }
    return give(ca, &missing, ret_status, headers, body, e);
}

static const struct cm_acme_transport_ops ops = {
    .abi = CM_SPI_ABI, .size = sizeof ops, .name = "test", .exchange = exchange
};

#define DIRECTORY                                                                                  \
    "{\"newNonce\":\"" CA "/nonce\",\"newAccount\":\"" CA "/account\",\"newOrder\":\"" CA          \
    "/order\",\"revokeCert\":\"" CA "/revoke\",\"meta\":{\"termsOfService\":\"" CA                 \
    "/terms\",\"caaIdentities\":[\"CA.example.com\",\"..\",7],\"externalAccountRequired\":true,"   \
    "\"profiles\":{\"short\":\"six days\"}},\"x\":{}"
#define ACCOUNT                                                                                    \
    {                                                                                              \
        "/account", 201, "Location: " CA "/acct/1\n", "{\"status\":\"valid\",\"new\":[1,{}]}", 1   \
    }

static struct cm_buf account_key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

static struct cm_acme_client *client(struct ca *ca, const struct answer *answers, size_t n,
                                     const char *account_url)
{
    struct cm_acme_client_config cfg = CM_ACME_CLIENT_CONFIG_INIT;
    struct cm_acme_client *c = NULL;

    *ca = (struct ca){ .base = { &ops }, .answers = answers, .n = n };
    cfg.directory_url = CA "/dir";
    cfg.account_key_pem = cm_buf_span(&account_key);
    cfg.account_url = account_url;
    cfg.poll_first_ms = 1;
    cfg.poll_cap_ms = 2;
    cfg.transport = &ca->base;
    must(cm_acme_client_new(&cfg, &c, &err));
    return c;
}
#define CLIENT(ca, answers) client(ca, answers, CM_ARRAY_LEN(answers), CA "/acct/1")

static void setup(void)
{
    struct cm_key *key = NULL;

    must(cm_key_generate(CM_PK_P256, &key, &err));
    must(cm_key_to_pem(key, &account_key, &err));
    cm_key_unref(key);
}

static void teardown(void)
{
    cm_buf_free(&account_key);
}

/* ------------------------------------------------------------------------- tests */

START_TEST(configuration)
{
    static const struct cm_acme_transport_ops old = { .abi = 77, .exchange = exchange };
    struct cm_acme_transport t = { &old };
    struct cm_acme_client_config cfg = CM_ACME_CLIENT_CONFIG_INIT;
    struct cm_acme_client *c = NULL;

    must_fail(cm_acme_client_new(NULL, &c, &err), CM_E_INVAL);
    ck_assert_int_ne(cm_acme_client_new(&cfg, &c, &err), CM_OK); /* no key */
    cfg.account_key_pem = cm_buf_span(&account_key);
    cfg.directory_url = "http://ca.example.com/dir";
    must_fail(cm_acme_client_new(&cfg, &c, &err), CM_E_POLICY);
    cfg.directory_url = NULL;
    cfg.transport = &t;
    must_fail(cm_acme_client_new(&cfg, &c, &err), CM_E_INVAL);
    cfg.transport = NULL;
    must(cm_acme_client_new(&cfg, &c, &err));
    cm_acme_client_free(c);
    cm_acme_client_free(NULL);
}
END_TEST

START_TEST(directory)
{
    static const struct answer a[] = { { "/dir", 200, NULL, DIRECTORY "}", 0 } };
    struct cm_acme_info info = { .size = sizeof info };
    struct cm_acme_client *c;
    struct ca ca;

    c = CLIENT(&ca, a);
    must(cm_acme_client_discover(c, NULL, &info, &err));
    ck_assert_str_eq(info.new_order, CA "/order");
    ck_assert_str_eq(info.terms_of_service, CA "/terms");
    ck_assert(info.key_change == NULL && info.renewal_info == NULL && info.new_authz == NULL);
    ck_assert(info.eab_required);
    ck_assert_str_eq(info.caa[0], "ca.example.com");
    ck_assert(info.caa[1] == NULL);
    ck_assert_str_eq(info.profiles[0], "short");
    must(cm_acme_client_discover(c, NULL, &info, &err));
    ck_assert_uint_eq(ca.used[0], 1);
    cm_acme_client_free(c);
}
END_TEST

START_TEST(accounts)
{
    static const struct answer a[] = {
        { "/dir", 200, NULL, DIRECTORY "}", 0 },
        { "/account", 400, "Content-Type: application/problem+json\n",
          "{\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\",\"detail\":\"no\"}", 2 },
        ACCOUNT,
        { "/account", 200, "Location: " CA "/acct/1\n", "{\"status\":\"valid\"}", 0 },
        { "/acct/1", 200, NULL, "{\"status\":\"valid\",\"contact\":[\"mailto:b@example.com\"]}",
          0 },
    };
    static const char *const contact[] = { "mailto:a@example.com" };
    struct cm_acme_registration reg = { .size = sizeof reg,
                                        .contact = contact,
                                        .n_contact = 1,
                                        .tos_agreed = true,
                                        .eab_kid = "kid-1",
                                        .eab_mac_key = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0" };
    struct cm_acme_doc *doc = NULL;
    struct cm_acme_client *c;
    bool created = false;
    struct ca ca;

    c = client(&ca, a, CM_ARRAY_LEN(a), NULL);
    must_fail(cm_acme_client_account(c, NULL, &doc, &err), CM_E_NOTFOUND);
    ck_assert(strstr(ca.payload, "\"onlyReturnExisting\":true") != NULL);
    must_fail(cm_acme_client_get(c, NULL, CA "/o/1", &doc, &err), CM_E_NOTFOUND);
    must(cm_acme_client_register(c, NULL, &reg, &doc, &created, &err));
    ck_assert(created);
    ck_assert(strstr(ca.payload, "mailto:a@example.com") != NULL);
    ck_assert(strstr(ca.payload, "\"termsOfServiceAgreed\":true") != NULL);
    ck_assert(strstr(ca.payload, "\"externalAccountBinding\":{") != NULL);
    ck_assert_str_eq(cm_acme_doc_url(doc), CA "/acct/1");
    /* what this version knows nothing of is there, too */
    ck_assert_str_eq((const char *)cm_acme_doc_json(doc).data,
                     "{\"status\":\"valid\",\"new\":[1,{}]}");
    ck_assert_int_eq(cm_acme_doc_int(doc, "new.0", 0), 1);
    cm_acme_doc_free(doc);
    must(cm_acme_client_register(c, NULL, &reg, &doc, &created, &err));
    ck_assert(!created);
    cm_acme_doc_free(doc);
    must(cm_acme_client_update(c, NULL, contact, 1, &doc, &err));
    ck_assert_str_eq(ca.payload, "{\"contact\":[\"mailto:a@example.com\"]}");
    ck_assert(strstr(ca.protected_header, "\"kid\":\"" CA "/acct/1\"") != NULL);
    ck_assert_str_eq(cm_acme_doc_text(doc, "contact.0"), "mailto:b@example.com");
    cm_acme_doc_free(doc);
    must(cm_acme_client_deactivate(c, NULL, &err));
    ck_assert_str_eq(ca.payload, "{\"status\":\"deactivated\"}");
    reg.eab_alg = "none";
    must_fail(cm_acme_client_register(c, NULL, &reg, &doc, NULL, &err), CM_E_INVAL);
    reg.eab_alg = "HS512";
    reg.eab_mac_key = "not base64!";
    must_fail(cm_acme_client_register(c, NULL, &reg, &doc, NULL, &err), CM_E_INVAL);
    cm_acme_client_free(c);
}
END_TEST

START_TEST(key_changes)
{
    static const struct answer a[] = {
        { "/dir", 200, NULL, DIRECTORY ",\"keyChange\":\"" CA "/key\"}", 0 },
        { "/key", 409, "Content-Type: application/problem+json\n",
          "{\"type\":\"urn:ietf:params:acme:error:malformed\"}", 1 },
        { "/key", 200, NULL, "{}", 0 },
        { "/o/1", 200, NULL, "{\"status\":\"ready\"}", 0 },
    };
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX), before = CM_BUF_INIT(512),
                              after = CM_BUF_INIT(512);
    struct cm_key *key = NULL;
    struct cm_acme_doc *doc = NULL;
    struct cm_acme_client *c;
    char thumbprint[44];
    struct ca ca;

    must(cm_key_generate(CM_PK_P384, &key, &err));
    must(cm_key_to_pem(key, &pem, &err));
    cm_key_unref(key);
    must(cm_acme_jwk_thumbprint(cm_buf_span(&pem), thumbprint, &err));
    c = CLIENT(&ca, a);
    must(cm_acme_client_http01_response(c, "t", &before, &err));
    /* refused: the old one stays */
    must_fail(cm_acme_client_key_change(c, NULL, cm_buf_span(&pem), &err), CM_E_ACME);
    ck_assert_int_eq(err.http_status, 409);
    must(cm_acme_client_http01_response(c, "t", &after, &err));
    ck_assert_str_eq(cm_buf_str(&before), cm_buf_str(&after));
    must_fail(cm_acme_client_key_change(c, NULL, cm_span_str("x"), &err), CM_E_PARSE);
    must(cm_acme_client_key_change(c, NULL, cm_buf_span(&pem), &err));
    ck_assert(strstr(ca.protected_header, "ES256") != NULL); /* the old one asks */
    cm_buf_reset(&after);
    must(cm_acme_client_http01_response(c, "t", &after, &err));
    ck_assert_str_eq(cm_buf_str(&after) + 2, thumbprint);
    must(cm_acme_client_get(c, NULL, CA "/o/1", &doc, &err));
    ck_assert(strstr(ca.protected_header, "ES384") != NULL);
    cm_acme_doc_free(doc);
    cm_acme_client_free(c);
}
END_TEST

START_TEST(orders)
{
    static const struct answer a[] = {
        { "/dir", 200, NULL, DIRECTORY "}", 0 },
        { "/order", 201, "Location: " CA "/o/1\n",
          "{\"status\":\"pending\",\"authorizations\":[\"" CA "/z/1\",\"" CA
          "/z/2\"],\"finalize\":\"" CA "/o/1/f\"}",
          0 },
    };
    const struct cm_acme_id ids[] = { { CM_ACME_ID_DNS, "*.Bücher.example" },
                                      { CM_ACME_ID_IP, "2001:DB8::1" } };
    const struct cm_acme_id odd[] = { { CM_ACME_ID_DNS, "192.0.2.1" },
                                      { CM_ACME_ID_IP, "a.example.com" },
                                      { CM_ACME_ID_DNS, "a\"b" } };
    struct cm_acme_order_request req = { .size = sizeof req,
                                         .ids = ids,
                                         .n_ids = 2,
                                         .not_before_s = 1767225600,
                                         .not_after_s = 1767312000,
                                         .profile = "sho\"rt",
                                         .replaces = "aa.bb" };
    struct cm_acme_doc *doc = NULL;
    struct cm_acme_client *c;
    struct ca ca;

    c = CLIENT(&ca, a);
    must(cm_acme_client_order(c, NULL, &req, &doc, &err));
    ck_assert_str_eq(ca.payload,
                     "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"*.xn--bcher-kva.example\"},"
                     "{\"type\":\"ip\",\"value\":\"2001:db8::1\"}],"
                     "\"notBefore\":\"2026-01-01T00:00:00Z\",\"notAfter\":\"2026-01-02T00:00:00Z\","
                     "\"profile\":\"sho\\\"rt\",\"replaces\":\"aa.bb\"}");
    ck_assert_str_eq(cm_acme_doc_url(doc), CA "/o/1");
    ck_assert_uint_eq(cm_acme_doc_count(doc, "authorizations"), 2);
    ck_assert_str_eq(cm_acme_doc_text(doc, "authorizations.1"), CA "/z/2");
    ck_assert(cm_acme_doc_text(doc, "authorizations.2") == NULL);
    ck_assert(cm_acme_doc_text(doc, "certificate") == NULL);
    cm_acme_doc_free(doc);
    for (size_t i = 0; i < CM_ARRAY_LEN(odd); i++) {
        req.ids = &odd[i];
        req.n_ids = 1;
        must_fail(cm_acme_client_order(c, NULL, &req, &doc, &err), CM_E_INVAL);
    }
    req.n_ids = 0;
    must_fail(cm_acme_client_order(c, NULL, &req, &doc, &err), CM_E_INVAL);
    /* not a URL of this CA: nothing is sent */
    unsigned before = ca.posts;
    must_fail(cm_acme_client_get(c, NULL, "https://evil.example.com/o/1", &doc, &err), CM_E_ACME);
    must_fail(cm_acme_client_get(c, NULL, "file:///etc/passwd", &doc, &err), CM_E_INVAL);
    ck_assert_uint_eq(ca.posts, before);
    /* this CA has no authorizations before there is an order */
    must_fail(cm_acme_client_authorize(c, NULL, &ids[0], &doc, &err), CM_E_UNSUPPORTED);
    cm_acme_client_free(c);
}
END_TEST

START_TEST(waiting)
{
    static const struct answer a[] = {
        { "/dir", 200, NULL, DIRECTORY ",\"newAuthz\":\"" CA "/authz\"}", 0 },
        { "/authz", 201, "Location: " CA "/z/1\n", "{\"status\":\"pending\"}", 0 },
        { "/z/1", 200, NULL, "{\"status\":\"pending\"}", 3 },
        { "/z/1", 200, NULL, "{\"status\":\"valid\"}", 0 },
        { "/z/2", 200, NULL,
          "{\"status\":\"invalid\",\"challenges\":[{\"type\":\"dns-01\"},{\"type\":\"http-01\","
          "\"error\":{\"type\":\"urn:ietf:params:acme:error:connection\",\"detail\":\"refused\"}}]"
          "}",
          0 },
        { "/o/1", 200, NULL, "{\"status\":\"processing\"}", 2 },
        { "/o/1", 200, NULL, "{\"status\":\"ready\"}", 0 },
        { "/o/2", 200, NULL,
          "{\"status\":\"invalid\",\"error\":{\"type\":\"urn:ietf:params:acme:error:caa\"}}", 0 },
        { "/o/3", 200, "Retry-After: 400\n", "{\"status\":\"processing\"}", 0 },
        { "/o/4", 200, NULL, "{\"status\":\"other\"}", 0 },
        { "/o/5", 200, NULL, "{\"status\":\"processing\"}", 0 },
    };
    const struct cm_acme_id id = { CM_ACME_ID_DNS, "a.example.com" };
    struct cm_op op = { .deadline_ns = 0 };
    struct cm_acme_doc *doc = NULL;
    struct cm_acme_client *c;
    struct ca ca;

    c = CLIENT(&ca, a);
    must(cm_acme_client_authorize(c, NULL, &id, &doc, &err));
    ck_assert_str_eq(ca.payload, "{\"identifier\":{\"type\":\"dns\",\"value\":\"a.example.com\"}}");
    cm_acme_doc_free(doc);
    ca.net_failures = 1; /* what asks only is asked again */
    must(cm_acme_client_wait_authz(c, NULL, CA "/z/1", &doc, &err));
    ck_assert_str_eq(cm_acme_doc_text(doc, "status"), CM_ACME_STATUS_VALID);
    cm_acme_doc_free(doc);
    must_fail(cm_acme_client_wait_authz(c, NULL, CA "/z/2", &doc, &err), CM_E_ACME);
    ck_assert_str_eq(err.problem, "urn:ietf:params:acme:error:connection");
    ck_assert(strstr(err.msg, "refused") != NULL);
    must(cm_acme_client_wait_order(c, NULL, CA "/o/1", &doc, &err));
    ck_assert_str_eq(cm_acme_doc_text(doc, "status"), CM_ACME_STATUS_READY);
    cm_acme_doc_free(doc);
    must_fail(cm_acme_client_wait_order(c, NULL, CA "/o/2", &doc, &err), CM_E_ACME);
    ck_assert_str_eq(err.problem, "urn:ietf:params:acme:error:caa");
    must_fail(cm_acme_client_wait_order(c, NULL, CA "/o/3", &doc, &err), CM_E_AGAIN);
    ck_assert_int_eq(err.retry_after_s, 400);
    must_fail(cm_acme_client_wait_order(c, NULL, CA "/o/4", &doc, &err), CM_E_ACME);
    op = cm_op_within(NULL, 50 * CM_NS_PER_MS);
    must_fail(cm_acme_client_wait_order(c, &op, CA "/o/5", &doc, &err), CM_E_TIMEOUT);
    cm_acme_client_free(c);
}
END_TEST

START_TEST(certificates)
{
    static const struct answer a[] = {
        { "/dir", 200, NULL, DIRECTORY "}", 0 },
        { "/o/1", 200, NULL, "{\"status\":\"ready\",\"finalize\":\"" CA "/o/1/f\"}", 1 },
        { "/o/1", 200, NULL, "{\"status\":\"processing\"}", 1 },
        { "/o/1", 200, NULL, "{\"status\":\"valid\",\"certificate\":\"" CA "/c/1\"}", 0 },
        { "/o/1/f", 200, NULL, "{\"status\":\"processing\"}", 0 },
        { "/c/1", 200, "Link: <" CA "/c/1/1>;rel=\"alternate\"\nLink: </c/1/2>;rel=\"alternate\"\n",
          "the chain", 0 },
        { "/revoke", 200, NULL, "", 0 },
    };
    struct cm_acme_doc *doc = NULL, *valid = NULL;
    struct cm_buf pem = CM_BUF_INIT(4096);
    char **urls = NULL;
    struct cm_acme_client *c;
    struct ca ca;

    c = CLIENT(&ca, a);
    must(cm_acme_client_wait_order(c, NULL, CA "/o/1", &doc, &err));
    must(cm_acme_client_create_order_cert(c, NULL, doc, cm_span_str("csr"), &pem, &valid, &err));
    ck_assert_str_eq(cm_buf_str(&pem), "the chain");
    ck_assert_str_eq(cm_acme_doc_text(valid, "certificate"), CA "/c/1");
    cm_buf_reset(&pem);
    must(cm_acme_client_fetch_cert(c, NULL, CA "/c/1", &pem, &urls, &err));
    ck_assert_str_eq(urls[0], CA "/c/1/1");
    ck_assert_str_eq(urls[1], CA "/c/1/2");
    ck_assert(urls[2] == NULL);
    cm_acme_urls_free(urls);
    must(cm_acme_client_revoke(c, NULL, (struct cm_span){ NULL, 0 }, cm_span_str("der"), 4, &err));
    ck_assert_str_eq(ca.payload, "{\"certificate\":\"ZGVy\",\"reason\":4}");
    ck_assert(strstr(ca.protected_header, "\"kid\"") != NULL);
    must(cm_acme_client_revoke(c, NULL, cm_buf_span(&account_key), cm_span_str("der"), -1, &err));
    ck_assert_str_eq(ca.payload, "{\"certificate\":\"ZGVy\"}");
    ck_assert(strstr(ca.protected_header, "\"jwk\"") != NULL);
    static const int bad[] = { -2, 7, 11 };
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        must_fail(cm_acme_client_revoke(c, NULL, (struct cm_span){ NULL, 0 }, cm_span_str("der"),
                                        bad[i], &err),
                  CM_E_INVAL);
    cm_acme_doc_free(doc);
    cm_acme_doc_free(valid);
    cm_buf_free(&pem);
    cm_acme_client_free(c);
}
END_TEST

START_TEST(too_many_requests)
{
    static const struct answer a[] = {
        { "/dir", 200, NULL, DIRECTORY "}", 0 },
        { "/o/1", 429, "Retry-After: 30\nContent-Type: application/problem+json\n",
          "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"slow down\"}", 0 },
        { "/o/2", 403, "Content-Type: application/problem+json\n",
          "{\"type\":\"urn:ietf:params:acme:error:unauthorized\"}", 0 },
    };
    struct cm_acme_doc *doc = NULL;
    struct cm_acme_client *c;
    int64_t wait = 0;
    struct ca ca;

    c = CLIENT(&ca, a);
    must_fail(cm_acme_client_get(c, NULL, CA "/o/1", &doc, &err), CM_E_RATELIMITED);
    ck_assert(cm_acme_rate_limit(&err, &wait));
    ck_assert_int_eq(wait, 30);
    must_fail(cm_acme_client_get(c, NULL, CA "/o/2", &doc, &err), CM_E_ACME);
    ck_assert(!cm_acme_rate_limit(&err, &wait));
    ck_assert(!cm_acme_rate_limit(NULL, &wait));
    cm_acme_client_free(c);
}
END_TEST

START_TEST(answers_to_challenges)
{
    static const struct answer a[] = { { "/dir", 200, NULL, DIRECTORY "}", 0 } };
    const struct cm_acme_id id = { CM_ACME_ID_DNS, "a.example.com" },
                            ip = { CM_ACME_ID_IP, "192.0.2.1" }, odd = { CM_ACME_ID_IP, "x.y" };
    struct cm_buf path = CM_BUF_INIT(512), answer = CM_BUF_INIT(512), txt = CM_BUF_INIT(512);
    struct cm_buf crt = CM_BUF_INIT(65536), key = CM_BUF_SECRET(65536);
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    char thumbprint[44], wanted[256];
    struct cm_acme_client *c;
    struct ca ca;

    c = CLIENT(&ca, a);
    must(cm_acme_http01_path("to-k_en", &path, &err));
    ck_assert_str_eq(cm_buf_str(&path), "/.well-known/acme-challenge/to-k_en");
    must_fail(cm_acme_http01_path("../x", &path, &err), CM_E_PARSE);
    must_fail(cm_acme_http01_path("", &path, &err), CM_E_PARSE);
    must(cm_acme_jwk_thumbprint(cm_buf_span(&account_key), thumbprint, &err));
    must(cm_acme_client_http01_response(c, "to-k_en", &answer, &err));
    (void)snprintf(wanted, sizeof wanted, "to-k_en.%s", thumbprint);
    ck_assert_str_eq(cm_buf_str(&answer), wanted);
    must(cm_acme_client_dns01_value(c, "to-k_en", &txt, &err));
    ck_assert_uint_eq(txt.len, 43);
    ck_assert(cm_is_b64url(cm_buf_str(&txt), txt.len));
    must(cm_acme_client_tlsalpn01_cert(c, "to-k_en", &id, &crt, &key, &err));
    must(cm_chain_from_pem(cm_buf_span(&crt), &chain, &err));
    must(cm_leaf_parse(chain.der[0], &leaf, &err));
    ck_assert_str_eq(leaf->names[0], "a.example.com");
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    cm_buf_reset(&crt);
    cm_buf_reset(&key);
    must(cm_acme_client_tlsalpn01_cert(c, "to-k_en", &ip, &crt, &key, &err));
    must_fail(cm_acme_client_tlsalpn01_cert(c, "to-k_en", &odd, &crt, &key, &err), CM_E_INVAL);
    cm_buf_free(&path);
    cm_buf_free(&answer);
    cm_buf_free(&txt);
    cm_buf_free(&crt);
    cm_buf_free(&key);
    cm_acme_client_free(c);
}
END_TEST

START_TEST(answer_over_tls_with_what_the_program_wants)
{
    const struct cm_acme_id id = { CM_ACME_ID_DNS, "a.example.com" };
    struct cm_acme_tlsalpn_options o = { .size = (uint32_t)sizeof o };
    static const struct answer a[] = { { "/dir", 200, NULL, DIRECTORY "}", 0 } };
    struct cm_acme_client *c;
    struct ca ca;
    struct cm_buf mine = CM_BUF_SECRET(8192), key = CM_BUF_SECRET(8192);
    struct cm_buf crt = CM_BUF_INIT(16384);
    static const uint8_t serial[] = { 0x12, 0x34 }, negative[] = { 0x80 };
    struct cm_key *own = NULL;
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    bool fits = false;

    c = CLIENT(&ca, a);
    must(cm_key_generate(CM_PK_RSA2048, &own, &err));
    must(cm_key_to_pem(own, &mine, &err));
    o.key_pem = cm_buf_span(&mine);
    o.common_name = "mine";
    o.serial = (struct cm_span){ serial, sizeof serial };
    o.not_before_s = 1700000000;
    o.not_after_s = 4000000000;
    must(cm_acme_client_tlsalpn01_cert_with(c, "to-k_en", &id, &o, &crt, NULL, &err));
    must(cm_chain_from_pem(cm_buf_span(&crt), &chain, &err));
    must(cm_leaf_parse(chain.der[0], &leaf, &err));
    ck_assert_str_eq(leaf->names[0], "a.example.com");
    ck_assert_str_eq(leaf->serial_hex, "1234");
    ck_assert_str_eq(leaf->issuer_cn, "mine");
    ck_assert_int_eq(leaf->not_before_s, 1700000000);
    ck_assert_int_eq(leaf->not_after_s, 4000000000);
    must(cm_key_matches_cert(own, chain.der[0], &fits, &err));
    ck_assert(fits);
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    /* the key is handed back when it is asked for */
    cm_buf_reset(&crt);
    must(cm_acme_client_tlsalpn01_cert_with(c, "to-k_en", &id, &o, &crt, &key, &err));
    ck_assert_str_eq(cm_buf_str(&key), cm_buf_str(&mine));
    o.serial = (struct cm_span){ negative, sizeof negative };
    must_fail(cm_acme_client_tlsalpn01_cert_with(c, "to-k_en", &id, &o, &crt, &key, &err),
              CM_E_INVAL);
    o.serial.len = 0;
    o.not_after_s = o.not_before_s;
    must_fail(cm_acme_client_tlsalpn01_cert_with(c, "to-k_en", &id, &o, &crt, &key, &err),
              CM_E_INVAL);
    o.not_after_s = 0;
    o.common_name = "";
    must_fail(cm_acme_client_tlsalpn01_cert_with(c, "to-k_en", &id, &o, &crt, &key, &err),
              CM_E_INVAL);
    o.common_name = NULL;
    o.key_pem = cm_span_str("no key");
    must_fail(cm_acme_client_tlsalpn01_cert_with(c, "to-k_en", &id, &o, &crt, &key, &err),
              CM_E_PARSE);
    o.key_pem.len = 0;
    must_fail(cm_acme_client_tlsalpn01_cert_with(c, "to-k_en", &id, &o, &crt, NULL, &err),
              CM_E_INVAL);
    cm_key_unref(own);
    cm_buf_free(&mine);
    cm_buf_free(&key);
    cm_buf_free(&crt);
    cm_acme_client_free(c);
}
END_TEST

START_TEST(documents)
{
    static const char json[] = "{\"a\":{\"b\":[\"x\",{\"c\":true}]},\"n\":-5,\"challenges\":"
                               "[{\"type\":\"dns-01\"},{\"type\":\"http-01\"},7]}";
    struct cm_acme_doc *d = NULL;

    must(cm__acme_doc_new(CA "/x", cm_span_str(json), "test", 3, &d, &err));
    ck_assert_str_eq(cm_acme_doc_text(d, "a.b.0"), "x");
    ck_assert_int_eq(cm_acme_doc_int(d, "a.b.1.c", 0), 1);
    ck_assert_int_eq(cm_acme_doc_int(d, "n", 0), -5);
    ck_assert_int_eq(cm_acme_doc_int(d, "a", 9), 9);
    ck_assert_uint_eq(cm_acme_doc_count(d, "a.b"), 2);
    ck_assert_uint_eq(cm_acme_doc_count(d, "n"), 0);
    static const char *const none[] = { "a.b.2",  "a.b.x",        "a.b.99999999999999999999",
                                        "a.b.-1", "a.b.0.length", "z",
                                        "",       "..",           "a.b" };
    for (size_t i = 0; i < CM_ARRAY_LEN(none); i++)
        ck_assert_msg(cm_acme_doc_text(d, none[i]) == NULL, "%s", none[i]);
    ck_assert_int_eq(cm_acme_doc_challenge(d, "http-01"), 1);
    ck_assert_int_eq(cm_acme_doc_challenge(d, "tls-alpn-01"), -1);
    ck_assert_int_eq(cm_acme_doc_retry_after_s(d), 3);
    cm_acme_doc_free(d);
    cm_acme_doc_free(NULL);
    must_fail(cm__acme_doc_new(CA "/x", cm_span_str("[]"), "test", 0, &d, &err), CM_E_PARSE);
}
END_TEST

START_TEST(what_is_gone)
{
    must_fail(cm_acme_client_create_cert(NULL, NULL, cm_span_str("x"), &err), CM_E_UNSUPPORTED);
    ck_assert(strstr(err.msg, "cm_acme_client_order") != NULL);
    must_fail(cm_acme_client_tlssni01_cert(NULL, "x", &err), CM_E_UNSUPPORTED);
    must_fail(cm_acme_client_tlssni02_cert(NULL, "x", &err), CM_E_UNSUPPORTED);
    ck_assert(strstr(err.msg, "tlsalpn01") != NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        configuration,
        directory,
        accounts,
        key_changes,
        orders,
        waiting,
        certificates,
        too_many_requests,
        answers_to_challenges,
        documents,
        what_is_gone,
        answer_over_tls_with_what_the_program_wants,
    };

    return run_tests_how("acme client", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
