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
    struct cm_pool *pool;
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

/* Take @r out again; false if a worker was quicker. */
static bool withdraw_locked(struct cm_runq *q, const struct cm_run *r)
{
    for (struct cm_run **at = &q->first; *at != NULL; at = &(*at)->next) {
        if (*at != r)
            continue;
        *at = r->next;
        if (r->next == NULL)
            q->last = at;
        return true;
    }
    return false;
}

cm_status cm_runq_push(struct cm_runq *q, struct cm_run *r, struct cm_err *err)
{
    bool start;
    cm_status rc = CM_OK;

    cm_mutex_lock(&q->lock);
    r->next = NULL;
    *q->last = r;
    q->last = &r->next;
    start = q->active < q->workers;
    if (start)
        q->active++;
    cm_mutex_unlock(&q->lock);
    if (!start)
        return CM_OK;

    rc = cm_pool_submit(q->pool, drain, q, err);
    if (rc == CM_OK)
        return CM_OK;
    /* No thread to be had: the workers that run will get to it. Without any, it is refused. */
    cm_mutex_lock(&q->lock);
    q->active--;
    if (q->active > 0 || !withdraw_locked(q, r))
        rc = CM_OK;
    cm_mutex_unlock(&q->lock);
    return rc;
}

void cm_runq_stop(struct cm_runq *q)
{
    if (q == NULL)
        return;
    cm_pool_stop(q->pool);
    CM_ASSERT(q->first == NULL);
    (void)pthread_mutex_destroy(&q->lock);
    free(q);
}
