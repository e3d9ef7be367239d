/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include "cipher.h"

#include <zlib.h>

/* What happens to a value's bytes on their way into JSON: compressed, then encrypted. */

#define CHUNK 16384u

static int window_bits(int how)
{
    return how == RDS_FLATE ? -15 : 15;
}

cm_status rds_deflate(int how, struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    z_stream z = { 0 };
    cm_status rc;

    if (in.len > RDS_PLAIN_MAX)
        return cm_fail(err, CM_E_LIMIT, "%zu bytes are too many to compress", in.len);
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window_bits(how), 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return cm_fail_nomem(err);
    rc = cm_buf_reserve(out, deflateBound(&z, (uLong)in.len), err);
    if (rc == CM_OK) {
        z.next_in = (Bytef *)(uintptr_t)in.data;
        z.avail_in = (uInt)in.len;
        z.next_out = out->data + out->len;
        z.avail_out = (uInt)deflateBound(&z, (uLong)in.len);
        if (deflate(&z, Z_FINISH) == Z_STREAM_END) {
            out->len += z.total_out;
            out->data[out->len] = 0;
        } else {
            rc = cm_fail(err, CM_E_INTERNAL, "zlib did not compress %zu bytes", in.len);
        }
    }
    (void)deflateEnd(&z);
    return rc;
}

/* One step for each chunk, so that what expands without end costs no more than the maximum. */
static cm_status inflate_all(z_stream *z, struct cm_buf *out, struct cm_err *err)
{
    uint8_t chunk[CHUNK];
    size_t total = 0;
    cm_status rc = CM_OK;
    int got = Z_OK;

    while (rc == CM_OK && got != Z_STREAM_END) {
        z->next_out = chunk;
        z->avail_out = sizeof chunk;
        got = inflate(z, Z_NO_FLUSH);
        size_t n = sizeof chunk - z->avail_out;
        if (got == Z_MEM_ERROR)
            rc = cm_fail_nomem(err);
        else if ((got != Z_OK && got != Z_STREAM_END) || (got == Z_OK && n == 0))
            rc = cm_fail(err, CM_E_PARSE, "compressed data is damaged or cut short");
        else if ((total += n) > RDS_PLAIN_MAX)
            rc = cm_fail(err, CM_E_PARSE, "compressed data expands to more than %u bytes",
                         RDS_PLAIN_MAX);
        else
            rc = cm_buf_append(out, chunk, n, err);
    }
    cm_wipe(chunk, sizeof chunk);
    return rc;
}

cm_status rds_inflate(int how, struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    z_stream z = { 0 };

    if (in.len > RDS_STORED_MAX)
        return cm_fail(err, CM_E_PARSE, "compressed data has %zu bytes", in.len);
    if (inflateInit2(&z, window_bits(how)) != Z_OK)
        return cm_fail_nomem(err);
    z.next_in = (Bytef *)(uintptr_t)in.data;
    z.avail_in = (uInt)in.len;
    cm_status rc = inflate_all(&z, out, err);
    (void)inflateEnd(&z);
    return rc;
}

cm_status rds_seal(const struct rds_codec *c, struct cm_span in, struct cm_buf *out,
                   struct cm_err *err)
{
    const struct cm_span none = { NULL, 0 };
    uint8_t nonce[CM_SEAL_NONCE_LEN];
    cm_status rc = cm_env_random(c->env, nonce, sizeof nonce, err);

    if (rc == CM_OK)
        rc = cm_buf_append(out, nonce, sizeof nonce, err);
    if (rc == CM_OK)
        rc = cm_seal((struct cm_span){ c->key, sizeof c->key }, nonce, none, in, out, err);
    return rc;
}

cm_status rds_unseal(const struct rds_codec *c, struct cm_span in, struct cm_buf *out,
                     struct cm_err *err)
{
    const struct cm_span none = { NULL, 0 };

    if (!c->encrypts)
        return cm_fail(err, CM_E_PERM,
                       "it is encrypted and no key is given: set encryption_key_file to what the "
                       "peers have");
    if (in.len < CM_SEAL_NONCE_LEN + CM_SEAL_TAG_LEN)
        return cm_fail(err, CM_E_PARSE, "encrypted data of only %zu bytes", in.len);
    cm_status rc = cm_unseal(
        (struct cm_span){ c->key, sizeof c->key }, in.data, none,
        (struct cm_span){ in.data + CM_SEAL_NONCE_LEN, in.len - CM_SEAL_NONCE_LEN }, out, err);
    if (rc == CM_E_KEY)
        return cm_fail(err, CM_E_PERM,
                       "it cannot be decrypted: another encryption key was used, or it is damaged");
    return rc;
}
