/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"

#include <string.h>

/* autocert's form of a certificate: the private key in PEM, then the chain, nothing else. */

void autocert_pair_free(struct autocert_pair *p)
{
    cm_buf_free(&p->key_pem);
    cm_buf_free(&p->chain_pem);
}

/* Where the first block ends, which has to be a private key; 0 if it is none. */
static size_t key_len(struct cm_span blob)
{
    static const char begin[] = "-----BEGIN ", end[] = "-----END ", private[] = "PRIVATE";
    const uint8_t *from = memmem(blob.data, blob.len, begin, sizeof begin - 1);
    const uint8_t *stop = blob.data + blob.len;
    const uint8_t *to;

    if (from == NULL)
        return 0;
    to = memchr(from, '\n', (size_t)(stop - from));
    if (to == NULL || memmem(from, (size_t)(to - from), private, sizeof private - 1) == NULL)
        return 0;
    to = memmem(to, (size_t)(stop - to), end, sizeof end - 1);
    if (to == NULL)
        return 0;
    from = memchr(to, '\n', (size_t)(stop - to));
    return from == NULL ? 0 : (size_t)(from - blob.data) + 1;
}

static bool is_rsa(enum cm_pk type)
{
    return type == CM_PK_RSA2048 || type == CM_PK_RSA3072 || type == CM_PK_RSA4096 ||
           type == CM_PK_RSA8192;
}

static bool is_ec(enum cm_pk type)
{
    return type == CM_PK_P256 || type == CM_PK_P384;
}

static cm_status check_leaf(const struct cm_leaf *leaf, const char *host, enum autocert_kind kind,
                            int64_t now_s, struct cm_err *err)
{
    bool covered = false;

    for (size_t i = 0; i < leaf->n_names && !covered; i++)
        covered = cm_name_covers(leaf->names[i], host);
    if (!covered)
        return cm_fail(err, CM_E_CERT, "its certificate is not for '%s'", host);
    if (now_s < leaf->not_before_s)
        return cm_fail(err, CM_E_CERT, "its certificate is not valid yet");
    if (now_s > leaf->not_after_s)
        return cm_fail(err, CM_E_CERT, "its certificate has expired");
    if ((kind == AUTOCERT_OF_RSA && !is_rsa(leaf->key_type)) ||
        (kind == AUTOCERT_EC && !is_ec(leaf->key_type)))
        return cm_fail(err, CM_E_CERT, "its key is %s, not what its name says",
                       cm_pk_name(leaf->key_type) != NULL ? cm_pk_name(leaf->key_type)
                                                          : "of another type");
    return CM_OK;
}

static cm_status check_pair(const struct cm_chain *chain, const struct cm_key *key,
                            const char *host, enum autocert_kind kind, int64_t now_s,
                            struct autocert_pair *p, struct cm_err *err)
{
    struct cm_leaf *leaf = NULL;
    bool fits = false;

    cm_status rc = cm_leaf_parse(chain->der[0], &leaf, err);
    if (rc == CM_OK)
        rc = check_leaf(leaf, host, kind, now_s, err);
    if (rc == CM_OK)
        rc = cm_key_check(key, err);
    if (rc == CM_OK)
        rc = cm_key_matches_cert(key, chain->der[0], &fits, err);
    if (rc == CM_OK && !fits)
        rc = cm_fail(err, CM_E_KEY, "its key is not the certificate's");
    if (rc == CM_OK) {
        p->not_after_s = leaf->not_after_s;
        rc = cm_key_to_pem(key, &p->key_pem, err);
    }
    if (rc == CM_OK)
        rc = cm_chain_to_pem(chain, &p->chain_pem, err);
    cm_leaf_free(leaf);
    return rc;
}

cm_status autocert_blob_read(struct cm_span blob, const char *host, enum autocert_kind kind,
                             int64_t now_s, struct autocert_pair *ret, struct cm_err *err)
{
    struct autocert_pair p = AUTOCERT_PAIR_INIT;
    struct cm_chain chain = { .n = 0 };
    struct cm_key *key = NULL;
    size_t len = blob.len > 0 ? key_len(blob) : 0;

    if (len == 0)
        return cm_fail(err, CM_E_PARSE, "it does not begin with a private key in PEM");
    cm_status rc = cm_key_from_pem((struct cm_span){ blob.data, len }, &key, err);
    if (rc == CM_OK)
        rc = cm_chain_from_pem((struct cm_span){ blob.data + len, blob.len - len }, &chain, err);
    if (rc == CM_OK)
        rc = check_pair(&chain, key, host, kind, now_s, &p, err);
    cm_key_unref(key);
    cm_chain_free(&chain);
    if (rc == CM_OK)
        *ret = p;
    else
        autocert_pair_free(&p);
    return rc;
}

cm_status autocert_blob_write(struct cm_span key_pem, struct cm_span chain_pem, struct cm_buf *out,
                              struct cm_err *err)
{
    cm_status rc = cm_buf_append(out, key_pem.data, key_pem.len, err);

    return rc == CM_OK ? cm_buf_append(out, chain_pem.data, chain_pem.len, err) : rc;
}

/* @host is normalized, so there is nothing to escape. */
cm_status autocert_meta(const char *host, struct cm_buf *out, struct cm_err *err)
{
    return cm_buf_printf(out, err, "{\n\t\"sans\": [\n\t\t\"%s\"\n\t],\n\t\"issuer_data\": null\n}",
                         host);
}
