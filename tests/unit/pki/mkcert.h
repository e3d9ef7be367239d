/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_PKI_MKCERT_H
#define CM_TESTS_UNIT_PKI_MKCERT_H

/* Certificates made by GnuTLS, right ones and wrong ones, so that our reader is not judged by our
 * own writer. */

#include "pki.h"

#include <gnutls/abstract.h>
#include <gnutls/x509.h>

#define MK_DAY INT64_C(86400)

enum mk_eku { MK_EKU_NONE, MK_EKU_SERVER, MK_EKU_CLIENT, MK_EKU_BOTH, MK_EKU_ANY };

struct mk_spec {
    const char *cn;   /* NULL = empty subject */
    const char *sans; /* "a.example,192.0.2.1,mail:x@y,uri:http://z"; NULL = no extension */
    int64_t not_before_s;
    int64_t not_after_s;
    int ca;      /* -1: no basicConstraints, 0: CA:FALSE, 1: CA:TRUE */
    int pathlen; /* < 0: none; with ca == 1 */
    enum mk_eku eku;
    unsigned usage;                   /* GNUTLS_KEY_*, 0 = no extension */
    gnutls_digest_algorithm_t digest; /* 0 = SHA-256 */
    bool must_staple;
    const char *ocsp;       /* AIA URI */
    const char *serial_hex; /* NULL = 0x01 */
    const char *aki_hex;    /* NULL = none */
};

struct mk_cert {
    gnutls_datum_t der;
    gnutls_x509_crt_t crt;
};

/* Sign; @issuer NULL: self-signed by @signer. Aborts the test on failure. */
struct mk_cert mk_cert(const struct mk_spec *spec, gnutls_x509_privkey_t subject_key,
                       const struct mk_cert *issuer, gnutls_x509_privkey_t signer);
void mk_cert_free(struct mk_cert *c);
gnutls_x509_privkey_t mk_key(gnutls_pk_algorithm_t alg, unsigned bits);
#define MK_P256 GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1)
struct cm_key *mk_cm_key(gnutls_x509_privkey_t key);
struct cm_span mk_span(const struct mk_cert *c);

#endif
