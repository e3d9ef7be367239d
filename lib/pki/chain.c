/* SPDX-License-Identifier: Apache-2.0 */
#include "pem.h"
#include "x509.h"

#include <string.h>

static bool label_is(struct cm_span label, const char *text)
{
    return cm_span_eq(label, cm_span_str(text));
}

/* Exactly one DER SEQUENCE? What is in it is for others to judge. */
static bool is_one_sequence(struct cm_span der)
{
    struct cm_span content;

    return cm_der_take(&der, CM_DER_SEQUENCE, &content) && der.len == 0;
}

cm_status cm_chain_from_pem(struct cm_span pem, struct cm_chain *ret, struct cm_err *err)
{
    CM_AUTO_FREE uint8_t *bytes = NULL;
    struct cm_chain chain = { .n = 0 };
    struct cm_pem_block block;
    size_t at = 0;

    if (pem.len > CM_CHAIN_PEM_MAX)
        return cm_fail(err, CM_E_LIMIT, "certificate chain: %zu bytes, at most %u are accepted",
                       pem.len, CM_CHAIN_PEM_MAX);
    /* Each block decodes to at most 3/4 of its text, and is written with at most 3 bytes more,
     * which its own BEGIN line pays for. */
    bytes = cm_calloc(1, pem.len + 1);
    if (bytes == NULL)
        return cm_fail_nomem(err);
    for (;;) {
        cm_status rc = cm_pem_next(&pem, &block, err);
        if (rc == CM_E_NOTFOUND)
            break;
        if (rc != CM_OK)
            return cm_wrap(err, rc, "certificate chain");
        if (!label_is(block.label, "CERTIFICATE")) {
            char shown[64];
            return cm_fail(
                err, CM_E_PARSE, "certificate chain: has a '%s' block among its certificates",
                cm_escape((const char *)block.label.data, block.label.len, shown, sizeof shown));
        }
        if (chain.n == CM_CHAIN_CERTS_MAX)
            return cm_fail(err, CM_E_LIMIT, "certificate chain: more than %d certificates",
                           CM_CHAIN_CERTS_MAX);
        size_t len = 0;
        if (!cm_pem_decode(block.body, bytes + at, &len))
            return cm_fail(err, CM_E_PARSE, "certificate chain: certificate %zu is not base64",
                           chain.n + 1);
        if (len > CM_CERT_DER_MAX)
            return cm_fail(err, CM_E_LIMIT,
                           "certificate chain: certificate %zu has %zu bytes, at most %u are "
                           "accepted",
                           chain.n + 1, len, CM_CERT_DER_MAX);
        chain.der[chain.n] = (struct cm_span){ bytes + at, len };
        if (!is_one_sequence(chain.der[chain.n]))
            return cm_fail(err, CM_E_PARSE,
                           "certificate chain: certificate %zu is not DER, or garbage follows it",
                           chain.n + 1);
        chain.n++;
        at += len;
    }
    if (chain.n == 0)
        return cm_fail(err, CM_E_PARSE, "certificate chain: no CERTIFICATE block in %zu bytes",
                       pem.len);
    chain.bytes = bytes;
    bytes = NULL;
    *ret = chain;
    return CM_OK;
}

void cm_chain_free(struct cm_chain *c)
{
    if (c == NULL)
        return;
    free(c->bytes);
    memset(c, 0, sizeof *c);
}

cm_status cm_cert_der_to_pem(struct cm_span der, struct cm_buf *out, struct cm_err *err)
{
    return cm_pem_encode("CERTIFICATE", der, out, err);
}

cm_status cm_chain_to_pem(const struct cm_chain *c, struct cm_buf *out, struct cm_err *err)
{
    size_t before = out->len;

    for (size_t i = 0; i < c->n; i++) {
        cm_status rc = cm_cert_der_to_pem(c->der[i], out, err);
        if (rc != CM_OK) {
            out->len = before;
            return rc;
        }
    }
    return CM_OK;
}

cm_status cm_chain_issuer_cn(const struct cm_chain *c, size_t i, char *ret, size_t ret_size,
                             struct cm_err *err)
{
    struct cm_x509 cert;

    if (i >= c->n || ret_size == 0)
        return cm_fail(err, CM_E_INVAL, "certificate chain: is empty");
    cm_status rc = cm_x509_parse(c->der[i], &cert, err);
    if (rc != CM_OK)
        return rc;
    cm_dn_text(cert.issuer, false, ret, ret_size);
    return CM_OK;
}

cm_status cm_chain_top_issuer_cn(const struct cm_chain *c, char *ret, size_t ret_size,
                                 struct cm_err *err)
{
    return cm_chain_issuer_cn(c, c->n - 1, ret, ret_size, err);
}
