/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_CORE_ONDEMAND_KIT_H
#define CM_TESTS_UNIT_CORE_ONDEMAND_KIT_H

/* A program that decides about names, and clients that ask for them. */

#include "kit.h"

/* Decides at once, keeps the question, or lets it drop. */
enum manner { YES, NO, KEEP, DROP };
struct judge {
    _Atomic int manner;
    _Atomic int last; /* phase that was asked about */
    _Atomic unsigned asked, renewals;
    struct cm_decision *kept[64];
    _Atomic unsigned n_kept;
    char name[256], client[64];
};
extern struct judge judge;
extern struct kit k;
extern struct cm_err err;
extern struct cm_ondemand_options od; /* of k, to be changed before it starts */

void decide(void *user, const struct cm_ondemand_ask *ask, struct cm_decision *d);
void set_up(enum manner manner);
/* CM_E_AGAIN with *@ret, or the end. */
cm_status hello_from(const char *ip, const char *sni, struct cm_pending **ret);
/* Of a waiter, in real time; it is freed. */
cm_status outcome(struct cm_pending *p);
/* Both, for a client at 192.0.2.7. */
cm_status get(const char *sni);

#endif
