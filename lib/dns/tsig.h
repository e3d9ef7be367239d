/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_DNS_TSIG_H
#define CM_DNS_TSIG_H

/* A TSIG key from within: key.c reads it, tsig.c signs with it. */

#include "wire.h"

#include "pki.h"

struct dns_key {
    char name[DNS_NAME_BUF];
    enum cm_hmac alg;
    const char *alg_name; /* also the name that stands in messages */
    struct cm_buf secret;
};

#endif
