/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_CONFIG_EXTRA_H
#define CERTMESH_CM_CONFIG_EXTRA_H

/* Options of a config that few need: struct cm_config_options has a pointer to them. Included by
 * cm.h. */

#include <certmesh/cm_base.h>

#ifdef __cplusplus
extern "C" {
#endif

/** An extension to ask for in each certificate request, whatever the CA makes of it. */
struct cm_csr_extension {
    const char *oid; /* dotted decimal */
    bool critical;
    struct cm_span value; /* DER, one element: what the OCTET STRING of the extension holds */
};
#define CM_CSR_EXTENSIONS_MAX      16u
#define CM_CSR_EXTENSION_BYTES_MAX (16u * 1024) /* of all together */

/** All is copied. */
struct cm_config_extra {
    uint32_t size;
    /** For orders of this config, of any of its issuers; cm_obtain_csr() takes its request as it
     * is. The built-in CA makes nothing of them. Refused (CM_E_INVAL) are two of one kind, what
     * certmesh or the CA says by itself (subjectAltName, basicConstraints, nameConstraints, key
     *  identifiers, the TLS feature, that is must_staple, acmeIdentifier, AIA, CRL distribution
     *  points, SCTs), and an extendedKeyUsage without serverAuth: nothing could be served of it. An
     *  order that a crash left open is gone on with only if it asked for the same. */
    const struct cm_csr_extension *csr_extensions;
    size_t n_csr_extensions;
    /** Where challenges are answered for as long as they take, when that is not where the program
     * serves: http_port and tls_port stay the ports of listeners, of cm_https and of redirects. As
     * with those, a port that somebody listens on is left to him: he is expected to answer.
     *  0 = http_port, tls_port. */
    uint16_t alt_http_port;
    uint16_t alt_tls_port;
};
#define CM_CONFIG_EXTRA_INIT                                                                       \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_config_extra)                                           \
    }

#ifdef __cplusplus
}
#endif
#endif
