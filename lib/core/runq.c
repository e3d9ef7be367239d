/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

/* A list without bound before a pool with one: jobs are embedded in what they are about, so noting
 * a hundred thousand names costs no memory here, and nothing is refused because many wait. */

struct cm_runq {
    pthread_mutex_t lock;
    struct cm_run *first;
    struct cm_run *last;
    size_t n;        /* jobs in the list */
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
    q->workers = workers;
    *ret = q;
    return CM_OK;
}

static void put_last_locked(struct cm_runq *q, struct cm_run *r)
{
    r->next = NULL;
    r->prev = q->last;
    *(q->last != NULL ? &q->last->next : &q->first) = r;
    q->last = r;
    r->hurried = false;
    r->queued = true;
    q->n++;
}

static void put_first_locked(struct cm_runq *q, struct cm_run *r)
{
    r->prev = NULL;
    r->next = q->first;
    *(q->first != NULL ? &q->first->prev : &q->last) = r;
    q->first = r;
    r->hurried = true;
    r->queued = true;
    q->n++;
}

static void take_out_locked(struct cm_runq *q, struct cm_run *r)
{
    *(r->prev != NULL ? &r->prev->next : &q->first) = r->next;
    *(r->next != NULL ? &r->next->prev : &q->last) = r->prev;
    r->queued = false;
    q->n--;
}

size_t cm_runq_length(struct cm_runq *q)
{
    size_t n;

    cm_mutex_lock(&q->lock);
    n = q->n;
    cm_mutex_unlock(&q->lock);
    return n;
}

static void drain(void *arg)
{
    struct cm_runq *q = arg;

    cm_mutex_lock(&q->lock);
    while (q->first != NULL) {
        struct cm_run *r = q->first;

        take_out_locked(q, r);
        cm_mutex_unlock(&q->lock);
        r->run(r);
        cm_mutex_lock(&q->lock);
    }
    q->active--;
    cm_mutex_unlock(&q->lock);
}

/* Have one more worker for what has just been put in. When no thread is to be had, the workers that
 * run will get to it; without any it is refused. */
static cm_status call_worker_locked(struct cm_runq *q, struct cm_err *err)
{
    if (q->active == q->workers)
        return CM_OK;
    cm_status rc = cm_pool_submit(q->pool, drain, q, err);
    if (rc == CM_OK)
        q->active++;
    return q->active > 0 ? CM_OK : rc;
}

static cm_status push(struct cm_runq *q, struct cm_run *r, bool first, struct cm_err *err)
{
    cm_status rc = CM_OK;

    cm_mutex_lock(&q->lock);
    if (q->stopped) {
        rc = cm_fail(err, CM_E_CANCELED, "the configuration is being freed");
    } else {
        (first ? put_first_locked : put_last_locked)(q, r);
        rc = call_worker_locked(q, err);
        if (rc != CM_OK)
            take_out_locked(q, r);
    }
    cm_mutex_unlock(&q->lock);
    return rc;
}

cm_status cm_runq_push(struct cm_runq *q, struct cm_run *r, struct cm_err *err)
{
    return push(q, r, false, err);
}

cm_status cm_runq_push_all(struct cm_runq *q, struct cm_run **chain, struct cm_err *err)
{
    cm_status rc = CM_OK;

    cm_mutex_lock(&q->lock);
    if (q->stopped)
        rc = cm_fail(err, CM_E_CANCELED, "the configuration is being freed");
    else if (*chain != NULL)
        rc = call_worker_locked(q, err);
    while (rc == CM_OK && *chain != NULL) {
        struct cm_run *r = *chain;

        *chain = r->next;
        put_last_locked(q, r);
        if (q->active < q->workers)
            (void)!call_worker_locked(q, NULL);
    }
    cm_mutex_unlock(&q->lock);
    return rc;
}

cm_status cm_runq_push_first(struct cm_runq *q, struct cm_run *r, struct cm_err *err)
{
    return push(q, r, true, err);
}

void cm_runq_hurry(struct cm_runq *q, struct cm_run *r)
{
    cm_mutex_lock(&q->lock);
    if (r->queued && q->first != r) {
        take_out_locked(q, r);
        put_first_locked(q, r);
    }
    if (r->queued)
        r->hurried = true;
    cm_mutex_unlock(&q->lock);
}

size_t cm_runq_take(struct cm_runq *q, bool (*wanted)(const struct cm_run *r, const void *user),
                    const void *user, size_t least, size_t max, struct cm_run **ret)
{
    size_t n = 0;

    cm_mutex_lock(&q->lock);
    size_t part = q->n / q->workers;
    if (part < least)
        part = least;
    while (n < max && n < part && q->first != NULL && wanted(q->first, user)) {
        ret[n++] = q->first;
        take_out_locked(q, q->first);
    }
    cm_mutex_unlock(&q->lock);
    return n;
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
