/* SPDX-License-Identifier: Apache-2.0 */
#include "x509.h"

#include <string.h>

static const char hex[] = "0123456789abcdef";

static cm_status put_serial(struct cm_leaf *l, struct cm_span serial, struct cm_err *err)
{
    size_t at = 0;

    if (serial.len > sizeof l->serial)
        return cm_fail(err, CM_E_LIMIT, "certificate: serial number of %zu bytes, at most %zu",
                       serial.len, sizeof l->serial);
    memcpy(l->serial, serial.data, serial.len);
    l->serial_len = serial.len;
    for (size_t i = serial.len > 1 && serial.data[0] == 0 ? 1 : 0; i < serial.len; i++) {
        l->serial_hex[at++] = hex[serial.data[i] >> 4];
        l->serial_hex[at++] = hex[serial.data[i] & 15];
    }
    l->serial_hex[at] = '\0';
    return CM_OK;
}

static cm_status put_ari_id(struct cm_leaf *l, struct cm_span keyid, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf id = CM_BUF_INIT(sizeof l->ari_id - 1);

    if (keyid.len == 0 || keyid.len > 64) /* 64 and 24 bytes fit */
        return CM_OK;
    cm_status rc = cm_b64url_encode(keyid, &id, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&id, ".", err);
    if (rc == CM_OK)
        rc = cm_b64url_encode((struct cm_span){ l->serial, l->serial_len }, &id, err);
    if (rc == CM_OK)
        memcpy(l->ari_id, id.data, id.len + 1);
    return rc;
}

static void put_ocsp_url(struct cm_leaf *l, struct cm_span uri)
{
    if (uri.len >= sizeof l->ocsp_url)
        return;
    for (size_t i = 0; i < uri.len; i++) {
        if (uri.data[i] <= ' ' || uri.data[i] >= 0x7f)
            return;
    }
    if (uri.len > 0)
        memcpy(l->ocsp_url, uri.data, uri.len);
    l->ocsp_url[uri.len] = '\0';
}

static bool has_name(const struct cm_leaf *l, const char *name)
{
    for (size_t i = 0; i < l->n_names; i++) {
        if (strcmp(l->names[i], name) == 0)
            return true;
    }
    return false;
}

static char *put_name(struct cm_leaf *l, const char *name, char *text)
{
    size_t size = strlen(name) + 1;

    memcpy(text, name, size);
    l->names[l->n_names++] = text;
    return text + size;
}

/* @n and @text_bytes as measured before, so that everything fits. */
static void put_names(struct cm_leaf *l, const struct cm_x509 *x, char *text)
{
    struct cm_span san = x->ext.san;
    struct cm_span content;
    uint8_t tag = 0;
    char name[CM_NAME_BUF];

    while (san.len > 0 && cm_der_next(&san, &tag, &content, NULL)) {
        if (!cm_san_text(tag, content, name))
            l->n_other_sans++;
        else if (!has_name(l, name))
            text = put_name(l, name, text);
    }
    if (!x->ext.has_san &&
        cm_name_normalize(l->subject_cn, CM_NAME_ALLOW_IP | CM_NAME_ALLOW_WILDCARD, name, NULL) ==
            CM_OK) {
        (void)put_name(l, name, text);
        l->names_from_cn = true;
    }
}

cm_status cm_leaf_parse(struct cm_span der, struct cm_leaf **ret, struct cm_err *err)
{
    struct cm_x509 x;
    size_t n = 0;
    size_t text_bytes = 0;

    cm_status rc = cm_x509_parse(der, &x, err);
    if (rc != CM_OK)
        return rc;
    if (!cm_san_measure(x.ext.san, &n, &text_bytes))
        return cm_fail(err, CM_E_PARSE, "certificate: list of names is malformed");
    if (n > CM_CERT_SANS_MAX)
        return cm_fail(err, CM_E_LIMIT, "certificate: more than %d names", CM_CERT_SANS_MAX);
    if (!x.ext.has_san) { /* the CN takes their place */
        n = 1;
        text_bytes = CM_NAME_BUF;
    }

    struct cm_leaf *l = cm_calloc(1, sizeof *l + n * sizeof(char *) + text_bytes);
    if (l == NULL)
        return cm_fail_nomem(err);
    l->names = (char **)(void *)(l + 1);
    l->not_before_s = x.not_before_s;
    l->not_after_s = x.not_after_s;
    cm_dn_text(x.issuer, true, l->issuer_cn, sizeof l->issuer_cn);
    cm_dn_text(x.subject, false, l->subject_cn, sizeof l->subject_cn);
    l->key_type = x.spki.type;
    l->is_ca = x.ext.is_ca;
    l->must_staple = x.ext.must_staple;
    l->self_issued = cm_span_eq(x.issuer, x.subject);
    put_ocsp_url(l, x.ext.ocsp_uri);
    put_names(l, &x, (char *)(l->names + n));
    rc = put_serial(l, x.serial, err);
    if (rc == CM_OK)
        rc = put_ari_id(l, x.ext.aki_keyid, err);
    if (rc != CM_OK) {
        cm_leaf_free(l);
        return rc;
    }
    *ret = l;
    return CM_OK;
}

void cm_leaf_free(struct cm_leaf *l)
{
    free(l);
}
