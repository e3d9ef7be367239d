/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

/* Certificates of the program's own: from what it has to what the cache takes. */

/* Takes over the caller's reference. */
static cm_status add_own(struct cm_cache *c, struct cm_cert *cert, struct cm_cert **ret,
                         struct cm_err *err)
{
    cm_status rc = cm_cache_replace_own(c, NULL, cert, ret, err);

    cm_cert_unref(cert);
    return rc;
}

cm_status cm_cache_add_pem(struct cm_cache *c, struct cm_span chain_pem, struct cm_span key_pem,
                           const char *const *tags, struct cm_cert **ret, struct cm_err *err)
{
    struct cm_cert *cert = NULL;

    if (c == NULL)
        return cm_fail(err, CM_E_INVAL, "no cache to add the certificate to");
    cm_status rc = cm_cert_from_pem(chain_pem, key_pem, NULL, tags, 0, &cert, err);
    return rc == CM_OK ? add_own(c, cert, ret, err) : rc;
}

cm_status cm_cache_add_parts(struct cm_cache *c, const struct cm_chain *chain,
                             const struct cm_key *key, const char *const *tags,
                             struct cm_cert **ret, struct cm_err *err)
{
    struct cm_leaf *leaf = NULL;
    struct cm_cert *cert = NULL;
    bool fits = false;

    cm_status rc = cm_leaf_parse(chain->der[0], &leaf, err);
    if (rc == CM_OK)
        rc = cm_key_matches_cert(key, chain->der[0], &fits, err);
    if (rc == CM_OK && !fits)
        rc =
            cm_fail(err, CM_E_KEY, "the private key does not belong to the certificate (serial %s)",
                    leaf->serial_hex);
    if (rc == CM_OK) {
        const struct cm_cert_parts parts = { chain, leaf, key, NULL, tags, 0 };

        rc = cm_cert_new(&parts, &cert, err);
    }
    cm_leaf_free(leaf);
    return rc == CM_OK ? add_own(c, cert, ret, err) : rc;
}

cm_status cm_cache_add_files(struct cm_cache *c, const char *chain_file, const char *key_file,
                             const char *const *tags, struct cm_cert **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_CHAIN_PEM_MAX);

    cm_status rc = cm_read_file(chain_file, &chain, err);
    if (rc == CM_OK)
        rc = cm_read_file(key_file, &key, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_cache_add_pem(c, cm_buf_span(&chain), cm_buf_span(&key), tags, ret, err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "'%s' with '%s'", chain_file, key_file);
}
