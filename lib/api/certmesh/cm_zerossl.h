/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_ZEROSSL_H
#define CERTMESH_CM_ZEROSSL_H

/* ZeroSSL by its own HTTP interface instead of ACME: no account in storage, an access key instead,
 * and certificates of more kinds than its ACME gives. Conventions as in cm.h. */

#include <certmesh/cm.h>

#ifdef __cplusplus
extern "C" {
#endif

/** All strings are copied; the key is wiped at the end. */
struct cm_zerossl_options {
    uint32_t size;
    const char *access_key_file; /* the key of your account, alone in a file that nobody else can
                                    read; else CM_E_PERM */
    const char *access_key;      /* instead of a file */
    unsigned validity_days;      /* as your plan allows; 0 = the CA's default */
    const char *api_url;         /* NULL = "https://api.zerossl.com" */
    const char *ca_root_file;    /* PEM trust for its HTTPS; NULL = system's */
    int64_t obtain_timeout_s;    /* one whole issuance; 0 = 900: validation may take minutes */
    bool allow_plain_http;       /* tests only */
};

/**
 * An issuer for cm_config_options.issuers. Its key is "zerossl", as CertMagic's is, so certificates
 * of both lie together. Names and addresses are validated by a file over plain HTTP on port 80,
 * which any node on the storage answers through cm_http01_handle(), as an http-01 challenge; so no
 * wildcards. Ownership: caller, until a config has taken it.
 *
 * Errors: CM_E_INVAL for a key or URL of the wrong shape; CM_E_PERM, CM_E_NOTFOUND for the files.
 * No error ever holds the key.
 */
CM_API CM_MUST_CHECK cm_status cm_zerossl_issuer_new(const struct cm_zerossl_options *opts,
                                                     struct cm_issuer **ret, struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
