/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_OCSP_H
#define CM_PKI_OCSP_H

/* OCSP (RFC 6960) as a server needs it for its own certificates: asking, and believing an answer
 * only when everything about it is right. An answer is bytes from a stranger, also when it comes
 * out of storage; nothing of it is told before its signature has been checked. */

#include "pki.h"

#define CM_OCSP_MAX        (64u * 1024) /* bytes of a response */
#define CM_OCSP_STAPLE_MAX (16u * 1024) /* of one that goes into every handshake */

enum cm_ocsp_status { CM_OCSP_GOOD = 0, CM_OCSP_REVOKED = 1, CM_OCSP_UNKNOWN = 2 };
const char *cm_ocsp_status_text(enum cm_ocsp_status s); /* "good", ... */

/* What a response says of one certificate. Seconds since 1970. */
struct cm_ocsp {
    enum cm_ocsp_status status;
    int reason; /* RFC 5280 5.3.1; 0 = unspecified */
    int64_t revoked_at_s;
    int64_t this_update_s;
    int64_t next_update_s; /* 12 h after this_update_s where the response has none */
    int64_t end_s;         /* not to be used from here on: next_update_s, or earlier the end of the
                              delegate's certificate that signed it */
    bool alone;            /* the response speaks of no other certificate, so it can be stapled:
                              clients look at the first answer only */
};

/* Append a request for the status of @leaf, issued by @issuer: SHA-1 CertID, which is what
 * responders have prepared answers for, no nonce, no signature. */
CM_MUST_CHECK cm_status cm_ocsp_request(struct cm_span leaf_der, struct cm_span issuer_der,
                                        struct cm_buf *ret, struct cm_err *err);

/**
 * What @response says of @leaf at @now_s, if all of this holds: it is a successful basic response
 * of at most CM_OCSP_MAX bytes with nothing behind it; just one of its answers is for the name hash
 * and key hash of @issuer and the serial number of @leaf; it is signed by @issuer, or by a
 * certificate in it that names @issuer as its issuer, is signed by it, is for OCSP signing and
 * valid now; the signer is the one that the response names; thisUpdate and producedAt are at most
 * five minutes ahead, nextUpdate is after thisUpdate and to come; no critical extension. Also
 * @leaf must really be signed by @issuer, and @issuer a CA.
 *
 * Errors: CM_E_PARSE, CM_E_LIMIT (size), CM_E_CERT (any rule), CM_E_STATE (it is of the future: one
 * of two clocks is wrong), CM_E_AGAIN (the responder says tryLater or internalError), CM_E_POLICY
 * (it says that it does not answer such requests: unauthorized, malformedRequest, sigRequired).
 */
CM_MUST_CHECK cm_status cm_ocsp_verify(struct cm_span response, struct cm_span leaf_der,
                                       struct cm_span issuer_der, int64_t now_s,
                                       struct cm_ocsp *ret, struct cm_err *err);

/* Is @issuer_der the CA certificate that signed @leaf_der? CM_E_CERT if not. */
CM_MUST_CHECK cm_status cm_ocsp_check_issuer(struct cm_span leaf_der, struct cm_span issuer_der,
                                             struct cm_err *err);

/* Where the certificate says that its issuer's certificate is (AIA caIssuers, the first URL with
 * http or https); CM_E_NOTFOUND. @ret has CM_URL_BUF bytes. */
#define CM_URL_BUF 512
CM_MUST_CHECK cm_status cm_cert_issuer_url(struct cm_span leaf_der, char ret[CM_URL_BUF],
                                           struct cm_err *err);

#endif
