/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UTIL_OCSP_KIT_H
#define CM_TESTS_UTIL_OCSP_KIT_H

/* A CA with an OCSP responder in the same process: certificates that name one, and responses right
 * and wrong in every way that a test wants. Aborts when something cannot be made. */

#include "pki.h"

#define OK_DAY INT64_C(86400)

struct ok_ca {
    struct cm_key *key;
    struct cm_buf der;
};
void ok_ca_make(struct ok_ca *ca, const char *cn, int64_t now_s);
void ok_ca_free(struct ok_ca *ca);

/* What is wanted of a certificate; zero is a plain one for a server. */
struct ok_cert {
    const char *name;   /* SAN; NULL = "ocsp.test" */
    const char *cn;     /* NULL = name */
    const char *url;    /* of the responder */
    const char *issuer; /* URL of the issuer's certificate */
    uint64_t serial;    /* 0 = 0x1234 */
    int64_t from_s;
    int64_t to_s;
    bool must_staple;
    bool san_only;    /* no common name */
    bool eku_ocsp;    /* for OCSP signing, instead of servers */
    bool eku_any;     /* anyExtendedKeyUsage, instead */
    bool self_issued; /* by its own name and key */
};
/* Signed by @ca, with @key. */
void ok_cert_make(const struct ok_ca *ca, const struct ok_cert *want, const struct cm_key *key,
                  struct cm_buf *ret_der);
struct cm_key *ok_key(void);
/* PEM of a chain of leaf and CA (@ca NULL: the leaf alone). */
void ok_chain_pem(struct cm_span leaf, const struct ok_ca *ca, struct cm_buf *ret);

enum ok_wrong {
    OK_RIGHT = 0,
    OK_WRONG_SERIAL,
    OK_WRONG_NAME_HASH,
    OK_WRONG_KEY_HASH,
    OK_WRONG_HASH_OID,  /* of an algorithm that does not exist */
    OK_WRONG_HASH_LEN,  /* cut by a byte */
    OK_WRONG_SIGNATURE, /* a bit of it flipped */
    OK_WRONG_TBS,       /* a bit of what is signed flipped afterwards */
    OK_WRONG_TYPE,      /* not id-pkix-ocsp-basic */
    OK_WRONG_VERSION,
    OK_WRONG_CRITICAL,        /* a critical extension of the response */
    OK_WRONG_SINGLE_CRITICAL, /* and of the answer */
    OK_WRONG_REASON,          /* a revocation reason that does not exist */
    OK_WRONG_TIME,            /* UTCTime instead of GeneralizedTime */
    OK_WRONG_CERTS,           /* the list of certificates is no list */
    OK_WRONG_EMPTY            /* no answer at all */
};

enum ok_status { OK_GOOD = 0, OK_REVOKED, OK_UNKNOWN };

/* A response; zero times are relative to now_s: produced and updated then, next in seven days. */
struct ok_response {
    struct cm_span leaf;
    const struct ok_ca *ca; /* whose name and key the CertID has, and who signs if nobody else */
    int64_t now_s;
    enum ok_status status;
    int reason; /* < 0: none is given */
    int64_t revoked_at_s;
    int64_t produced_s, this_s, next_s;
    bool no_next;
    bool sha256;                        /* CertID */
    bool by_key;                        /* responder named by key hash */
    bool nonce;                         /* an extension that is not critical */
    size_t twice;                       /* so many more answers for the same certificate */
    size_t others_before, others_after; /* answers for other serial numbers */
    size_t padding;                     /* bytes in an extension */
    const struct cm_key *signer;        /* NULL = ca->key */
    struct cm_span signer_cert;         /* to be sent with it, and whose name the responder has */
    struct cm_span named_after;         /* the responder is called as this one, instead */
    size_t signer_copies;               /* how often; 0 = once */
    bool hide_signer;                   /* do not send it */
    enum ok_wrong wrong;
};
void ok_response_make(const struct ok_response *want, struct cm_buf *ret_der);
/* An unsuccessful response: tryLater is 3. */
void ok_refusal_make(uint8_t status, struct cm_buf *ret_der);

#endif
