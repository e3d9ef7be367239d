/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_CRL_H
#define CM_PKI_CRL_H

/* Certificate revocation lists (RFC 5280 5), as far as the operator of a certificate needs them:
 * complete lists of the CA that issued it, whole or one of several shards. Read in place: a list of
 * a million entries costs no memory beside its bytes. Pure: no clock, no network. */

#include "base.h"

#define CM_CRL_MAX        (32u * 1024 * 1024) /* bytes of one list */
#define CM_CRL_URL_BUF    512
#define CM_CRL_SERIAL_MAX 24  /* bytes; no certificate with a longer serial number is accepted */
#define CM_CRL_SKEW_S     300 /* a CA's clock may be ahead of ours so much */

/* Where the list that covers the certificate is: the first http or https URL among its
 * distribution points, without those that are for some reasons only or whose list another issuer
 * signs. False if there is none that could be asked. */
bool cm_crl_url(struct cm_span leaf_der, char ret[CM_CRL_URL_BUF]);

/* Who issues the list and where: the same for all certificates of one CA that name one URL, however
 * that CA is cross-signed. CM_E_PARSE if the issuer's certificate is malformed. */
#define CM_CRL_ID_LEN 32
CM_MUST_CHECK cm_status cm_crl_id(struct cm_span issuer_der, const char *url,
                                  uint8_t ret[CM_CRL_ID_LEN], struct cm_err *err);

/* The DER of a list that comes as DER or as PEM ("X509 CRL"): in @in itself, or in @room. */
CM_MUST_CHECK cm_status cm_crl_der(struct cm_span in, struct cm_buf *room, struct cm_span *ret,
                                   struct cm_err *err);

/* A verified list; spans point into its DER. */
struct cm_crl {
    int64_t this_update_s;
    int64_t next_update_s;
    struct cm_span entries; /* for cm_crl_next() */
    size_t n_entries;
    size_t serial_max; /* bytes of the longest serial number that a certificate here can have */
};

/**
 * Is @der a list that can be believed about certificates of @issuer_der that point to @url? Version
 * 2, signed by that very key, which may sign lists; issued at most CM_CRL_SKEW_S from now and not
 * expired; not a delta, not indirect, not for CA or attribute certificates only; if it says where
 * it belongs to, then to @url; no critical extension, of the list or of any entry, that is not
 * understood here.
 * Errors: CM_E_PARSE, CM_E_LIMIT over CM_CRL_MAX, CM_E_CERT with what is wrong with it.
 */
CM_MUST_CHECK cm_status cm_crl_verify(struct cm_span der, struct cm_span issuer_der,
                                      const char *url, int64_t now_s, struct cm_crl *ret,
                                      struct cm_err *err);

struct cm_crl_entry {
    struct cm_span serial; /* INTEGER contents, with sign byte */
    int reason;            /* RFC 5280 5.3.1; 0 = unspecified */
    int64_t at_s;
};
/* The next entry of a verified list; false at the end. */
bool cm_crl_next(struct cm_span *entries, struct cm_crl_entry *ret);
/* Look for @serial entry by entry. */
bool cm_crl_find(const struct cm_crl *crl, struct cm_span serial, struct cm_crl_entry *ret);

/* ---- crl_set.c: what is kept of a list while certificates are watched ---- */

/* The entries as records of one width, sorted: one allocation, and a look-up takes some twenty
 * comparisons among a million. Immutable. */
struct cm_crl_set;
CM_MUST_CHECK cm_status cm_crl_set_new(const struct cm_crl *crl, struct cm_crl_set **ret,
                                       struct cm_err *err);
void cm_crl_set_free(struct cm_crl_set *s); /* NULL ok */
/* Memory it takes. */
size_t cm_crl_set_bytes(const struct cm_crl_set *s);
size_t cm_crl_set_count(const struct cm_crl_set *s);
bool cm_crl_set_find(const struct cm_crl_set *s, struct cm_span serial, int *ret_reason,
                     int64_t *ret_at_s);

#endif
