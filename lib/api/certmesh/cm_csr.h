/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_CSR_H
#define CERTMESH_CM_CSR_H

/* Certificates for requests (PKCS#10) that somebody else made: the private key stays where it is.
 * What comes of them is stored below certmesh/csr/, without a key; it is not managed, not served,
 * and not seen by cm_storage_certs() (docs/issuing.md). */

#include <certmesh/cm_spi.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cm_config;

struct cm_csr_result {
    uint32_t size;
    bool already_there; /* storage held one for this request that is not due; nothing was ordered */
    int64_t not_after_s;
    char issuer_key[256];
    char storage_key[CM_STORAGE_KEY_MAX + 1]; /* where the chain lies */
    char names[1024];                         /* joined by ',', cut when there are too many */
};
/**
 * Get a certificate for @csr, PEM or DER, unless storage has one for the same names and key that is
 * not due for renewal: call it again (once a day, say) to have it renewed. Due is what cm_renew()
 * would take for due, the CA's suggestion included, which is asked for each time. With @force it is
 * ordered in any case. An order that was cut short is gone on with.
 * The names are those of the request's subjectAltName, all of them DNS names or addresses; its
 * common name is not looked at. What else it asks for is the CA's to grant. Ownership:
 * @ret_chain_pem is appended to: leaf first. @ret and @ret_chain_pem may be NULL. Threads: any;
 * calls for the same names take turns, across all processes on the same storage. Errors:
 * CM_E_PARSE, CM_E_CERT (the request's signature), CM_E_INVAL (its names), CM_E_LIMIT, and those of
 * cm_obtain(). No events, and no schedule for failures: that is the caller's.
 */
CM_API CM_MUST_CHECK cm_status cm_obtain_csr(struct cm_config *cfg, const struct cm_op *op,
                                             struct cm_span csr, bool force,
                                             struct cm_csr_result *ret,
                                             struct cm_buf *ret_chain_pem, struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
