/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"
#include "pem.h"

enum { CSR_NAMES_MAX = 256 };

cm_status cm_csr_make(const struct cm_key *key, const char *const *names, size_t n,
                      bool must_staple, struct cm_buf *ret_der, struct cm_err *err)
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
