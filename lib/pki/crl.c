/* SPDX-License-Identifier: Apache-2.0 */
#include "crl.h"
#include "pem.h"
#include "x509.h"

#include <string.h>

/* A list comes from anybody who can answer for the CA's address, mostly over plain HTTP: nothing in
 * it counts before the signature is checked, and what it does not say clearly is refused. To refuse
 * costs little: the certificate is served on, and the list is asked for again. */

/* id-ce is 2.5.29; its extensions are told apart by the third byte. */
enum {
    CE_ISSUER_ALT_NAME = 0x12,
    CE_CRL_NUMBER = 0x14,
    CE_REASON = 0x15,
    CE_INVALIDITY_DATE = 0x18,
    CE_DELTA = 0x1b,
    CE_IDP = 0x1c,
    CE_AKI = 0x23,
    CE_FRESHEST = 0x2e
};
enum { REASON_MAX = 10, REASON_UNUSED = 7, REASON_REMOVE = 8 };

static cm_status malformed(struct cm_err *err, const char *field)
{
    return cm_fail(err, CM_E_PARSE, "revocation list: %s is malformed", field);
}

static cm_status refused(struct cm_err *err, const char *why)
{
    return cm_fail(err, CM_E_CERT, "revocation list refused: %s", why);
}

/* ------------------------------------------------------- names of places */

static bool is_http(struct cm_span uri)
{
    static const char *const schemes[] = { "http://", "https://" };

    for (size_t i = 0; i < CM_ARRAY_LEN(schemes); i++) {
        size_t n = strlen(schemes[i]);

        if (uri.len > n && memcmp(uri.data, schemes[i], n) == 0)
            return true;
    }
    return false;
}

/* One distribution point: its first usable URL, empty if none. False = malformed. */
static bool url_of_point(struct cm_span point, struct cm_span *ret)
{
    struct cm_span place, names, uri;
    uint8_t tag = 0;

    *ret = (struct cm_span){ NULL, 0 };
    if (!cm_der_is(&point, CM_DER_CTX_CONS(0)))
        return true;
    if (!cm_der_take(&point, CM_DER_CTX_CONS(0), &place))
        return false;
    if (point.len > 0 || !cm_der_is(&place, CM_DER_CTX_CONS(0)))
        return true; /* some reasons only, another issuer, or relative to the issuer's name */
    if (!cm_der_take(&place, CM_DER_CTX_CONS(0), &names))
        return false;
    while (names.len > 0) {
        if (!cm_der_next(&names, &tag, &uri, NULL))
            return false;
        if (ret->data == NULL && tag == CM_DER_CTX(6) && is_http(uri))
            *ret = uri;
    }
    return true;
}

/* A URL that fits and holds nothing that would have to be escaped. */
static bool put_url(struct cm_span uri, char ret[CM_CRL_URL_BUF])
{
    if (uri.len == 0 || uri.len >= CM_CRL_URL_BUF)
        return false;
    for (size_t i = 0; i < uri.len; i++)
        if (uri.data[i] <= ' ' || uri.data[i] >= 0x7f)
            return false;
    memcpy(ret, uri.data, uri.len);
    ret[uri.len] = '\0';
    return true;
}

bool cm_crl_url(struct cm_span leaf_der, char ret[CM_CRL_URL_BUF])
{
    struct cm_span points, point, uri;
    struct cm_x509 leaf;

    if (cm_x509_parse(leaf_der, &leaf, NULL) != CM_OK || !leaf.ext.has_crl_dp)
        return false;
    struct cm_span in = leaf.ext.crl_dp;
    if (!cm_der_take(&in, CM_DER_SEQUENCE, &points) || in.len != 0)
        return false;
    while (points.len > 0) {
        if (!cm_der_take(&points, CM_DER_SEQUENCE, &point) || !url_of_point(point, &uri))
            return false;
        if (put_url(uri, ret))
            return true;
    }
    return false;
}

cm_status cm_crl_id(struct cm_span issuer_der, const char *url, uint8_t ret[CM_CRL_ID_LEN],
                    struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf all = CM_BUF_INIT(CM_CERT_DER_MAX + CM_CRL_URL_BUF);
    struct cm_x509 issuer;

    cm_status rc = cm_x509_parse(issuer_der, &issuer, err);
    if (rc == CM_OK)
        rc = cm_buf_append(&all, issuer.subject.data, issuer.subject.len, err);
    if (rc == CM_OK)
        rc = cm_buf_append(&all, issuer.spki.whole.data, issuer.spki.whole.len, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&all, url, err);
    if (rc == CM_OK)
        cm_sha256(cm_buf_span(&all), ret);
    return rc;
}

cm_status cm_crl_der(struct cm_span in, struct cm_buf *room, struct cm_span *ret,
                     struct cm_err *err)
{
    struct cm_pem_block block;
    size_t len = 0;

    if (in.len > 0 && in.data[0] == CM_DER_SEQUENCE) {
        *ret = in;
        return CM_OK;
    }
    cm_status rc = cm_pem_next(&in, &block, NULL);
    if (rc != CM_OK || !cm_span_eq(block.label, cm_span_str("X509 CRL")))
        return cm_fail(err, CM_E_PARSE, "revocation list: it is neither DER nor PEM");
    cm_buf_reset(room);
    rc = cm_buf_reserve(room, cm_pem_bound(block.body), err);
    if (rc != CM_OK)
        return rc;
    if (!cm_pem_decode(block.body, room->data, &len))
        return cm_fail(err, CM_E_PARSE, "revocation list: its PEM is not base64");
    room->len = len;
    *ret = cm_buf_span(room);
    return CM_OK;
}

/* ------------------------------------------------------------- extensions */

struct extension {
    struct cm_span oid;
    struct cm_span value;
    bool critical;
    unsigned ce; /* third byte of id-ce, 0 for any other */
};

static bool next_extension(struct cm_span *in, struct extension *ret)
{
    struct cm_span ext, flag;

    memset(ret, 0, sizeof *ret);
    if (!cm_der_take(in, CM_DER_SEQUENCE, &ext) || !cm_der_take(&ext, CM_DER_OID, &ret->oid))
        return false;
    if (cm_der_is(&ext, CM_DER_BOOLEAN)) {
        if (!cm_der_take(&ext, CM_DER_BOOLEAN, &flag) || flag.len != 1)
            return false;
        ret->critical = flag.data[0] != 0;
    }
    if (!cm_der_take(&ext, CM_DER_OCTET_STRING, &ret->value) || ext.len != 0)
        return false;
    if (ret->oid.len == 3 && ret->oid.data[0] == 0x55 && ret->oid.data[1] == 0x1d)
        ret->ce = ret->oid.data[2];
    return true;
}

/* The optional BOOLEAN [@n] of an issuing distribution point. False = malformed. */
static bool take_flag(struct cm_span *in, unsigned n, bool *ret)
{
    struct cm_span flag;

    *ret = false;
    if (!cm_der_is(in, CM_DER_CTX(n)))
        return true;
    if (!cm_der_take(in, CM_DER_CTX(n), &flag) || flag.len != 1)
        return false;
    *ret = flag.data[0] != 0;
    return true;
}

/* Does a DistributionPointName hold @url? */
static bool names_url(struct cm_span place, const char *url)
{
    struct cm_span names, uri;
    uint8_t tag = 0;

    if (!cm_der_take(&place, CM_DER_CTX_CONS(0), &names))
        return false;
    while (names.len > 0) {
        if (!cm_der_next(&names, &tag, &uri, NULL))
            return false;
        if (tag == CM_DER_CTX(6) && cm_span_eq(uri, cm_span_str(url)))
            return true;
    }
    return false;
}

/* RFC 5280 5.2.5. Without the check of the place, whoever sits on the wire could answer for one
 * shard with another one of the same CA: properly signed, and silent about our certificate. */
static cm_status check_idp(struct cm_span value, const char *url, struct cm_err *err)
{
    struct cm_span idp, place;
    bool has_place = false;
    bool user_only, ca_only, indirect, attribute_only;

    if (!cm_der_take(&value, CM_DER_SEQUENCE, &idp) || value.len != 0)
        return malformed(err, "issuing distribution point");
    if (cm_der_is(&idp, CM_DER_CTX_CONS(0))) {
        has_place = true;
        if (!cm_der_take(&idp, CM_DER_CTX_CONS(0), &place))
            return malformed(err, "issuing distribution point");
    }
    if (!take_flag(&idp, 1, &user_only) || !take_flag(&idp, 2, &ca_only) ||
        !cm_der_skip_opt(&idp, CM_DER_CTX(3)) || !take_flag(&idp, 4, &indirect) ||
        !take_flag(&idp, 5, &attribute_only) || idp.len != 0)
        return malformed(err, "issuing distribution point");
    if (ca_only || attribute_only)
        return refused(err, "it is not about certificates of servers");
    if (indirect)
        return refused(err, "it is an indirect one");
    if (has_place && !names_url(place, url))
        return cm_fail(err, CM_E_CERT,
                       "revocation list refused: it is another part than that for '%s'", url);
    return CM_OK;
}

static cm_status check_extensions(struct cm_span exts, const char *url, struct cm_err *err)
{
    struct extension x;
    cm_status rc = CM_OK;

    while (rc == CM_OK && exts.len > 0) {
        if (!next_extension(&exts, &x))
            return malformed(err, "extension list");
        switch (x.ce) {
        case CE_DELTA:
            return refused(err, "it holds changes only");
        case CE_IDP:
            rc = check_idp(x.value, url, err);
            break;
        case CE_CRL_NUMBER:
        case CE_AKI: /* which key it is for: the signature tells */
        case CE_ISSUER_ALT_NAME:
        case CE_FRESHEST:
            break;
        default:
            if (x.critical)
                return refused(err, "it has a critical extension that is not known here");
        }
    }
    return rc;
}

/* ---------------------------------------------------------------- entries */

static bool take_reason(struct cm_span value, int *ret)
{
    struct cm_span n;

    if (!cm_der_take(&value, 0x0a, &n) || value.len != 0 || n.len != 1 || n.data[0] > REASON_MAX ||
        n.data[0] == REASON_UNUSED)
        return false;
    *ret = n.data[0];
    return true;
}

/* CM_E_PARSE, or CM_E_CERT for an extension that cannot be left out of account. */
static cm_status take_entry(struct cm_span *in, struct cm_crl_entry *ret)
{
    struct cm_span entry, exts;
    struct extension x;

    ret->reason = 0;
    if (!cm_der_take(in, CM_DER_SEQUENCE, &entry) ||
        !cm_der_take(&entry, CM_DER_INTEGER, &ret->serial) || ret->serial.len == 0 ||
        !cm_der_take_time(&entry, &ret->at_s))
        return CM_E_PARSE;
    if (entry.len == 0)
        return CM_OK;
    if (!cm_der_take(&entry, CM_DER_SEQUENCE, &exts) || entry.len != 0)
        return CM_E_PARSE;
    while (exts.len > 0) {
        if (!next_extension(&exts, &x))
            return CM_E_PARSE;
        if (x.ce == CE_REASON) {
            if (!take_reason(x.value, &ret->reason))
                return CM_E_PARSE;
        } else if (x.critical && x.ce != CE_INVALIDITY_DATE) {
            return CM_E_CERT; /* certificateIssuer, of an indirect list, among them */
        }
    }
    return CM_OK;
}

/* All of them, so that whoever walks them later meets no surprise. */
static cm_status check_entries(struct cm_crl *crl, struct cm_err *err)
{
    struct cm_span rest = crl->entries;
    struct cm_crl_entry e;

    while (rest.len > 0) {
        cm_status rc = take_entry(&rest, &e);

        if (rc == CM_E_CERT)
            return refused(err, "an entry has a critical extension that is not known here");
        if (rc != CM_OK)
            return cm_fail(err, rc, "revocation list: entry %zu is malformed", crl->n_entries + 1);
        if (e.reason == REASON_REMOVE)
            return refused(err, "it takes a revocation back, as only lists of changes may");
        if (e.serial.len > crl->serial_max && e.serial.len <= CM_CRL_SERIAL_MAX)
            crl->serial_max = e.serial.len;
        crl->n_entries++;
    }
    return CM_OK;
}

bool cm_crl_next(struct cm_span *entries, struct cm_crl_entry *ret)
{
    return entries->len > 0 && take_entry(entries, ret) == CM_OK;
}

bool cm_crl_find(const struct cm_crl *crl, struct cm_span serial, struct cm_crl_entry *ret)
{
    struct cm_span rest = crl->entries;
    struct cm_crl_entry e;

    while (cm_crl_next(&rest, &e)) {
        if (cm_span_eq(e.serial, serial)) {
            *ret = e;
            return true;
        }
    }
    return false;
}

/* --------------------------------------------------------------- the list */

/* The fields of a list, before anything of it is believed. */
struct fields {
    struct cm_x509 frame; /* tbs, sig_oid and signature: as cm_x509_verify_sig() wants them */
    struct cm_span issuer;
    struct cm_span exts;
};

static cm_status parse_frame(struct cm_span der, struct fields *f, struct cm_span *ret_tbs,
                             struct cm_span *ret_alg, struct cm_err *err)
{
    struct cm_span in = der;
    struct cm_span outer, alg;

    if (!cm_der_take(&in, CM_DER_SEQUENCE, &outer))
        return malformed(err, "DER frame");
    if (in.len != 0)
        return cm_fail(err, CM_E_PARSE, "revocation list: %zu bytes of garbage follow it", in.len);
    if (!cm_der_take_whole(&outer, CM_DER_SEQUENCE, ret_tbs, &f->frame.tbs) ||
        !cm_der_take_whole(&outer, CM_DER_SEQUENCE, &alg, ret_alg) ||
        !cm_der_take(&alg, CM_DER_OID, &f->frame.sig_oid) ||
        !cm_der_take_bits(&outer, &f->frame.signature) || outer.len != 0)
        return malformed(err, "signature frame");
    return CM_OK;
}

static cm_status parse(struct cm_span der, struct fields *f, struct cm_crl *crl, struct cm_err *err)
{
    struct cm_span tbs, content, outer_alg, inner_alg, explicit_exts;
    unsigned version = 0;

    memset(f, 0, sizeof *f);
    cm_status rc = parse_frame(der, f, &tbs, &outer_alg, err);
    if (rc != CM_OK)
        return rc;
    if (cm_der_is(&tbs, CM_DER_INTEGER) && !cm_der_take_small(&tbs, &version))
        return malformed(err, "version");
    if (version != 1)
        return refused(err, "it is not of version 2");
    if (!cm_der_take_whole(&tbs, CM_DER_SEQUENCE, &content, &inner_alg) ||
        !cm_span_eq(inner_alg, outer_alg)) /* RFC 5280 5.1.1.2 */
        return malformed(err, "signature algorithm");
    if (!cm_der_take_whole(&tbs, CM_DER_SEQUENCE, &content, &f->issuer))
        return malformed(err, "issuer");
    if (!cm_der_take_time(&tbs, &crl->this_update_s))
        return malformed(err, "date of issue");
    if (!cm_der_is(&tbs, CM_DER_UTC_TIME) && !cm_der_is(&tbs, CM_DER_GENERALIZED_TIME))
        return refused(err, "it does not say how long it holds");
    if (!cm_der_take_time(&tbs, &crl->next_update_s))
        return malformed(err, "date of the next update");
    if (cm_der_is(&tbs, CM_DER_SEQUENCE) && !cm_der_take(&tbs, CM_DER_SEQUENCE, &crl->entries))
        return malformed(err, "list of entries");
    if (tbs.len > 0 &&
        (!cm_der_take(&tbs, CM_DER_CTX_CONS(0), &explicit_exts) || tbs.len != 0 ||
         !cm_der_take(&explicit_exts, CM_DER_SEQUENCE, &f->exts) || explicit_exts.len != 0))
        return malformed(err, "extension list");
    return CM_OK;
}

static cm_status check_signer(const struct fields *f, struct cm_span issuer_der, struct cm_err *err)
{
    struct cm_x509 issuer;

    cm_status rc = cm_x509_parse(issuer_der, &issuer, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "issuer of a revocation list");
    if (!cm_span_eq(f->issuer, issuer.subject))
        return refused(err, "another than the certificate's issuer made it");
    if (!issuer.ext.may_sign_crls)
        return refused(err, "the key of the certificate's issuer is not for signing lists");
    return cm_x509_verify_sig(&f->frame, &issuer.spki, "revocation list", err);
}

static cm_status check_dates(const struct cm_crl *crl, int64_t now_s, struct cm_err *err)
{
    if (crl->this_update_s > now_s + CM_CRL_SKEW_S)
        return cm_fail(err, CM_E_CERT,
                       "revocation list refused: it is from the future, %lld s from now",
                       (long long)(crl->this_update_s - now_s));
    if (crl->next_update_s <= now_s)
        return cm_fail(err, CM_E_CERT, "revocation list refused: it expired %lld s ago",
                       (long long)(now_s - crl->next_update_s));
    return CM_OK;
}

cm_status cm_crl_verify(struct cm_span der, struct cm_span issuer_der, const char *url,
                        int64_t now_s, struct cm_crl *ret, struct cm_err *err)
{
    struct cm_crl crl = { .n_entries = 0 };
    struct fields f;

    if (der.len > CM_CRL_MAX)
        return cm_fail(err, CM_E_LIMIT, "revocation list: %zu bytes, at most %u are accepted",
                       der.len, CM_CRL_MAX);
    cm_status rc = parse(der, &f, &crl, err);
    if (rc == CM_OK)
        rc = check_dates(&crl, now_s, err); /* cheaper than the signature, and as final */
    if (rc == CM_OK)
        rc = check_signer(&f, issuer_der, err);
    if (rc == CM_OK)
        rc = check_extensions(f.exts, url, err);
    if (rc == CM_OK)
        rc = check_entries(&crl, err);
    if (rc == CM_OK)
        *ret = crl;
    return rc;
}
