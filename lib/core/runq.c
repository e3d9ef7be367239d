/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

/* A list without bound before a pool with one: jobs are embedded in what they are about, so noting
 * a hundred thousand names costs no memory here, and nothing is refused because many wait. */

struct cm_runq {
    pthread_mutex_t lock;
    struct cm_run *first;
    struct cm_run **last;
    unsigned active; /* drainers submitted to the pool */
    unsigned workers;
    bool stopped;
    struct cm_pool *pool; /* its own lock is taken while ours is held, never the other way */
};

cm_status cm_runq_new(unsigned workers, struct cm_runq **ret, struct cm_err *err)
{
    struct cm_runq *q = cm_calloc(1, sizeof *q);

    if (q == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_pool_new(workers, workers, &q->pool, err);
    if (rc != CM_OK) {
        free(q);
        return rc;
    }
    cm_mutex_init(&q->lock);
    q->last = &q->first;
    q->workers = workers;
    *ret = q;
    return CM_OK;
}

static void drain(void *arg)
{
    struct cm_runq *q = arg;

    cm_mutex_lock(&q->lock);
    while (q->first != NULL) {
        struct cm_run *r = q->first;

        q->first = r->next;
        if (q->first == NULL)
            q->last = &q->first;
        cm_mutex_unlock(&q->lock);
        r->run(r);
        cm_mutex_lock(&q->lock);
    }
    q->active--;
    cm_mutex_unlock(&q->lock);
}

/* Take out what was put in last. */
static void withdraw_locked(struct cm_runq *q, const struct cm_run *r)
{
    struct cm_run **at = &q->first;

    while (*at != r)
        at = &(*at)->next;
    *at = NULL;
    q->last = at;
}

cm_status cm_runq_push(struct cm_runq *q, struct cm_run *r, struct cm_err *err)
{
    cm_status rc = CM_OK;

    cm_mutex_lock(&q->lock);
    if (q->stopped) {
        rc = cm_fail(err, CM_E_CANCELED, "the configuration is being freed");
    } else {
        r->next = NULL;
        *q->last = r;
        q->last = &r->next;
        if (q->active < q->workers)
            rc = cm_pool_submit(q->pool, drain, q, err);
        q->active += rc == CM_OK && q->active < q->workers;
        /* No thread to be had: the workers that run will get to it. Without any it is refused. */
        if (rc != CM_OK && q->active > 0)
            rc = CM_OK;
        if (rc != CM_OK)
            withdraw_locked(q, r);
    }
    cm_mutex_unlock(&q->lock);
    return rc;
}

void cm_runq_stop(struct cm_runq *q)
{
    if (q == NULL || q->pool == NULL)
        return;
    cm_mutex_lock(&q->lock);
    q->stopped = true;
    cm_mutex_unlock(&q->lock);
    cm_pool_stop(q->pool);
    q->pool = NULL;
    CM_ASSERT(q->first == NULL);
}

void cm_runq_free(struct cm_runq *q)
{
    if (q == NULL)
        return;
    cm_runq_stop(q);
    (void)pthread_mutex_destroy(&q->lock);
    free(q);
}
