/* SPDX-License-Identifier: Apache-2.0 */
#include "key_ext.h"
#include "pki_gnutls.h"

#include <certmesh/cm_adapter.h>

/* Keys to serve with: who signs is GnuTLS, or what the process has put in its place. The one way
 * on which a key goes to another library without being asked for by name. */

static _Atomic(const struct cm_signing *) signing;

struct handle {
    struct cm_ext ext;
    const struct cm_signing *by;
    void *key;
};

cm_status cm_signing_use(const struct cm_signing *s, struct cm_err *err)
{
    if (s != NULL && s->abi != CM_SPI_ABI)
        return cm_fail(err, CM_E_UNSUPPORTED,
                       "what is to sign was made for plugin interface %u, not %u: rebuild it",
                       (unsigned)s->abi, (unsigned)CM_SPI_ABI);
    if (s != NULL && (s->size < sizeof *s || s->load == NULL || s->sign == NULL || s->drop == NULL))
        return cm_fail(err, CM_E_INVAL, "what is to sign has not all of load, sign and drop");
    atomic_store_explicit(&signing, s, memory_order_release);
    return CM_OK;
}

static cm_status give(const struct cm_ext *ext, enum cm_sign_alg alg, struct cm_span input,
                      struct cm_buf *ret)
{
    const struct handle *h = CM_CONTAINER_OF(ext, struct handle, ext);

    return h->by->sign(h->key, alg, input, ret);
}

static void drop(struct cm_ext *ext)
{
    struct handle *h = CM_CONTAINER_OF(ext, struct handle, ext);

    h->by->drop(h->key);
    free(h);
}

cm_status cm_key_to_serve(const struct cm_key *key, gnutls_privkey_t *ret, struct cm_err *err)
{
    const struct cm_signing *by = atomic_load_explicit(&signing, memory_order_acquire);
    struct handle *h;
    void *theirs = NULL;

    /* A curve that has no name here is GnuTLS's. */
    if (by == NULL || key->url_len != 0 || (key->type == CM_PK_OTHER && key->rsa_bits == 0) ||
        !by->load((struct cm_span){ key->der, key->der_len }, &theirs))
        return cm_key_to_gnutls(key, ret, err);
    h = cm_calloc(1, sizeof *h);
    if (h == NULL) {
        by->drop(theirs);
        return cm_fail_nomem(err);
    }
    *h = (struct handle){ .ext = { .give = give, .drop = drop }, .by = by, .key = theirs };
    return cm__ext_handle(key, &h->ext, ret, err);
}
