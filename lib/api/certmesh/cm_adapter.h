/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_ADAPTER_H
#define CERTMESH_CM_ADAPTER_H

/* For authors of adapters to other TLS libraries than GnuTLS: what is needed, beside
 * cm_hello_parse(), cm_get_certificate() and the calls for what is pending, to serve what they
 * chose. <certmesh/cm_openssl.h> is such an adapter, and uses nothing else. */

#include <certmesh/cm_keys.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cm_cert;
struct cm_config;

/* ---- a certificate as something to serve ---- */

/** Certificates in the chain, the leaf included. */
CM_API size_t cm_cert_chain_len(const struct cm_cert *c);
/** DER of the i-th certificate, leaf first; empty past the end. Borrowed. */
CM_API struct cm_span cm_cert_der(const struct cm_cert *c, size_t i);
/** Append the private key as DER (PKCS#1, SEC 1 or PKCS#8) to @ret, a CM_BUF_SECRET of 16 KiB.
 *  Keep it in memory only. CM_E_UNSUPPORTED for one that is in a token (cm_keys.h). */
CM_API CM_MUST_CHECK cm_status cm_cert_key_der(const struct cm_cert *c, struct cm_buf *ret,
                                               struct cm_err *err);
/** Is this the answer to a tls-alpn-01 challenge? Then agree on acme-tls/1, and nothing else. */
CM_API bool cm_cert_is_challenge(const struct cm_cert *c);

/**
 * What an adapter made of the certificate for its TLS library: the first member of a struct of the
 * adapter's. Made on first use, kept with the certificate and freed with it.
 */
struct cm_attachment {
    const void *owner; /* address of something of the adapter's: whose it is */
    void (*destroy)(struct cm_attachment *); /* on whichever thread drops the certificate */
    struct cm_attachment *next;              /* certmesh's */
};
/** What @owner has attached to @c; NULL while there is nothing. Lives as long as @c. One atomic
 *  read for each adapter in the process. */
CM_API struct cm_attachment *cm_cert_attached(const struct cm_cert *c, const void *owner);
/** Attach @a. Returns what is attached now: another one of the same owner if somebody was faster,
 *  and then @a is still the caller's to free. */
CM_API struct cm_attachment *cm_cert_attach(struct cm_cert *c, struct cm_attachment *a);

/* ---- signing for GnuTLS ---- */

/** A library that signs the handshakes of GnuTLS servers in GnuTLS's place. Called from several
 *  threads at once, with no lock held; must not block. */
struct cm_signing {
    CM_OPS_HEAD;
    /** Make what signs with the private key @der (PKCS#1, SEC 1 or PKCS#8; borrowed; do not keep
     *  it). False, for a key that it cannot read or is no faster with: GnuTLS signs with it. */
    bool (*load)(struct cm_span der, void **ret_key);
    /** As cm_signer_ops.sign() (cm_keys.h). @ret takes 1024 bytes. What is not CM_OK fails the
     *  handshake. */
    cm_status (*sign)(void *key, enum cm_sign_alg alg, struct cm_span input, struct cm_buf *ret);
    void (*drop)(void *key); /* wipe and free it */
};
/**
 * Have @s sign in this process, for each certificate whose first handshake comes from now on; NULL:
 * nobody but GnuTLS. Certificates that are served already keep who signs for them, and @s must last
 * as long as they do: static. Keys that are elsewhere (cm_keys.h) are not asked about.
 * Errors: CM_E_UNSUPPORTED (abi), CM_E_INVAL.
 */
CM_API CM_MUST_CHECK cm_status cm_signing_use(const struct cm_signing *s, struct cm_err *err);

/* ---- staples ---- */

/** What proves that a certificate is not revoked (an OCSP response). Immutable; a newer one may
 *  take its place any time. */
struct cm_staple;
/** A reference to the one as it is now, or NULL. */
CM_API struct cm_staple *cm_cert_staple(const struct cm_cert *c);
/** DER. Borrowed. */
CM_API struct cm_span cm_staple_der(const struct cm_staple *s);
/** Seconds since 1970 from which on it must not be sent any more. */
CM_API int64_t cm_staple_end_s(const struct cm_staple *s);
CM_API void cm_staple_unref(struct cm_staple *s); /* NULL ok */

/* ---- what an adapter asks of a config ---- */

/** Its environment: clocks. */
CM_API const struct cm_env *cm_config_env(const struct cm_config *cfg);
/** How long a hello may wait for an answer, in ns; never more than 0 for "not at all". */
CM_API int64_t cm_config_handshake_wait_ns(const struct cm_config *cfg);
/** May sessions be resumed by tickets? */
CM_API bool cm_config_tickets(const struct cm_config *cfg);
/** @cfg serves TLS from now on: its ticket keys are to be those of the fleet soon. Cheap, again and
 *  again; does not wait. */
CM_API void cm_config_tickets_begin(struct cm_config *cfg);

#define CM_TICKET_KEY_LEN 64u
#define CM_TICKET_KEYS    5u
/**
 * Secrets to make ticket keys from: tickets are made with the first, and read with all. They are
 * the same on every node that shares its ticket keys, differ for every @purpose (at most 255
 * bytes), and change by themselves. Wipe them. Never blocks.
 */
CM_API CM_MUST_CHECK cm_status cm_config_ticket_keys(struct cm_config *cfg, const char *purpose,
                                                     uint8_t ret[CM_TICKET_KEYS][CM_TICKET_KEY_LEN],
                                                     size_t *ret_n, struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
