/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_gnutls.h"
#include "x509.h"

#include <gnutls/abstract.h>

/* What may sign a certificate that we accept. SHA-1, MD5 and RSA-PSS with its parameters to get
 * wrong are left out: no public CA uses them under a server certificate. */
static const struct {
    uint8_t len;
    uint8_t oid[9];
    gnutls_sign_algorithm_t alg;
} sig_algs[] = {
    { 8, { 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 }, GNUTLS_SIGN_ECDSA_SHA256 },
    { 8, { 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03 }, GNUTLS_SIGN_ECDSA_SHA384 },
    { 8, { 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04 }, GNUTLS_SIGN_ECDSA_SHA512 },
    { 9, { 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b }, GNUTLS_SIGN_RSA_SHA256 },
    { 9, { 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c }, GNUTLS_SIGN_RSA_SHA384 },
    { 9, { 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d }, GNUTLS_SIGN_RSA_SHA512 },
    { 3, { 0x2b, 0x65, 0x70 }, GNUTLS_SIGN_EDDSA_ED25519 },
};

static gnutls_datum_t datum(struct cm_span s)
{
    /* GnuTLS has no const datum; it only reads here. */
    return (gnutls_datum_t){ (unsigned char *)(uintptr_t)s.data, (unsigned)s.len };
}

static gnutls_sign_algorithm_t alg_of(const struct cm_x509 *cert)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(sig_algs); i++)
        if (cm_span_eq(cert->sig_oid, (struct cm_span){ sig_algs[i].oid, sig_algs[i].len }))
            return sig_algs[i].alg;
    return GNUTLS_SIGN_UNKNOWN;
}

bool cm_x509_sig_is_known(const struct cm_x509 *cert)
{
    return alg_of(cert) != GNUTLS_SIGN_UNKNOWN;
}

cm_status cm_x509_verify_sig(const struct cm_x509 *child, const struct cm_spki *spki,
                             const char *what, struct cm_err *err)
{
    gnutls_sign_algorithm_t alg = alg_of(child);
    gnutls_pubkey_t pub = NULL;
    gnutls_datum_t key = datum(spki->whole);
    gnutls_datum_t tbs = datum(child->tbs);
    gnutls_datum_t sig = datum(child->signature);

    if (alg == GNUTLS_SIGN_UNKNOWN)
        return cm_fail(err, CM_E_CERT,
                       "%s: signed with an algorithm that is not accepted (SHA-1, MD5 or unknown)",
                       what);
    int rc = gnutls_pubkey_init(&pub);
    if (rc < 0)
        return cm_fail_gnutls(err, CM_E_NOMEM, rc, what);
    rc = gnutls_pubkey_import(pub, &key, GNUTLS_X509_FMT_DER);
    if (rc >= 0)
        rc = gnutls_pubkey_verify_data2(pub, alg, 0, &tbs, &sig);
    gnutls_pubkey_deinit(pub);
    if (rc < 0)
        return cm_fail_gnutls(err, CM_E_CERT, rc, what);
    return CM_OK;
}
