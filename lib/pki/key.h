/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_KEY_H
#define CM_PKI_KEY_H

/* Inside lib/pki: what key.c, key_der.c and jose.c share. */

#include "der.h"
#include "pki.h"
#include "x509.h"

#include <gnutls/abstract.h>
#include <stdatomic.h>

/* A key that is in a token is its URL, a newline and its SubjectPublicKeyInfo in place of its DER
 * (key_token.c): all that does not sign goes without the token. Any other key is its canonical DER:
 * 121 bytes for P-256, and no GnuTLS object (2.7 kB each) until it signs. From then on the object
 * stays: importing costs half as much as signing, and an account's key signs every request. */
struct cm_key {
    atomic_uint refs;
    _Atomic(gnutls_privkey_t) handle; /* NULL before the first signature */
    enum cm_pk type;
    atomic_bool checked;  /* its halves match: it never changes, so once is enough */
    unsigned rsa_bits;    /* 0 = not RSA */
    struct cm_span curve; /* static OID contents; empty = not EC */
    size_t url_len;       /* 0 = the key itself is here */
    size_t der_len;
    uint8_t der[];
};

/* The public half. EC: the uncompressed point. RSA: modulus and exponent. Ed25519: @point is the
 * 32 bytes in @own. */
struct cm_key_public {
    struct cm_span point;
    struct cm_span n, e;
    uint8_t own[32];
};
CM_MUST_CHECK cm_status cm__key_public(const struct cm_key *key, struct cm_key_public *ret,
                                       struct cm_err *err);
/* Append the SubjectPublicKeyInfo. */
CM_MUST_CHECK cm_status cm__key_spki(const struct cm_key *key, struct cm_buf *out,
                                     struct cm_err *err);
CM_MUST_CHECK cm_status cm__key_matches_spki(const struct cm_key *key, const struct cm_spki *spki,
                                             bool *ret, struct cm_err *err);

/* The object to sign with, made on first use; borrowed from @key. */
CM_MUST_CHECK cm_status cm__key_handle(const struct cm_key *key, gnutls_privkey_t *ret,
                                       struct cm_err *err);
/* Signature as X.509 wants it (EC: DER), with the hash that goes with the key. */
CM_MUST_CHECK cm_status cm__key_sign(const struct cm_key *key, struct cm_span input,
                                     struct cm_buf *out, struct cm_err *err);
/* AlgorithmIdentifier of cm__key_sign(), with header; static. */
struct cm_span cm__key_sig_alg(const struct cm_key *key);

/* What the DER of a private key is, after cm__key_canonical(). */
struct cm_key_shape {
    enum cm_pk type;
    struct cm_span curve; /* static OID contents, EC only */
    unsigned rsa_bits;
    size_t url_len;
};
/* Any of PKCS#1, SEC1, PKCS#8 to the one form that we keep and write. @out: a secret buffer.
 * Errors: CM_E_PARSE, CM_E_KEY, CM_E_LIMIT. */
CM_MUST_CHECK cm_status cm__key_canonical(struct cm_span der, struct cm_buf *out,
                                          struct cm_key_shape *ret, struct cm_err *err);

/* ---- key_signer.c: keys of the program's signers ---- */
#define CM_KEY_URL_MAX 1025u /* with a NUL */
bool cm__key_is_signers(struct cm_span bytes);
CM_MUST_CHECK cm_status cm__signer_url_check(struct cm_span url, struct cm_err *err);
CM_MUST_CHECK cm_status cm__signer_handle(const struct cm_key *key, gnutls_privkey_t *ret,
                                          struct cm_err *err);
/* With what the signer says if it fails, which is lost on its way through GnuTLS. */
CM_MUST_CHECK cm_status cm__signer_sign(const struct cm_key *key, gnutls_sign_algorithm_t algo,
                                        struct cm_span input, struct cm_buf *out,
                                        struct cm_err *err);

/* ---- key_token.c: keys in PKCS#11 tokens, and what both kinds of URL share ---- */
/* Is @bytes a key by its URL, in the form we keep or as text? */
bool cm__key_is_url(struct cm_span bytes);
/* Look through the form we keep. */
CM_MUST_CHECK cm_status cm__key_url_shape(struct cm_span form, struct cm_key_shape *ret,
                                          struct cm_err *err);
/* From text to the form we keep. Where the text does not have the public half the token is asked.
 */
CM_MUST_CHECK cm_status cm__key_url_parse(struct cm_span text, struct cm_buf *out,
                                          struct cm_err *err);
CM_MUST_CHECK cm_status cm__key_url_text(const struct cm_key *key, struct cm_buf *out,
                                         struct cm_err *err);
/* Ask the token for the key at @url, between cm__token_enter() and cm__token_leave(). */
CM_MUST_CHECK cm_status cm__token_open(struct cm_span url, gnutls_privkey_t *ret,
                                       struct cm_err *err);
/* What shows whether the file with the PIN has changed; zeros if there is none. */
struct cm_pin_mark {
    uint64_t ino;
    int64_t s, ns;
};
void cm__token_pin_mark(struct cm_span url, struct cm_pin_mark *ret);
/* Status and text for what GnuTLS says of the key at @url. */
cm_status cm__key_url_fail(struct cm_span url, int gnutls_rc, const char *what, struct cm_err *err);
struct cm_span cm__key_url(const struct cm_key *key);
/* How GnuTLS calls a type that can be generated. */
bool cm__pk_params(enum cm_pk type, gnutls_pk_algorithm_t *ret_alg, unsigned *ret_bits);

/* ---- key_session.c: keys in tokens, as they are signed with ---- */
/* Around calls into modules, signatures apart: while one is initialized anew nobody enters, which
 * is waited for, but not long: CM_E_IO. */
CM_MUST_CHECK cm_status cm__token_enter(struct cm_err *err);
void cm__token_leave(void);
/* A handle of ours that signs with the token for as long as the token is there, and fails at once
 * while it is away. The first one of a key asks the token, here and now. */
CM_MUST_CHECK cm_status cm__token_handle(const struct cm_key *key, gnutls_privkey_t *ret,
                                         struct cm_err *err);
/* As cm__signer_sign(). Not for handshakes: a token that was away is asked here and now. */
CM_MUST_CHECK cm_status cm__token_sign(const struct cm_key *key, gnutls_sign_algorithm_t algo,
                                       struct cm_span input, struct cm_buf *out,
                                       struct cm_err *err);

/* Something else than a signature failed because a token was not there. */
void cm__token_missed(void);

/* ---- key_module.c: the modules of tokens ---- */
#define CM_MODULE_MAX 256u
/* The file of the module that has the token of @url; "" if that cannot be said. Within
 * cm__token_enter(). */
void cm__module_of(struct cm_span url, char ret[CM_MODULE_MAX]);
/* Finalize and initialize those that are @wanted. Nobody may be inside of them. */
void cm__modules_again(bool (*wanted)(const char *file));

/* Append the form we keep of an Ed25519 key. */
CM_MUST_CHECK cm_status cm__key_ed25519(struct cm_span seed, struct cm_buf *out,
                                        struct cm_err *err);

#define CM_KEY_DER_MAX  (12u * 1024)
#define CM_RSA_BITS_MIN 1024u /* to be readable at all; cm_chain_accept() asks for 2048 */

#endif
