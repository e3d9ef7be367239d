/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "redis_data.h"

#include <string.h>

/* A value in Redis, which peers and whoever else may write there have made. What is taken reads the
 * same however it is packed again, and the facts at its end are those of the whole. */

static struct rds_codec codec;

static void pack_again(struct cm_span value, int compression, bool encrypts)
{
    struct rds_codec c = codec;
    struct cm_buf stored = CM_BUF_INIT(RDS_STORED_MAX);
    struct cm_buf got = CM_BUF_INIT(RDS_PLAIN_MAX);
    struct rds_facts facts;
    size_t tail;

    c.compression = compression;
    c.encrypts = encrypts;
    CM_ASSERT(rds_value_encode(&c, value, INT64_C(1788020401123456789), &stored, NULL) == CM_OK);
    CM_ASSERT(rds_value_decode(&c, "k", cm_buf_span(&stored), &got, NULL) == CM_OK);
    CM_ASSERT(got.len == value.len && (got.len == 0 || memcmp(got.data, value.data, got.len) == 0));
    tail = stored.len < RDS_FACTS_TAIL ? stored.len : RDS_FACTS_TAIL;
    CM_ASSERT(
        rds_value_tail_facts((struct cm_span){ stored.data + stored.len - tail, tail }, &facts));
    CM_ASSERT(facts.size == value.len && facts.modified_ns == INT64_C(1788020401123456789));
    cm_buf_free(&stored);
    cm_buf_free(&got);
}

static void check_facts(struct cm_span in)
{
    size_t n = in.len < RDS_FACTS_TAIL ? in.len : RDS_FACTS_TAIL;
    struct cm_span tail = { n > 0 ? in.data + in.len - n : NULL, n };
    struct rds_facts whole;
    struct rds_facts end;

    if (!rds_value_tail_facts(tail, &end) || rds_value_facts("k", in, &whole, NULL) != CM_OK)
        return;
    CM_ASSERT(whole.size == end.size && whole.modified_ns == end.modified_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_buf got = CM_BUF_INIT(RDS_PLAIN_MAX);
    struct cm_span in = { data, size };

    codec.env = cm_env_system();
    codec.encrypts = true;
    memcpy(codec.key, "0123456789abcdef0123456789abcdef", RDS_AES_KEY);
    cm_status rc = rds_value_decode(&codec, "k", in, &got, NULL);
    CM_ASSERT(rc == CM_OK || rc == CM_E_PARSE || rc == CM_E_PERM);
    CM_ASSERT(rc == CM_OK || got.len == 0);
    check_facts(in);
    if (rc == CM_OK && got.len < 4096) {
        fuzz_reached();
        for (int i = 0; i < 6; i++)
            pack_again(cm_buf_span(&got), i / 2, i % 2 == 1);
    }
    cm_buf_free(&got);
    return 0;
}
