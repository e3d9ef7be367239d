/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <string.h>

const char *cm_key_jws_alg(const struct cm_key *key)
{
    if (key->type == CM_PK_P256)
        return "ES256";
    if (key->type == CM_PK_P384)
        return "ES384";
    if (key->type == CM_PK_ED25519)
        return "EdDSA";
    return key->rsa_bits >= CM_RSA_BITS_SOUND ? "RS256" : NULL; /* RFC 7518 3.3: 2048 or larger */
}

static cm_status need_jws(const struct cm_key *key, struct cm_err *err)
{
    if (cm_key_jws_alg(key) != NULL)
        return CM_OK;
    return cm_fail(err, CM_E_KEY,
                   "this key cannot sign JWS; use P-256, P-384, RSA of 2048 bits or Ed25519");
}

static cm_status put_padded(struct cm_buf *out, struct cm_span v, size_t width, struct cm_err *err)
{
    static const uint8_t zero[66] = { 0 };

    if (v.len > width)
        return cm_fail(err, CM_E_INTERNAL, "ECDSA signature is wider than its curve");
    cm_status rc = cm_buf_append(out, zero, width - v.len, err);
    return rc == CM_OK ? cm_buf_append(out, v.data, v.len, err) : rc;
}

cm_status cm_key_jws_sign(const struct cm_key *key, struct cm_span input, struct cm_buf *sig,
                          struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(2048);
    struct cm_span in, seq, r, s;

    cm_status rc = need_jws(key, err);
    if (rc == CM_OK)
        rc = cm__key_sign(key, input, &der, err);
    if (rc != CM_OK)
        return rc;
    if (key->curve.len == 0)
        return cm_buf_append(sig, der.data, der.len, err);

    /* RFC 7518 3.4: R and S side by side, each as wide as the curve. */
    size_t width = key->type == CM_PK_P256 ? 32 : 48;
    in = cm_buf_span(&der);
    if (!cm_der_take(&in, CM_DER_SEQUENCE, &seq) || in.len != 0 || !cm_der_take_uint(&seq, &r) ||
        !cm_der_take_uint(&seq, &s) || seq.len != 0)
        return cm_fail(err, CM_E_INTERNAL, "ECDSA signature is malformed");
    rc = put_padded(sig, r, width, err);
    return rc == CM_OK ? put_padded(sig, s, width, err) : rc;
}

static cm_status put_member(struct cm_buf *json, const char *before, struct cm_span value,
                            struct cm_err *err)
{
    cm_status rc = cm_buf_puts(json, before, err);

    if (rc == CM_OK)
        rc = cm_b64url_encode(value, json, err);
    return rc == CM_OK ? cm_buf_puts(json, "\"", err) : rc;
}

cm_status cm_key_jwk(const struct cm_key *key, struct cm_buf *json, struct cm_err *err)
{
    struct cm_key_public pub;

    cm_status rc = need_jws(key, err);
    if (rc == CM_OK)
        rc = cm__key_public(key, &pub, err);
    if (rc != CM_OK)
        return rc;
    size_t before = json->len;
    if (key->rsa_bits != 0) {
        rc = put_member(json, "{\"e\":\"", pub.e, err);
        if (rc == CM_OK)
            rc = put_member(json, ",\"kty\":\"RSA\",\"n\":\"", pub.n, err);
    } else if (key->type == CM_PK_ED25519) {
        rc = put_member(json, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"", pub.point, err);
    } else {
        size_t width = (pub.point.len - 1) / 2;
        struct cm_span x = { pub.point.data + 1, width };
        struct cm_span y = { pub.point.data + 1 + width, width };
        rc = put_member(json,
                        key->type == CM_PK_P256 ? "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\""
                                                : "{\"crv\":\"P-384\",\"kty\":\"EC\",\"x\":\"",
                        x, err);
        if (rc == CM_OK)
            rc = put_member(json, ",\"y\":\"", y, err);
    }
    if (rc == CM_OK)
        rc = cm_buf_puts(json, "}", err);
    if (rc != CM_OK)
        json->len = before;
    return rc;
}

cm_status cm_key_thumbprint(const struct cm_key *key, char ret[CM_THUMBPRINT_BUF],
                            struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(4096);
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(CM_THUMBPRINT_BUF);
    uint8_t sum[CM_SHA256_LEN];

    cm_status rc = cm_key_jwk(key, &json, err);
    if (rc != CM_OK)
        return rc;
    cm_sha256(cm_buf_span(&json), sum);
    rc = cm_b64url_encode(CM_SPAN_OF(sum), &text, err);
    if (rc != CM_OK)
        return rc;
    CM_ASSERT(text.len == CM_THUMBPRINT_BUF - 1);
    memcpy(ret, text.data, CM_THUMBPRINT_BUF); /* with its NUL */
    return CM_OK;
}
