/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <stdio.h>
#include <string.h>

/* RFC 8555 7.3.5: what is sent to change an account's key, and that it is sent once. */

static struct fake_ca ca;
static struct cm_key *next;

static void setup(void)
{
    fake_ca_start(&ca);
    ck_ok(cm_key_generate(CM_PK_P384, &next, &err));
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir",
          &(struct sh_reply){ .body =
                                  "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/acct\","
                                  "\"newOrder\":\"{BASE}/order\",\"keyChange\":\"{BASE}/change\"}",
                              .no_nonce = true });
    sh_on(ca.sh, "HEAD", "/nonce", &(struct sh_reply){ 0 });
}

static void teardown(void)
{
    cm_key_unref(next);
    fake_ca_stop(&ca);
}

/* The decoded @member of a flattened JWS. */
static void part(const char *jws, const char *member, struct cm_buf *out)
{
    char look[32];
    (void)snprintf(look, sizeof look, "\"%s\":\"", member);
    const char *at = strstr(jws, look);
    ck_assert_ptr_nonnull(at);
    at += strlen(look);
    const struct cm_span text = { (const uint8_t *)at, strcspn(at, "\"") };
    cm_buf_reset(out);
    ck_ok(cm_b64url_decode(text, out, &err));
}

START_TEST(it_is_signed_by_both_keys)
{
    struct cm_buf outer = CM_BUF_INIT(16384), inner = CM_BUF_INIT(16384), jwk = CM_BUF_INIT(4096);

    sh_on(ca.sh, "POST", "/change", &(struct sh_reply){ .body = "{\"status\":\"valid\"}" });
    ck_ok(cm_acme_key_change(ca.acme, &ca.op, &ca.who, next, &err));
    const char *jws = sh_last_body(ca.sh, "/change");
    part(jws, "protected", &outer);
    ck_has(cm_buf_str(&outer), "\"alg\":\"ES256\"");
    ck_has(cm_buf_str(&outer), "\"kid\":");
    ck_has(cm_buf_str(&outer), "\"nonce\":");
    part(jws, "payload", &outer);
    part(cm_buf_str(&outer), "protected", &inner);
    ck_has(cm_buf_str(&inner), "\"alg\":\"ES384\"");
    ck_has(cm_buf_str(&inner), sh_url(ca.sh, "/change"));
    ck_ok(cm_key_jwk(next, &jwk, &err));
    ck_has(cm_buf_str(&inner), cm_buf_str(&jwk));
    ck_assert_ptr_null(strstr(cm_buf_str(&inner), "nonce"));
    part(cm_buf_str(&outer), "payload", &inner);
    ck_has(cm_buf_str(&inner), ca.who.kid);
    cm_buf_reset(&jwk);
    ck_ok(cm_key_jwk(ca.key, &jwk, &err));
    ck_has(cm_buf_str(&inner), cm_buf_str(&jwk));
    cm_buf_free(&outer);
    cm_buf_free(&inner);
    cm_buf_free(&jwk);
}
END_TEST

START_TEST(when_the_answer_is_lost_it_is_not_sent_again)
{
    sh_on(ca.sh, "POST", "/change", &(struct sh_reply){ .fault = SH_CLOSE });
    ck_status(cm_acme_key_change(ca.acme, &ca.op, &ca.who, next, &err), CM_E_NET);
    ck_assert_uint_eq(sh_count(ca.sh, "POST", "/change"), 1);
}
END_TEST

START_TEST(a_key_of_another_account_is_a_conflict)
{
    sh_on(ca.sh, "POST", "/change",
          &(struct sh_reply){ .status = 409, .headers = "Location: {BASE}/acct/9\r\n" });
    ck_status(cm_acme_key_change(ca.acme, &ca.op, &ca.who, next, &err), CM_E_ACME);
    ck_assert_int_eq(err.http_status, 409);
}
END_TEST

START_TEST(a_ca_without_it_is_unsupported)
{
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir",
          &(struct sh_reply){ .body =
                                  "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/acct\","
                                  "\"newOrder\":\"{BASE}/order\"}" });
    ck_status(cm_acme_key_change(ca.acme, &ca.op, &ca.who, next, &err), CM_E_UNSUPPORTED);
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        it_is_signed_by_both_keys,
        when_the_answer_is_lost_it_is_not_sent_again,
        a_key_of_another_account_is_a_conflict,
        a_ca_without_it_is_unsupported,
    };
    Suite *s = suite_create("rollover");

    ADD_TESTS(s, "rollover", setup, teardown, all);
    return run_suite(s);
}
