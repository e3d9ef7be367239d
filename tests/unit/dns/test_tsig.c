/* SPDX-License-Identifier: Apache-2.0 */
/* Key files, and signatures. The signatures here were made by another program. */

#include "tsig.h"

#include "run.h"

#include "must.h"

#include <string.h>

#define SECRET "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define KEY    "key \"k.test\" { algorithm hmac-sha256; secret \"" SECRET "\"; };"
#define NOW_S  1700000000

static struct cm_err err;

static const char request_mac[] =
    "8faf50b0fa3e43457d4b5abb44d577d8aa59086b121d12909b187efd9ebfa5e3";
static const char answer[] = "1234a8000001000000000001016104746573740000060001016b04746573740000fa0"
                             "0ff00000000003d0b686d61632d73"
                             "68613235360000006553f100012c00204e884211812a21f708d1ae53bf8afd582e3d5"
                             "a447eaca0a16c6643129a8754e912"
                             "3400000000";

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;

    ck_assert(cm_hex_decode(hex, n, out));
    return n;
}

static struct dns_key *key_of(const char *text)
{
    struct dns_key *k = NULL;

    must(dns_key_parse(cm_span_str(text), &k, &err));
    return k;
}

START_TEST(key_files)
{
    static const char *const bad[] = {
        "",
        "key",
        "key \"a\"",
        "key \"a\" {",
        "key \"a\" { algorithm hmac-sha256; };",
        "key \"a\" { secret \"" SECRET "\"; };",
        "key \"a\" { algorithm hmac-sha256; secret \"" SECRET "\"; }",
        "key \"a\" { algorithm hmac-sha256; secret \"" SECRET "; };",
        "key \"a\" { algorithm hmac-sha256; secret \"%%\"; };",
        "key \"a\" { algorithm hmac-sha256; secret \"\"; };",
        "key \"a b\" { algorithm hmac-sha256; secret \"" SECRET "\"; };",
        "key \"a\" { algorithm hmac-sha256; secret \"" SECRET "\"; what \"x\"; };",
        KEY KEY,
        KEY " options { };",
    };
    struct dns_key *k = key_of(KEY);

    ck_assert_str_eq(dns_key_name(k), "k.test");
    ck_assert_uint_eq(k->secret.len, 32);
    dns_key_free(k);
    k = key_of(
        "// one\n# two\n/* three */ key K.Test. {\n\talgorithm HMAC-SHA512;\n\tsecret " SECRET
        ";\n};\n/* and");
    ck_assert_str_eq(dns_key_name(k), "k.test");
    ck_assert_str_eq(k->alg_name, "hmac-sha512");
    dns_key_free(k);
    k = NULL;
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        ck_assert_msg(dns_key_parse(cm_span_str(bad[i]), &k, &err) == CM_E_PARSE, "%s", bad[i]);
        ck_assert_msg(strstr(err.msg, SECRET) == NULL, "%s", err.msg);
    }
    must_fail(
        dns_key_parse(cm_span_str("key a { algorithm hmac-md5; secret " SECRET "; };"), &k, &err),
        CM_E_UNSUPPORTED);
    ck_assert_ptr_null(k);
}
END_TEST

START_TEST(a_request_is_signed)
{
    struct dns_key *k = key_of(KEY);
    struct dns_writer w = { .len = 0 };
    uint8_t mac[DNS_MAC_MAX], want[DNS_MAC_MAX];
    size_t len = 0;
    struct dns_message m;

    dns_put_u16(&w, 0x1234);
    dns_put_u16(&w, 0x2800);
    dns_put_u16(&w, 1);
    dns_put_u16(&w, 0);
    dns_put_u16(&w, 1);
    dns_put_u16(&w, 0);
    dns_put_name(&w, "a.test");
    dns_put_u16(&w, DNS_SOA);
    dns_put_u16(&w, DNS_IN);
    dns_put_name(&w, "_acme-challenge.a.test");
    dns_put_u16(&w, DNS_TXT);
    dns_put_u16(&w, DNS_IN);
    dns_put_u32(&w, 60);
    dns_put_u16(&w, 4);
    dns_put_bytes(&w, "\3abc", 4);
    must(dns_sign(k, &w, NOW_S, mac, &len, &err));
    ck_assert_uint_eq(len, unhex(request_mac, want));
    ck_assert_mem_eq(mac, want, len);
    must(dns_parse((struct cm_span){ w.data, w.len }, &m, &err));
    ck_assert_uint_eq(m.counts[3], 1);
    dns_key_free(k);
}
END_TEST

static cm_status verify(const struct dns_key *k, const uint8_t *data, size_t len, int64_t now_s)
{
    uint8_t mac[DNS_MAC_MAX];
    struct dns_message m;
    size_t mac_len = unhex(request_mac, mac);

    cm_status rc = dns_parse((struct cm_span){ data, len }, &m, &err);
    return rc != CM_OK ? rc : dns_verify(k, &m, (struct cm_span){ mac, mac_len }, now_s, &err);
}

START_TEST(an_answer_is_verified)
{
    struct dns_key *k = key_of(KEY);
    struct dns_key *other =
        key_of("key \"k.test\" { algorithm hmac-sha256; secret \"c2VjcmV0\"; };");
    struct dns_key *name =
        key_of("key \"l.test\" { algorithm hmac-sha256; secret \"" SECRET "\"; };");
    uint8_t data[sizeof answer], copy[sizeof answer];
    size_t len = unhex(answer, data);

    must(verify(k, data, len, NOW_S));
    must(verify(k, data, len, NOW_S + 300));
    must_fail(verify(k, data, len, NOW_S + 301), CM_E_PERM);
    must_fail(verify(k, data, len, NOW_S - 301), CM_E_PERM);
    must_fail(verify(other, data, len, NOW_S), CM_E_PERM);
    must_fail(verify(name, data, len, NOW_S), CM_E_PERM);
    /* No byte can be another. The id alone may: the record says which it was. */
    for (size_t i = 2; i < len; i++) {
        memcpy(copy, data, len);
        copy[i] ^= 0x01;
        ck_assert_msg(verify(k, copy, len, NOW_S) != CM_OK, "byte %zu", i);
    }
    dns_key_free(k);
    dns_key_free(other);
    dns_key_free(name);
}
END_TEST

START_TEST(a_refusal_is_told)
{
    struct dns_key *k = key_of(KEY);
    uint8_t data[sizeof answer];
    size_t len = unhex(answer, data);

    /* no MAC; error 16, 17, 18 */
    memmove(data + len - 38, data + len - 6, 6);
    len -= 32;
    data[41] = 0x1d;
    data[len - 7] = 0;
    for (unsigned e = 16; e <= 18; e++) {
        static const char *const says[] = { "BADSIG", "BADKEY", "BADTIME" };
        data[len - 3] = (uint8_t)e;
        must_fail(verify(k, data, len, NOW_S), CM_E_PERM);
        ck_assert_msg(strstr(err.msg, says[e - 16]) != NULL, "%s", err.msg);
    }
    data[len - 3] = 0; /* no error, no MAC: not a signature */
    must_fail(verify(k, data, len, NOW_S), CM_E_PERM);
    data[11] = 0; /* no record at all */
    must_fail(verify(k, data, len, NOW_S), CM_E_PERM);
    ck_assert_msg(strstr(err.msg, "not signed") != NULL, "%s", err.msg);
    dns_key_free(k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { key_files, a_request_is_signed, an_answer_is_verified,
                                   a_refusal_is_told };

    return run_tests("tsig", tests, CM_ARRAY_LEN(tests));
}
