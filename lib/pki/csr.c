/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"
#include "pem.h"

#include <string.h>

enum { CSR_NAMES_MAX = 256 };

cm_status cm_csr_make(const struct cm_key *key, const char *const *names, size_t n,
                      bool must_staple, struct cm_buf *ret_der, struct cm_err *err)
{
    return cm_csr_make_ext(key, names, n, must_staple, (struct cm_span){ NULL, 0 }, ret_der, err);
}

cm_status cm_csr_make_ext(const struct cm_key *key, const char *const *names, size_t n,
                          bool must_staple, struct cm_span ext_list, struct cm_buf *ret_der,
                          struct cm_err *err)
{
    static const uint8_t zero[] = { 0 };
    CM_AUTO_BUF struct cm_buf info = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_derw w = CM_DERW_INIT(&info, err);

    if (n == 0 || n > CSR_NAMES_MAX)
        return cm_fail(err, CM_E_INVAL, "certificate request: %zu names, 1 to %d are possible", n,
                       CSR_NAMES_MAX);
    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_INTEGER, CM_SPAN_OF(zero));
    cm_dn_put(&w, NULL);
    if (w.rc == CM_OK)
        w.rc = cm__key_spki(key, &info, err);
    size_t attrs = cm_derw_open(&w, CM_DER_CTX_CONS(0));
    size_t attr = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_OID, CM_SPAN_OF(cm_oid_ext_request));
    size_t values = cm_derw_open(&w, CM_DER_SET);
    size_t exts = cm_derw_open(&w, CM_DER_SEQUENCE);
    if (w.rc == CM_OK) {
        w.rc = cm_ext_san(&w, names, n, false, err);
        if (w.rc != CM_OK)
            return cm_wrap(err, w.rc, "certificate request");
    }
    if (must_staple)
        cm_ext_must_staple(&w);
    if (ext_list.len > 0)
        cm_derw_raw(&w, ext_list);
    cm_derw_close(&w, exts);
    cm_derw_close(&w, values);
    cm_derw_close(&w, attr);
    cm_derw_close(&w, attrs);
    cm_derw_close(&w, seq);
    if (w.rc != CM_OK)
        return w.rc;
    return cm_x509_frame(cm_buf_span(&info), key, ret_der, err);
}

cm_status cm_csr_to_pem(struct cm_span csr_der, struct cm_buf *out, struct cm_err *err)
{
    return cm_pem_encode("CERTIFICATE REQUEST", csr_der, out, err);
}

cm_status cm_csr_check(struct cm_span csr_der, const struct cm_key *key, struct cm_err *err)
{
    struct cm_x509 csr;
    bool same = false;

    cm_status rc = cm_x509_parse_csr(csr_der, &csr, err);
    if (rc == CM_OK)
        rc = cm__key_matches_spki(key, &csr.spki, &same, err);
    if (rc == CM_OK && !same)
        rc = cm_fail(err, CM_E_KEY, "certificate request: is of another key");
    if (rc == CM_OK)
        rc = cm_key_check(key, err);
    return rc == CM_OK ? cm_x509_verify_sig(&csr, &csr.spki, "certificate request", err) : rc;
}

/* ------------------------------------------------------------ others' requests */

static bool is_request(struct cm_span label)
{
    return cm_span_eq(label, cm_span_str("CERTIFICATE REQUEST")) ||
           cm_span_eq(label, cm_span_str("NEW CERTIFICATE REQUEST"));
}

cm_status cm_csr_read(struct cm_span text, struct cm_buf *ret_der, struct cm_err *err)
{
    struct cm_pem_block block;
    struct cm_x509 csr;
    size_t len = 0;

    if (text.len > 2 * CM_CERT_DER_MAX)
        return cm_fail(err, CM_E_LIMIT, "certificate request: %zu bytes, at most %u are accepted",
                       text.len, 2 * CM_CERT_DER_MAX);
    cm_status rc = CM_OK;
    if (text.len > 0 && text.data[0] == CM_DER_SEQUENCE) {
        rc = cm_x509_parse_csr(text, &csr, err);
        return rc == CM_OK ? cm_buf_append(ret_der, text.data, text.len, err) : rc;
    }
    rc = cm_pem_next(&text, &block, err);
    if (rc == CM_OK && !is_request(block.label))
        rc = cm_fail(err, CM_E_PARSE, "certificate request: the first PEM block is another thing");
    if (rc != CM_OK)
        return rc == CM_E_NOTFOUND
                   ? cm_fail(err, CM_E_PARSE, "certificate request: neither PEM nor DER")
                   : rc;
    CM_AUTO_FREE uint8_t *bytes = cm_calloc(1, cm_pem_bound(block.body));
    if (bytes == NULL)
        return cm_fail_nomem(err);
    if (!cm_pem_decode(block.body, bytes, &len))
        return cm_fail(err, CM_E_PARSE, "certificate request: is not base64");
    const struct cm_span der = { bytes, len };
    rc = cm_x509_parse_csr(der, &csr, err);
    return rc == CM_OK ? cm_buf_append(ret_der, der.data, der.len, err) : rc;
}

cm_status cm_csr_verify(struct cm_span csr_der, uint8_t ret[CM_SHA256_LEN], struct cm_err *err)
{
    struct cm_x509 csr;

    cm_status rc = cm_x509_parse_csr(csr_der, &csr, err);
    if (rc != CM_OK)
        return rc;
    if (!cm_spki_is_sound(&csr.spki))
        return cm_fail(err, CM_E_CERT,
                       "certificate request: its key is neither RSA of 2048 to 8192 bits nor "
                       "P-256, P-384, P-521 or Ed25519");
    rc = cm_x509_verify_sig(&csr, &csr.spki, "certificate request", err);
    if (rc == CM_OK)
        cm_sha256(csr.spki.whole, ret);
    return rc;
}

void cm_csr_names_free(char **names, size_t n)
{
    for (size_t i = 0; names != NULL && i < n; i++)
        free(names[i]);
    free(names);
}

cm_status cm_csr_names(struct cm_span csr_der, char ***ret, size_t *ret_n, struct cm_err *err)
{
    struct cm_x509 csr;
    struct cm_span content;
    size_t n = 0, bytes = 0, at = 0;
    uint8_t tag = 0;
    char name[CM_NAME_BUF];

    cm_status rc = cm_x509_parse_csr(csr_der, &csr, err);
    if (rc != CM_OK)
        return rc;
    struct cm_span san = csr.ext.san;
    if (!cm_san_measure(san, &n, &bytes))
        return cm_fail(err, CM_E_PARSE, "certificate request: list of names is malformed");
    if (n == 0 || n > CSR_NAMES_MAX)
        return cm_fail(err, CM_E_INVAL,
                       "certificate request: %zu names in its subjectAltName, 1 to %d are possible",
                       n, CSR_NAMES_MAX);
    char **names = cm_calloc(n, sizeof *names);
    if (names == NULL)
        return cm_fail_nomem(err);
    while (rc == CM_OK && at < n && cm_der_next(&san, &tag, &content, NULL)) {
        if (!cm_san_text(tag, content, name))
            rc = cm_fail(err, CM_E_INVAL,
                         "certificate request: name %zu is neither a host nor an address", at + 1);
        else if ((names[at] = cm_strdup(name)) == NULL)
            rc = cm_fail_nomem(err);
        else
            at++;
    }
    if (rc != CM_OK) {
        cm_csr_names_free(names, n);
        return rc;
    }
    *ret = names;
    *ret_n = at;
    return CM_OK;
}

bool cm_csr_is_for(struct cm_span csr_der, struct cm_span leaf_der)
{
    struct cm_x509 csr, leaf;

    return cm_x509_parse_csr(csr_der, &csr, NULL) == CM_OK &&
           cm_x509_parse(leaf_der, &leaf, NULL) == CM_OK &&
           cm_span_eq(csr.spki.whole, leaf.spki.whole);
}
