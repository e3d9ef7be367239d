/* SPDX-License-Identifier: Apache-2.0 */
#include "../fixture.h"

#include "redis_data.h"
#include "redis_vectors.h"

#include <stdio.h>
#include <string.h>

/* Values as caddy-storage-redis writes them. */

static struct rds_codec plain;
static struct rds_codec keyed;

static void setup(void)
{
    plain = (struct rds_codec){ .env = cm_env_system() };
    keyed = plain;
    keyed.encrypts = true;
    memcpy(keyed.key, KEY, RDS_AES_KEY);
}

static cm_status decode(const struct rds_codec *c, const char *json, struct cm_buf *out)
{
    return rds_value_decode(c, "a/key", cm_span_str(json), out, &err);
}

START_TEST(every_flag_a_peer_may_set_is_read)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(vectors); i++) {
        struct cm_buf got = CM_BUF_INIT(4096);

        must(decode(&keyed,
                    json_of(vectors[i].base64, vectors[i].compression, vectors[i].encryption),
                    &got));
        ck_assert_str_eq(cm_buf_str(&got), TEXT);
        cm_buf_free(&got);
    }
}
END_TEST

START_TEST(what_is_written_is_what_peers_write)
{
    struct cm_buf out = CM_BUF_INIT(4096);

    must(rds_value_encode(&plain, cm_span_str("x?>~"), INT64_C(1788020401120000000), &out, &err));
    ck_assert_str_eq(cm_buf_str(&out),
                     "{\"value\":\"eD8+fg==\",\"modified\":\"2026-08-29T16:20:01.12Z"
                     "\",\"size\":4,\"compression\":0,\"encryption\":0}");
    cm_buf_reset(&out);
    must(rds_value_encode(&plain, cm_span_str(""), INT64_C(1788020401000000000), &out, &err));
    ck_assert_str_eq(cm_buf_str(&out),
                     "{\"value\":\"\",\"modified\":\"2026-08-29T16:20:01Z\",\"size\":0,"
                     "\"compression\":0,\"encryption\":0}");
    cm_buf_free(&out);
}
END_TEST

START_TEST(what_is_written_is_read_again)
{
    static const char *const texts[] = { "", "x", "no two bytes", TEXT };

    for (int compression = 0; compression <= RDS_ZLIB; compression++)
        for (int encrypts = 0; encrypts < 2; encrypts++)
            for (size_t i = 0; i < CM_ARRAY_LEN(texts); i++) {
                struct rds_codec c = encrypts ? keyed : plain;
                struct cm_buf out = CM_BUF_INIT(4096);
                struct cm_buf got = CM_BUF_INIT(4096);
                char flags[64];

                c.compression = compression;
                must(rds_value_encode(&c, cm_span_str(texts[i]), 1, &out, &err));
                must(decode(&c, cm_buf_str(&out), &got));
                ck_assert_str_eq(cm_buf_str(&got), texts[i]);
                /* only what gets smaller is compressed */
                (void)snprintf(flags, sizeof flags, "\"compression\":%d,\"encryption\":%d}",
                               i == 3 ? compression : 0, encrypts);
                ck_assert_msg(strstr(cm_buf_str(&out), flags) != NULL, "%s", cm_buf_str(&out));
                if (i == 3 && compression != 0)
                    ck_assert_uint_lt(out.len, 250);
                cm_buf_free(&out);
                cm_buf_free(&got);
            }
}
END_TEST

START_TEST(no_two_encryptions_are_alike)
{
    struct cm_buf a = CM_BUF_INIT(4096);
    struct cm_buf b = CM_BUF_INIT(4096);

    must(rds_value_encode(&keyed, cm_span_str(TEXT), 1, &a, &err));
    must(rds_value_encode(&keyed, cm_span_str(TEXT), 1, &b, &err));
    ck_assert_str_ne(cm_buf_str(&a), cm_buf_str(&b));
    cm_buf_free(&a);
    cm_buf_free(&b);
}
END_TEST

/* What is written as peers write it is not read by a parser of JSON; with a space before it, it is.
 * Both have to come to the same. */
START_TEST(both_ways_of_reading_agree)
{
#define MODIFIED ",\"modified\":\"2026-01-01T00:00:00Z\""
    static const char *const rest[] = {
        MODIFIED ",\"size\":1,\"compression\":0,\"encryption\":0}",
        MODIFIED ",\"size\":1,\"compression\":0,\"encryption\":0} ",
        MODIFIED ",\"size\":1,\"compression\":0,\"encryption\":0}}",
        MODIFIED ",\"size\":1,\"compression\":0,\"encryption\":0",
        MODIFIED ",\"size\":1,\"compression\":0,\"encryption\":0,\"value\":\"eQ==\"}",
        MODIFIED ",\"size\":1,\"compression\":0,\"encryption\":00}",
        MODIFIED ",\"size\":1,\"compression\":3,\"encryption\":0}",
        MODIFIED ",\"size\":1,\"compression\":1,\"encryption\":0}",
        MODIFIED ",\"size\":1,\"compression\":0,\"encryption\":1}",
        MODIFIED ",\"size\":01,\"compression\":0,\"encryption\":0}",
        MODIFIED ",\"size\":,\"compression\":0,\"encryption\":0}",
        MODIFIED ",\"size\":-1,\"compression\":0,\"encryption\":0}",
        MODIFIED ",\"size\":1.5,\"compression\":0,\"encryption\":0}",
        MODIFIED ",\"size\":99999999999999999999,\"compression\":0,\"encryption\":0}",
        MODIFIED ",\"size\":1,\"compression\":0,\"encryption\":0,\"more\":[]}",
        ",\"modified\":\"\",\"size\":1,\"compression\":0,\"encryption\":0}",
        ",\"modified\":\"\x80\",\"size\":1,\"compression\":0,\"encryption\":0}",
        ",\"modified\":\"\n\",\"size\":1,\"compression\":0,\"encryption\":0}",
        ",\"modified\":\"\\\"\",\"size\":1,\"compression\":0,\"encryption\":0}",
        ",\"modified\":\"\\x\",\"size\":1,\"compression\":0,\"encryption\":0}",
        ",\"modified\":null,\"size\":1,\"compression\":0,\"encryption\":0}",
        "}",
        "",
    };
    static const char *const values[] = {
        "eA==", "", "eA", "eB==", "Pz8\\/", "Pz8/", "e\\u0041=="
    };
#undef MODIFIED

    for (size_t i = 0; i < CM_ARRAY_LEN(rest) * CM_ARRAY_LEN(values); i++) {
        struct cm_buf usual = CM_BUF_INIT(64);
        struct cm_buf other = CM_BUF_INIT(64);
        char text[256];

        (void)snprintf(text, sizeof text, " {\"value\":\"%s\"%s", values[i % CM_ARRAY_LEN(values)],
                       rest[i / CM_ARRAY_LEN(values)]);
        cm_status want = decode(&keyed, text, &other);
        cm_status rc = decode(&keyed, text + 1, &usual);
        ck_assert_msg(rc == want, "%s: %s, not %s", text, cm_status_name(rc), cm_status_name(want));
        ck_assert_str_eq(cm_buf_str(&usual), cm_buf_str(&other));
        cm_buf_free(&usual);
        cm_buf_free(&other);
    }
}
END_TEST

START_TEST(an_empty_value_may_be_null)
{
    struct cm_buf got = CM_BUF_INIT(64);

    must(cm_buf_puts(&got, "kept", &err));
    must(decode(&plain, "{\"value\":null,\"modified\":\"2026-01-01T00:00:00Z\",\"size\":0}", &got));
    must(decode(&plain, " { \"more\": [1], \"value\" : \"eA==\" } ", &got));
    ck_assert_str_eq(cm_buf_str(&got), "keptx");
    cm_buf_free(&got);
}
END_TEST

START_TEST(garbage_is_named_and_leaves_nothing_behind)
{
    static const char *const bad[] = {
        "",
        "x",
        "[]",
        "\"value\"",
        "{}",
        "{\"value\":1}",
        "{\"value\":\"eA=\"}",
        "{\"value\":\"eA==eA==\"}",
        "{\"value\":\"eB==\"}",
        "{\"value\":\"e===\"}",
        "{\"value\":\"====\"}",
        "{\"value\":\"e_-=\"}",
        "{\"value\":\"eA==\"",
        "{\"value\":\"eA==\"} x",
        "{\"value\":\"eA==\",\"compression\":3}",
        "{\"value\":\"eA==\",\"compression\":-1}",
        "{\"value\":\"eA==\",\"compression\":\"1\"}",
        "{\"value\":\"eA==\",\"encryption\":2}",
        "{\"value\":\"eA==\",\"encryption\":1}",
        "{\"value\":\"eA==\",\"compression\":1}",
        "{\"value\":\"eA==\",\"compression\":2}",
        "{\"value\":\"\",\"compression\":1}",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        struct cm_buf got = CM_BUF_INIT(64);

        must(cm_buf_puts(&got, "kept", &err));
        cm_status rc = decode(&keyed, bad[i], &got);
        ck_assert_msg(rc == CM_E_PARSE, "%s: %s", bad[i], cm_status_name(rc));
        ck_assert_msg(strstr(err.msg, "a/key") != NULL, "%s: %s", bad[i], err.msg);
        ck_assert_uint_eq(got.len, 4);
        cm_buf_free(&got);
    }
}
END_TEST

/* Each byte of each vector, one bit turned: an error, or (in what is not protected) other bytes,
 * never more than that. */
START_TEST(damaged_bytes_do_no_harm)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(vectors); i++) {
        size_t len = strlen(vectors[i].base64);

        for (size_t at = 0; at < len; at++) {
            char text[1024];
            struct cm_buf got = CM_BUF_INIT(RDS_PLAIN_MAX);

            memcpy(text, vectors[i].base64, len + 1);
            text[at] = text[at] == 'A' ? 'B' : 'A';
            cm_status rc =
                decode(&keyed, json_of(text, vectors[i].compression, vectors[i].encryption), &got);
            if (vectors[i].encryption != 0)
                ck_assert_int_ne(rc, CM_OK);
            if (rc != CM_OK)
                ck_assert_uint_eq(got.len, 0);
            cm_buf_free(&got);
        }
    }
}
END_TEST

/* To lack the key is a mistake in the settings. If it counted as damage, the value would be
 * replaced by one that the peers cannot read either. */
START_TEST(a_wrong_key_is_no_damage)
{
    struct rds_codec other = keyed;
    struct cm_buf got = CM_BUF_INIT(4096);

    other.key[31] ^= 1;
    must_fail(decode(&plain, json_of(vectors[1].base64, 0, 1), &got), CM_E_PERM);
    ck_assert_msg(strstr(err.msg, "encryption_key_file") != NULL, "%s", err.msg);
    must_fail(decode(&other, json_of(vectors[1].base64, 0, 1), &got), CM_E_PERM);
    ck_assert(!cm_status_is_damage(CM_E_PERM));
    ck_assert_uint_eq(got.len, 0);
    cm_buf_free(&got);
}
END_TEST

/* 4 MiB of zeros and one more, in 4 KiB. */
START_TEST(what_expands_without_end_is_stopped)
{
    size_t len = RDS_PLAIN_MAX + 1;
    uint8_t *zeros = cm_calloc(len, 1);
    struct cm_buf small = CM_BUF_INIT(RDS_STORED_MAX);
    struct cm_buf got = CM_BUF_INIT((size_t)2 * RDS_PLAIN_MAX);

    ck_assert_ptr_nonnull(zeros);
    for (int how = RDS_FLATE; how <= RDS_ZLIB; how++) {
        cm_buf_reset(&small);
        must(rds_deflate(how, (struct cm_span){ zeros, RDS_PLAIN_MAX }, &small, &err));
        ck_assert_uint_lt(small.len, 5000);
        cm_buf_reset(&got);
        must(rds_inflate(how, cm_buf_span(&small), &got, &err));
        ck_assert_uint_eq(got.len, RDS_PLAIN_MAX);
        small.len--; /* cut short */
        cm_buf_reset(&got);
        must_fail(rds_inflate(how, cm_buf_span(&small), &got, &err), CM_E_PARSE);
    }
    must_fail(rds_deflate(RDS_FLATE, (struct cm_span){ zeros, len }, &small, &err), CM_E_LIMIT);
    cm_buf_free(&small);
    cm_buf_free(&got);
    free(zeros);
}
END_TEST

START_TEST(a_bomb_is_refused)
{
    /* One stored block of nothing, then 4 MiB + 1 of zeros: written by hand from pieces, as
     * rds_deflate() does not go so far. */
    struct cm_buf piece = CM_BUF_INIT(RDS_STORED_MAX);
    struct cm_buf bomb = CM_BUF_INIT(RDS_STORED_MAX);
    struct cm_buf got = CM_BUF_INIT((size_t)4 * RDS_PLAIN_MAX);
    static const uint8_t stored[] = { 0, 1, 0, 0xFE, 0xFF, 'x' }; /* not the last block */

    uint8_t *zeros = cm_calloc(RDS_PLAIN_MAX, 1);
    ck_assert_ptr_nonnull(zeros);
    must(rds_deflate(RDS_FLATE, (struct cm_span){ zeros, RDS_PLAIN_MAX }, &piece, &err));
    must(cm_buf_append(&bomb, stored, sizeof stored, &err));
    must(cm_buf_append(&bomb, piece.data, piece.len, &err));
    must_fail(rds_inflate(RDS_FLATE, cm_buf_span(&bomb), &got, &err), CM_E_PARSE);
    ck_assert_msg(strstr(err.msg, "expands") != NULL, "%s", err.msg);
    ck_assert_uint_le(got.len, RDS_PLAIN_MAX);
    cm_buf_free(&piece);
    cm_buf_free(&bomb);
    cm_buf_free(&got);
    free(zeros);
}
END_TEST

START_TEST(the_facts_are_at_the_end)
{
    struct cm_buf out = CM_BUF_INIT(4096);
    struct rds_facts f = { 0, 0 };
    const char *peers = json_of(vectors[3].base64, 1, 1);
    size_t len = strlen(peers);
    size_t n = len < RDS_FACTS_TAIL ? len : RDS_FACTS_TAIL;

    ck_assert(rds_value_tail_facts(cm_span_str(peers + len - n), &f));
    ck_assert_int_eq(f.modified_ns, INT64_C(1788020401123456789));
    ck_assert_uint_eq(f.size, strlen(TEXT));
    must(rds_value_facts("k", cm_span_str(peers), &f, &err));
    ck_assert_int_eq(f.modified_ns, INT64_C(1788020401123456789));
    must(rds_value_encode(&keyed, cm_span_str("x"), INT64_MAX, &out, &err));
    ck_assert_uint_lt(out.len, RDS_FACTS_TAIL); /* so what follows the value is shorter still */
    ck_assert(rds_value_tail_facts(cm_buf_span(&out), &f));
    ck_assert_uint_eq(f.size, 1);
    ck_assert(!rds_value_tail_facts(cm_span_str("{\"size\":1,\"value\":\"\"}"), &f));
    ck_assert(!rds_value_tail_facts(cm_span_str("\"modified\":\"\"}"), &f));
    ck_assert(!rds_value_tail_facts(cm_span_str(""), &f));
    must(rds_value_facts("k", cm_span_str("{\"size\":7,\"value\":\"\"}"), &f, &err));
    ck_assert_uint_eq(f.size, 7);
    must_fail(rds_value_facts("k", cm_span_str("{\"size\":7}"), &f, &err), CM_E_PARSE);
    must_fail(rds_value_facts("k", cm_span_str("{\"value\":\"\",\"size\":-7}"), &f, &err),
              CM_E_PARSE);
    cm_buf_free(&out);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_flag_a_peer_may_set_is_read,
        what_is_written_is_what_peers_write,
        what_is_written_is_read_again,
        both_ways_of_reading_agree,
        no_two_encryptions_are_alike,
        an_empty_value_may_be_null,
        garbage_is_named_and_leaves_nothing_behind,
        damaged_bytes_do_no_harm,
        a_wrong_key_is_no_damage,
        what_expands_without_end_is_stopped,
        a_bomb_is_refused,
        the_facts_are_at_the_end,
    };

    setup();
    return run_with_root("redis values", tests, CM_ARRAY_LEN(tests), 60);
}
