/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* One issuance per name in this process: the first to come leads, the others wait and share its
 * outcome. The lease does the same between processes, but waiting there means asking storage. */

struct flight {
    struct flight *next;
    size_t refs;
    bool over;
    cm_status rc;
    struct cm_err err;
    char name[];
};

struct cm_flights {
    pthread_mutex_t lock;
    pthread_cond_t landed;
    struct flight *first;
};

cm_status cm_flights_new(struct cm_flights **ret, struct cm_err *err)
{
    struct cm_flights *f = cm_calloc(1, sizeof *f);

    if (f == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&f->lock);
    cm_cond_init(&f->landed);
    *ret = f;
    return CM_OK;
}

void cm_flights_free(struct cm_flights *f)
{
    if (f == NULL)
        return;
    CM_ASSERT(f->first == NULL);
    (void)pthread_cond_destroy(&f->landed);
    (void)pthread_mutex_destroy(&f->lock);
    free(f);
}

static void unref_locked(struct flight *fl)
{
    if (--fl->refs == 0)
        free(fl);
}

static struct flight *find_locked(struct cm_flights *f, const char *name)
{
    struct flight *fl = f->first;

    while (fl != NULL && strcmp(fl->name, name) != 0)
        fl = fl->next;
    return fl;
}

static struct flight *begin_locked(struct cm_flights *f, const char *name)
{
    size_t len = strlen(name) + 1;
    struct flight *fl = cm_calloc(1, sizeof *fl + len);

    if (fl == NULL)
        return NULL;
    memcpy(fl->name, name, len);
    fl->refs = 1;
    fl->next = f->first;
    f->first = fl;
    return fl;
}

cm_status cm_flight_enter(struct cm_flights *f, const struct cm_op *op, const char *name,
                          bool *ret_lead, struct cm_err *err)
{
    cm_status rc = CM_OK;

    cm_mutex_lock(&f->lock);
    struct flight *fl = find_locked(f, name);
    *ret_lead = fl == NULL;
    if (fl == NULL) {
        fl = begin_locked(f, name);
        cm_mutex_unlock(&f->lock);
        return fl != NULL ? CM_OK : cm_fail_nomem(err);
    }
    fl->refs++;
    while (!fl->over && rc == CM_OK) {
        (void)cm_cond_wait_ns(&f->landed, &f->lock, CM_WAIT_SLICE_NS);
        rc = cm_op_check(op, err);
    }
    if (fl->over) {
        rc = fl->rc;
        if (rc != CM_OK && err != NULL)
            *err = fl->err;
    }
    unref_locked(fl);
    cm_mutex_unlock(&f->lock);
    return rc;
}

void cm_flight_leave(struct cm_flights *f, const char *name, cm_status rc, const struct cm_err *err)
{
    cm_mutex_lock(&f->lock);
    struct flight **at = &f->first;
    while (strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    struct flight *fl = *at;
    *at = fl->next;
    fl->over = true;
    fl->rc = rc;
    if (rc != CM_OK)
        fl->err = *err;
    (void)pthread_cond_broadcast(&f->landed);
    unref_locked(fl);
    cm_mutex_unlock(&f->lock);
}
