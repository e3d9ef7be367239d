/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_NAMES_H
#define CERTMESH_CM_NAMES_H

/* Names of hosts, and what things are called in storage (docs/storage-format.md). Nothing here does
 * input or output; all of it may be called from any thread. Included by cm.h; conventions as there.
 */

#include <certmesh/cm_spi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where a CA looks for the answers to challenges, whatever ports are given to a config. */
#define CM_HTTP01_PORT    80
#define CM_TLSALPN01_PORT 443

enum cm_host_flags { CM_HOST_ADDRESS = 1 /* IP addresses of the internet are fine, too */ };

/**
 * May a public CA certify @name? That is asked of the name alone: what a certain CA takes, its
 * issuer knows (cm_issuer_precheck()). Any spelling that cm_normalize_name() takes will do; one
 * wildcard label in front is fine. @flags: enum cm_host_flags. CM_OK: yes. Errors, @err says why:
 * CM_E_INVAL (no host name at all), CM_E_POLICY (a name of one label, or for internal or reserved
 * use; an address; a wildcard for a whole top-level domain).
 */
CM_API CM_MUST_CHECK cm_status cm_host_qualifies(const char *name, unsigned flags,
                                                 struct cm_err *err);

/* ---------------------------------------------------------- names in storage */

#define CM_STORAGE_KEY_BUF (CM_STORAGE_KEY_MAX + 1)

enum cm_site_file {
    CM_SITE_FOLDER = 0, /* where the others lie */
    CM_SITE_CHAIN,      /* ".crt" */
    CM_SITE_KEY,        /* ".key" */
    CM_SITE_METADATA    /* ".json" */
};

/**
 * What a certificate for @names is called: normalized, sorted, each once, joined by ','; shortened
 * when that is too long, as storage-format.md has it. Its lock is "issue_cert_" and this.
 * Appended to @ret, which is unchanged on failure. Errors: CM_E_INVAL, naming the bad name.
 */
CM_API CM_MUST_CHECK cm_status cm_names_key(const char *const *names, size_t n, struct cm_buf *ret,
                                            struct cm_err *err);
/**
 * Storage key of what belongs to the certificate for @names of the issuer whose cm_issuer_key() is
 * @issuer_key. Without names: the folder of the issuer (then @what is CM_SITE_FOLDER); without
 * issuer, too: of all. @ret is written on CM_OK only. Errors: CM_E_INVAL.
 */
CM_API CM_MUST_CHECK cm_status cm_storage_key_site(const char *issuer_key, const char *const *names,
                                                   size_t n, enum cm_site_file what,
                                                   char ret[CM_STORAGE_KEY_BUF],
                                                   struct cm_err *err);
/** Storage key of the OCSP staple of a certificate: @name is its common name, or its first other
 *  name; @chain_pem the chain as it lies in storage. Errors: CM_E_INVAL. */
CM_API CM_MUST_CHECK cm_status cm_storage_key_staple(const char *name, struct cm_span chain_pem,
                                                     char ret[CM_STORAGE_KEY_BUF],
                                                     struct cm_err *err);
/** @text as one component of a key. Two texts may become the same one.
 *  Errors: CM_E_INVAL: nothing usable is left of it, or it is too long. */
CM_API CM_MUST_CHECK cm_status cm_storage_key_safe(const char *text,
                                                   char ret[CM_STORAGE_COMPONENT_MAX + 1],
                                                   struct cm_err *err);
/** The folder that cm_storage_open() takes when it is given no URL: $XDG_DATA_HOME/certmagic, else
 *  $HOME/.local/share/certmagic. Appended to @ret; it need not be there. */
CM_API CM_MUST_CHECK cm_status cm_storage_default_path(struct cm_buf *ret, struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
