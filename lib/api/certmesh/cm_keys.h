/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_KEYS_H
#define CERTMESH_CM_KEYS_H

/* Private keys that are somewhere else: in a PKCS#11 token (an HSM, a smart card, SoftHSM), or with
 * a signer of the program's own (a service of keys).
 *
 * ---- tokens ----
 *
 * Wherever certmesh reads a key as PEM, from storage, from a file or from the program, it may be
 * the URL of one in a token instead (RFC 7512), as the first line:
 *
 *     pkcs11:token=edge;object=www.example.com;type=private?pin-source=file:/etc/certmesh/pin
 *
 * and behind it the public half as PEM ("PUBLIC KEY"). Without that the token is asked for it at
 * once; with it, only who signs needs the token. pin-source is a file with the PIN that others
 * cannot read (chmod 0600); URLs that hold a PIN or name a module are refused. Modules are those
 * that p11-kit knows; they are loaded into the process when a token is needed first.
 *
 * A signature blocks its thread for as long as the token takes. When one fails, the token counts as
 * away: what needs it fails at once, its certificates are chosen for a handshake only where there
 * is no other, and the maintenance of a cache that has them looks for it, first at once and then
 * every 10 s at most, until it is back. The OpenSSL adapter does not serve such keys. */

#include <certmesh/cm_spi.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A key source for cm_config_options.key_source: keys of new certificates are made in the token at
 * @url ("pkcs11:token=NAME?pin-source=file:PATH"; no object), cannot be taken out of it, and are
 * stored as their URL. Keys that are not used any more stay in the token.
 * Ownership: cm_key_source_free(), after the configs that use it. The token is not asked before the
 * first key is made. What making one comes to: CM_E_IO (the token), CM_E_PERM (its PIN),
 * CM_E_UNSUPPORTED (the type of key). Errors: CM_E_INVAL for the URL.
 */
CM_API CM_MUST_CHECK cm_status cm_pkcs11_keys_new(const char *url, struct cm_key_source **ret,
                                                  struct cm_err *err);
CM_API void cm_key_source_free(struct cm_key_source *ks); /* NULL ok */
/**
 * @alone: nothing in this process uses PKCS#11 modules but certmesh. Then those that do not find a
 * token again by themselves (SoftHSM is one) are finalized and initialized anew while a token is
 * away; not while another key of certmesh's in the module can be used. At first false: sessions are
 * opened again, and no more. The command says true. Any thread.
 */
CM_API void cm_pkcs11_alone(bool alone);

/* ------------------------------------------------------------------- signers */

/** Numbers of TLS signature schemes (RFC 8446 4.2.3); the PSS ones are those of RSA keys. */
enum cm_sign_alg {
    CM_SIGN_RSA_PKCS1_SHA256 = 0x0401,
    CM_SIGN_RSA_PKCS1_SHA384 = 0x0501,
    CM_SIGN_RSA_PKCS1_SHA512 = 0x0601,
    CM_SIGN_ECDSA_SHA256 = 0x0403,
    CM_SIGN_ECDSA_SHA384 = 0x0503,
    CM_SIGN_ECDSA_SHA512 = 0x0603,
    CM_SIGN_RSA_PSS_SHA256 = 0x0804, /* salt as long as the hash */
    CM_SIGN_RSA_PSS_SHA384 = 0x0805,
    CM_SIGN_RSA_PSS_SHA512 = 0x0806,
    CM_SIGN_ED25519 = 0x0807
};

struct cm_signer;
struct cm_signer_ops {
    CM_OPS_HEAD;
    /** Sign with the key called @key. @input is the hash that @alg names, and for Ed25519 the
     *  message. Append to @ret: ECDSA as DER, RSA and Ed25519 as they are. Blocks the thread that
     *  needs the signature, a handshake's or an order's, until the deadline of @op at most.
     *  Called from several threads at once, with no lock held. */
    cm_status (*sign)(struct cm_signer *s, const struct cm_op *op, const char *key,
                      enum cm_sign_alg alg, struct cm_span input, struct cm_buf *ret,
                      struct cm_err *err);
};
struct cm_signer {
    const struct cm_signer_ops *ops;
};

/**
 * Have @s sign for keys of this process whose text is
 *
 *     signer:NAME/KEY
 *     -----BEGIN PUBLIC KEY----- ...
 *
 * Such a text may stand wherever a key is read as PEM, and it is what a key source of the program's
 * gives for new certificates. @name: 1 to 32 of a-z, 0-9 and hyphen; KEY is the signer's own
 * affair: up to 900 characters without spaces. A signature takes @timeout_ms at most; 0 = 5000.
 * Ownership: @s is borrowed until cm_signer_unregister(). Without a signer of that name, and when
 * it fails, what needs the signature fails: CM_E_IO, or what the signer said.
 * Errors: CM_E_INVAL, CM_E_UNSUPPORTED (abi), CM_E_EXISTS, CM_E_LIMIT (more than 8).
 */
CM_API CM_MUST_CHECK cm_status cm_signer_register(const char *name, struct cm_signer *s,
                                                  int64_t timeout_ms, struct cm_err *err);
/** No new call is made from now on; returns when none is under way. Not from a signer. */
CM_API void cm_signer_unregister(const char *name);

#ifdef __cplusplus
}
#endif
#endif
