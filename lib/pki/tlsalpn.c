/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

enum { BEFORE_S = 3600, LIFETIME_S = 30 * 86400 };

/* RFC 8737 3: id-pe-acmeIdentifier, critical, the SHA-256 of the key authorization as an OCTET
 * STRING inside the extension's own. */
static void put_acme_identifier(struct cm_derw *w, const char *key_authorization)
{
    static const uint8_t oid[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f };
    uint8_t value[2 + CM_SHA256_LEN] = { CM_DER_OCTET_STRING, CM_SHA256_LEN };

    cm_sha256(cm_span_str(key_authorization), value + 2);
    cm_ext_put(w, CM_SPAN_OF(oid), true, CM_SPAN_OF(value));
}

cm_status cm_tlsalpn_make(const char *ident, const char *key_authorization, int64_t now_s,
                          struct cm_buf *ret_cert_der, struct cm_key **ret_key, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf name = CM_BUF_INIT(128);
    CM_AUTO_BUF struct cm_buf spki = CM_BUF_INIT(256);
    CM_AUTO_BUF struct cm_buf exts = CM_BUF_INIT(1024);
    struct cm_derw name_w = CM_DERW_INIT(&name, err);
    struct cm_derw w = CM_DERW_INIT(&exts, err);
    struct cm_key *key = NULL;
    uint8_t serial[CM_SERIAL_LEN];

    if (key_authorization == NULL || key_authorization[0] == '\0')
        return cm_fail(err, CM_E_INVAL, "tls-alpn-01 certificate: key authorization is missing");
    if (ident == NULL || cm_name_is_wildcard(ident))
        return cm_fail(err, CM_E_INVAL,
                       "tls-alpn-01 certificate: a wildcard cannot be validated this way");
    cm_status rc = cm_ext_san(&w, &ident, 1, false, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "tls-alpn-01 certificate");
    put_acme_identifier(&w, key_authorization);
    cm_ext_basic(&w, false, -1);
    cm_ext_key_usage(&w, CM_KU_DIGITAL_SIGNATURE);
    cm_ext_server_auth(&w);
    cm_dn_put(&name_w, "ACME challenge");
    rc = w.rc != CM_OK ? w.rc : name_w.rc;
    if (rc == CM_OK)
        rc = cm_random_serial(serial, err);
    if (rc == CM_OK)
        rc = cm_key_generate(CM_PK_P256, &key, err);
    if (rc == CM_OK)
        rc = cm__key_spki(key, &spki, err);
    if (rc == CM_OK) {
        struct cm_x509_new t = {
            .serial = CM_SPAN_OF(serial),
            .issuer = cm_buf_span(&name),
            .subject = cm_buf_span(&name),
            .not_before_s = now_s - BEFORE_S,
            .not_after_s = now_s + LIFETIME_S,
            .spki = cm_buf_span(&spki),
            .exts = cm_buf_span(&exts),
        };
        rc = cm_x509_sign(&t, key, ret_cert_der, err);
    }
    if (rc != CM_OK) {
        cm_key_unref(key);
        return rc;
    }
    *ret_key = key;
    return CM_OK;
}
