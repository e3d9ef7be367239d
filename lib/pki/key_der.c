/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <string.h>

/* Every form in which a private key comes, made into the form in which we keep it. Done on the
 * DER itself because GnuTLS goes by the PEM label, refuses Go's Ed25519 label and may write an EC
 * scalar one byte too wide. */

static const struct curve {
    struct cm_span oid;
    size_t width; /* bytes of a coordinate */
    enum cm_pk type;
} curves[] = {
    { { cm_oid_p256, sizeof cm_oid_p256 }, 32, CM_PK_P256 },
    { { cm_oid_p384, sizeof cm_oid_p384 }, 48, CM_PK_P384 },
    { { cm_oid_p521, sizeof cm_oid_p521 }, 66, CM_PK_OTHER },
};

static const struct curve *curve_of(struct cm_span oid)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(curves); i++) {
        if (cm_span_eq(oid, curves[i].oid))
            return &curves[i];
    }
    return NULL;
}

static cm_status malformed(struct cm_err *err, const char *form)
{
    return cm_fail(err, CM_E_PARSE, "private key: %s is malformed", form);
}

static void write_sec1(struct cm_derw *w, const struct curve *curve, struct cm_span scalar,
                       struct cm_span point)
{
    static const uint8_t one[] = { 1 };
    size_t seq = cm_derw_open(w, CM_DER_SEQUENCE);

    cm_derw_put(w, CM_DER_INTEGER, CM_SPAN_OF(one));
    size_t octets = cm_derw_open(w, CM_DER_OCTET_STRING);
    for (size_t i = scalar.len; i < curve->width; i++)
        cm_derw_byte(w, 0);
    cm_derw_raw(w, scalar);
    cm_derw_close(w, octets);
    size_t params = cm_derw_open(w, CM_DER_CTX_CONS(0));
    cm_derw_put(w, CM_DER_OID, curve->oid);
    cm_derw_close(w, params);
    size_t pub = cm_derw_open(w, CM_DER_CTX_CONS(1));
    size_t bits = cm_derw_open(w, CM_DER_BIT_STRING);
    cm_derw_byte(w, 0);
    cm_derw_raw(w, point);
    cm_derw_close(w, bits);
    cm_derw_close(w, pub);
    cm_derw_close(w, seq);
}

/* @seq: contents of ECPrivateKey. @outer_curve: from the PKCS#8 around it, or empty. */
static cm_status canonical_sec1(struct cm_span seq, struct cm_span outer_curve, struct cm_buf *out,
                                struct cm_key_shape *ret, struct cm_err *err)
{
    struct cm_span scalar, params, wrapped;
    struct cm_span oid = outer_curve;
    struct cm_span point = { NULL, 0 };
    unsigned version = 0;

    if (!cm_der_take_small(&seq, &version) || version != 1 ||
        !cm_der_take(&seq, CM_DER_OCTET_STRING, &scalar))
        return malformed(err, "EC key (SEC1)");
    if (cm_der_is(&seq, CM_DER_CTX_CONS(0))) {
        if (!cm_der_take(&seq, CM_DER_CTX_CONS(0), &params))
            return malformed(err, "EC key (SEC1)");
        if (!cm_der_take(&params, CM_DER_OID, &oid) || params.len != 0)
            return cm_fail(err, CM_E_KEY,
                           "private key: EC parameters are not a named curve; use P-256 or P-384");
        if (outer_curve.len != 0 && !cm_span_eq(oid, outer_curve))
            return cm_fail(err, CM_E_KEY, "private key: names two different EC curves");
    }
    if (cm_der_is(&seq, CM_DER_CTX_CONS(1)) &&
        (!cm_der_take(&seq, CM_DER_CTX_CONS(1), &wrapped) || !cm_der_take_bits(&wrapped, &point) ||
         wrapped.len != 0))
        return malformed(err, "EC key (SEC1)");
    if (seq.len != 0)
        return malformed(err, "EC key (SEC1)");

    const struct curve *curve = curve_of(oid);
    if (curve == NULL)
        return cm_fail(err, CM_E_KEY,
                       "private key: EC curve is missing or not one of P-256, P-384, P-521");
    if (point.len == 0)
        return cm_fail(err, CM_E_KEY,
                       "private key: EC key without its public half; "
                       "write it anew with 'openssl pkey -in KEY'");
    if (point.len != 1 + 2 * curve->width || point.data[0] != 4)
        return cm_fail(err, CM_E_KEY, "private key: EC public point is not an uncompressed point");
    while (scalar.len > 0 && scalar.data[0] == 0) {
        scalar.data++;
        scalar.len--;
    }
    if (scalar.len == 0 || scalar.len > curve->width)
        return cm_fail(err, CM_E_KEY, "private key: EC scalar is out of range");

    struct cm_derw w = CM_DERW_INIT(out, err);
    write_sec1(&w, curve, scalar, point);
    ret->type = curve->type;
    ret->curve = curve->oid;
    return w.rc;
}

/* @whole: RSAPrivateKey with header, kept as it is: strict DER has one encoding only. */
static cm_status canonical_rsa(struct cm_span whole, struct cm_buf *out, struct cm_key_shape *ret,
                               struct cm_err *err)
{
    struct cm_span in = whole;
    struct cm_span seq, v[8]; /* n e d p q dp dq qinv */
    unsigned version = 0;

    if (!cm_der_take(&in, CM_DER_SEQUENCE, &seq) || in.len != 0 ||
        !cm_der_take_small(&seq, &version))
        return malformed(err, "RSA key (PKCS#1)");
    if (version != 0)
        return cm_fail(err, CM_E_KEY, "private key: RSA with more than two primes");
    for (size_t i = 0; i < CM_ARRAY_LEN(v); i++) {
        if (!cm_der_take_uint(&seq, &v[i]))
            return malformed(err, "RSA key (PKCS#1)");
    }
    if (seq.len != 0)
        return malformed(err, "RSA key (PKCS#1)");

    unsigned bits = 0;
    if (v[0].len <= CM_RSA_BITS_MAX / 8 + 1) {
        bits = (unsigned)(v[0].len - 1) * 8;
        for (unsigned top = v[0].data[0]; top != 0; top >>= 1)
            bits++;
    }
    if (bits < CM_RSA_BITS_MIN || bits > CM_RSA_BITS_MAX)
        return cm_fail(err, CM_E_KEY, "private key: RSA of %u bits; %u to %u are accepted", bits,
                       CM_RSA_BITS_MIN, CM_RSA_BITS_MAX);
    if (v[1].len > CM_RSA_EXPONENT_LEN_MAX || (v[1].data[v[1].len - 1] & 1) == 0)
        return cm_fail(err, CM_E_KEY, "private key: RSA exponent is even or too large");
    /* Oversized parameters cost time in every later use of the key. */
    for (size_t i = 1; i < CM_ARRAY_LEN(v); i++) {
        if (v[i].len > v[0].len)
            return malformed(err, "RSA key (PKCS#1)");
    }
    ret->rsa_bits = bits;
    ret->type = bits == 2048   ? CM_PK_RSA2048
                : bits == 3072 ? CM_PK_RSA3072
                : bits == 4096 ? CM_PK_RSA4096
                : bits == 8192 ? CM_PK_RSA8192
                               : CM_PK_OTHER;
    return cm_buf_append(out, whole.data, whole.len, err);
}

cm_status cm__key_ed25519(struct cm_span seed, struct cm_buf *out, struct cm_err *err)
{
    static const uint8_t head[] = { 0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                    0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20 };

    if (seed.len != 32)
        return malformed(err, "Ed25519 key (PKCS#8)");
    cm_status rc = cm_buf_append(out, head, sizeof head, err);
    if (rc == CM_OK)
        rc = cm_buf_append(out, seed.data, seed.len, err);
    return rc;
}

static cm_status canonical_ed25519(struct cm_span inner, struct cm_buf *out,
                                   struct cm_key_shape *ret, struct cm_err *err)
{
    struct cm_span seed;

    if (!cm_der_take(&inner, CM_DER_OCTET_STRING, &seed) || inner.len != 0)
        return malformed(err, "Ed25519 key (PKCS#8)");
    ret->type = CM_PK_ED25519;
    return cm__key_ed25519(seed, out, err);
}

/* @seq: what follows the version in PrivateKeyInfo (RFC 5208) or OneAsymmetricKey (RFC 5958);
 * attributes and the optional public key after the key are of no use to us. */
static cm_status canonical_pkcs8(struct cm_span seq, struct cm_buf *out, struct cm_key_shape *ret,
                                 struct cm_err *err)
{
    struct cm_span alg, oid, inner;
    struct cm_span curve = { NULL, 0 };
    unsigned version = 0;

    if (!cm_der_take_small(&seq, &version) || version > 1 ||
        !cm_der_take(&seq, CM_DER_SEQUENCE, &alg) || !cm_der_take(&alg, CM_DER_OID, &oid) ||
        !cm_der_take(&seq, CM_DER_OCTET_STRING, &inner))
        return malformed(err, "PKCS#8");
    if (CM_SPAN_IS(oid, cm_oid_rsa))
        return canonical_rsa(inner, out, ret, err);
    if (CM_SPAN_IS(oid, cm_oid_ed25519))
        return canonical_ed25519(inner, out, ret, err);
    if (CM_SPAN_IS(oid, cm_oid_ec)) {
        struct cm_span sec1;
        if (!cm_der_take(&alg, CM_DER_OID, &curve))
            return cm_fail(err, CM_E_KEY,
                           "private key: EC parameters are not a named curve; use P-256 or P-384");
        if (!cm_der_take(&inner, CM_DER_SEQUENCE, &sec1) || inner.len != 0)
            return malformed(err, "PKCS#8");
        return canonical_sec1(sec1, curve, out, ret, err);
    }
    return cm_fail(err, CM_E_KEY,
                   "private key: algorithm is not supported; use EC, RSA or Ed25519");
}

cm_status cm__key_canonical(struct cm_span der, struct cm_buf *out, struct cm_key_shape *ret,
                            struct cm_err *err)
{
    struct cm_span none = { NULL, 0 };
    struct cm_span in = der;
    struct cm_span seq, peek, version;

    memset(ret, 0, sizeof *ret);
    if (der.len > CM_KEY_DER_MAX)
        return cm_fail(err, CM_E_LIMIT, "private key: %zu bytes, at most %u are accepted", der.len,
                       CM_KEY_DER_MAX);
    if (!cm_der_take(&in, CM_DER_SEQUENCE, &seq) || in.len != 0)
        return malformed(err, "DER");
    if (cm_der_is(&seq, CM_DER_SEQUENCE)) /* EncryptedPrivateKeyInfo begins with its algorithm */
        return cm_fail(err, CM_E_KEY,
                       "private key: is encrypted; decrypt it first with 'openssl pkey -in KEY'");
    /* What follows the version tells the forms apart. */
    peek = seq;
    if (!cm_der_take(&peek, CM_DER_INTEGER, &version))
        return malformed(err, "DER");
    if (cm_der_is(&peek, CM_DER_OCTET_STRING))
        return canonical_sec1(seq, none, out, ret, err);
    if (cm_der_is(&peek, CM_DER_SEQUENCE))
        return canonical_pkcs8(seq, out, ret, err);
    if (cm_der_is(&peek, CM_DER_INTEGER))
        return canonical_rsa(der, out, ret, err);
    return malformed(err, "DER");
}
