/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand_kit.h"

#include <stdio.h>

struct judge judge;
struct kit k;
struct cm_err err;
struct cm_ondemand_options od;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- a program that decides ---- */

void decide(void *user, const struct cm_ondemand_ask *ask, struct cm_decision *d)
{
    ck_assert_ptr_eq(user, &judge);
    ck_assert_uint_eq(ask->size, sizeof *ask);
    cm_mutex_lock(&lock); /* it is called on several threads */
    (void)snprintf(judge.name, sizeof judge.name, "%s", ask->name);
    (void)snprintf(judge.client, sizeof judge.client, "%s", ask->client_ip);
    atomic_store(&judge.last, (int)ask->phase);
    if (ask->phase == CM_ONDEMAND_RENEW)
        atomic_fetch_add(&judge.renewals, 1);
    int manner = atomic_load(&judge.manner);
    if (manner == KEEP) {
        judge.kept[atomic_load(&judge.n_kept)] = d;
        atomic_fetch_add(&judge.n_kept, 1);
    }
    atomic_fetch_add(&judge.asked, 1);
    cm_mutex_unlock(&lock);
    if (manner == YES || manner == NO)
        cm_decision_answer(d, manner == YES, manner == YES ? NULL : "not a customer\n");
    else if (manner == DROP)
        cm_decision_answer(d, false, NULL);
}

void set_up(enum manner manner)
{
    memset(&judge, 0, sizeof judge);
    atomic_store(&judge.manner, manner);
    kit_init(&k);
    od = (struct cm_ondemand_options)CM_ONDEMAND_OPTIONS_INIT;
    od.decide = decide;
    od.decide_user = &judge;
    k.opts.on_demand = &od;
}

/* ---- clients ---- */

cm_status hello_from(const char *ip, const char *sni, struct cm_pending **ret)
{
    struct cm_cert *c = NULL;
    struct cm_hello h;

    kit_hello(&h, sni);
    (void)snprintf(h.peer_ip, sizeof h.peer_ip, "%s", ip);
    *ret = NULL;
    cm_status rc = cm_get_certificate(k.cfg, &h, &c, ret, &err);
    if (rc == CM_OK)
        ck_assert(cm_cert_covers(c, sni));
    cm_cert_unref(c);
    return rc;
}

/* To the end, in real time. */
cm_status outcome(struct cm_pending *p)
{
    struct cm_cert *c = NULL;

    cm_status rc = cm_pending_wait(p, NULL, &c, &err);
    cm_cert_unref(c);
    cm_pending_free(p);
    return rc;
}

cm_status get(const char *sni)
{
    struct cm_pending *p;

    cm_status rc = hello_from("192.0.2.7", sni, &p);
    return rc == CM_E_AGAIN ? outcome(p) : rc;
}
