/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_X509_H
#define CM_PKI_X509_H

/* A certificate or request seen in place: spans into the caller's DER, the few extensions that
 * matter decoded. No GnuTLS object behind it (20 kB and 14 us each), no allocation. */

#include "der.h"
#include "pki.h"

/* SubjectPublicKeyInfo. */
struct cm_spki {
    struct cm_span whole;
    struct cm_span key; /* contents of the BIT STRING: EC point, RSAPublicKey, Ed25519 key */
    enum cm_pk type;    /* CM_PK_OTHER when not one of ours */
    unsigned rsa_bits;  /* 0 = not RSA */
    bool is_ec;
    struct cm_span curve; /* OID contents, for EC with a named curve */
};

struct cm_x509_exts {
    struct cm_span san;       /* contents of the GeneralNames SEQUENCE */
    struct cm_span aki_keyid; /* authorityKeyIdentifier's keyIdentifier */
    struct cm_span ski;
    struct cm_span ocsp_uri;       /* first id-ad-ocsp URI */
    struct cm_span ca_issuers_uri; /* first id-ad-caIssuers URI with http or https */
    struct cm_span crl_dp;         /* value of cRLDistributionPoints, not looked into */
    bool has_san, has_aki, has_ski, has_basic, has_usage, has_eku, has_aia, has_features;
    bool has_crl_dp;
    bool is_ca;
    bool has_pathlen;
    unsigned pathlen;
    bool may_sign_certs; /* keyUsage; true without the extension */
    bool may_sign_crls;  /* likewise */
    bool eku_server;     /* serverAuth or anyExtendedKeyUsage listed */
    bool eku_ocsp;       /* OCSPSigning listed; anyExtendedKeyUsage is not enough */
    bool must_staple;
};

struct cm_x509 {
    struct cm_span whole;
    struct cm_span tbs;     /* what the signature covers, with header */
    struct cm_span sig_oid; /* OID contents of the signature algorithm */
    struct cm_span signature;
    struct cm_span serial; /* INTEGER contents, with sign byte */
    struct cm_span issuer; /* Name, with header */
    struct cm_span subject;
    int64_t not_before_s;
    int64_t not_after_s;
    struct cm_spki spki;
    struct cm_x509_exts ext;
    struct cm_span ext_list; /* of a request: Extension elements one after the other */
};

/* Errors: CM_E_PARSE with the field that is malformed, CM_E_LIMIT over CM_CERT_DER_MAX. */
CM_MUST_CHECK cm_status cm_x509_parse(struct cm_span der, struct cm_x509 *ret, struct cm_err *err);

/* A PKCS#10 request in the same form: issuer, serial and dates stay empty. */
CM_MUST_CHECK cm_status cm_x509_parse_csr(struct cm_span der, struct cm_x509 *ret,
                                          struct cm_err *err);

/* Note in @ret what an extension says. False: it is one of those that matter, and malformed. */
bool cm_x509_ext_look(struct cm_span oid, struct cm_span value, struct cm_x509_exts *ret);

/* One GeneralName as the text of a normalized name; false for kinds and values that no TLS client
 * matches a host against. */
bool cm_san_text(uint8_t tag, struct cm_span content, char ret[CM_NAME_BUF]);
/* How many names of any kind (counting stops past CM_CERT_SANS_MAX), and how many bytes
 * cm_san_text() can give for all of them together, NULs included. False = malformed. */
bool cm_san_measure(struct cm_span san, size_t *ret_n, size_t *ret_text_bytes);

/* CN (the last one), else with @or_org the O, of a Name; escaped; "" if none. */
void cm_dn_text(struct cm_span name, bool or_org, char *out, size_t out_size);

/* Is it signed by an algorithm that the next one can check? */
bool cm_x509_sig_is_known(const struct cm_x509 *cert);
/* Is @child's signature made by the key @spki? CM_E_CERT if not, or by an algorithm that is not
 * accepted (SHA-1, MD5, unknown). @what names the object in the error. */
CM_MUST_CHECK cm_status cm_x509_verify_sig(const struct cm_x509 *child, const struct cm_spki *spki,
                                           const char *what, struct cm_err *err);

/* ---- making one ---- */

struct cm_x509_new {
    struct cm_span serial;  /* magnitude */
    struct cm_span issuer;  /* Name, with header */
    struct cm_span subject; /* Name, with header */
    int64_t not_before_s;
    int64_t not_after_s;
    struct cm_span spki; /* with header */
    struct cm_span exts; /* Extension elements one after the other */
};
/* Append to @out the certificate signed by @signer. */
CM_MUST_CHECK cm_status cm_x509_sign(const struct cm_x509_new *t, const struct cm_key *signer,
                                     struct cm_buf *out, struct cm_err *err);
/* Append SEQUENCE { @tbs, algorithm, signature by @signer }: the frame of certificates and CSRs. */
CM_MUST_CHECK cm_status cm_x509_frame(struct cm_span tbs, const struct cm_key *signer,
                                      struct cm_buf *out, struct cm_err *err);

/* Writers of single extensions, with their frame. */
void cm_ext_put(struct cm_derw *w, struct cm_span oid, bool critical, struct cm_span value);
void cm_ext_basic(struct cm_derw *w, bool is_ca, int pathlen /* < 0: none */);
void cm_ext_key_usage(struct cm_derw *w, uint8_t bits); /* first byte, from the left */
void cm_ext_server_auth(struct cm_derw *w);
void cm_ext_ski(struct cm_derw *w, struct cm_span keyid);
void cm_ext_aki(struct cm_derw *w, struct cm_span keyid);
void cm_ext_must_staple(struct cm_derw *w);
/* subjectAltName of normalized names, by type. Errors: CM_E_INVAL naming the name. */
CM_MUST_CHECK cm_status cm_ext_san(struct cm_derw *w, const char *const *names, size_t n,
                                   bool critical, struct cm_err *err);
#define CM_KU_DIGITAL_SIGNATURE 0x80u
#define CM_KU_KEY_CERT_SIGN     0x04u
#define CM_KU_CRL_SIGN          0x02u

/* Name of one CN (UTF8String); NULL or "" gives the empty Name. */
void cm_dn_put(struct cm_derw *w, const char *cn);

/* SHA-256 of the key bits cut to 160 bits (RFC 7093 2, method 1). */
#define CM_KEYID_LEN 20
void cm_spki_keyid(const struct cm_spki *spki, uint8_t ret[CM_KEYID_LEN]);
CM_MUST_CHECK cm_status cm_spki_parse(struct cm_span whole, struct cm_spki *ret);

#define CM_RSA_EXPONENT_LEN_MAX 8 /* bytes; all in use have 1 or 3 */
/* RSA of 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519? */
bool cm_spki_is_sound(const struct cm_spki *spki);
#define CM_RSA_BITS_SOUND 2048u
#define CM_RSA_BITS_MAX   8192u

#define CM_SERIAL_LEN 16
/* Positive, 126 random bits. */
CM_MUST_CHECK cm_status cm_random_serial(uint8_t ret[CM_SERIAL_LEN], struct cm_err *err);

/* ---- OID contents ---- */
extern const uint8_t cm_oid_rsa[9];
extern const uint8_t cm_oid_ec[7];
extern const uint8_t cm_oid_p256[8];
extern const uint8_t cm_oid_p384[5];
extern const uint8_t cm_oid_p521[5];
extern const uint8_t cm_oid_ed25519[3];
extern const uint8_t cm_oid_ext_request[9];

#endif
