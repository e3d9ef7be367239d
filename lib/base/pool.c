/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

struct task {
    cm_task_fn fn;
    void *arg;
};

/* A ring that holds as many tasks as may be accepted at once: queued ones and those a worker is
 * about to take. So submit() allocates nothing, and whether it says CM_E_BUSY does not depend on
 * how fast the workers wake up. */
struct cm_pool {
    pthread_mutex_t lock;
    pthread_cond_t work; /* a task came, or stopping */
    struct task *ring;
    size_t ring_size; /* threads_max + queue_max */
    size_t first;
    size_t queued;
    size_t running;
    bool stopping;
    size_t threads_max;
    size_t n_threads;
    pthread_t threads[];
};

static void *worker_main(void *arg)
{
    struct cm_pool *p = arg;

    cm_mutex_lock(&p->lock);
    for (;;) {
        struct task t;

        while (p->queued == 0 && !p->stopping)
            CM_ASSERT(pthread_cond_wait(&p->work, &p->lock) == 0);
        if (p->queued == 0)
            break;
        t = p->ring[p->first];
        p->first = (p->first + 1) % p->ring_size;
        p->queued--;
        p->running++;
        cm_mutex_unlock(&p->lock);
        t.fn(t.arg);
        cm_mutex_lock(&p->lock);
        p->running--;
    }
    cm_mutex_unlock(&p->lock);
    return NULL;
}

/* Needs p->lock. */
static cm_status start_worker_locked(struct cm_pool *p, struct cm_err *err)
{
    cm_status rc = cm_thread_start(&p->threads[p->n_threads], "cm-worker", worker_main, p, err);

    if (rc == CM_OK)
        p->n_threads++;
    return rc;
}

cm_status cm_pool_new(unsigned threads, size_t queue_max, struct cm_pool **ret, struct cm_err *err)
{
    struct cm_pool *p;
    size_t ring_size;

    if (threads == 0 || threads > 1024)
        return cm_fail(err, CM_E_INVAL, "a pool of %u threads; 1 to 1024 are possible", threads);
    if (__builtin_add_overflow(queue_max, (size_t)threads, &ring_size))
        return cm_fail(err, CM_E_INVAL, "a queue of %zu tasks", queue_max);
    p = cm_calloc(1, sizeof *p + threads * sizeof p->threads[0]);
    if (p == NULL)
        return cm_fail_nomem(err);
    p->ring = cm_calloc(ring_size, sizeof p->ring[0]);
    if (p->ring == NULL) {
        free(p);
        return cm_fail_nomem(err);
    }
    p->ring_size = ring_size;
    p->threads_max = threads;
    cm_mutex_init(&p->lock);
    cm_cond_init(&p->work);
    *ret = p;
    return CM_OK;
}

cm_status cm_pool_submit(struct cm_pool *p, cm_task_fn fn, void *arg, struct cm_err *err)
{
    struct cm_err why =
        CM_ERR_INIT; /* a worker that cannot be started matters if it is the first */
    cm_status rc = CM_OK;

    cm_mutex_lock(&p->lock);
    if (p->stopping)
        rc = CM_E_STATE;
    else if (p->queued + p->running >= p->ring_size)
        rc = CM_E_BUSY;
    else if (p->queued + p->running >= p->n_threads && p->n_threads < p->threads_max)
        (void)!start_worker_locked(p, &why);
    if (p->n_threads == 0 && rc == CM_OK)
        rc = CM_E_NOMEM; /* with at least one worker the task only waits longer */
    if (rc == CM_OK) {
        struct task *t = &p->ring[(p->first + p->queued) % p->ring_size];

        t->fn = fn;
        t->arg = arg;
        p->queued++;
        (void)pthread_cond_signal(&p->work);
    }
    cm_mutex_unlock(&p->lock);

    if (rc == CM_E_STATE)
        return cm_fail(err, rc, "the worker pool is stopping");
    if (rc == CM_E_BUSY)
        return cm_fail(err, rc, "%zu tasks are running or waiting already", p->ring_size);
    if (rc != CM_OK)
        return cm_fail(err, rc, "no thread for the worker pool: %s", why.msg);
    return CM_OK;
}

void cm_pool_stop(struct cm_pool *p)
{
    if (p == NULL)
        return;
    cm_mutex_lock(&p->lock);
    p->stopping = true;
    for (size_t i = 0; i < p->n_threads; i++)
        CM_ASSERT(!pthread_equal(p->threads[i], pthread_self()));
    (void)pthread_cond_broadcast(&p->work);
    cm_mutex_unlock(&p->lock);
    /* No thread is added any more: n_threads stands still. */
    for (size_t i = 0; i < p->n_threads; i++)
        CM_ASSERT(pthread_join(p->threads[i], NULL) == 0);
    (void)pthread_cond_destroy(&p->work);
    (void)pthread_mutex_destroy(&p->lock);
    free(p->ring);
    free(p);
}
