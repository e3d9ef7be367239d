/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <string.h>

enum { BEFORE_S = 3600, LIFETIME_S = 30 * 86400, CN_MAX = 64 };

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
    const struct cm_tlsalpn_how how = { .key = NULL };

    return cm_tlsalpn_make_how(ident, key_authorization, now_s, &how, ret_cert_der, ret_key, err);
}

/* RFC 5280 4.1.2.2: 1 to 20 octets, positive. */
static bool is_serial(struct cm_span serial)
{
    bool any = false;

    for (size_t i = 0; i < serial.len; i++)
        any = any || serial.data[i] != 0;
    return any && serial.len <= CM_SERIAL_LEN && (serial.data[0] & 0x80) == 0;
}

static cm_status check_how(const struct cm_tlsalpn_how *how, int64_t now_s, struct cm_x509_new *ret,
                           struct cm_err *err)
{
    size_t cn_len = how->cn != NULL ? strnlen(how->cn, CN_MAX + 1) : 1;

    ret->not_before_s = how->not_before_s != 0 ? how->not_before_s : now_s - BEFORE_S;
    ret->not_after_s = how->not_after_s != 0 ? how->not_after_s : now_s + LIFETIME_S;
    if (ret->not_after_s <= ret->not_before_s)
        return cm_fail(err, CM_E_INVAL, "tls-alpn-01 certificate: it ends before it begins");
    if (how->serial.len > 0 && !is_serial(how->serial))
        return cm_fail(err, CM_E_INVAL,
                       "tls-alpn-01 certificate: its serial number is not a positive one of 1 to "
                       "%d bytes",
                       CM_SERIAL_LEN);
    if (cn_len == 0 || cn_len > CN_MAX)
        return cm_fail(err, CM_E_INVAL,
                       "tls-alpn-01 certificate: its common name is not 1 to %d bytes", CN_MAX);
    return CM_OK;
}

cm_status cm_tlsalpn_make_how(const char *ident, const char *key_authorization, int64_t now_s,
                              const struct cm_tlsalpn_how *how, struct cm_buf *ret_cert_der,
                              struct cm_key **ret_key, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf name = CM_BUF_INIT(128);
    CM_AUTO_BUF struct cm_buf spki = CM_BUF_INIT(2048); /* of RSA keys, too */
    CM_AUTO_BUF struct cm_buf exts = CM_BUF_INIT(1024);
    struct cm_derw name_w = CM_DERW_INIT(&name, err);
    struct cm_derw w = CM_DERW_INIT(&exts, err);
    struct cm_x509_new t = { .serial = how->serial };
    struct cm_key *key = NULL;
    uint8_t serial[CM_SERIAL_LEN];

    if (key_authorization == NULL || key_authorization[0] == '\0')
        return cm_fail(err, CM_E_INVAL, "tls-alpn-01 certificate: key authorization is missing");
    if (ident == NULL || cm_name_is_wildcard(ident))
        return cm_fail(err, CM_E_INVAL,
                       "tls-alpn-01 certificate: a wildcard cannot be validated this way");
    cm_status rc = check_how(how, now_s, &t, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_ext_san(&w, &ident, 1, false, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "tls-alpn-01 certificate");
    put_acme_identifier(&w, key_authorization);
    cm_ext_basic(&w, false, -1);
    cm_ext_key_usage(&w, CM_KU_DIGITAL_SIGNATURE);
    cm_ext_server_auth(&w);
    cm_dn_put(&name_w, how->cn != NULL ? how->cn : "ACME challenge");
    rc = w.rc != CM_OK ? w.rc : name_w.rc;
    if (rc == CM_OK && how->serial.len == 0) {
        rc = cm_random_serial(serial, err);
        t.serial = (struct cm_span){ serial, sizeof serial };
    }
    if (rc == CM_OK && how->key != NULL)
        key = cm_key_ref(how->key);
    else if (rc == CM_OK)
        rc = cm_key_generate(CM_PK_P256, &key, err);
    if (rc == CM_OK)
        rc = cm__key_spki(key, &spki, err);
    if (rc == CM_OK) {
        t.issuer = t.subject = cm_buf_span(&name);
        t.spki = cm_buf_span(&spki);
        t.exts = cm_buf_span(&exts);
        rc = cm_x509_sign(&t, key, ret_cert_der, err);
    }
    if (rc != CM_OK) {
        cm_key_unref(key);
        return rc;
    }
    *ret_key = key;
    return CM_OK;
}
