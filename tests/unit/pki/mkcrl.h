/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_PKI_MKCRL_H
#define CM_TESTS_UNIT_PKI_MKCRL_H

/* A CA that revokes: certificates with a distribution point, and lists, right ones and wrong ones.
 * (GnuTLS makes lists, too, but none of the wrong ones.) */

#include "crl.h"
#include "pki.h"

struct mk_ca {
    struct cm_key *key;
    struct cm_buf der;
};
/* @usage: key usage bits of x509.h, 0 = no extension. */
void mk_ca_make(struct mk_ca *ca, const char *cn, int64_t now_s, unsigned usage);
void mk_ca_free(struct mk_ca *ca);

struct mk_leaf {
    uint64_t serial;
    const char *name;
    const char *crl_url;   /* NULL = no distribution point */
    const char *ocsp_url;  /* NULL = no responder */
    struct cm_span crl_dp; /* value of the extension, instead of @crl_url */
    int64_t from_s;
    int64_t lifetime_s;
};
void mk_leaf(const struct mk_ca *ca, const struct mk_leaf *leaf, struct cm_buf *ret_der,
             struct cm_key **ret_key);

struct mk_crl_entry {
    uint64_t serial;
    int reason; /* < 0: not told */
    int64_t at_s;
};
struct mk_crl {
    const struct mk_crl_entry *entries;
    size_t n;
    size_t n_counted; /* and so many more: serial numbers 2, 4, ... of 8 bytes, downwards with
                         @shuffled */
    bool shuffled;
    int64_t this_s;
    int64_t next_s; /* 0 = not told */
    bool version1;
    const char *idp_url; /* NULL = no place told */
    bool idp_relative;   /* a place that is no URL */
    bool user_only, ca_only, indirect, attribute_only;
    bool delta;
    bool unknown, unknown_critical; /* extension of the list */
    bool entry_critical;            /* of the last entry */
    bool other_algorithm;           /* told inside than outside */
};
void mk_crl(const struct mk_ca *ca, const struct mk_crl *spec, struct cm_buf *ret_der);
/* Contents of the INTEGER. */
struct cm_span mk_serial(uint64_t serial, uint8_t room[9]);

#endif
