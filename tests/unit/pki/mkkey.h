/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_PKI_MKKEY_H
#define CM_TESTS_UNIT_PKI_MKKEY_H

/* Private keys put together from their parts, right and wrong. */

#include "key.h"
#include "run.h"
#include "vectors.h"

static struct cm_err err;

static inline struct cm_key *from_text(const char *pem)
{
    struct cm_key *key = NULL;

    ck_ok(cm_key_from_pem(cm_span_str(pem), &key, &err));
    return key;
}

static inline void to_text(const struct cm_key *key, struct cm_buf *out)
{
    cm_buf_reset(out);
    ck_ok(cm_key_to_pem(key, out, &err));
}

static inline struct cm_span der_of(const struct cm_key *key)
{
    return (struct cm_span){ key->der, key->der_len };
}

/* PKCS#8 around @inner. */
static inline void wrap_pkcs8(struct cm_buf *out, struct cm_span oid, struct cm_span params,
                              struct cm_span inner)
{
    static const uint8_t zero[] = { 0 };
    struct cm_derw w = CM_DERW_INIT(out, &err);

    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_INTEGER, CM_SPAN_OF(zero));
    size_t alg = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_OID, oid);
    cm_derw_raw(&w, params);
    cm_derw_close(&w, alg);
    cm_derw_put(&w, CM_DER_OCTET_STRING, inner);
    cm_derw_close(&w, seq);
    ck_assert_int_eq(w.rc, CM_OK);
}

/* SEC1 with what a test wants different. NULL curve or point = left out. */
static inline void make_sec1(struct cm_buf *out, struct cm_span scalar, struct cm_span curve,
                             struct cm_span point)
{
    static const uint8_t one[] = { 1 };
    struct cm_derw w = CM_DERW_INIT(out, &err);

    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_INTEGER, CM_SPAN_OF(one));
    cm_derw_put(&w, CM_DER_OCTET_STRING, scalar);
    if (curve.data != NULL) {
        size_t tag = cm_derw_open(&w, CM_DER_CTX_CONS(0));
        cm_derw_put(&w, CM_DER_OID, curve);
        cm_derw_close(&w, tag);
    }
    if (point.data != NULL) {
        size_t tag = cm_derw_open(&w, CM_DER_CTX_CONS(1));
        size_t bits = cm_derw_open(&w, CM_DER_BIT_STRING);
        cm_derw_byte(&w, 0);
        cm_derw_raw(&w, point);
        cm_derw_close(&w, bits);
        cm_derw_close(&w, tag);
    }
    cm_derw_close(&w, seq);
    ck_assert_int_eq(w.rc, CM_OK);
}

/* The parts of the key of RFC 7515 A.3. */
static inline void a3_parts(const struct cm_key *key, struct cm_span *scalar, struct cm_span *point)
{
    struct cm_span in = der_of(key);
    struct cm_key_public pub;
    struct cm_span seq;
    unsigned version = 0;

    ck_assert(cm_der_take(&in, CM_DER_SEQUENCE, &seq));
    ck_assert(cm_der_take_small(&seq, &version));
    ck_assert(cm_der_take(&seq, CM_DER_OCTET_STRING, scalar));
    ck_ok(cm__key_public(key, &pub, &err));
    *point = pub.point;
}

#endif
