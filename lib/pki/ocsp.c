/* SPDX-License-Identifier: Apache-2.0 */
#include "ocsp.h"
#include "x509.h"

#include <gnutls/crypto.h>
#include <string.h>

#define AHEAD_S        (5 * 60)    /* how far the responder's clock may be ahead of ours */
#define NO_NEXT_S      (12 * 3600) /* how long a response without nextUpdate is believed */
#define SINGLES_MAX    100u
#define SIGNERS_MAX    5u
#define DER_ENUMERATED 0x0a

static const uint8_t oid_basic_response[] = {
    0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01
};
static const uint8_t oid_sha1[] = { 0x2b, 0x0e, 0x03, 0x02, 0x1a };

/* What a CertID may be hashed with. */
static const struct {
    struct cm_span oid;
    gnutls_digest_algorithm_t alg;
} hashes[] = {
    { { oid_sha1, sizeof oid_sha1 }, GNUTLS_DIG_SHA1 },
    { { (const uint8_t *)"\x60\x86\x48\x01\x65\x03\x04\x02\x01", 9 }, GNUTLS_DIG_SHA256 },
    { { (const uint8_t *)"\x60\x86\x48\x01\x65\x03\x04\x02\x02", 9 }, GNUTLS_DIG_SHA384 },
    { { (const uint8_t *)"\x60\x86\x48\x01\x65\x03\x04\x02\x03", 9 }, GNUTLS_DIG_SHA512 },
};
#define HASH_MAX 64
#define SHA1_LEN 20

const char *cm_ocsp_status_text(enum cm_ocsp_status s)
{
    switch (s) {
    case CM_OCSP_GOOD:
        return "good";
    case CM_OCSP_REVOKED:
        return "revoked";
    case CM_OCSP_UNKNOWN:
        break;
    }
    return "unknown";
}

static cm_status hash(gnutls_digest_algorithm_t alg, struct cm_span in, uint8_t out[HASH_MAX],
                      struct cm_err *err)
{
    int rc = gnutls_hash_fast(alg, in.data, in.len, out);

    return rc < 0 ? cm_fail(err, CM_E_INTERNAL, "OCSP: hash: %s", gnutls_strerror(rc)) : CM_OK;
}

/* ------------------------------------------------------------ leaf and issuer */

struct pair {
    struct cm_x509 leaf;
    struct cm_x509 issuer;
};

static cm_status parse_pair(struct cm_span leaf_der, struct cm_span issuer_der, struct pair *ret,
                            struct cm_err *err)
{
    cm_status rc = cm_x509_parse(leaf_der, &ret->leaf, err);

    if (rc == CM_OK) {
        rc = cm_x509_parse(issuer_der, &ret->issuer, err);
        if (rc != CM_OK)
            rc = cm_wrap(err, rc, "issuer");
    }
    if (rc == CM_OK && !cm_span_eq(ret->leaf.issuer, ret->issuer.subject))
        rc = cm_fail(err, CM_E_CERT,
                     "the issuer's certificate does not have the name of the "
                     "certificate's issuer");
    return rc;
}

static cm_status check_pair(const struct pair *p, struct cm_err *err)
{
    if (!p->issuer.ext.is_ca || !p->issuer.ext.may_sign_certs)
        return cm_fail(err, CM_E_CERT, "the issuer's certificate is not one of a CA");
    if (!cm_spki_is_sound(&p->issuer.spki))
        return cm_fail(err, CM_E_CERT, "the issuer's key is of a kind or size not accepted");
    return cm_x509_verify_sig(&p->leaf, &p->issuer.spki, "certificate, by its issuer", err);
}

cm_status cm_ocsp_check_issuer(struct cm_span leaf_der, struct cm_span issuer_der,
                               struct cm_err *err)
{
    struct pair p;
    cm_status rc = parse_pair(leaf_der, issuer_der, &p, err);

    return rc == CM_OK ? check_pair(&p, err) : rc;
}

cm_status cm_cert_issuer_url(struct cm_span leaf_der, char ret[CM_URL_BUF], struct cm_err *err)
{
    struct cm_x509 x;
    cm_status rc = cm_x509_parse(leaf_der, &x, err);

    if (rc != CM_OK)
        return rc;
    struct cm_span uri = x.ext.ca_issuers_uri;
    if (uri.len == 0 || uri.len >= CM_URL_BUF)
        return cm_fail(err, CM_E_NOTFOUND, "the certificate does not say where its issuer's is");
    for (size_t i = 0; i < uri.len; i++)
        if (uri.data[i] <= ' ' || uri.data[i] >= 0x7f)
            return cm_fail(err, CM_E_NOTFOUND, "the address of the issuer's certificate is no URL");
    memcpy(ret, uri.data, uri.len);
    ret[uri.len] = '\0';
    return CM_OK;
}

/* -------------------------------------------------------------------- request */

cm_status cm_ocsp_request(struct cm_span leaf_der, struct cm_span issuer_der, struct cm_buf *ret,
                          struct cm_err *err)
{
    struct cm_derw w = CM_DERW_INIT(ret, err);
    uint8_t name_hash[HASH_MAX];
    uint8_t key_hash[HASH_MAX];
    size_t mark[6];
    struct pair p;

    cm_status rc = parse_pair(leaf_der, issuer_der, &p, err);
    if (rc == CM_OK)
        rc = hash(GNUTLS_DIG_SHA1, p.issuer.subject, name_hash, err);
    if (rc == CM_OK)
        rc = hash(GNUTLS_DIG_SHA1, p.issuer.spki.key, key_hash, err);
    if (rc != CM_OK)
        return rc;
    /* OCSPRequest, TBSRequest, requestList, Request, CertID */
    for (size_t i = 0; i < 5; i++)
        mark[i] = cm_derw_open(&w, CM_DER_SEQUENCE);
    mark[5] = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_OID, CM_SPAN_OF(oid_sha1));
    cm_derw_put(&w, CM_DER_NULL, (struct cm_span){ NULL, 0 });
    cm_derw_close(&w, mark[5]);
    cm_derw_put(&w, CM_DER_OCTET_STRING, (struct cm_span){ name_hash, SHA1_LEN });
    cm_derw_put(&w, CM_DER_OCTET_STRING, (struct cm_span){ key_hash, SHA1_LEN });
    cm_derw_put(&w, CM_DER_INTEGER, p.leaf.serial);
    for (size_t i = 5; i > 0; i--)
        cm_derw_close(&w, mark[i - 1]);
    return w.rc;
}

/* -------------------------------------------------------------------- reading */

struct cert_id {
    struct cm_span hash_oid;
    struct cm_span name_hash;
    struct cm_span key_hash;
    struct cm_span serial;
};

struct response {
    struct cm_x509 frame;   /* of it tbs, sig_oid and signature */
    struct cm_span signers; /* certificates one after the other */
    bool by_key;
    struct cm_span responder; /* Name with header, or key hash */
    int64_t produced_at_s;
    struct cm_span singles;
};

static cm_status malformed(struct cm_err *err, const char *field)
{
    return cm_fail(err, CM_E_PARSE, "OCSP response: %s is malformed", field);
}

/* GeneralizedTime alone, as RFC 6960 4.2.2.1 wants it. */
static bool take_time(struct cm_span *in, int64_t *ret)
{
    return cm_der_is(in, CM_DER_GENERALIZED_TIME) && cm_der_take_time(in, ret);
}

/* What is critical and not understood must not be passed over (RFC 6960 4.4): nothing is. */
static cm_status no_critical(struct cm_span exts, struct cm_err *err)
{
    struct cm_span list, ext, oid, value, critical;

    if (!cm_der_take(&exts, CM_DER_SEQUENCE, &list) || exts.len != 0)
        return malformed(err, "extension list");
    while (list.len > 0) {
        if (!cm_der_take(&list, CM_DER_SEQUENCE, &ext) || !cm_der_take(&ext, CM_DER_OID, &oid))
            return malformed(err, "extension");
        if (cm_der_is(&ext, CM_DER_BOOLEAN)) {
            if (!cm_der_take(&ext, CM_DER_BOOLEAN, &critical) || critical.len != 1)
                return malformed(err, "extension");
            if (critical.data[0] != 0)
                return cm_fail(err, CM_E_CERT,
                               "OCSP response: it has a critical extension that is not known here");
        }
        if (!cm_der_take(&ext, CM_DER_OCTET_STRING, &value) || ext.len != 0)
            return malformed(err, "extension");
    }
    return CM_OK;
}

static cm_status refused(struct cm_err *err, uint8_t status)
{
    switch (status) {
    case 1:
        return cm_fail(err, CM_E_POLICY, "the OCSP responder takes the request for malformed");
    case 2:
        return cm_fail(err, CM_E_AGAIN, "the OCSP responder has an internal error");
    case 3:
        return cm_fail(err, CM_E_AGAIN, "the OCSP responder says to try later");
    case 5:
        return cm_fail(err, CM_E_POLICY, "the OCSP responder wants signed requests");
    case 6:
        return cm_fail(err, CM_E_POLICY,
                       "the OCSP responder does not answer for this certificate (unauthorized)");
    default:
        return cm_fail(err, CM_E_PARSE, "OCSP response: status %u is not known", status);
    }
}

/* From the outside to the BasicOCSPResponse. */
static cm_status unwrap(struct cm_span der, struct cm_span *ret_basic, struct cm_err *err)
{
    struct cm_span outer, status, explicit_bytes, bytes, oid, octets;

    if (der.len > CM_OCSP_MAX)
        return cm_fail(err, CM_E_LIMIT, "OCSP response: %zu bytes, at most %u are accepted",
                       der.len, CM_OCSP_MAX);
    if (!cm_der_take(&der, CM_DER_SEQUENCE, &outer) || der.len != 0 ||
        !cm_der_take(&outer, DER_ENUMERATED, &status) || status.len != 1)
        return malformed(err, "frame");
    if (status.data[0] != 0)
        return refused(err, status.data[0]);
    if (!cm_der_take(&outer, CM_DER_CTX_CONS(0), &explicit_bytes) || outer.len != 0 ||
        !cm_der_take(&explicit_bytes, CM_DER_SEQUENCE, &bytes) || explicit_bytes.len != 0 ||
        !cm_der_take(&bytes, CM_DER_OID, &oid) ||
        !cm_der_take(&bytes, CM_DER_OCTET_STRING, &octets) || bytes.len != 0)
        return malformed(err, "frame");
    if (!CM_SPAN_IS(oid, oid_basic_response))
        return cm_fail(err, CM_E_PARSE, "OCSP response: it is not a basic one");
    if (!cm_der_take(&octets, CM_DER_SEQUENCE, ret_basic) || octets.len != 0)
        return malformed(err, "basic response");
    return CM_OK;
}

static bool take_responder(struct cm_span *tbs, struct response *r)
{
    struct cm_span id, content;

    r->by_key = cm_der_is(tbs, CM_DER_CTX_CONS(2));
    if (r->by_key)
        return cm_der_take(tbs, CM_DER_CTX_CONS(2), &id) &&
               cm_der_take(&id, CM_DER_OCTET_STRING, &r->responder) && id.len == 0;
    return cm_der_take(tbs, CM_DER_CTX_CONS(1), &id) &&
           cm_der_take_whole(&id, CM_DER_SEQUENCE, &content, &r->responder) && id.len == 0;
}

static cm_status parse_tbs(struct cm_span tbs, struct response *r, struct cm_err *err)
{
    struct cm_span version, exts;
    unsigned v = 0;

    if (cm_der_is(&tbs, CM_DER_CTX_CONS(0)) &&
        (!cm_der_take(&tbs, CM_DER_CTX_CONS(0), &version) || !cm_der_take_small(&version, &v) ||
         version.len != 0 || v != 0))
        return malformed(err, "version");
    if (!take_responder(&tbs, r))
        return malformed(err, "responder's name");
    if (!take_time(&tbs, &r->produced_at_s))
        return malformed(err, "producedAt");
    if (!cm_der_take(&tbs, CM_DER_SEQUENCE, &r->singles))
        return malformed(err, "list of answers");
    if (tbs.len == 0)
        return CM_OK;
    if (!cm_der_take(&tbs, CM_DER_CTX_CONS(1), &exts) || tbs.len != 0)
        return malformed(err, "extension list");
    return no_critical(exts, err);
}

static cm_status parse_basic(struct cm_span basic, struct response *r, struct cm_err *err)
{
    struct cm_span tbs, alg, certs;

    memset(r, 0, sizeof *r);
    if (!cm_der_take_whole(&basic, CM_DER_SEQUENCE, &tbs, &r->frame.tbs) ||
        !cm_der_take(&basic, CM_DER_SEQUENCE, &alg) ||
        !cm_der_take(&alg, CM_DER_OID, &r->frame.sig_oid) ||
        !cm_der_take_bits(&basic, &r->frame.signature))
        return malformed(err, "signature frame");
    if (basic.len > 0 && (!cm_der_take(&basic, CM_DER_CTX_CONS(0), &certs) || basic.len != 0 ||
                          !cm_der_take(&certs, CM_DER_SEQUENCE, &r->signers) || certs.len != 0))
        return malformed(err, "list of certificates");
    return parse_tbs(tbs, r, err);
}

/* ---------------------------------------------------------------- one answer */

static bool take_cert_id(struct cm_span *in, struct cert_id *ret)
{
    struct cm_span id, alg;

    return cm_der_take(in, CM_DER_SEQUENCE, &id) && cm_der_take(&id, CM_DER_SEQUENCE, &alg) &&
           cm_der_take(&alg, CM_DER_OID, &ret->hash_oid) &&
           cm_der_take(&id, CM_DER_OCTET_STRING, &ret->name_hash) &&
           cm_der_take(&id, CM_DER_OCTET_STRING, &ret->key_hash) &&
           cm_der_take(&id, CM_DER_INTEGER, &ret->serial) && ret->serial.len > 0 && id.len == 0;
}

static bool take_revoked(struct cm_span info, struct cm_ocsp *ret)
{
    struct cm_span explicit_reason, reason;

    ret->status = CM_OCSP_REVOKED;
    if (!take_time(&info, &ret->revoked_at_s))
        return false;
    if (info.len == 0)
        return true;
    if (!cm_der_take(&info, CM_DER_CTX_CONS(0), &explicit_reason) || info.len != 0 ||
        !cm_der_take(&explicit_reason, DER_ENUMERATED, &reason) || explicit_reason.len != 0 ||
        reason.len != 1 || reason.data[0] > 10)
        return false;
    ret->reason = reason.data[0];
    return true;
}

static bool take_status(struct cm_span *in, struct cm_ocsp *ret)
{
    struct cm_span content;
    uint8_t tag = 0;

    if (!cm_der_next(in, &tag, &content, NULL))
        return false;
    if (tag == CM_DER_CTX_CONS(1))
        return take_revoked(content, ret);
    ret->status = tag == CM_DER_CTX(0) ? CM_OCSP_GOOD : CM_OCSP_UNKNOWN;
    return (tag == CM_DER_CTX(0) || tag == CM_DER_CTX(2)) && content.len == 0;
}

static cm_status parse_single(struct cm_span single, struct cert_id *id, struct cm_ocsp *ret,
                              struct cm_err *err)
{
    struct cm_span next, exts;

    memset(ret, 0, sizeof *ret);
    if (!take_cert_id(&single, id))
        return malformed(err, "CertID");
    if (!take_status(&single, ret))
        return malformed(err, "status of the certificate");
    if (!take_time(&single, &ret->this_update_s))
        return malformed(err, "thisUpdate");
    ret->next_update_s = ret->this_update_s + NO_NEXT_S;
    if (cm_der_is(&single, CM_DER_CTX_CONS(0)) &&
        (!cm_der_take(&single, CM_DER_CTX_CONS(0), &next) ||
         !take_time(&next, &ret->next_update_s) || next.len != 0))
        return malformed(err, "nextUpdate");
    if (single.len == 0)
        return CM_OK;
    if (!cm_der_take(&single, CM_DER_CTX_CONS(1), &exts) || single.len != 0)
        return malformed(err, "extension list");
    return no_critical(exts, err);
}

/* By the hash that the answer uses: a responder may prefer another than the one asked with. */
static cm_status matches(const struct cert_id *id, const struct pair *p, bool *ret,
                         struct cm_err *err)
{
    uint8_t sum[HASH_MAX];

    *ret = false;
    if (!cm_span_eq(id->serial, p->leaf.serial))
        return CM_OK;
    for (size_t i = 0; i < CM_ARRAY_LEN(hashes); i++) {
        if (!cm_span_eq(id->hash_oid, hashes[i].oid))
            continue;
        const struct cm_span want = { sum, gnutls_hash_get_len(hashes[i].alg) };
        cm_status rc = hash(hashes[i].alg, p->issuer.subject, sum, err);

        if (rc != CM_OK || !cm_span_eq(id->name_hash, want))
            return rc;
        rc = hash(hashes[i].alg, p->issuer.spki.key, sum, err);
        *ret = rc == CM_OK && cm_span_eq(id->key_hash, want);
        return rc;
    }
    return CM_OK;
}

static cm_status find_single(const struct response *r, const struct pair *p, struct cm_ocsp *ret,
                             struct cm_err *err)
{
    struct cm_span left = r->singles;
    struct cm_span single;
    struct cm_ocsp one;
    struct cert_id id;
    size_t n = 0;
    size_t found = 0;
    bool ours = false;

    while (left.len > 0) {
        if (++n > SINGLES_MAX)
            return cm_fail(err, CM_E_LIMIT, "OCSP response: more than %u answers", SINGLES_MAX);
        if (!cm_der_take(&left, CM_DER_SEQUENCE, &single))
            return malformed(err, "list of answers");
        cm_status rc = parse_single(single, &id, &one, err);
        if (rc == CM_OK)
            rc = matches(&id, p, &ours, err);
        if (rc != CM_OK)
            return rc;
        if (ours) {
            found++;
            *ret = one;
        }
    }
    ret->alone = n == 1;
    if (found == 0)
        return cm_fail(err, CM_E_CERT,
                       "OCSP response: none of its %zu answers is for this "
                       "certificate (issuer and serial number)",
                       n);
    if (found > 1)
        return cm_fail(err, CM_E_CERT, "OCSP response: %zu answers for the same certificate",
                       found);
    return CM_OK;
}

/* ------------------------------------------------------------------ signature */

/* Does the response name the holder of this certificate as its author? */
static bool is_responder(const struct response *r, const struct cm_x509 *cert)
{
    uint8_t sum[HASH_MAX];

    if (!r->by_key)
        return cm_span_eq(r->responder, cert->subject);
    return hash(GNUTLS_DIG_SHA1, cert->spki.key, sum, NULL) == CM_OK &&
           cm_span_eq(r->responder, (struct cm_span){ sum, SHA1_LEN });
}

static cm_status check_delegate(const struct cm_x509 *cert, const struct cm_x509 *issuer,
                                int64_t now_s, struct cm_err *err)
{
    if (!cm_span_eq(cert->issuer, issuer->subject))
        return cm_fail(err, CM_E_CERT, "OCSP response: its signer was certified by another CA");
    if (!cert->ext.eku_ocsp)
        return cm_fail(err, CM_E_CERT, "OCSP response: its signer's certificate is not for OCSP");
    if (now_s < cert->not_before_s || now_s > cert->not_after_s)
        return cm_fail(err, CM_E_CERT, "OCSP response: its signer's certificate is not valid now");
    if (!cm_spki_is_sound(&cert->spki))
        return cm_fail(err, CM_E_CERT,
                       "OCSP response: its signer's key is of a kind or size not accepted");
    return cm_x509_verify_sig(cert, &issuer->spki, "OCSP signer's certificate", err);
}

static cm_status by_delegate(const struct response *r, const struct cm_x509 *issuer, int64_t now_s,
                             int64_t *ret_end_s, struct cm_err *err)
{
    struct cm_span left = r->signers;
    struct cm_span content, whole;
    struct cm_x509 cert;
    cm_status rc =
        cm_fail(err, CM_E_CERT, "OCSP response: it comes without its signer's certificate");

    for (size_t n = 0; left.len > 0; n++) {
        if (n == SIGNERS_MAX)
            return cm_fail(err, CM_E_LIMIT, "OCSP response: more than %u certificates",
                           SIGNERS_MAX);
        if (!cm_der_take_whole(&left, CM_DER_SEQUENCE, &content, &whole))
            return malformed(err, "list of certificates");
        if (cm_x509_parse(whole, &cert, err) != CM_OK)
            return malformed(err, "signer's certificate");
        if (!is_responder(r, &cert))
            continue;
        rc = check_delegate(&cert, issuer, now_s, err);
        if (rc == CM_OK)
            rc = cm_x509_verify_sig(&r->frame, &cert.spki, "OCSP response, by a delegate", err);
        if (rc == CM_OK) {
            *ret_end_s = cert.not_after_s;
            return CM_OK;
        }
    }
    return rc;
}

/* *@ret_end_s: how long the signer may sign; INT64_MAX for the issuer itself, without which the
 * certificate is worth nothing anyway. */
static cm_status check_signature(const struct response *r, const struct cm_x509 *issuer,
                                 int64_t now_s, int64_t *ret_end_s, struct cm_err *err)
{
    cm_status rc;

    *ret_end_s = INT64_MAX;
    if (is_responder(r, issuer)) {
        rc = cm_x509_verify_sig(&r->frame, &issuer->spki, "OCSP response, by the issuer", err);
        /* A delegate may have the issuer's name, though not its key. */
        if (rc == CM_OK || r->by_key || r->signers.len == 0)
            return rc;
    }
    return by_delegate(r, issuer, now_s, ret_end_s, err);
}

static cm_status check_times(const struct response *r, const struct cm_ocsp *o, int64_t now_s,
                             struct cm_err *err)
{
    if (o->next_update_s <= o->this_update_s)
        return cm_fail(err, CM_E_CERT, "OCSP response: nextUpdate is not after thisUpdate");
    if (o->this_update_s > now_s + AHEAD_S || r->produced_at_s > now_s + AHEAD_S)
        return cm_fail(err, CM_E_STATE,
                       "OCSP response: it is of the future, by %lld s: look at the clocks",
                       (long long)((o->this_update_s > r->produced_at_s ? o->this_update_s
                                                                        : r->produced_at_s) -
                                   now_s));
    if (o->end_s <= now_s)
        return cm_fail(err, CM_E_CERT, "OCSP response: it expired %lld s ago",
                       (long long)(now_s - o->end_s));
    return CM_OK;
}

cm_status cm_ocsp_verify(struct cm_span response, struct cm_span leaf_der,
                         struct cm_span issuer_der, int64_t now_s, struct cm_ocsp *ret,
                         struct cm_err *err)
{
    struct cm_span basic;
    struct response r;
    struct cm_ocsp o;
    struct pair p;
    int64_t signer_end_s;

    cm_status rc = unwrap(response, &basic, err);
    if (rc == CM_OK)
        rc = parse_basic(basic, &r, err);
    if (rc == CM_OK)
        rc = parse_pair(leaf_der, issuer_der, &p, err);
    if (rc == CM_OK)
        rc = find_single(&r, &p, &o, err);
    if (rc == CM_OK)
        rc = check_pair(&p, err);
    if (rc == CM_OK)
        rc = check_signature(&r, &p.issuer, now_s, &signer_end_s, err);
    if (rc != CM_OK)
        return rc;
    o.end_s = o.next_update_s < signer_end_s ? o.next_update_s : signer_end_s;
    rc = check_times(&r, &o, now_s, err);
    if (rc == CM_OK)
        *ret = o;
    return rc;
}
