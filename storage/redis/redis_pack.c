/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <zlib.h>

/* What happens to a value's bytes on their way into JSON: compressed, then encrypted. */

#define CHUNK 16384u
#define NONCE 12u
#define TAG   16u

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

static cm_status cipher(const struct rds_codec *c, gnutls_aead_cipher_hd_t *ret, struct cm_err *err)
{
    gnutls_datum_t key = { (unsigned char *)(uintptr_t)c->key, sizeof c->key };
    int got = gnutls_aead_cipher_init(ret, GNUTLS_CIPHER_AES_256_GCM, &key);

    if (got < 0)
        return cm_fail(err, CM_E_INTERNAL, "AES-256-GCM: %s", gnutls_strerror(got));
    return CM_OK;
}

cm_status rds_seal(const struct rds_codec *c, struct cm_span in, struct cm_buf *out,
                   struct cm_err *err)
{
    gnutls_aead_cipher_hd_t hd;
    uint8_t nonce[NONCE];
    size_t room = in.len + TAG;
    cm_status rc = cm_env_random(c->env, nonce, sizeof nonce, err);

    if (rc == CM_OK)
        rc = cm_buf_append(out, nonce, sizeof nonce, err);
    if (rc == CM_OK)
        rc = cm_buf_reserve(out, room, err);
    if (rc == CM_OK)
        rc = cipher(c, &hd, err);
    if (rc != CM_OK)
        return rc;
    int got = gnutls_aead_cipher_encrypt(hd, nonce, sizeof nonce, NULL, 0, TAG, in.data, in.len,
                                         out->data + out->len, &room);
    gnutls_aead_cipher_deinit(hd);
    if (got < 0)
        return cm_fail(err, CM_E_INTERNAL, "AES-256-GCM: %s", gnutls_strerror(got));
    out->len += room;
    out->data[out->len] = 0;
    return CM_OK;
}

cm_status rds_unseal(const struct rds_codec *c, struct cm_span in, struct cm_buf *out,
                     struct cm_err *err)
{
    gnutls_aead_cipher_hd_t hd;

    if (!c->encrypts)
        return cm_fail(err, CM_E_PERM,
                       "it is encrypted and no key is given: set encryption_key_file to what the "
                       "peers have");
    if (in.len < NONCE + TAG)
        return cm_fail(err, CM_E_PARSE, "encrypted data of only %zu bytes", in.len);
    size_t room = in.len - NONCE - TAG;
    cm_status rc = cm_buf_reserve(out, room, err);
    if (rc == CM_OK)
        rc = cipher(c, &hd, err);
    if (rc != CM_OK)
        return rc;
    int got = gnutls_aead_cipher_decrypt(hd, in.data, NONCE, NULL, 0, TAG, in.data + NONCE,
                                         in.len - NONCE, out->data + out->len, &room);
    gnutls_aead_cipher_deinit(hd);
    if (got < 0)
        return cm_fail(err, CM_E_PERM,
                       "it cannot be decrypted: another encryption key was used, or it is damaged");
    out->len += room;
    out->data[out->len] = 0;
    return CM_OK;
}
