/* SPDX-License-Identifier: Apache-2.0 */
#include "core.h"
#include "issuers.h"
#include "run.h"
#include "scripted_http.h"

#include <stdio.h>
#include <string.h>

/* What an order asks for beyond its names, and which of the offered chains is taken. The CA is
 * scripted: an order is valid as soon as it is placed. */

static struct cm_err err;
static struct cm_issuer_host host;
static struct scripted_http *ca;
static struct cm_acme_options opts;
static struct cm_acme_extra extra;
static struct cm_issuer *issuer;
static struct cm_buf got;
static char warned[64];

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call) ck_status(call, CM_OK)

static cm_status checkpoint(void *user, const struct cm_op *o, struct cm_span state,
                            struct cm_err *e)
{
    (void)user;
    (void)o;
    (void)state;
    (void)e;
    return CM_OK;
}

static void note_log(void *user, enum cm_log_level level, const char *event, const char *msg,
                     const struct cm_log_field *fields, size_t n)
{
    (void)user;
    (void)msg;
    (void)fields;
    (void)n;
    if (level <= CM_LOG_WARN)
        (void)snprintf(warned, sizeof warned, "%s", event);
}

/* @meta: members of the directory's meta. */
static void script_with(const char *meta)
{
    sh_on(ca, "GET", "/dir",
          &(struct sh_reply){
              .body = sh_keep(ca, cm_asprintf("{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":"
                                              "\"{BASE}/acct\",\"newOrder\":\"{BASE}/order\","
                                              "\"meta\":{%s}}",
                                              meta)),
              .no_nonce = true });
    sh_on(ca, "HEAD", "/nonce", &(struct sh_reply){ 0 });
    sh_on(ca, "POST", "/acct",
          &(struct sh_reply){ .status = 201,
                              .headers = "Location: {BASE}/acct/1\r\n",
                              .body = "{\"status\":\"valid\"}" });
}

static void script(const char *meta)
{
    sh_clear(ca);
    script_with(meta);
    sh_on(ca, "POST", "/order",
          &(struct sh_reply){ .status = 201,
                              .headers = "Location: {BASE}/order/1\r\n",
                              .body = "{\"status\":\"valid\",\"identifiers\":[{\"type\":\"dns\","
                                      "\"value\":\"a.test\"}],\"authorizations\":[],"
                                      "\"finalize\":\"{BASE}/fin\","
                                      "\"certificate\":\"{BASE}/cert\"}" });
}

/* The CA takes an order and says nothing. */
static void stall_orders(void)
{
    sh_clear(ca);
    script_with("");
    sh_on(ca, "POST", "/order", &(struct sh_reply){ .fault = SH_STALL });
}

static void set_up(void)
{
    static const struct cm_buf empty = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    issuer = NULL;
    got = empty;
    warned[0] = '\0';
    ca = sh_start(0);
    script("");
    host = (struct cm_issuer_host){ .size = sizeof host,
                                    .log = { note_log, NULL, CM_LOG_INFO },
                                    .listen_host = "127.0.0.1" };
    ck_ok(cm_storage_open("memory:", NULL, &host.storage, &err));
    ck_ok(cm_board_new(&host.board, &err));
    extra = (struct cm_acme_extra)CM_ACME_EXTRA_INIT;
    opts = (struct cm_acme_options){ .directory_url = sh_url(ca, "/dir"),
                                     .agreed = true,
                                     .allow_plain_http = true,
                                     .extra = &extra };
}

static void tear_down(void)
{
    if (issuer != NULL)
        cm_issuer_destroy(issuer);
    cm_buf_free(&got);
    cm_board_free(host.board);
    cm_storage_close(host.storage);
    sh_stop(ca);
}

static void begin(void)
{
    if (issuer != NULL)
        cm_issuer_destroy(issuer);
    issuer = NULL;
    ck_ok(cm_acme_issuer_new(&opts, &issuer, &err));
    ck_ok(cm_issuer_attach(issuer, &host, &err));
}

/* The chain goes to @got. */
static cm_status issue(void)
{
    static const char *const names[] = { "a.test" };
    const struct cm_issue_request req = { .size = sizeof req,
                                          .names = names,
                                          .n_names = 1,
                                          .csr_der = cm_span_str("csr"),
                                          .checkpoint = checkpoint };
    struct cm_issued is = { CM_BUF_INIT(CM_CHAIN_PEM_MAX), CM_BUF_INIT(65536) };
    cm_status rc = cm_issuer_issue(issuer, NULL, &req, &is, &err);

    cm_buf_free(&is.issuer_data);
    cm_buf_free(&got);
    if (rc == CM_OK)
        got = is.chain_pem;
    return rc;
}

/* The payload of the last newOrder. */
static const char *ordered(void)
{
    struct cm_buf b = CM_BUF_INIT(64 * 1024);
    const char *p = strstr(sh_last_body(ca, "/order"), "\"payload\":\"");

    ck_assert_ptr_nonnull(p);
    p += strlen("\"payload\":\"");
    ck_ok(cm_b64url_decode((struct cm_span){ (const uint8_t *)p, strcspn(p, "\"") }, &b, &err));
    const char *text = sh_keep(ca, cm_strdup(cm_buf_str(&b)));
    cm_buf_free(&b);
    return text;
}

/* Seconds since 1970 of the time that is member @name of the last newOrder. */
static int64_t ordered_time(const char *name)
{
    int64_t ns = 0;
    const char *p = strstr(ordered(), name);

    ck_assert_msg(p != NULL, "%s: %s", name, ordered());
    p = strchr(p, ':') + 2;
    ck_ok(cm_time_parse_rfc3339(p, strcspn(p, "\""), &ns, &err));
    return ns / CM_NS_PER_S;
}

/* ---- the order ---- */

START_TEST(profile_that_the_ca_does_not_have_is_refused_before_the_order_with_those_it_has)
{
    script("\"profiles\":{\"classic\":\"x\",\"shortlived\":\"y\"}");
    opts.profile = "short";
    begin();
    ck_status(issue(), CM_E_POLICY);
    ck_assert_ptr_nonnull(strstr(err.msg, "'short'; there are: classic, shortlived"));
    ck_assert(err.no_retry);
    ck_assert_uint_eq(sh_count(ca, "POST", "/order"), 0);
    opts.profile = "shortlived";
    begin();
    sh_on(ca, "POST", "/cert", &(struct sh_reply){ .body = "the chain" });
    ck_ok(issue());
    ck_assert_ptr_nonnull(strstr(ordered(), "\"profile\":\"shortlived\""));
}
END_TEST

START_TEST(profile_is_refused_by_name_where_there_are_none)
{
    opts.profile = "shortlived";
    begin();
    ck_status(issue(), CM_E_POLICY);
    ck_assert_ptr_nonnull(strstr(err.msg, "has no certificate profiles"));
    ck_assert_uint_eq(sh_count(ca, "POST", "/order"), 0);
}
END_TEST

START_TEST(times_are_asked_for_when_they_are_set)
{
    sh_on(ca, "POST", "/cert", &(struct sh_reply){ .body = "the chain" });
    begin();
    ck_ok(issue());
    ck_assert_ptr_null(strstr(ordered(), "not"));
    extra.lifetime_s = 7 * 86400;
    extra.backdate_s = 3600;
    begin();
    int64_t from = cm_env_wall_s(cm_env_system());
    ck_ok(issue());
    int64_t to = cm_env_wall_s(cm_env_system());
    ck_assert_int_ge(ordered_time("notAfter"), from + 7 * 86400);
    ck_assert_int_le(ordered_time("notAfter"), to + 7 * 86400);
    ck_assert_int_ge(ordered_time("notBefore"), from - 3600);
    ck_assert_int_le(ordered_time("notBefore"), to - 3600);
}
END_TEST

START_TEST(variant_has_its_own_certificates_and_the_accounts_of_the_ca)
{
    begin();
    const char *key = sh_keep(ca, cm_strdup(cm_issuer_key(issuer)));
    const char *prefix = sh_keep(ca, cm_strdup(cm_issuer_challenge_prefix(issuer, 0)));

    extra.variant = "rsa2048";
    begin();
    ck_assert_str_eq(cm_issuer_key(issuer), sh_keep(ca, cm_asprintf("%s+rsa2048", key)));
    ck_assert_str_eq(cm_issuer_challenge_prefix(issuer, 0), prefix);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused_at_the_start)
{
    static const struct cm_acme_extra bad[] = {
        { .size = sizeof extra, .lifetime_s = -1 },
        { .size = sizeof extra, .lifetime_s = INT64_C(4000) * 86400 },
        { .size = sizeof extra, .backdate_s = -1 },
        { .size = sizeof extra, .backdate_s = 31 * 86400 },
        { .size = sizeof extra, .chain = (enum cm_chain_choice)3 },
        { .size = 0 },
        { .size = sizeof extra, .never_challenges = CM_CHALLENGE_HTTP01 | CM_CHALLENGE_TLSALPN01 },
        { .size = sizeof extra, .variant = "" },
        { .size = sizeof extra, .variant = "../x" },
        { .size = sizeof extra, .variant = "RSA" },
        { .size = sizeof extra, .variant = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        opts.extra = &bad[i];
        ck_status(cm_acme_issuer_new(&opts, &issuer, &err), CM_E_INVAL);
    }
    opts.extra = NULL;
    begin();
}
END_TEST

START_TEST(proxy_that_is_none_is_refused_without_showing_it)
{
    static const char *const bad[] = { "ftp://u:secret@p:1/", "http://u:secret@p:70000",
                                       "http://u:secret@", "u:secret@a b:1" };
    static const char *const good[] = { "http://p:3128", "p:3128", "https://u:secret@p",
                                        "socks5h://[::1]:1080", "socks4a://p" };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad) + CM_ARRAY_LEN(good); i++) {
        bool is_bad = i < CM_ARRAY_LEN(bad);
        struct cm_issuer *is = NULL;

        extra.proxy = is_bad ? bad[i] : good[i - CM_ARRAY_LEN(bad)];
        ck_ok(cm_acme_issuer_new(&opts, &is, &err));
        ck_assert_msg((cm_issuer_attach(is, &host, &err) == CM_E_INVAL) == is_bad, "%s",
                      extra.proxy);
        ck_assert_ptr_null(strstr(err.msg, "secret"));
        cm_issuer_destroy(is);
    }
}
END_TEST

/* ---- chains ---- */

static struct cm_key *key;

static void add_cert(struct cm_buf *pem, const char *signer, bool leaf)
{
    static const char *const names[] = { "a.test" };
    struct cm_key *root_key = NULL;
    struct cm_buf root = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_buf csr = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_buf cert = CM_BUF_INIT(CM_CERT_DER_MAX);

    ck_ok(cm_ca_make_root(signer, 1767225600, 3650, &root_key, &root, &err));
    ck_ok(cm_csr_make(key, names, 1, false, &csr, &err));
    ck_ok(cm_ca_sign_csr(root_key, cm_buf_span(&root), cm_buf_span(&csr), names, 1, 1767225600,
                         86400, &cert, &err));
    ck_ok(cm_cert_der_to_pem(leaf ? cm_buf_span(&cert) : cm_buf_span(&root), pem, &err));
    cm_key_unref(root_key);
    cm_buf_free(&root);
    cm_buf_free(&csr);
    cm_buf_free(&cert);
}

/* A chain whose certificates @signers signed, the leaf's first, offered at @path. */
static void offer(const char *path, const char *const *signers, const char *headers)
{
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    for (size_t i = 0; signers[i] != NULL; i++)
        add_cert(&pem, signers[i], i == 0);
    sh_on(
        ca, "POST", path,
        &(struct sh_reply){ .headers = headers, .body = sh_keep(ca, cm_strdup(cm_buf_str(&pem))) });
    cm_buf_free(&pem);
}

static void offer_three(void)
{
    static const char *const first[] = { "Inter 1", "Cross", "Old Root With A Long Name", NULL };
    static const char *const second[] = { "Inter 1", "Cross", "New Root", NULL };
    static const char *const third[] = { "Inter 2", NULL };

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    offer("/cert", first,
          "Link: <{BASE}/cert/1>;rel=\"alternate\", <{BASE}/cert/2>;rel=\"alternate\"\r\n");
    offer("/cert/1", second, NULL);
    offer("/cert/2", third, NULL);
    cm_key_unref(key);
}

/* Who signed the last certificate of what was taken. */
static const char *taken(enum cm_chain_choice how, const char *preferred)
{
    static char cn[256];
    struct cm_chain chain = { 0 };

    extra.chain = how;
    opts.preferred_chain = preferred;
    warned[0] = '\0';
    begin();
    ck_ok(issue());
    ck_ok(cm_chain_from_pem(cm_buf_span(&got), &chain, &err));
    ck_ok(cm_chain_top_issuer_cn(&chain, cn, sizeof cn, &err));
    cm_chain_free(&chain);
    return cn;
}

START_TEST(chain_is_taken_by_root_by_any_signer_or_by_size)
{
    offer_three();
    ck_assert_str_eq(taken(CM_CHAIN_ROOT, NULL), "Old Root With A Long Name");
    ck_assert_str_eq(taken(CM_CHAIN_ROOT, "New Root"), "New Root");
    ck_assert_str_eq(taken(CM_CHAIN_ROOT, "Inter 2"), "Inter 2");
    ck_assert_str_eq(warned, "");
    ck_assert_str_eq(taken(CM_CHAIN_ROOT, "Cross"), "Old Root With A Long Name");
    ck_assert_str_eq(warned, "preferred_chain_missing");
    ck_assert_str_eq(taken(CM_CHAIN_ANY, "Cross"), "Old Root With A Long Name");
    ck_assert_str_eq(warned, "");
    ck_assert_str_eq(taken(CM_CHAIN_ANY, "New Root"), "New Root");
    ck_assert_str_eq(taken(CM_CHAIN_ANY, "Inter 2"), "Inter 2");
    ck_assert_str_eq(taken(CM_CHAIN_ANY, "Nobody"), "Old Root With A Long Name");
    ck_assert_str_eq(warned, "preferred_chain_missing");
    ck_assert_str_eq(taken(CM_CHAIN_SMALLEST, NULL), "Inter 2");
    ck_assert_str_eq(warned, "");
}
END_TEST

START_TEST(alternate_that_cannot_be_had_or_is_none_is_passed_over)
{
    static const char *const first[] = { "Inter 1", "Root 1", NULL };
    static const char *const third[] = { "Inter 3", "Root 3", NULL };

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    offer("/cert", first,
          "Link: <{BASE}/cert/gone>;rel=\"alternate\", <{BASE}/cert/junk>;rel=\"alternate\", "
          "<{BASE}/cert/3>;rel=\"alternate\"\r\n");
    sh_on(ca, "POST", "/cert/junk", &(struct sh_reply){ .body = "no chain" });
    offer("/cert/3", third, NULL);
    cm_key_unref(key);
    ck_assert_str_eq(taken(CM_CHAIN_ROOT, "Root 3"), "Root 3");
    ck_assert_str_ne(taken(CM_CHAIN_SMALLEST, NULL), "");
}
END_TEST

/* ---- which challenge first ---- */

static struct acme_issuer *acme(void)
{
    return CM_CONTAINER_OF(issuer, struct acme_issuer, base);
}

static enum acme_challenge_type first_type(void)
{
    enum acme_challenge_type order[ACME_CHALLENGE_TYPES];
    unsigned seen = 0;

    acme_types_order(acme(), order);
    for (size_t i = 0; i < ACME_CHALLENGE_TYPES; i++)
        seen |= 1u << order[i];
    ck_assert_uint_eq(seen, (1u << ACME_CHALLENGE_TYPES) - 1);
    return order[0];
}

START_TEST(the_challenge_that_did_is_tried_first)
{
    begin();
    ck_assert_int_eq(first_type(), ACME_HTTP01);
    acme_types_note(acme(), ACME_HTTP01, false);
    acme_types_note(acme(), ACME_TLSALPN01, true);
    ck_assert_int_eq(first_type(), ACME_TLSALPN01);
    for (int i = 0; i < 100; i++)
        acme_types_note(acme(), ACME_TLSALPN01, true);
    /* what was long ago is forgotten soon enough */
    for (int i = 0; i < 20; i++)
        acme_types_note(acme(), ACME_TLSALPN01, false);
    for (int i = 0; i < 3; i++)
        acme_types_note(acme(), ACME_HTTP01, true);
    ck_assert_int_eq(first_type(), ACME_HTTP01);
}
END_TEST

START_TEST(all_failing_says_nothing)
{
    begin();
    for (int i = 0; i < 3; i++)
        for (int t = 0; t < ACME_CHALLENGE_TYPES; t++)
            acme_types_note(acme(), (enum acme_challenge_type)t, false);
    ck_assert_int_eq(first_type(), ACME_HTTP01);
}
END_TEST

/* Where http-01 never does, its authorization is spent once and not for every name. */
START_TEST(second_order_begins_with_what_the_first_ended_with)
{
    static const char pending[] =
        "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}],"
        "\"authorizations\":[\"{BASE}/authz\"],\"finalize\":\"{BASE}/fin\"}";
    static const char offers[] =
        "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"a.test\"},"
        "\"challenges\":[{\"type\":\"tls-alpn-01\",\"url\":\"{BASE}/ch\",\"token\":\"tok\"}]}";

    sh_clear(ca);
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
              .status = 201, .headers = "Location: {BASE}/order/1\r\n", .body = pending });
    sh_on(ca, "POST", "/authz", &(struct sh_reply){ .body = offers });
    sh_on(ca, "POST", "/ch", &(struct sh_reply){ .body = "{}" });
    sh_on(ca, "POST", "/order/1",
          &(struct sh_reply){ .body =
                                  "{\"status\":\"valid\",\"identifiers\":[{\"type\":\"dns\","
                                  "\"value\":\"a.test\"}],\"authorizations\":[],"
                                  "\"finalize\":\"{BASE}/fin\",\"certificate\":\"{BASE}/cert\"}" });
    sh_on(ca, "POST", "/cert", &(struct sh_reply){ .body = "the chain" });
    begin();
    ck_ok(issue());
    ck_assert_uint_eq(sh_count(ca, "POST", "/order"), 2); /* http-01 is not offered */
    ck_ok(issue());
    ck_assert_uint_eq(sh_count(ca, "POST", "/order"), 3);
}
END_TEST

START_TEST(who_asks_is_told_as_the_program_says)
{
    char longest[258];

    sh_on(ca, "POST", "/cert", &(struct sh_reply){ .body = "the chain" });
    extra.user_agent = "shop/7 (ops@example.com)";
    begin();
    ck_ok(issue());
    ck_assert_ptr_nonnull(
        strstr(sh_last_header(ca, "/dir"), "User-Agent: shop/7 (ops@example.com)\r\n"));
    ck_assert_ptr_nonnull(
        strstr(sh_last_header(ca, "/order"), "User-Agent: shop/7 (ops@example.com)\r\n"));
    extra.user_agent = NULL;
    begin();
    ck_ok(issue());
    ck_assert_ptr_nonnull(strstr(sh_last_header(ca, "/order"), "User-Agent: certmesh/"));
    cm_issuer_destroy(issuer);
    issuer = NULL;
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const char *const bad[] = { "", "a\r\nX: y", "\x7f", "m\xc3\xbcnchen/1", longest };
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        extra.user_agent = bad[i];
        ck_status(cm_acme_issuer_new(&opts, &issuer, &err), CM_E_INVAL);
    }
    longest[256] = '\0';
    extra.user_agent = longest;
    begin();
}
END_TEST

/* The order is not asked for a second time: whether the CA has it is not known. */
START_TEST(a_request_takes_so_long_and_no_longer)
{
    struct cm_issuer *is = NULL;

    extra.request_timeout_s = 3601;
    ck_status(cm_acme_issuer_new(&opts, &is, &err), CM_E_INVAL);
    extra.request_timeout_s = -1;
    ck_status(cm_acme_issuer_new(&opts, &is, &err), CM_E_INVAL);
    stall_orders();
    extra.request_timeout_s = 1;
    int64_t began_ns = cm_env_system()->mono_ns(cm_env_system());
    begin();
    ck_status(issue(), CM_E_TIMEOUT);
    /* who says nothing for a quarter of a minute is given up in any case */
    ck_assert_int_lt(cm_env_system()->mono_ns(cm_env_system()) - began_ns, 12 * CM_NS_PER_S);
    ck_assert_uint_eq(sh_count(ca, "POST", "/order"), 1);
}
END_TEST

START_TEST(an_issuance_takes_so_long_and_no_longer)
{
    stall_orders();
    opts.obtain_timeout_s = 1;
    int64_t began_ns = cm_env_system()->mono_ns(cm_env_system());
    begin();
    ck_status(issue(), CM_E_TIMEOUT);
    ck_assert_int_lt(cm_env_system()->mono_ns(cm_env_system()) - began_ns, 45 * CM_NS_PER_S);
}
END_TEST

/* Did the last request to @path give the authorization up? */
static bool gave_up(const char *path)
{
    CM_AUTO_BUF struct cm_buf b = CM_BUF_INIT(64 * 1024);
    const char *p = strstr(sh_last_body(ca, path), "\"payload\":\"");

    if (p == NULL)
        return false;
    p += strlen("\"payload\":\"");
    ck_ok(cm_b64url_decode((struct cm_span){ (const uint8_t *)p, strcspn(p, "\"") }, &b, &err));
    return strstr(cm_buf_str(&b), "\"deactivated\"") != NULL;
}

/* They count against a limit of the CA. */
START_TEST(what_is_pending_after_a_failure_is_given_up)
{
    static const char order[] =
        "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}],"
        "\"authorizations\":[\"{BASE}/z/1\",\"{BASE}/z/2\"],\"finalize\":\"{BASE}/fin\"}";
    static const char pending[] =
        "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"a.test\"},"
        "\"challenges\":[{\"type\":\"other-01\",\"url\":\"{BASE}/ch\",\"token\":\"tok\"}]}";
    static const char valid[] =
        "{\"status\":\"valid\",\"identifier\":{\"type\":\"dns\",\"value\":\"a.test\"},"
        "\"challenges\":[]}";

    sh_clear(ca);
    sh_on(ca, "POST", "/order",
          &(struct sh_reply){
              .status = 201, .headers = "Location: {BASE}/order/1\r\n", .body = order });
    script_with("");
    sh_on(ca, "POST", "/z/1", &(struct sh_reply){ .body = valid });
    sh_on(ca, "POST", "/z/2", &(struct sh_reply){ .body = pending });
    begin();
    ck_assert_int_ne(issue(), CM_OK);
    ck_assert(gave_up("/z/2"));
    ck_assert(!gave_up("/z/1"));
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        who_asks_is_told_as_the_program_says,
        a_request_takes_so_long_and_no_longer,
        an_issuance_takes_so_long_and_no_longer,
        what_is_pending_after_a_failure_is_given_up,
        profile_that_the_ca_does_not_have_is_refused_before_the_order_with_those_it_has,
        profile_is_refused_by_name_where_there_are_none,
        times_are_asked_for_when_they_are_set,
        variant_has_its_own_certificates_and_the_accounts_of_the_ca,
        what_makes_no_sense_is_refused_at_the_start,
        proxy_that_is_none_is_refused_without_showing_it,
        chain_is_taken_by_root_by_any_signer_or_by_size,
        alternate_that_cannot_be_had_or_is_none_is_passed_over,
        the_challenge_that_did_is_tried_first,
        all_failing_says_nothing,
        second_order_begins_with_what_the_first_ended_with,
    };

    return run_tests_how(
        "acme_extra", all, CM_ARRAY_LEN(all),
        (struct run_how){ .timeout_s = 60, .setup = set_up, .teardown = tear_down });
}
