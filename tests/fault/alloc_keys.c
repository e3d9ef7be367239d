/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

#include <certmesh/cm_keys.h>

#include <gnutls/abstract.h>
#include <stdlib.h>
#include <string.h>

/* Scenarios of keys that are elsewhere: with a signer of the program's, and in the PKCS#11 token at
 * CM_ALLOC_TOKEN. A certificate is obtained for one, loaded by another config, and served. The
 * signer allocates nothing by our seam, so that what fails is never its own. */

#define NAME "alloc.test"

static const char *const names[] = { NAME };

static cm_status config(const struct alloc_lab *lab, struct cm_key_source *keys,
                        struct cm_config **ret, struct cm_err *err)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;

    o.storage = lab->store;
    o.internal = true;
    o.key_source = keys;
    o.handshake_wait_ms = 5000;
    return cm_config_new(&o, ret, err);
}

static cm_status obtain(const struct alloc_lab *lab, struct cm_key_source *keys, struct cm_err *err)
{
    const struct cm_op op = cm_op_within(NULL, 40 * CM_NS_PER_S);
    struct cm_config *cfg = NULL;
    cm_status rc = config(lab, keys, &cfg, err);

    if (rc == CM_OK)
        rc = cm_obtain(cfg, &op, names, 1, NULL, err);
    cm_config_free(cfg);
    return rc;
}

static cm_status serve(const struct alloc_lab *lab, struct cm_err *err)
{
    const struct cm_op op = cm_op_within(NULL, 40 * CM_NS_PER_S);
    struct cm_config *cfg = NULL;
    cm_status rc = config(lab, NULL, &cfg, err);

    if (rc == CM_OK)
        rc = cm_manage(cfg, &op, names, 1, err);
    if (rc == CM_OK)
        rc = alloc_handshake(cfg, true, NAME, false, err);
    cm_config_free(cfg);
    return rc;
}

static cm_status obtain_and_serve(const struct alloc_lab *lab, struct cm_key_source *keys,
                                  struct cm_err *err)
{
    cm_status rc = obtain(lab, keys, err);

    return rc == CM_OK ? serve(lab, err) : rc;
}

/* ---- a signer ---- */

static gnutls_privkey_t theirs; /* the one key that it has, called "k" */

static cm_status sign(struct cm_signer *s, const struct cm_op *op, const char *key,
                      enum cm_sign_alg alg, struct cm_span input, struct cm_buf *ret,
                      struct cm_err *err)
{
    gnutls_datum_t in = { (unsigned char *)(uintptr_t)input.data, (unsigned)input.len };
    gnutls_datum_t sig = { NULL, 0 };

    (void)s;
    (void)op;
    CM_ASSERT(strcmp(key, "k") == 0 && alg == CM_SIGN_ECDSA_SHA256 && theirs != NULL);
    CM_ASSERT(gnutls_privkey_sign_hash2(theirs, GNUTLS_SIGN_ECDSA_SHA256, 0, &in, &sig) == 0);
    cm_status rc = cm_buf_append(ret, sig.data, sig.size, err);
    gnutls_free(sig.data);
    return rc;
}

static cm_status new_key(struct cm_key_source *ks, const struct cm_op *op, int type,
                         const char *const *for_names, size_t n, struct cm_buf *ret,
                         struct cm_err *err)
{
    gnutls_pubkey_t pub = NULL;
    gnutls_datum_t pem = { NULL, 0 };

    (void)ks;
    (void)op;
    (void)for_names;
    (void)n;
    CM_ASSERT(type == CM_KEY_P256);
    if (theirs == NULL)
        CM_ASSERT(gnutls_privkey_init(&theirs) == 0 &&
                  gnutls_privkey_generate(theirs, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
                                          0) == 0);
    CM_ASSERT(gnutls_pubkey_init(&pub) == 0 &&
              gnutls_pubkey_import_privkey(pub, theirs, 0, 0) == 0 &&
              gnutls_pubkey_export2(pub, GNUTLS_X509_FMT_PEM, &pem) == 0);
    cm_status rc = cm_buf_printf(ret, err, "signer:alloc/k\n%.*s", (int)pem.size, pem.data);
    gnutls_free(pem.data);
    gnutls_pubkey_deinit(pub);
    return rc;
}

cm_status alloc_signer(const struct alloc_lab *lab, struct cm_err *err)
{
    static const struct cm_signer_ops ops = { CM_SPI_ABI, (uint32_t)sizeof ops, "alloc", sign };
    static const struct cm_key_source_ops key_ops = {
        .abi = CM_SPI_ABI, .size = (uint32_t)sizeof key_ops, .name = "alloc", .new_key = new_key
    };
    struct cm_key_source keys = { &key_ops };
    struct cm_signer signer = { &ops };
    cm_status rc = cm_signer_register("alloc", &signer, 0, err);

    if (rc == CM_OK)
        rc = obtain_and_serve(lab, &keys, err);
    cm_signer_unregister("alloc");
    if (theirs != NULL)
        gnutls_privkey_deinit(theirs);
    theirs = NULL;
    return rc;
}

/* Whatever there is was made for a key that is gone. */
cm_status alloc_signer_check(const struct alloc_lab *lab, struct cm_err *err)
{
    struct alloc_lab other = *lab;
    size_t len = strlen(other.store);

    CM_ASSERT(len + sizeof ".again" <= sizeof other.store);
    memcpy(other.store + len, ".again", sizeof ".again");
    return alloc_signer(&other, err);
}

/* ---- a token ---- */

cm_status alloc_token(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_key_source *keys = NULL;
    const char *url = getenv("CM_ALLOC_TOKEN");
    cm_status rc = url != NULL ? cm_pkcs11_keys_new(url, &keys, err)
                               : cm_fail(err, CM_E_INVAL, "no CM_ALLOC_TOKEN");

    if (rc == CM_OK)
        rc = obtain_and_serve(lab, keys, err);
    cm_key_source_free(keys);
    return rc;
}
