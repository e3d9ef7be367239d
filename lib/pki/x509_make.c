/* SPDX-License-Identifier: Apache-2.0 */
#include "x509.h"
#include "key.h"
#include "pki_gnutls.h"

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <string.h>

/* Certificates and requests are written here byte by byte rather than through gnutls_x509_crt_*:
 * the order, criticality and dates are then exactly ours, also for an empty subject and for
 * dates past 2050. */

static const uint8_t oid_basic[] = { 0x55, 0x1d, 0x13 };
static const uint8_t oid_usage[] = { 0x55, 0x1d, 0x0f };
static const uint8_t oid_eku[] = { 0x55, 0x1d, 0x25 };
static const uint8_t oid_ski[] = { 0x55, 0x1d, 0x0e };
static const uint8_t oid_aki[] = { 0x55, 0x1d, 0x23 };
static const uint8_t oid_san[] = { 0x55, 0x1d, 0x11 };
static const uint8_t oid_cn[] = { 0x55, 0x04, 0x03 };
static const uint8_t oid_server_auth[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01 };
static const uint8_t oid_features[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18 };

/* -------------------------------------------------------------- extensions */

void cm_ext_put(struct cm_derw *w, struct cm_span oid, bool critical, struct cm_span value)
{
    static const uint8_t yes[] = { 0xff };
    size_t ext = cm_derw_open(w, CM_DER_SEQUENCE);

    cm_derw_put(w, CM_DER_OID, oid);
    if (critical)
        cm_derw_put(w, CM_DER_BOOLEAN, CM_SPAN_OF(yes));
    cm_derw_put(w, CM_DER_OCTET_STRING, value);
    cm_derw_close(w, ext);
}

/* A small extension value is built in its own buffer of at most this. */
enum { EXT_SMALL = 64 };

static void put_built(struct cm_derw *w, struct cm_span oid, bool critical, struct cm_derw *value)
{
    if (w->rc == CM_OK && value->rc != CM_OK)
        w->rc = value->rc;
    cm_ext_put(w, oid, critical, cm_buf_span(value->out));
}

void cm_ext_basic(struct cm_derw *w, bool is_ca, int pathlen)
{
    static const uint8_t yes[] = { 0xff };
    CM_AUTO_BUF struct cm_buf buf = CM_BUF_INIT(EXT_SMALL);
    struct cm_derw v = CM_DERW_INIT(&buf, w->err);

    size_t seq = cm_derw_open(&v, CM_DER_SEQUENCE);
    if (is_ca)
        cm_derw_put(&v, CM_DER_BOOLEAN, CM_SPAN_OF(yes));
    if (is_ca && pathlen >= 0) {
        uint8_t n = (uint8_t)pathlen;
        cm_derw_uint(&v, (struct cm_span){ &n, 1 });
    }
    cm_derw_close(&v, seq);
    put_built(w, CM_SPAN_OF(oid_basic), true, &v);
}

void cm_ext_key_usage(struct cm_derw *w, uint8_t bits)
{
    uint8_t value[4] = { CM_DER_BIT_STRING, 2, 0, bits };

    while (value[2] < 7 && (bits >> value[2] & 1) == 0) /* DER: count the unused low bits */
        value[2]++;
    cm_ext_put(w, CM_SPAN_OF(oid_usage), true, CM_SPAN_OF(value));
}

void cm_ext_server_auth(struct cm_derw *w)
{
    CM_AUTO_BUF struct cm_buf buf = CM_BUF_INIT(EXT_SMALL);
    struct cm_derw v = CM_DERW_INIT(&buf, w->err);

    size_t seq = cm_derw_open(&v, CM_DER_SEQUENCE);
    cm_derw_put(&v, CM_DER_OID, CM_SPAN_OF(oid_server_auth));
    cm_derw_close(&v, seq);
    put_built(w, CM_SPAN_OF(oid_eku), false, &v);
}

void cm_ext_ski(struct cm_derw *w, struct cm_span keyid)
{
    CM_AUTO_BUF struct cm_buf buf = CM_BUF_INIT(EXT_SMALL);
    struct cm_derw v = CM_DERW_INIT(&buf, w->err);

    cm_derw_put(&v, CM_DER_OCTET_STRING, keyid);
    put_built(w, CM_SPAN_OF(oid_ski), false, &v);
}

void cm_ext_aki(struct cm_derw *w, struct cm_span keyid)
{
    CM_AUTO_BUF struct cm_buf buf = CM_BUF_INIT(EXT_SMALL);
    struct cm_derw v = CM_DERW_INIT(&buf, w->err);

    size_t seq = cm_derw_open(&v, CM_DER_SEQUENCE);
    cm_derw_put(&v, CM_DER_CTX(0), keyid);
    cm_derw_close(&v, seq);
    put_built(w, CM_SPAN_OF(oid_aki), false, &v);
}

void cm_ext_must_staple(struct cm_derw *w)
{
    static const uint8_t status_request[] = { 0x30, 0x03, 0x02, 0x01, 0x05 }; /* RFC 7633 6 */

    cm_ext_put(w, CM_SPAN_OF(oid_features), false, CM_SPAN_OF(status_request));
}

static bool put_general_name(struct cm_derw *v, const char *name)
{
    char normal[CM_NAME_BUF];
    uint8_t ip[16];

    if (cm_name_normalize(name,
                          CM_NAME_ALLOW_IP | CM_NAME_ALLOW_WILDCARD | CM_NAME_ALLOW_UNDERSCORE,
                          normal, NULL) != CM_OK ||
        strcmp(name, normal) != 0)
        return false;
    if (!cm_name_is_ip(name))
        cm_derw_put(v, CM_DER_CTX(2), cm_span_str(name));
    else if (inet_pton(AF_INET, name, ip) == 1)
        cm_derw_put(v, CM_DER_CTX(7), (struct cm_span){ ip, 4 });
    else if (inet_pton(AF_INET6, name, ip) == 1)
        cm_derw_put(v, CM_DER_CTX(7), (struct cm_span){ ip, 16 });
    else
        return false;
    return true;
}

cm_status cm_ext_san(struct cm_derw *w, const char *const *names, size_t n, bool critical,
                     struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf buf = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_derw v = CM_DERW_INIT(&buf, err);

    size_t seq = cm_derw_open(&v, CM_DER_SEQUENCE);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(names[i], names[j]) == 0)
                return cm_fail(err, CM_E_INVAL, "name '%s' is listed twice", names[i]);
        }
        if (!put_general_name(&v, names[i])) {
            char shown[128];
            return cm_fail(err, CM_E_INVAL, "'%s' is not a normalized name",
                           cm_escape(names[i], strlen(names[i]), shown, sizeof shown));
        }
    }
    cm_derw_close(&v, seq);
    put_built(w, CM_SPAN_OF(oid_san), critical, &v);
    return w->rc;
}

void cm_dn_put(struct cm_derw *w, const char *cn)
{
    size_t name = cm_derw_open(w, CM_DER_SEQUENCE);

    if (cn != NULL && cn[0] != '\0') {
        size_t rdn = cm_derw_open(w, CM_DER_SET);
        size_t attr = cm_derw_open(w, CM_DER_SEQUENCE);
        cm_derw_put(w, CM_DER_OID, CM_SPAN_OF(oid_cn));
        cm_derw_put(w, CM_DER_UTF8, cm_span_str(cn));
        cm_derw_close(w, attr);
        cm_derw_close(w, rdn);
    }
    cm_derw_close(w, name);
}

cm_status cm_random_serial(uint8_t ret[CM_SERIAL_LEN], struct cm_err *err)
{
    int rc = gnutls_rnd(GNUTLS_RND_NONCE, ret, CM_SERIAL_LEN);

    if (rc != GNUTLS_E_SUCCESS)
        return cm_fail_gnutls(err, CM_E_INTERNAL, rc, "random serial number");
    /* Positive and always of full length. */
    ret[0] = (uint8_t)((ret[0] & 0x7f) | 0x40);
    return CM_OK;
}

/* ----------------------------------------------------------------- signing */

cm_status cm_x509_frame(struct cm_span tbs, const struct cm_key *signer, struct cm_buf *out,
                        struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf sig = CM_BUF_INIT(2048);
    struct cm_derw w = CM_DERW_INIT(out, err);

    cm_status rc = cm__key_sign(signer, tbs, &sig, err);
    if (rc != CM_OK)
        return rc;
    size_t before = out->len;
    size_t frame = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_raw(&w, tbs);
    cm_derw_raw(&w, cm__key_sig_alg(signer));
    size_t bits = cm_derw_open(&w, CM_DER_BIT_STRING);
    cm_derw_byte(&w, 0);
    cm_derw_raw(&w, cm_buf_span(&sig));
    cm_derw_close(&w, bits);
    cm_derw_close(&w, frame);
    if (w.rc != CM_OK)
        out->len = before;
    return w.rc;
}

cm_status cm_x509_sign(const struct cm_x509_new *t, const struct cm_key *signer, struct cm_buf *out,
                       struct cm_err *err)
{
    static const uint8_t v3[] = { CM_DER_INTEGER, 1, 2 };
    CM_AUTO_BUF struct cm_buf tbs = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_derw w = CM_DERW_INIT(&tbs, err);

    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_CTX_CONS(0), CM_SPAN_OF(v3));
    cm_derw_uint(&w, t->serial);
    cm_derw_raw(&w, cm__key_sig_alg(signer));
    cm_derw_raw(&w, t->issuer);
    size_t validity = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_time(&w, t->not_before_s);
    cm_derw_time(&w, t->not_after_s);
    cm_derw_close(&w, validity);
    cm_derw_raw(&w, t->subject);
    cm_derw_raw(&w, t->spki);
    size_t ext_tag = cm_derw_open(&w, CM_DER_CTX_CONS(3));
    cm_derw_put(&w, CM_DER_SEQUENCE, t->exts);
    cm_derw_close(&w, ext_tag);
    cm_derw_close(&w, seq);
    if (w.rc != CM_OK)
        return w.rc;
    return cm_x509_frame(cm_buf_span(&tbs), signer, out, err);
}
