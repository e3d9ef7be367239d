/* SPDX-License-Identifier: Apache-2.0 */
#include "feed.h"

struct told {
    enum cm_change_kind kind;
    char *key;
};

struct cm_watch {
    struct cm_watch *next; /* of the feed, and guarded by its mutex */
    cm_change_fn fn;
    void *user;
    pthread_t thread;

    pthread_mutex_t mutex; /* taken inside the feed's, for what follows */
    pthread_cond_t wake;
    struct told *queue; /* a ring */
    size_t first;
    size_t n;
    bool missed;
    bool stop;
};

void feed_init(struct feed *f)
{
    cm_mutex_init(&f->mutex);
    f->first = NULL;
}

void feed_end(struct feed *f)
{
    CM_ASSERT(f->first == NULL);
    (void)pthread_mutex_destroy(&f->mutex);
}

/* ------------------------------------------------------------------ queue */

static void empty_locked(struct cm_watch *w)
{
    for (; w->n > 0; w->n--) {
        free(w->queue[w->first].key);
        w->first = (w->first + 1) % FEED_QUEUE_MAX;
    }
}

static void put(struct cm_watch *w, enum cm_change_kind kind, const char *key)
{
    char *copy = cm_strdup(key);

    cm_mutex_lock(&w->mutex);
    if (w->n == FEED_QUEUE_MAX || (key != NULL && copy == NULL) || kind == CM_CHANGE_MISSED) {
        empty_locked(w);
        w->missed = true;
        free(copy);
    } else {
        w->queue[(w->first + w->n) % FEED_QUEUE_MAX] = (struct told){ kind, copy };
        w->n++;
    }
    (void)pthread_cond_signal(&w->wake);
    cm_mutex_unlock(&w->mutex);
}

void feed_tell(struct feed *f, enum cm_change_kind kind, const char *key)
{
    cm_mutex_lock(&f->mutex);
    for (struct cm_watch *w = f->first; w != NULL; w = w->next)
        put(w, kind, key);
    cm_mutex_unlock(&f->mutex);
}

/* ----------------------------------------------------------------- thread */

static struct told take_locked(struct cm_watch *w)
{
    struct told t = { CM_CHANGE_MISSED, NULL };

    if (w->missed) {
        w->missed = false;
        return t;
    }
    t = w->queue[w->first];
    w->first = (w->first + 1) % FEED_QUEUE_MAX;
    w->n--;
    return t;
}

static void *watch_main(void *arg)
{
    struct cm_watch *w = arg;

    cm_mutex_lock(&w->mutex);
    while (!w->stop) {
        if (w->n == 0 && !w->missed) {
            (void)pthread_cond_wait(&w->wake, &w->mutex);
            continue;
        }
        struct told t = take_locked(w);
        const struct cm_change change = { (uint32_t)sizeof change, t.kind, t.key };

        cm_mutex_unlock(&w->mutex);
        w->fn(w->user, &change);
        free(t.key);
        cm_mutex_lock(&w->mutex);
    }
    cm_mutex_unlock(&w->mutex);
    return NULL;
}

static void watch_free(struct cm_watch *w)
{
    empty_locked(w);
    (void)pthread_cond_destroy(&w->wake);
    (void)pthread_mutex_destroy(&w->mutex);
    free(w->queue);
    free(w);
}

cm_status feed_watch(struct feed *f, cm_change_fn fn, void *user, struct cm_watch **ret,
                     struct cm_err *err)
{
    struct cm_watch *w = cm_calloc(1, sizeof *w);

    if (w == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&w->mutex);
    cm_cond_init(&w->wake);
    w->fn = fn;
    w->user = user;
    w->queue = cm_calloc(FEED_QUEUE_MAX, sizeof w->queue[0]);
    cm_status rc = w->queue != NULL ? cm_thread_start(&w->thread, "cm-feed", watch_main, w, err)
                                    : cm_fail_nomem(err);
    if (rc != CM_OK) {
        watch_free(w);
        return rc;
    }
    cm_mutex_lock(&f->mutex);
    w->next = f->first;
    f->first = w;
    cm_mutex_unlock(&f->mutex);
    *ret = w;
    return CM_OK;
}

void feed_unwatch(struct feed *f, struct cm_watch *w)
{
    cm_mutex_lock(&f->mutex);
    for (struct cm_watch **p = &f->first; *p != NULL; p = &(*p)->next)
        if (*p == w) {
            *p = w->next;
            break;
        }
    cm_mutex_unlock(&f->mutex);
    cm_mutex_lock(&w->mutex);
    w->stop = true;
    (void)pthread_cond_signal(&w->wake);
    cm_mutex_unlock(&w->mutex);
    (void)pthread_join(w->thread, NULL);
    watch_free(w);
}
