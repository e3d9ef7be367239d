/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_holder.h"

#include <stdio.h>

struct dns_holder {
    struct dns_holders *home;
    struct cm_lease *lease;
    unsigned slot;
    unsigned users; /* guarded by home->lock */
};

struct dns_holders {
    pthread_mutex_t lock; /* never held over I/O */
    pthread_cond_t changed;
    bool busy; /* somebody is taking a lock */
    struct dns_holder *present;
};

#define WAIT_NS (100 * CM_NS_PER_MS)

cm_status dns_holders_new(struct dns_holders **ret, struct cm_err *err)
{
    struct dns_holders *h = cm_calloc(1, sizeof *h);

    if (h == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&h->lock);
    cm_cond_init(&h->changed);
    *ret = h;
    return CM_OK;
}

void dns_holders_free(struct dns_holders *h)
{
    if (h == NULL)
        return;
    CM_ASSERT(h->present == NULL && !h->busy);
    (void)pthread_mutex_destroy(&h->lock);
    (void)pthread_cond_destroy(&h->changed);
    free(h);
}

cm_status dns_holder_try(struct cm_storage *st, const struct cm_op *op, unsigned slot,
                         const struct cm_log *log, struct cm_lease **ret, struct cm_err *err)
{
    struct cm_lease_options o = CM_LEASE_OPTIONS_INIT;
    char name[32];

    o.try_only = true;
    o.log = *log;
    (void)snprintf(name, sizeof name, "dns_%u", slot);
    return cm_lease_acquire(st, op, name, &o, ret, err);
}

static cm_status take_slot(struct dns_holder *one, struct cm_storage *st, const struct cm_op *op,
                           const struct cm_log *log, struct cm_err *err)
{
    cm_status rc = CM_E_BUSY;

    for (one->slot = 0; one->slot < DNS_SLOTS && rc == CM_E_BUSY; one->slot++) {
        rc = cm_op_check(op, err);
        if (rc == CM_OK)
            rc = dns_holder_try(st, op, one->slot, log, &one->lease, err);
        if (rc == CM_OK)
            break;
    }
    return rc;
}

/* Under the lock: the present holder with one more user, NULL if there is none, or it was lost. */
static struct dns_holder *join(struct dns_holders *h)
{
    struct dns_holder *one = h->present;

    if (one == NULL || cm_lease_check(one->lease, NULL) != CM_OK)
        return NULL;
    one->users++;
    return one;
}

static cm_status await_turn(struct dns_holders *h, const struct cm_op *op, struct dns_holder **ret,
                            struct cm_err *err)
{
    cm_status rc = CM_OK;

    cm_mutex_lock(&h->lock);
    while (rc == CM_OK && (*ret = join(h)) == NULL && h->busy) {
        (void)cm_cond_wait_ns(&h->changed, &h->lock, WAIT_NS);
        rc = cm_op_check(op, err);
    }
    if (rc == CM_OK && *ret == NULL)
        h->busy = true;
    cm_mutex_unlock(&h->lock);
    return rc;
}

cm_status dns_holder_get(struct dns_holders *h, struct cm_storage *st, const struct cm_op *op,
                         const struct cm_log *log, struct dns_holder **ret, struct cm_err *err)
{
    struct dns_holder *one = NULL;
    cm_status rc = await_turn(h, op, &one, err);

    if (rc != CM_OK)
        return rc;
    if (one != NULL) {
        *ret = one;
        return CM_OK;
    }
    one = cm_calloc(1, sizeof *one);
    rc = one == NULL ? cm_fail_nomem(err) : take_slot(one, st, op, log, err);
    cm_mutex_lock(&h->lock);
    h->busy = false;
    if (rc == CM_OK) {
        one->home = h;
        one->users = 1;
        h->present = one;
    }
    (void)pthread_cond_broadcast(&h->changed);
    cm_mutex_unlock(&h->lock);
    if (rc != CM_OK) {
        free(one);
        return cm_wrap(err, rc, "take a lock for DNS records");
    }
    *ret = one;
    return CM_OK;
}

void dns_holder_put(struct dns_holder *one)
{
    if (one == NULL)
        return;
    struct dns_holders *h = one->home;
    cm_mutex_lock(&h->lock);
    bool last = --one->users == 0;
    if (last && h->present == one)
        h->present = NULL;
    cm_mutex_unlock(&h->lock);
    if (!last)
        return;
    cm_lease_release(one->lease);
    free(one);
}

unsigned dns_holder_slot(const struct dns_holder *one)
{
    return one->slot;
}

uint64_t dns_holder_fence(const struct dns_holder *one)
{
    return cm_lease_fence(one->lease);
}
