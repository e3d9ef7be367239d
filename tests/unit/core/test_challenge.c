/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#define TOKENS "acme/ca.test-dir/challenge_tokens/"
#define THUMB  "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"

static struct kit k;
static struct cm_err err;

static const char stored[] =
    "{\"type\":\"http-01\",\"url\":\"https://ca/chal/1\",\"status\":\"pending\",\"token\":\"tok\","
    "\"keyAuthorization\":\"tok." THUMB "\",\"identifier\":{\"type\":\"dns\",\"value\":"
    "\"example.com\"}}";

static struct cm_challenge challenge(const char *type, const char *ident)
{
    return (struct cm_challenge){ .type = type,
                                  .url = "https://ca/chal/1",
                                  .token = "tok",
                                  .key_authorization = "tok." THUMB,
                                  .ident = ident,
                                  .prefix = "acme/ca.test-dir" };
}

static const char *expected = "tok." THUMB;

static cm_status http(const char *host, const char *path)
{
    struct cm_buf body = CM_BUF_INIT(1024);
    cm_status rc = cm_http01_handle(k.cfg, NULL, "GET", host, path, &body, &err);

    if (rc == CM_OK)
        ck_assert_str_eq(cm_buf_str(&body), expected);
    else
        ck_assert_uint_eq(body.len, 0);
    cm_buf_free(&body);
    return rc;
}

static cm_status alpn(const char *sni, struct cm_cert **ret)
{
    struct cm_pending *p = NULL;
    struct cm_hello h;

    kit_hello(&h, sni);
    h.acme_tls = true;
    *ret = NULL;
    cm_status rc = cm_get_certificate(k.cfg, &h, ret, &p, &err);
    if (rc == CM_E_AGAIN)
        rc = cm_pending_wait(p, NULL, ret, &err);
    cm_pending_free(p);
    return rc;
}

/* ---- stored tokens ---- */

START_TEST(stored_challenge_is_read)
{
    struct cm_token t;

    ck_ok(cm_token_parse(cm_span_str(stored), &t, &err));
    ck_assert_str_eq(t.token, "tok");
    ck_assert_str_eq(t.key_authorization, "tok." THUMB);
    ck_assert_str_eq(t.ident, "example.com");
    ck_assert_int_eq(t.ident_type, CM_IDENT_DNS);
    ck_ok(
        cm_token_parse(cm_span_str("{\"token\":\"t\",\"keyAuthorization\":\"t.x\",\"identifier\":"
                                   "{\"type\":\"ip\",\"value\":\"2001:DB8::1\"},\"validated\":1}"),
                       &t, &err));
    ck_assert_str_eq(t.ident, "2001:db8::1");
    ck_assert_int_eq(t.ident_type, CM_IDENT_IP);
}
END_TEST

START_TEST(challenge_that_does_not_fit_together_is_refused)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"token\":\"t\",\"keyAuthorization\":\"t.x\"}",
        "{\"token\":\"t\",\"keyAuthorization\":\"t.x\",\"identifier\":{\"type\":\"email\","
        "\"value\":\"a@b\"}}",
        "{\"token\":\"t\",\"keyAuthorization\":\"u.x\",\"identifier\":{\"type\":\"dns\","
        "\"value\":\"a.b\"}}",
        "{\"token\":\"t\",\"keyAuthorization\":\"t\",\"identifier\":{\"type\":\"dns\","
        "\"value\":\"a.b\"}}",
        "{\"token\":\"t\",\"keyAuthorization\":\"t.\",\"identifier\":{\"type\":\"dns\","
        "\"value\":\"a.b\"}}",
        "{\"token\":\"t\",\"keyAuthorization\":\"t.x\\r\\nSet-Cookie: y\",\"identifier\":{\"type\":"
        "\"dns\",\"value\":\"a.b\"}}",
        "{\"token\":\"t/..\",\"keyAuthorization\":\"t/...x\",\"identifier\":{\"type\":\"dns\","
        "\"value\":\"a.b\"}}",
        "{\"token\":\"\",\"keyAuthorization\":\".x\",\"identifier\":{\"type\":\"dns\","
        "\"value\":\"a.b\"}}",
        "{\"token\":\"t\",\"keyAuthorization\":\"t.x\",\"identifier\":{\"type\":\"dns\","
        "\"value\":\"*.b\"}}",
        "{\"token\":\"t\",\"keyAuthorization\":\"t.x\",\"identifier\":{\"type\":\"ip\","
        "\"value\":\"a.b\"}}",
        "{\"token\":\"t\",\"keyAuthorization\":\"t.x\",\"identifier\":{\"type\":\"dns\","
        "\"value\":\"192.0.2.1\"}}",
    };
    struct cm_token t;

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_assert_msg(cm_token_parse(cm_span_str(bad[i]), &t, &err) == CM_E_PARSE, "%s", bad[i]);
    for (size_t i = 0; i < sizeof stored - 1; i++) /* every cut */
        ck_assert_int_ne(cm_token_parse((struct cm_span){ (const uint8_t *)stored, i }, &t, &err),
                         CM_OK);
}
END_TEST

/* ---- http-01 ---- */

START_TEST(http_answer_from_the_board)
{
    struct cm_challenge ch = challenge("http-01", "Example.com");

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_board_put(k.cfg->board, &ch, &err));
    unsigned loads = atomic_load(&k.storage.loads);
    ck_ok(http("example.com", "/.well-known/acme-challenge/tok"));
    ck_ok(http("EXAMPLE.com:80", "/.well-known/acme-challenge/tok"));
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads);
    ck_refused(http("example.com", "/.well-known/acme-challenge/tok2"), CM_E_POLICY);
    ck_refused(http("other.example", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    ch.token = "not-this";
    cm_board_remove(k.cfg->board, &ch); /* another's: stays */
    ck_ok(http("example.com", "/.well-known/acme-challenge/tok"));
    ch.token = "tok";
    cm_board_remove(k.cfg->board, &ch);
    ck_refused(http("example.com", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    kit_stop(&k);
}
END_TEST

START_TEST(http_answer_from_storage)
{
    kit_init(&k);
    kit_start(&k);
    kit_put(&k.storage.base, TOKENS "example.com.json", stored);
    ck_ok(http("example.com", "/.well-known/acme-challenge/tok"));
    ck_refused(http("example.com", "/.well-known/acme-challenge/other"), CM_E_POLICY);
    /* it answers for the host it names, wherever it lies */
    kit_put(&k.storage.base, TOKENS "other.example.json", stored);
    ck_refused(http("other.example", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    kit_stop(&k);
}
END_TEST

START_TEST(http_answer_for_addresses)
{
    kit_init(&k);
    kit_start(&k);
    kit_put(&k.storage.base, TOKENS "2001-db8--1.json",
            "{\"token\":\"tok\",\"keyAuthorization\":\"tok." THUMB "\",\"identifier\":{\"type\":"
            "\"ip\",\"value\":\"2001:db8::1\"}}");
    ck_ok(http("[2001:db8::1]:80", "/.well-known/acme-challenge/tok"));
    ck_ok(http("[2001:DB8:0::1]", "/.well-known/acme-challenge/tok"));
    ck_refused(http("2001:db8::1", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    kit_stop(&k);
}
END_TEST

START_TEST(unknown_tokens_are_remembered_for_a_moment)
{
    kit_init(&k);
    kit_start(&k);
    ck_refused(http("example.com", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 1); /* one per issuer */
    for (int i = 0; i < 100; i++)
        ck_refused(http("example.com", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 1);
    kit_put(&k.storage.base, TOKENS "example.com.json", stored);
    kit_pass(&k.env, 2 * CM_NS_PER_S);
    ck_ok(http("example.com", "/.well-known/acme-challenge/tok"));
    /* storage that fails is not asked more often either */
    atomic_store(&k.storage.fail_loads, -1);
    unsigned loads = atomic_load(&k.storage.loads);
    for (int i = 0; i < 10; i++)
        ck_refused(http("example.org", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads + 1);
    kit_stop(&k);
}
END_TEST

START_TEST(other_requests_are_not_ours)
{
    struct cm_buf body = CM_BUF_INIT(1024);

    kit_init(&k);
    kit_start(&k);
    ck_refused(http("example.com", "/"), CM_E_NOTFOUND);
    ck_refused(http("example.com", "/.well-known/acme-challengex/tok"), CM_E_NOTFOUND);
    ck_refused(cm_http01_handle(k.cfg, NULL, "POST", "example.com",
                                "/.well-known/acme-challenge/tok", &body, &err),
               CM_E_NOTFOUND);
    ck_refused(http("example.com", "/.well-known/acme-challenge"), CM_E_POLICY);
    ck_refused(http("example.com", "/.well-known/acme-challenge/"), CM_E_POLICY);
    ck_refused(http("example.com", "/.well-known/acme-challenge/../x"), CM_E_POLICY);
    ck_refused(http("example.com", "/.well-known/acme-challenge/tok?x=1"), CM_E_POLICY);
    ck_refused(http("", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    ck_refused(http(NULL, "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    ck_refused(http("[::1", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    ck_refused(http("a b", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    char path[400] = "/.well-known/acme-challenge/";
    memset(path + strlen(path), 'a', 129);
    ck_refused(http("example.com", path), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0);
    ck_assert(cm_http01_looks_like("GET", "/.well-known/acme-challenge/x"));
    ck_assert(!cm_http01_looks_like("PUT", "/.well-known/acme-challenge/x"));
    ck_assert(!cm_http01_looks_like("GET", "/.well-known/"));
    kit_stop(&k);
}
END_TEST

/* ---- validation by a file ---- */

#define FILES "/.well-known/pki-validation/"

START_TEST(a_validation_file_is_answered_from_storage)
{
    /* As a peer writes it. */
    static const char file[] =
        "{\"type\":\"\",\"url\":\"http://example.com" FILES "AB12.txt\",\"status\":\"\","
        "\"token\":\"FIRST\\nca.example\\nthird\",\"keyAuthorization\":\"\",\"identifier\":"
        "{\"type\":\"\",\"value\":\"example.com\"}}";

    kit_init(&k);
    kit_start(&k);
    (void)snprintf(k.issuer->prefix, sizeof k.issuer->prefix, "zerossl");
    ck_refused(http("example.com", "/.well-known/pki-validation"), CM_E_POLICY);
    ck_refused(http("example.com", FILES), CM_E_POLICY);
    ck_refused(http("example.com", FILES "../AB12.txt"), CM_E_POLICY);
    ck_refused(http("example.com", FILES ".AB12"), CM_E_POLICY);
    ck_refused(http("example.com", FILES "AB12.txt?x"), CM_E_POLICY);
    ck_refused(http(NULL, FILES "AB12.txt"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0);
    for (int i = 0; i < 100; i++)
        ck_refused(http("example.com", FILES "AB12.txt"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 1);
    kit_put(&k.storage.base, "zerossl/challenge_tokens/example.com.json", file);
    kit_pass(&k.env, 2 * CM_NS_PER_S);
    expected = "FIRST\nca.example\nthird";
    ck_ok(http("Example.com:80", FILES "AB12.txt"));
    expected = "tok." THUMB;
    ck_refused(http("example.com", FILES "AB13.txt"), CM_E_POLICY);
    ck_refused(http("example.org", FILES "AB12.txt"), CM_E_POLICY);
    kit_stop(&k);
}
END_TEST

START_TEST(validation_files_are_not_ours_without_such_an_issuer)
{
    kit_init(&k);
    kit_start(&k);
    ck_refused(http("example.com", FILES "AB12.txt"), CM_E_NOTFOUND);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0);
    kit_stop(&k);
}
END_TEST

/* ---- tls-alpn-01 ---- */

START_TEST(alpn_answer_from_the_board_does_no_io)
{
    struct cm_challenge ch = challenge("tls-alpn-01", "example.com");
    struct cm_challenge ip = challenge("tls-alpn-01", "192.0.2.1");
    struct cm_cert *c;
    struct cm_cert *again;

    kit_init(&k);
    kit_start(&k);
    ip.ident_type = CM_IDENT_IP;
    ck_ok(cm_board_put(k.cfg->board, &ch, &err));
    ck_ok(cm_board_put(k.cfg->board, &ip, &err));
    ck_ok(alpn("Example.com", &c));
    ck_assert(cm_cert_is_challenge(c));
    ck_assert(cm_cert_covers(c, "example.com"));
    ck_ok(alpn("example.com", &again));
    ck_assert_ptr_eq(c, again); /* made once */
    cm_cert_unref(c);
    cm_cert_unref(again);
    ck_ok(alpn("1.2.0.192.in-addr.arpa", &c));
    ck_assert(cm_cert_covers(c, "192.0.2.1"));
    cm_cert_unref(c);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0);
    /* http-01 for the same name is another matter */
    ck_refused(http("example.com", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    cm_board_remove(k.cfg->board, &ch);
    cm_board_remove(k.cfg->board, &ip);
    kit_stop(&k);
}
END_TEST

START_TEST(alpn_answer_from_storage)
{
    struct cm_cert *c;

    kit_init(&k);
    kit_start(&k);
    kit_put(&k.storage.base, TOKENS "example.com.json", stored);
    ck_ok(alpn("example.com", &c));
    ck_assert(cm_cert_is_challenge(c));
    ck_assert(cm_cert_covers(c, "example.com"));
    cm_cert_unref(c);
    kit_put(&k.storage.base, TOKENS "1.2.0.192.in-addr.arpa.json",
            "{\"token\":\"tok\",\"keyAuthorization\":\"tok." THUMB "\",\"identifier\":{\"type\":"
            "\"ip\",\"value\":\"192.0.2.1\"}}");
    ck_ok(alpn("1.2.0.192.in-addr.arpa", &c));
    ck_assert(cm_cert_covers(c, "192.0.2.1"));
    cm_cert_unref(c);
    ck_assert_uint_eq(cm_cache_count(cm_config_cache(k.cfg)), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(alpn_never_falls_back_to_another_certificate)
{
    const char *const names[] = { "example.com" };
    struct cm_cert *c;

    kit_init(&k);
    k.opts.fallback_name = "example.com";
    k.opts.default_name = "example.com";
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, names, 1, &err));
    ck_refused(alpn("example.com", &c), CM_E_NOTFOUND);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_UNRECOGNIZED_NAME);
    ck_assert_int_ne(alpn("", &c), CM_OK);
    kit_stop(&k);
}
END_TEST

START_TEST(alpn_names_are_checked_before_storage_is_asked)
{
    static const char *const bad[] = { "*.example.com", "192.0.2.1", "a..b", "../../x", "" };
    struct cm_cert *c;

    kit_init(&k);
    kit_start(&k);
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_assert_int_ne(alpn(bad[i], &c), CM_OK);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(flood_for_a_name_neither_reads_storage_nor_hides_the_answer)
{
    struct cm_pending *p[50] = { NULL };
    struct cm_cert *c;
    struct cm_hello h;

    kit_init(&k);
    kit_start(&k);
    ck_refused(alpn("example.com", &c), CM_E_NOTFOUND);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 1);
    kit_hello(&h, "example.com");
    h.acme_tls = true;
    for (size_t i = 0; i < 50; i++)
        ck_refused(cm_get_certificate(k.cfg, &h, &c, &p[i], &err), CM_E_AGAIN);
    for (size_t i = 0; i < 50; i++)
        ck_refused(cm_pending_take(p[i], &c, &err), CM_E_AGAIN);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 1);
    /* the peer has just stored it; all of them see it with the next read */
    kit_put(&k.storage.base, TOKENS "example.com.json", stored);
    kit_pass(&k.env, 400 * CM_NS_PER_MS);
    for (size_t i = 0; i < 50; i++) {
        ck_ok(cm_pending_wait(p[i], NULL, &c, &err));
        ck_assert(cm_cert_is_challenge(c));
        cm_cert_unref(c);
        cm_pending_free(p[i]);
    }
    ck_assert_uint_le(atomic_load(&k.storage.loads), 51);
    kit_stop(&k);
}
END_TEST

static _Atomic bool let_go;

static void hold_load(struct kit_storage *st, const char *key)
{
    (void)st;
    (void)key;
    kit_until(atomic_load(&let_go));
}

static unsigned stops;

static void ask_while_it_stops(struct kit_issuer *is)
{
    struct cm_cert *c;

    (void)is;
    stops++;
    ck_ok(http("example.com", "/.well-known/acme-challenge/tok"));
    ck_ok(http("example.com", "/.well-known/acme-challenge/tok"));
    ck_ok(alpn("example.com", &c));
    ck_assert(cm_cert_is_challenge(c));
    cm_cert_unref(c);
    ck_refused(http("other.example", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    ck_refused(alpn("other.example", &c), CM_E_NOTFOUND);
}

/* An issuer's port stays open for the challenges of peers while the config goes. */
START_TEST(config_that_goes_answers_until_its_issuers_have_stopped)
{
    struct kit_issuer *is;

    kit_init(&k);
    kit_start(&k);
    is = k.issuer;
    kit_put(&k.storage.base, TOKENS "example.com.json", stored);
    /* the second question within the pause after this one looks at what peers have told */
    ck_refused(http("other.example", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    stops = 0;
    is->on_stop = ask_while_it_stops;
    kit_stop(&k);
    ck_assert_uint_eq(stops, 1);
}
END_TEST

START_TEST(many_names_at_once_are_bounded)
{
    enum { AT_ONCE = 256, ASKED = 400 };
    struct cm_pending *p[ASKED] = { NULL };
    struct cm_cert *c;
    struct cm_hello h;
    unsigned refused = 0;
    char name[32];

    kit_init(&k);
    kit_start(&k);
    atomic_store(&let_go, false);
    k.storage.on_load = hold_load;
    for (unsigned i = 0; i < ASKED; i++) {
        (void)snprintf(name, sizeof name, "h%u.example", i);
        kit_hello(&h, name);
        h.acme_tls = true;
        cm_status rc = cm_get_certificate(k.cfg, &h, &c, &p[i], &err);
        ck_assert(rc == CM_E_AGAIN || rc == CM_E_LIMIT);
        refused += rc == CM_E_LIMIT;
    }
    ck_assert_uint_eq(refused, ASKED - AT_ONCE);
    atomic_store(&let_go, true);
    for (size_t i = 0; i < ASKED; i++)
        if (p[i] != NULL)
            ck_assert_int_ne(cm_pending_wait(p[i], NULL, &c, &err), CM_OK);
    for (size_t i = 0; i < ASKED; i++)
        cm_pending_free(p[i]);
    kit_stop(&k);
}
END_TEST

START_TEST(issuer_without_tokens_in_storage_is_not_asked)
{
    struct cm_cert *c;

    kit_init(&k);
    kit_start(&k);
    k.issuer->no_prefix = true;
    ck_refused(alpn("example.com", &c), CM_E_NOTFOUND);
    ck_refused(http("example.com", "/.well-known/acme-challenge/tok"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(board_replaces_and_is_complete_or_not_at_all)
{
    struct cm_challenge ch = challenge("http-01", "example.com");
    struct cm_board *b = NULL;
    struct cm_buf body = CM_BUF_INIT(1024);

    ck_ok(cm_board_new(&b, &err));
    ck_ok(cm_board_put(b, &ch, &err));
    ch.token = "tok2";
    ch.key_authorization = "tok2." THUMB;
    ck_ok(cm_board_put(b, &ch, &err));
    ck_refused(cm_board_http(b, "example.com", "tok", &body, &err), CM_E_NOTFOUND);
    ck_ok(cm_board_http(b, "example.com", "tok2", &body, &err));
    ch.token = NULL;
    ck_refused(cm_board_put(b, &ch, &err), CM_E_INVAL);
    cm_board_remove(b, &ch);
    cm_board_remove(NULL, NULL);
    cm_buf_free(&body);
    cm_board_free(b);
    cm_board_free(NULL);
}
END_TEST

/* ---- http-01 without tokens ---- */

static unsigned thumbprints;
static cm_status thumbprint_rc;

static cm_status thumbprint(void *user, const struct cm_op *op, char ret[44], struct cm_err *e)
{
    (void)user;
    (void)op;
    thumbprints++;
    if (thumbprint_rc != CM_OK)
        return cm_fail(e, thumbprint_rc, "no account");
    memcpy(ret, THUMB, sizeof THUMB);
    return CM_OK;
}

static cm_status any(const char *token, const char *want)
{
    struct cm_buf body = CM_BUF_INIT(1024);
    char path[200];

    (void)snprintf(path, sizeof path, "/.well-known/acme-challenge/%s", token);
    cm_status rc = cm_http01_handle(k.cfg, NULL, "GET", "any.example.com", path, &body, &err);
    if (rc == CM_OK)
        ck_assert_str_eq(cm_buf_str(&body), want);
    cm_buf_free(&body);
    return rc;
}

START_TEST(without_tokens_any_is_answered_by_the_thumbprint)
{
    kit_init(&k);
    kit_start(&k);
    thumbprint_rc = CM_OK;
    thumbprints = 0;
    ck_refused(any("abc", ""), CM_E_POLICY);
    ck_ok(cm_board_set_thumbprint(k.cfg->board, thumbprint, NULL, &err));
    ck_refused(cm_board_set_thumbprint(k.cfg->board, thumbprint, NULL, &err), CM_E_EXISTS);
    ck_ok(any("abd", "abd." THUMB));
    ck_ok(any("x-Y_z", "x-Y_z." THUMB));
    ck_refused(any("no.token", ""), CM_E_POLICY);
    ck_assert_uint_eq(thumbprints, 2);
    /* what is open goes first: it may be another account's */
    struct cm_challenge ch = challenge("http-01", "any.example.com");
    ch.key_authorization = "tok.other";
    ck_ok(cm_board_put(k.cfg->board, &ch, &err));
    ck_ok(any("tok", "tok.other"));
    cm_board_remove(k.cfg->board, &ch);
    ck_ok(any("tok", "tok." THUMB));
    kit_stop(&k);
}
END_TEST

START_TEST(without_an_account_strangers_do_not_make_us_look_for_it_each_time)
{
    kit_init(&k);
    kit_start(&k);
    thumbprint_rc = CM_E_NOTFOUND;
    thumbprints = 0;
    ck_ok(cm_board_set_thumbprint(k.cfg->board, thumbprint, NULL, &err));
    for (int i = 0; i < 20; i++) {
        char token[16];

        (void)snprintf(token, sizeof token, "t%d", i);
        ck_refused(any(token, ""), CM_E_POLICY);
    }
    ck_assert_uint_eq(thumbprints, 1);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        stored_challenge_is_read,
        challenge_that_does_not_fit_together_is_refused,
        http_answer_from_the_board,
        http_answer_from_storage,
        http_answer_for_addresses,
        unknown_tokens_are_remembered_for_a_moment,
        other_requests_are_not_ours,
        a_validation_file_is_answered_from_storage,
        validation_files_are_not_ours_without_such_an_issuer,
        alpn_answer_from_the_board_does_no_io,
        alpn_answer_from_storage,
        alpn_never_falls_back_to_another_certificate,
        alpn_names_are_checked_before_storage_is_asked,
        flood_for_a_name_neither_reads_storage_nor_hides_the_answer,
        config_that_goes_answers_until_its_issuers_have_stopped,
        many_names_at_once_are_bounded,
        issuer_without_tokens_in_storage_is_not_asked,
        board_replaces_and_is_complete_or_not_at_all,
        without_tokens_any_is_answered_by_the_thumbprint,
        without_an_account_strangers_do_not_make_us_look_for_it_each_time,
    };

    return kit_run("challenge", tests, CM_ARRAY_LEN(tests));
}
