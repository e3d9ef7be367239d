/* SPDX-License-Identifier: Apache-2.0 */
#include "ocsp_kit.h"
#include "key.h"
#include "x509.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>

#define ENUMERATED 0x0a

static const uint8_t oid_basic[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01 };
static const uint8_t oid_nonce[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02 };
static const uint8_t oid_sha1[] = { 0x2b, 0x0e, 0x03, 0x02, 0x1a };
static const uint8_t oid_sha256[] = { 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01 };
static const uint8_t oid_none[] = { 0x2b, 0x0e, 0x03, 0x02, 0x7f };
static const uint8_t oid_aia[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01 };
static const uint8_t oid_ad_ocsp[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01 };
static const uint8_t oid_ad_issuers[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02 };
static const uint8_t oid_eku[] = { 0x55, 0x1d, 0x25 };
static const uint8_t oid_eku_any[] = { 0x55, 0x1d, 0x25, 0x00 };
static const uint8_t oid_eku_ocsp[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09 };

static void must(cm_status rc, const struct cm_err *err)
{
    if (rc == CM_OK)
        return;
    (void)fprintf(stderr, "ocsp kit: %s: %s\n", cm_status_name(rc), err->msg);
    abort();
}

/* --------------------------------------------------------------- certificates */

void ok_ca_make(struct ok_ca *ca, const char *cn, int64_t now_s)
{
    struct cm_err err;

    ca->key = NULL;
    ca->der = (struct cm_buf)CM_BUF_INIT(CM_CERT_DER_MAX);
    must(cm_ca_make_root(cn, now_s - 10 * OK_DAY, 3650, &ca->key, &ca->der, &err), &err);
}

void ok_ca_free(struct ok_ca *ca)
{
    cm_key_unref(ca->key);
    cm_buf_free(&ca->der);
}

struct cm_key *ok_key(void)
{
    struct cm_key *key = NULL;
    struct cm_err err;

    must(cm_key_generate(CM_PK_P256, &key, &err), &err);
    return key;
}

static void put_access(struct cm_derw *w, struct cm_span method, const char *url)
{
    if (url == NULL)
        return;
    size_t seq = cm_derw_open(w, CM_DER_SEQUENCE);
    cm_derw_put(w, CM_DER_OID, method);
    cm_derw_put(w, CM_DER_CTX(6), cm_span_str(url));
    cm_derw_close(w, seq);
}

static void put_exts(struct cm_derw *w, const struct ok_cert *want, const char *name)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_INIT(4096);
    struct cm_derw v = CM_DERW_INIT(&value, w->err);
    size_t seq;

    if (want->eku_ocsp || want->eku_any) {
        seq = cm_derw_open(&v, CM_DER_SEQUENCE);
        cm_derw_put(&v, CM_DER_OID,
                    want->eku_any ? CM_SPAN_OF(oid_eku_any) : CM_SPAN_OF(oid_eku_ocsp));
        cm_derw_close(&v, seq);
        cm_ext_put(w, CM_SPAN_OF(oid_eku), false, cm_buf_span(&value));
        cm_buf_reset(&value);
    } else {
        cm_ext_server_auth(w);
    }
    must(cm_ext_san(w, &name, 1, false, w->err), w->err);
    if (want->must_staple)
        cm_ext_must_staple(w);
    if (want->url == NULL && want->issuer == NULL)
        return;
    seq = cm_derw_open(&v, CM_DER_SEQUENCE);
    put_access(&v, CM_SPAN_OF(oid_ad_ocsp), want->url);
    put_access(&v, CM_SPAN_OF(oid_ad_issuers), want->issuer);
    cm_derw_close(&v, seq);
    cm_ext_put(w, CM_SPAN_OF(oid_aia), false, cm_buf_span(&value));
}

static size_t big_endian(uint64_t n, uint8_t out[8])
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(n >> (56 - 8 * i));
    return 8;
}

void ok_cert_make(const struct ok_ca *ca, const struct ok_cert *want, const struct cm_key *key,
                  struct cm_buf *ret_der)
{
    CM_AUTO_BUF struct cm_buf subject = CM_BUF_INIT(1024);
    CM_AUTO_BUF struct cm_buf spki = CM_BUF_INIT(2048);
    CM_AUTO_BUF struct cm_buf exts = CM_BUF_INIT(8192);
    struct cm_err err = CM_ERR_INIT;
    struct cm_derw dn = CM_DERW_INIT(&subject, &err);
    struct cm_derw w = CM_DERW_INIT(&exts, &err);
    const char *name = want->name != NULL ? want->name : "ocsp.test";
    struct cm_x509 issuer;
    uint8_t serial[8];

    must(cm_x509_parse(cm_buf_span(&ca->der), &issuer, &err), &err);
    cm_dn_put(&dn, want->san_only ? NULL : want->cn != NULL ? want->cn : name);
    must(dn.rc, &err);
    must(cm__key_spki(key, &spki, &err), &err);
    put_exts(&w, want, name);
    must(w.rc, &err);
    const struct cm_x509_new t = {
        .serial = { serial, big_endian(want->serial != 0 ? want->serial : 0x1234, serial) },
        .issuer = want->self_issued ? cm_buf_span(&subject) : issuer.subject,
        .subject = cm_buf_span(&subject),
        .not_before_s = want->from_s,
        .not_after_s = want->to_s,
        .spki = cm_buf_span(&spki),
        .exts = cm_buf_span(&exts),
    };
    must(cm_x509_sign(&t, want->self_issued ? key : ca->key, ret_der, &err), &err);
}

void ok_chain_pem(struct cm_span leaf, const struct ok_ca *ca, struct cm_buf *ret)
{
    struct cm_err err;

    must(cm_cert_der_to_pem(leaf, ret, &err), &err);
    if (ca != NULL)
        must(cm_cert_der_to_pem(cm_buf_span(&ca->der), ret, &err), &err);
}

/* ------------------------------------------------------------------ responses */

static void put_time(struct cm_derw *w, int64_t t, bool utc)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(64);
    struct cm_derw v = CM_DERW_INIT(&text, w->err);
    char general[32];

    if (utc) {
        cm_derw_time(w, t);
        return;
    }
    cm_derw_time(&v, t); /* 17 0d YYMMDDhhmmssZ: these tests stay in this century */
    (void)snprintf(general, sizeof general, "20%.13s", (const char *)text.data + 2);
    cm_derw_put(w, CM_DER_GENERALIZED_TIME, cm_span_str(general));
}

static void put_ext(struct cm_derw *w, size_t padding, bool critical)
{
    CM_AUTO_BUF struct cm_buf zeros = CM_BUF_INIT(1u << 20);
    uint8_t *bytes;

    must(cm_buf_reserve(&zeros, padding + 4, w->err), w->err);
    bytes = zeros.data;
    memset(bytes, 0, padding + 4);
    size_t tag = cm_derw_open(w, CM_DER_CTX_CONS(1));
    size_t seq = cm_derw_open(w, CM_DER_SEQUENCE);
    cm_ext_put(w, CM_SPAN_OF(oid_nonce), critical, (struct cm_span){ bytes, padding + 4 });
    cm_derw_close(w, seq);
    cm_derw_close(w, tag);
}

static void put_hash(struct cm_derw *w, const struct ok_response *want, struct cm_span in, bool bad,
                     bool cut)
{
    uint8_t sum[64];
    gnutls_digest_algorithm_t alg = want->sha256 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA1;

    if (gnutls_hash_fast(alg, in.data, in.len, sum) < 0)
        abort();
    if (bad)
        sum[7] ^= 1;
    cm_derw_put(w, CM_DER_OCTET_STRING,
                (struct cm_span){ sum, gnutls_hash_get_len(alg) - (cut ? 1 : 0) });
}

static void put_cert_id(struct cm_derw *w, const struct ok_response *want, uint8_t serial_change)
{
    struct cm_x509 leaf, issuer;
    uint8_t serial[32];

    must(cm_x509_parse(want->leaf, &leaf, w->err), w->err);
    must(cm_x509_parse(cm_buf_span(&want->ca->der), &issuer, w->err), w->err);
    memcpy(serial, leaf.serial.data, leaf.serial.len);
    serial[leaf.serial.len - 1] ^= serial_change;
    size_t id = cm_derw_open(w, CM_DER_SEQUENCE);
    size_t alg = cm_derw_open(w, CM_DER_SEQUENCE);
    if (want->wrong == OK_WRONG_HASH_OID)
        cm_derw_put(w, CM_DER_OID, CM_SPAN_OF(oid_none));
    else
        cm_derw_put(w, CM_DER_OID, want->sha256 ? CM_SPAN_OF(oid_sha256) : CM_SPAN_OF(oid_sha1));
    cm_derw_put(w, CM_DER_NULL, (struct cm_span){ NULL, 0 });
    cm_derw_close(w, alg);
    put_hash(w, want, issuer.subject, want->wrong == OK_WRONG_NAME_HASH,
             want->wrong == OK_WRONG_HASH_LEN);
    put_hash(w, want, issuer.spki.key, want->wrong == OK_WRONG_KEY_HASH, false);
    cm_derw_put(w, CM_DER_INTEGER, (struct cm_span){ serial, leaf.serial.len });
    cm_derw_close(w, id);
}

static void put_status(struct cm_derw *w, const struct ok_response *want)
{
    const struct cm_span none = { NULL, 0 };
    uint8_t reason = (uint8_t)(want->wrong == OK_WRONG_REASON ? 77 : want->reason);

    if (want->status != OK_REVOKED) {
        cm_derw_put(w, want->status == OK_GOOD ? CM_DER_CTX(0) : CM_DER_CTX(2), none);
        return;
    }
    size_t info = cm_derw_open(w, CM_DER_CTX_CONS(1));
    put_time(w, want->revoked_at_s != 0 ? want->revoked_at_s : want->now_s - OK_DAY, false);
    if (want->reason >= 0) {
        size_t tag = cm_derw_open(w, CM_DER_CTX_CONS(0));
        cm_derw_put(w, ENUMERATED, (struct cm_span){ &reason, 1 });
        cm_derw_close(w, tag);
    }
    cm_derw_close(w, info);
}

static void put_single(struct cm_derw *w, const struct ok_response *want, uint8_t serial_change)
{
    size_t single = cm_derw_open(w, CM_DER_SEQUENCE);

    put_cert_id(w, want, serial_change);
    put_status(w, want);
    put_time(w, want->this_s != 0 ? want->this_s : want->now_s, want->wrong == OK_WRONG_TIME);
    if (!want->no_next) {
        size_t tag = cm_derw_open(w, CM_DER_CTX_CONS(0));
        put_time(w, want->next_s != 0 ? want->next_s : want->now_s + 7 * OK_DAY, false);
        cm_derw_close(w, tag);
    }
    if (want->wrong == OK_WRONG_SINGLE_CRITICAL)
        put_ext(w, 0, true);
    cm_derw_close(w, single);
}

static void put_responder(struct cm_derw *w, const struct ok_response *want)
{
    struct cm_span der =
        want->signer_cert.len > 0 ? want->signer_cert : cm_buf_span(&want->ca->der);
    struct cm_x509 who;
    uint8_t sum[20];

    if (want->named_after.len > 0)
        der = want->named_after;
    must(cm_x509_parse(der, &who, w->err), w->err);
    size_t tag = cm_derw_open(w, CM_DER_CTX_CONS(want->by_key ? 2 : 1));
    if (want->by_key) {
        if (gnutls_hash_fast(GNUTLS_DIG_SHA1, who.spki.key.data, who.spki.key.len, sum) < 0)
            abort();
        cm_derw_put(w, CM_DER_OCTET_STRING, CM_SPAN_OF(sum));
    } else {
        cm_derw_raw(w, who.subject);
    }
    cm_derw_close(w, tag);
}

static void put_singles(struct cm_derw *w, const struct ok_response *want)
{
    size_t list = cm_derw_open(w, CM_DER_SEQUENCE);

    for (size_t i = 0; i < want->others_before; i++)
        put_single(w, want, (uint8_t)(0x10 + i % 100));
    if (want->wrong != OK_WRONG_EMPTY)
        for (size_t i = 0; i <= want->twice; i++)
            put_single(w, want, want->wrong == OK_WRONG_SERIAL ? 1 : 0);
    for (size_t i = 0; i < want->others_after; i++)
        put_single(w, want, (uint8_t)(0x10 + i % 100));
    cm_derw_close(w, list);
}

static void make_tbs(const struct ok_response *want, struct cm_buf *tbs, struct cm_err *err)
{
    static const uint8_t v7[] = { CM_DER_INTEGER, 1, 7 };
    struct cm_derw w = CM_DERW_INIT(tbs, err);
    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);

    if (want->wrong == OK_WRONG_VERSION)
        cm_derw_put(&w, CM_DER_CTX_CONS(0), CM_SPAN_OF(v7));
    put_responder(&w, want);
    put_time(&w, want->produced_s != 0 ? want->produced_s : want->now_s, false);
    put_singles(&w, want);
    if (want->nonce || want->padding > 0 || want->wrong == OK_WRONG_CRITICAL)
        put_ext(&w, want->padding, want->wrong == OK_WRONG_CRITICAL);
    cm_derw_close(&w, seq);
    must(w.rc, err);
}

/* The signed frame, with the certificates put in at its end. */
static void make_basic(const struct ok_response *want, struct cm_buf *basic, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf tbs = CM_BUF_INIT(1u << 20);
    CM_AUTO_BUF struct cm_buf frame = CM_BUF_INIT(1u << 20);
    struct cm_derw w = CM_DERW_INIT(basic, err);
    struct cm_span in, content;

    make_tbs(want, &tbs, err);
    must(cm_x509_frame(cm_buf_span(&tbs), want->signer != NULL ? want->signer : want->ca->key,
                       &frame, err),
         err);
    if (want->wrong == OK_WRONG_SIGNATURE)
        frame.data[frame.len - 3] ^= 4;
    in = cm_buf_span(&frame);
    if (!cm_der_take(&in, CM_DER_SEQUENCE, &content))
        abort();
    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_raw(&w, content);
    if (want->signer_cert.len > 0 && !want->hide_signer) {
        size_t tag = cm_derw_open(&w, CM_DER_CTX_CONS(0));
        size_t list = cm_derw_open(&w, CM_DER_SEQUENCE);
        for (size_t i = 0; i == 0 || i < want->signer_copies; i++)
            cm_derw_raw(&w, want->signer_cert);
        cm_derw_close(&w, list);
        cm_derw_close(&w, tag);
    } else if (want->wrong == OK_WRONG_CERTS) {
        cm_derw_put(&w, CM_DER_CTX_CONS(0), cm_span_str("\x02\x01\x05"));
    }
    cm_derw_close(&w, seq);
    must(w.rc, err);
}

static void put_frame(struct cm_derw *w, uint8_t status, const struct ok_response *want,
                      struct cm_span basic)
{
    size_t outer = cm_derw_open(w, CM_DER_SEQUENCE);

    cm_derw_put(w, ENUMERATED, (struct cm_span){ &status, 1 });
    if (want != NULL) {
        size_t tag = cm_derw_open(w, CM_DER_CTX_CONS(0));
        size_t bytes = cm_derw_open(w, CM_DER_SEQUENCE);
        cm_derw_put(w, CM_DER_OID,
                    want->wrong == OK_WRONG_TYPE ? CM_SPAN_OF(oid_nonce) : CM_SPAN_OF(oid_basic));
        cm_derw_put(w, CM_DER_OCTET_STRING, basic);
        cm_derw_close(w, bytes);
        cm_derw_close(w, tag);
    }
    cm_derw_close(w, outer);
    must(w->rc, w->err);
}

void ok_response_make(const struct ok_response *want, struct cm_buf *ret_der)
{
    CM_AUTO_BUF struct cm_buf basic = CM_BUF_INIT(1u << 20);
    struct cm_err err = CM_ERR_INIT;
    struct cm_derw w = CM_DERW_INIT(ret_der, &err);

    make_basic(want, &basic, &err);
    if (want->wrong == OK_WRONG_TBS) {
        struct cm_span in = cm_buf_span(&basic);
        struct cm_span content, tbs, inner;

        /* The last byte of what is signed: of a date, or of an extension. */
        if (!cm_der_take(&in, CM_DER_SEQUENCE, &content) ||
            !cm_der_take_whole(&content, CM_DER_SEQUENCE, &inner, &tbs))
            abort();
        size_t at = (size_t)(tbs.data - basic.data) + tbs.len - 2;
        basic.data[at] = (uint8_t)(basic.data[at] == '1' ? '2' : '1');
    }
    put_frame(&w, 0, want, cm_buf_span(&basic));
}

void ok_refusal_make(uint8_t status, struct cm_buf *ret_der)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_derw w = CM_DERW_INIT(ret_der, &err);

    put_frame(&w, status, NULL, (struct cm_span){ NULL, 0 });
}
