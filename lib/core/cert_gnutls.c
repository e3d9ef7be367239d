/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"
#include "pki_gnutls.h"

#include <gnutls/x509.h>

/* Certificates that an embedding program already has as GnuTLS objects: the one place of lib/core
 * that calls GnuTLS, because cm.h does. They are copied out as DER at once; the key by lib/pki. */

static cm_status collect_chain(const gnutls_x509_crt_t *certs, size_t n, struct cm_buf *bytes,
                               struct cm_chain *ret, struct cm_err *err)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        gnutls_datum_t der = { NULL, 0 };
        int gr = gnutls_x509_crt_export2(certs[i], GNUTLS_X509_FMT_DER, &der);

        if (gr < 0)
            return cm_fail(err, CM_E_CERT, "export certificate %zu of the chain: %s", i + 1,
                           gnutls_strerror(gr));
        cm_status rc = cm_buf_append(bytes, der.data, der.size, err);
        ret->der[i].len = der.size;
        gnutls_free(der.data);
        if (rc != CM_OK)
            return rc;
    }
    for (size_t i = 0; i < n; i++) { /* only now the buffer stands still */
        ret->der[i].data = bytes->data + at;
        at += ret->der[i].len;
    }
    ret->n = n;
    return CM_OK;
}

cm_status cm_cache_add_gnutls(struct cm_cache *cache, const gnutls_x509_crt_t *chain, size_t n,
                              gnutls_x509_privkey_t key, const char *const *tags,
                              struct cm_cert **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf bytes = CM_BUF_INIT(CM_CHAIN_CERTS_MAX * CM_CERT_DER_MAX);
    struct cm_chain copy = { .n = 0 };
    struct cm_key *own = NULL;

    if (cache == NULL || chain == NULL || key == NULL || n == 0 || n > CM_CHAIN_CERTS_MAX)
        return cm_fail(err, CM_E_INVAL,
                       "a cache, 1 to %d certificates and their key are needed, %zu were given",
                       CM_CHAIN_CERTS_MAX, n);
    cm_status rc = collect_chain(chain, n, &bytes, &copy, err);
    if (rc == CM_OK)
        rc = cm_key_from_gnutls_x509(key, &own, err);
    if (rc == CM_OK)
        rc = cm_cache_add_parts(cache, &copy, own, tags, ret, err);
    cm_key_unref(own);
    return rc;
}
