/* SPDX-License-Identifier: Apache-2.0 */
#include "x509.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

const uint8_t cm_oid_rsa[9] = { 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01 };
const uint8_t cm_oid_ec[7] = { 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01 };
const uint8_t cm_oid_p256[8] = { 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07 };
const uint8_t cm_oid_p384[5] = { 0x2b, 0x81, 0x04, 0x00, 0x22 };
const uint8_t cm_oid_p521[5] = { 0x2b, 0x81, 0x04, 0x00, 0x23 };
const uint8_t cm_oid_ed25519[3] = { 0x2b, 0x65, 0x70 };
const uint8_t cm_oid_ext_request[9] = { 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e };

/* id-ce is 2.5.29; its extensions are told apart by the third byte. */
static const uint8_t oid_ext_aia[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01 };
static const uint8_t oid_ext_features[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18 };
static const uint8_t oid_ad_ocsp[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01 };
static const uint8_t oid_server_auth[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01 };
static const uint8_t oid_ad_ca_issuers[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02 };
static const uint8_t oid_ocsp_signing[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09 };
static const uint8_t oid_any_eku[] = { 0x55, 0x1d, 0x25, 0x00 };
static const uint8_t oid_cn[] = { 0x55, 0x04, 0x03 };
static const uint8_t oid_org[] = { 0x55, 0x04, 0x0a };

enum {
    CE_SKI = 0x0e,
    CE_KEY_USAGE = 0x0f,
    CE_SAN = 0x11,
    CE_BASIC = 0x13,
    CE_CRL_DP = 0x1f,
    CE_AKI = 0x23,
    CE_EKU = 0x25
};
enum { TLS_FEATURE_STATUS_REQUEST = 5 };

/* -------------------------------------------------------------- public key */

static bool spki_parse_rsa(struct cm_span key, struct cm_spki *ret)
{
    struct cm_span seq, n, e;

    if (!cm_der_take(&key, CM_DER_SEQUENCE, &seq) || key.len != 0 || !cm_der_take_uint(&seq, &n) ||
        !cm_der_take_uint(&seq, &e) || seq.len != 0)
        return false;
    /* A hostile exponent as long as the modulus makes one verification cost a hundred. */
    if (e.len > CM_RSA_EXPONENT_LEN_MAX || (e.data[e.len - 1] & 1) == 0)
        return false;
    ret->rsa_bits = (unsigned)(n.len - 1) * 8;
    for (unsigned top = n.data[0]; top != 0; top >>= 1)
        ret->rsa_bits++;
    switch (ret->rsa_bits) {
    case 2048:
        ret->type = CM_PK_RSA2048;
        break;
    case 3072:
        ret->type = CM_PK_RSA3072;
        break;
    case 4096:
        ret->type = CM_PK_RSA4096;
        break;
    case 8192:
        ret->type = CM_PK_RSA8192;
        break;
    default:
        break;
    }
    return true;
}

cm_status cm_spki_parse(struct cm_span whole, struct cm_spki *ret)
{
    struct cm_span in = whole;
    struct cm_span seq, alg, oid;

    memset(ret, 0, sizeof *ret);
    ret->whole = whole;
    ret->type = CM_PK_OTHER;
    if (!cm_der_take(&in, CM_DER_SEQUENCE, &seq) || in.len != 0 ||
        !cm_der_take(&seq, CM_DER_SEQUENCE, &alg) || !cm_der_take(&alg, CM_DER_OID, &oid) ||
        !cm_der_take_bits(&seq, &ret->key) || seq.len != 0)
        return CM_E_PARSE;

    if (CM_SPAN_IS(oid, cm_oid_rsa))
        return spki_parse_rsa(ret->key, ret) ? CM_OK : CM_E_PARSE;
    if (CM_SPAN_IS(oid, cm_oid_ec)) {
        ret->is_ec = true;
        /* Explicit curve parameters leave the type at "other". */
        if (!cm_der_is(&alg, CM_DER_OID))
            return CM_OK;
        if (!cm_der_take(&alg, CM_DER_OID, &ret->curve))
            return CM_E_PARSE;
        if (CM_SPAN_IS(ret->curve, cm_oid_p256))
            ret->type = CM_PK_P256;
        else if (CM_SPAN_IS(ret->curve, cm_oid_p384))
            ret->type = CM_PK_P384;
    } else if (CM_SPAN_IS(oid, cm_oid_ed25519)) {
        if (ret->key.len != 32)
            return CM_E_PARSE;
        ret->type = CM_PK_ED25519;
    }
    return CM_OK;
}

bool cm_spki_is_sound(const struct cm_spki *spki)
{
    if (spki->rsa_bits != 0)
        return spki->rsa_bits >= CM_RSA_BITS_SOUND && spki->rsa_bits <= CM_RSA_BITS_MAX;
    return spki->type != CM_PK_OTHER || CM_SPAN_IS(spki->curve, cm_oid_p521);
}

void cm_spki_keyid(const struct cm_spki *spki, uint8_t ret[CM_KEYID_LEN])
{
    uint8_t sum[CM_SHA256_LEN];

    cm_sha256(spki->key, sum);
    memcpy(ret, sum, CM_KEYID_LEN);
}

/* -------------------------------------------------------------- extensions */

/* Sets *@flag; false when it was set before: RFC 5280 4.2 forbids a second one, and two parsers
 * that disagree on which counts are an attack. */
static bool once(bool *flag)
{
    bool first = !*flag;

    *flag = true;
    return first;
}

static bool ext_basic(struct cm_span v, struct cm_x509_exts *x)
{
    struct cm_span seq, b;

    if (!once(&x->has_basic) || !cm_der_take(&v, CM_DER_SEQUENCE, &seq) || v.len != 0)
        return false;
    if (cm_der_is(&seq, CM_DER_BOOLEAN)) {
        if (!cm_der_take(&seq, CM_DER_BOOLEAN, &b) || b.len != 1)
            return false;
        x->is_ca = b.data[0] != 0;
    }
    if (cm_der_is(&seq, CM_DER_INTEGER)) {
        if (!cm_der_take_small(&seq, &x->pathlen))
            return false;
        x->has_pathlen = true;
    }
    return seq.len == 0;
}

static bool ext_key_usage(struct cm_span v, struct cm_x509_exts *x)
{
    struct cm_span bits;

    if (!once(&x->has_usage) || !cm_der_take(&v, CM_DER_BIT_STRING, &bits) || v.len != 0 ||
        bits.len < 1 || bits.len > 3 || bits.data[0] > 7)
        return false;
    x->may_sign_certs = bits.len > 1 && (bits.data[1] & CM_KU_KEY_CERT_SIGN) != 0;
    x->may_sign_crls = bits.len > 1 && (bits.data[1] & CM_KU_CRL_SIGN) != 0;
    return true;
}

static bool ext_eku(struct cm_span v, struct cm_x509_exts *x)
{
    struct cm_span seq, oid;

    if (!once(&x->has_eku) || !cm_der_take(&v, CM_DER_SEQUENCE, &seq) || v.len != 0)
        return false;
    while (seq.len > 0) {
        if (!cm_der_take(&seq, CM_DER_OID, &oid))
            return false;
        if (CM_SPAN_IS(oid, oid_server_auth) || CM_SPAN_IS(oid, oid_any_eku))
            x->eku_server = true;
        else if (CM_SPAN_IS(oid, oid_ocsp_signing))
            x->eku_ocsp = true;
    }
    return true;
}

static bool ext_aki(struct cm_span v, struct cm_x509_exts *x)
{
    struct cm_span seq;

    if (!once(&x->has_aki) || !cm_der_take(&v, CM_DER_SEQUENCE, &seq) || v.len != 0)
        return false;
    return !cm_der_is(&seq, CM_DER_CTX(0)) || cm_der_take(&seq, CM_DER_CTX(0), &x->aki_keyid);
}

/* A directory's address (ldap) may stand before the one that can be fetched. */
static bool is_http(struct cm_span uri)
{
    return (uri.len > 7 && strncasecmp((const char *)uri.data, "http://", 7) == 0) ||
           (uri.len > 8 && strncasecmp((const char *)uri.data, "https://", 8) == 0);
}

static bool ext_aia(struct cm_span v, struct cm_x509_exts *x)
{
    struct cm_span seq, access, method, place;
    uint8_t tag = 0;

    if (!once(&x->has_aia) || !cm_der_take(&v, CM_DER_SEQUENCE, &seq) || v.len != 0)
        return false;
    while (seq.len > 0) {
        if (!cm_der_take(&seq, CM_DER_SEQUENCE, &access) ||
            !cm_der_take(&access, CM_DER_OID, &method) ||
            !cm_der_next(&access, &tag, &place, NULL) || access.len != 0)
            return false;
        if (x->ocsp_uri.data == NULL && tag == CM_DER_CTX(6) && CM_SPAN_IS(method, oid_ad_ocsp))
            x->ocsp_uri = place;
        else if (x->ca_issuers_uri.data == NULL && tag == CM_DER_CTX(6) &&
                 CM_SPAN_IS(method, oid_ad_ca_issuers) && is_http(place))
            x->ca_issuers_uri = place;
    }
    return true;
}

static bool ext_features(struct cm_span v, struct cm_x509_exts *x)
{
    struct cm_span seq;
    unsigned feature = 0;

    if (!once(&x->has_features) || !cm_der_take(&v, CM_DER_SEQUENCE, &seq) || v.len != 0)
        return false;
    while (seq.len > 0) {
        if (!cm_der_take_small(&seq, &feature))
            return false;
        if (feature == TLS_FEATURE_STATUS_REQUEST)
            x->must_staple = true;
    }
    return true;
}

bool cm_x509_ext_look(struct cm_span oid, struct cm_span v, struct cm_x509_exts *x)
{
    if (CM_SPAN_IS(oid, oid_ext_aia))
        return ext_aia(v, x);
    if (CM_SPAN_IS(oid, oid_ext_features))
        return ext_features(v, x);
    if (oid.len != 3 || oid.data[0] != 0x55 || oid.data[1] != 0x1d)
        return true;
    switch (oid.data[2]) {
    case CE_SKI:
        return once(&x->has_ski) && cm_der_take(&v, CM_DER_OCTET_STRING, &x->ski) && v.len == 0;
    case CE_KEY_USAGE:
        return ext_key_usage(v, x);
    case CE_SAN:
        return once(&x->has_san) && cm_der_take(&v, CM_DER_SEQUENCE, &x->san) && v.len == 0;
    case CE_BASIC:
        return ext_basic(v, x);
    case CE_CRL_DP:
        x->crl_dp = v;
        return once(&x->has_crl_dp);
    case CE_AKI:
        return ext_aki(v, x);
    case CE_EKU:
        return ext_eku(v, x);
    default:
        return true;
    }
}

/* @in: contents of SEQUENCE OF Extension. */
static bool exts_parse(struct cm_span in, struct cm_x509_exts *x)
{
    struct cm_span ext, oid, value, critical;

    while (in.len > 0) {
        if (!cm_der_take(&in, CM_DER_SEQUENCE, &ext) || !cm_der_take(&ext, CM_DER_OID, &oid))
            return false;
        if (cm_der_is(&ext, CM_DER_BOOLEAN) && !cm_der_take(&ext, CM_DER_BOOLEAN, &critical))
            return false;
        if (!cm_der_take(&ext, CM_DER_OCTET_STRING, &value) || ext.len != 0 ||
            !cm_x509_ext_look(oid, value, x))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------- certificate */

static cm_status malformed(struct cm_err *err, const char *object, const char *field)
{
    return cm_fail(err, CM_E_PARSE, "%s: %s is malformed", object, field);
}

/* SEQUENCE { @tbs, AlgorithmIdentifier, BIT STRING }, the frame of everything signed. */
static cm_status parse_frame(struct cm_span der, const char *object, struct cm_x509 *x,
                             struct cm_span *ret_tbs, struct cm_span *ret_alg, struct cm_err *err)
{
    struct cm_span in = der;
    struct cm_span outer, alg;

    memset(x, 0, sizeof *x);
    x->ext.may_sign_certs = true;
    x->ext.may_sign_crls = true;
    if (der.len > CM_CERT_DER_MAX)
        return cm_fail(err, CM_E_LIMIT, "%s: %zu bytes, at most %u are accepted", object, der.len,
                       CM_CERT_DER_MAX);
    if (!cm_der_take_whole(&in, CM_DER_SEQUENCE, &outer, &x->whole))
        return malformed(err, object, "DER frame");
    if (in.len != 0)
        return cm_fail(err, CM_E_PARSE, "%s: %zu bytes of garbage follow it", object, in.len);
    if (!cm_der_take_whole(&outer, CM_DER_SEQUENCE, ret_tbs, &x->tbs) ||
        !cm_der_take_whole(&outer, CM_DER_SEQUENCE, &alg, ret_alg) ||
        !cm_der_take(&alg, CM_DER_OID, &x->sig_oid) || !cm_der_take_bits(&outer, &x->signature) ||
        outer.len != 0)
        return malformed(err, object, "signature frame");
    return CM_OK;
}

cm_status cm_x509_parse(struct cm_span der, struct cm_x509 *ret, struct cm_err *err)
{
    static const char object[] = "certificate";
    struct cm_span tbs, outer_alg, inner_alg, version, content;
    struct cm_span explicit_exts, exts;
    unsigned v = 0;

    cm_status rc = parse_frame(der, object, ret, &tbs, &outer_alg, err);
    if (rc != CM_OK)
        return rc;
    if (cm_der_is(&tbs, CM_DER_CTX_CONS(0)) &&
        (!cm_der_take(&tbs, CM_DER_CTX_CONS(0), &version) || !cm_der_take_small(&version, &v) ||
         version.len != 0 || v > 2))
        return malformed(err, object, "version");
    if (!cm_der_take(&tbs, CM_DER_INTEGER, &ret->serial) || ret->serial.len == 0)
        return malformed(err, object, "serial number");
    if (!cm_der_take_whole(&tbs, CM_DER_SEQUENCE, &content, &inner_alg) ||
        !cm_span_eq(inner_alg, outer_alg)) /* RFC 5280 4.1.1.2: the same in both places */
        return malformed(err, object, "signature algorithm");
    if (!cm_der_take_whole(&tbs, CM_DER_SEQUENCE, &content, &ret->issuer))
        return malformed(err, object, "issuer");
    if (!cm_der_take(&tbs, CM_DER_SEQUENCE, &content) ||
        !cm_der_take_time(&content, &ret->not_before_s) ||
        !cm_der_take_time(&content, &ret->not_after_s) || content.len != 0)
        return malformed(err, object, "validity");
    if (!cm_der_take_whole(&tbs, CM_DER_SEQUENCE, &content, &ret->subject))
        return malformed(err, object, "subject");
    struct cm_span spki;
    if (!cm_der_take_whole(&tbs, CM_DER_SEQUENCE, &content, &spki) ||
        cm_spki_parse(spki, &ret->spki) != CM_OK)
        return malformed(err, object, "public key");
    if (!cm_der_skip_opt(&tbs, CM_DER_CTX(1)) || !cm_der_skip_opt(&tbs, CM_DER_CTX(2)))
        return malformed(err, object, "unique identifier");
    if (tbs.len > 0 && (v != 2 || !cm_der_take(&tbs, CM_DER_CTX_CONS(3), &explicit_exts) ||
                        tbs.len != 0 || !cm_der_take(&explicit_exts, CM_DER_SEQUENCE, &exts) ||
                        explicit_exts.len != 0 || !exts_parse(exts, &ret->ext)))
        return malformed(err, object, "extension list");
    return CM_OK;
}

cm_status cm_x509_parse_csr(struct cm_span der, struct cm_x509 *ret, struct cm_err *err)
{
    static const char object[] = "certificate request";
    struct cm_span info, alg, content, spki, attrs, attr, oid, values, exts;
    unsigned v = 0;

    cm_status rc = parse_frame(der, object, ret, &info, &alg, err);
    if (rc != CM_OK)
        return rc;
    if (!cm_der_take_small(&info, &v) || v != 0)
        return malformed(err, object, "version");
    if (!cm_der_take_whole(&info, CM_DER_SEQUENCE, &content, &ret->subject))
        return malformed(err, object, "subject");
    if (!cm_der_take_whole(&info, CM_DER_SEQUENCE, &content, &spki) ||
        cm_spki_parse(spki, &ret->spki) != CM_OK)
        return malformed(err, object, "public key");
    if (info.len == 0) /* attributes are mandatory by the letter, left out by some */
        return CM_OK;
    if (!cm_der_take(&info, CM_DER_CTX_CONS(0), &attrs) || info.len != 0)
        return malformed(err, object, "attribute list");
    while (attrs.len > 0) {
        if (!cm_der_take(&attrs, CM_DER_SEQUENCE, &attr) || !cm_der_take(&attr, CM_DER_OID, &oid) ||
            !cm_der_take(&attr, CM_DER_SET, &values) || attr.len != 0)
            return malformed(err, object, "attribute");
        if (CM_SPAN_IS(oid, cm_oid_ext_request) &&
            (!cm_der_take(&values, CM_DER_SEQUENCE, &exts) || values.len != 0 ||
             !exts_parse(exts, &ret->ext)))
            return malformed(err, object, "extension list");
        if (CM_SPAN_IS(oid, cm_oid_ext_request))
            ret->ext_list = exts;
    }
    return CM_OK;
}

/* ------------------------------------------------------------------- names */

bool cm_san_text(uint8_t tag, struct cm_span content, char ret[CM_NAME_BUF])
{
    char text[CM_NAME_BUF];

    if (tag == CM_DER_CTX(7)) { /* iPAddress */
        static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };
        char ip[INET6_ADDRSTRLEN];
        if (content.len != 4 && content.len != 16)
            return false;
        /* Clients compare octets: sixteen of them match no IPv4 address. */
        if (content.len == 16 && memcmp(content.data, v4_mapped, sizeof v4_mapped) == 0)
            return false;
        if (inet_ntop(content.len == 4 ? AF_INET : AF_INET6, content.data, ip, sizeof ip) == NULL)
            return false;
        return cm_name_normalize(ip, CM_NAME_ALLOW_IP, ret, NULL) == CM_OK;
    }
    if (tag != CM_DER_CTX(2) || content.len == 0 || content.len >= sizeof text)
        return false;
    /* The normalizer is kind to what people type: it trims, maps and drops a final dot. A client
     * comparing with the SAN is not, so such a SAN covers nothing. NUL bytes end up here too. */
    for (size_t i = 0; i < content.len; i++) {
        if (content.data[i] <= ' ' || content.data[i] >= 0x7f)
            return false;
        text[i] = (char)content.data[i];
    }
    text[content.len] = '\0';
    if (text[content.len - 1] == '.')
        return false;
    return cm_name_normalize(text, CM_NAME_ALLOW_WILDCARD | CM_NAME_ALLOW_UNDERSCORE, ret, NULL) ==
           CM_OK;
}

bool cm_san_measure(struct cm_span san, size_t *ret_n, size_t *ret_text_bytes)
{
    uint8_t tag = 0;
    struct cm_span c;

    *ret_n = 0;
    *ret_text_bytes = 0;
    while (san.len > 0 && *ret_n <= CM_CERT_SANS_MAX) {
        if (!cm_der_next(&san, &tag, &c, NULL))
            return false;
        (*ret_n)++;
        if (tag == CM_DER_CTX(2) && c.len < CM_NAME_BUF)
            *ret_text_bytes += c.len + 1; /* ASCII to ASCII: normalizing never lengthens */
        else if (tag == CM_DER_CTX(7))
            *ret_text_bytes += INET6_ADDRSTRLEN;
    }
    return true;
}

void cm_dn_text(struct cm_span name, bool or_org, char *out, size_t out_size)
{
    struct cm_span rdns, rdn, attr, oid, value;
    struct cm_span cn = { NULL, 0 };
    struct cm_span org = { NULL, 0 };
    uint8_t tag = 0;

    out[0] = '\0';
    if (!cm_der_take(&name, CM_DER_SEQUENCE, &rdns))
        return;
    while (rdns.len > 0) {
        if (!cm_der_take(&rdns, CM_DER_SET, &rdn))
            break;
        while (rdn.len > 0) {
            if (!cm_der_take(&rdn, CM_DER_SEQUENCE, &attr) ||
                !cm_der_take(&attr, CM_DER_OID, &oid) || !cm_der_next(&attr, &tag, &value, NULL))
                return;
            if (CM_SPAN_IS(oid, oid_cn))
                cn = value; /* the last is the most specific, and what Go calls the CommonName */
            else if (CM_SPAN_IS(oid, oid_org))
                org = value;
        }
    }
    if (cn.len == 0 && or_org)
        cn = org;
    if (cn.len > 0)
        (void)cm_escape((const char *)cn.data, cn.len, out, out_size);
}
