/* SPDX-License-Identifier: Apache-2.0 */
#include "hot.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The thread that looks at files which somebody else replaces. It sleeps until something happens
 * in one of their directories, lets it settle (who copies two files is not done with the first),
 * and looks at all pairs. Now and then it looks all the same: remote file systems tell nothing of
 * what others do, and nor does a directory that became another further up. */

#define SETTLE_NS     (200 * CM_NS_PER_MS)
#define SETTLE_MAX_NS (2 * CM_NS_PER_S) /* a directory that never rests */
#define BLIND_NS      (10 * CM_NS_PER_S)
#define ANYWAY_NS     (60 * CM_NS_PER_S)
#define PAIRS_MAX     10000u

struct cm_hotfiles {
    pthread_mutex_t lock;      /* guards what follows; a leaf */
    struct cm_hot_pair *fresh; /* not yet the thread's */
    size_t n;
    bool running;
    bool stopped;
    pthread_t thread;
    int wake; /* eventfd; -1 before the first pair */

    /* the thread's alone */
    struct cm_cache *cache;
    struct cm_hot_pair *pairs;
    int watch; /* inotify, -1 = none to be had */
    bool blind;
    bool blindness_said;
};

cm_status cm_hotfiles_new(struct cm_hotfiles **ret, struct cm_err *err)
{
    struct cm_hotfiles *h = cm_calloc(1, sizeof *h);

    if (h == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&h->lock);
    h->wake = -1;
    h->watch = -1;
    *ret = h;
    return CM_OK;
}

/* ---- the thread ---- */

static int64_t wall_s(void)
{
    return cm_env_wall_s(cm_env_system()); /* files and their dates are of this world */
}

static int64_t mono_ns(void)
{
    const struct cm_env *env = cm_env_system();

    return env->mono_ns(env);
}

static bool is_stopped(struct cm_hotfiles *h)
{
    bool r;

    cm_mutex_lock(&h->lock);
    r = h->stopped;
    cm_mutex_unlock(&h->lock);
    return r;
}

static void take_fresh(struct cm_hotfiles *h)
{
    cm_mutex_lock(&h->lock);
    while (h->fresh != NULL) {
        struct cm_hot_pair *p = h->fresh;

        h->fresh = p->next;
        p->next = h->pairs;
        h->pairs = p;
    }
    cm_mutex_unlock(&h->lock);
}

static bool is_watched(const struct cm_hotfiles *h, int watch)
{
    for (const struct cm_hot_pair *p = h->pairs; p != NULL; p = p->next)
        for (size_t i = 0; i < CM_HOT_DIRS; i++)
            if (p->watch[i] == watch)
                return true;
    return false;
}

/* Before each look, so that what changes after it is not missed. */
static void watch_all(struct cm_hotfiles *h)
{
    int dropped[CM_HOT_DIRS];

    if (h->watch < 0)
        h->watch = cm_hot_watch_open();
    h->blind = h->watch < 0;
    for (struct cm_hot_pair *p = h->pairs; p != NULL && h->watch >= 0; p = p->next) {
        if (!cm_hot_watch_pair(h->watch, p, dropped))
            h->blind = true;
        for (size_t i = 0; i < CM_HOT_DIRS; i++)
            if (dropped[i] >= 0 && !is_watched(h, dropped[i]))
                cm_hot_watch_drop(h->watch, dropped[i]);
    }
    if (h->blind && !h->blindness_said)
        cm_cache_logf(h->cache, CM_LOG_WARN, "hot_files_blind",
                      "not all directories of certificate files can be watched (raise "
                      "fs.inotify.max_user_watches and max_user_instances?): they are looked at "
                      "every %d s",
                      (int)(BLIND_NS / CM_NS_PER_S));
    h->blindness_said = h->blind;
}

static void serve(struct cm_hotfiles *h, struct cm_hot_pair *p, struct cm_cert *cert)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_cert *entry = NULL;

    if (cm_cache_replace_own(h->cache, p->cert, cert, &entry, &err) != CM_OK) {
        p->seen = false; /* it was good: once more when one looks again */
        cm_cache_logf(h->cache, CM_LOG_ERROR, "hot_files_refused", "'%s' with '%s': %s", p->file[0],
                      p->file[1], err.msg);
        cm_cert_unref(cert);
        return;
    }
    cm_cert_unref(p->cert);
    p->cert = entry;
    cm_cache_logf(h->cache, CM_LOG_INFO, "hot_files_loaded",
                  "'%s' with '%s': a new certificate for '%s' is served (serial %s)", p->file[0],
                  p->file[1], cm_cert_name(cert, 0), cm_cert_serial(cert));
    cm_cert_unref(cert);
}

/* True if some pair was caught while it changed. */
static bool look_at_all(struct cm_hotfiles *h)
{
    bool again = false;

    for (struct cm_hot_pair *p = h->pairs; p != NULL && !is_stopped(h); p = p->next) {
        struct cm_err err = CM_ERR_INIT;
        struct cm_cert *cert = NULL;
        cm_status rc = cm_hot_pair_look(p, wall_s(), &cert, &err);

        again = again || rc == CM_E_AGAIN;
        if (rc == CM_OK && cert != NULL)
            serve(h, p, cert);
        else if (rc != CM_OK && rc != CM_E_AGAIN)
            cm_cache_logf(h->cache, CM_LOG_WARN, "hot_files_unusable",
                          "'%s' with '%s': %s; what was served before still is", p->file[0],
                          p->file[1], err.msg);
    }
    return again;
}

/* Wait for something to happen, at most @ns. */
static bool happened(struct cm_hotfiles *h, int64_t ns)
{
    struct pollfd p[2] = { { .fd = h->wake, .events = POLLIN },
                           { .fd = h->watch, .events = POLLIN } };
    uint64_t n;

    (void)poll(p, h->watch >= 0 ? 2 : 1, (int)((ns + CM_NS_PER_MS - 1) / CM_NS_PER_MS));
    bool woken = (p[0].revents & POLLIN) != 0 && read(h->wake, &n, sizeof n) > 0;
    bool moved = h->watch >= 0 && cm_hot_watch_drain(h->watch);
    return woken || moved;
}

static void settle(struct cm_hotfiles *h)
{
    int64_t end_ns = mono_ns() + SETTLE_MAX_NS;

    while (!is_stopped(h) && happened(h, SETTLE_NS) && mono_ns() < end_ns)
        continue;
}

static void *run(void *arg)
{
    struct cm_hotfiles *h = arg;
    bool again = false;

    while (!is_stopped(h)) {
        take_fresh(h);
        watch_all(h);
        again = look_at_all(h);
        if (again || happened(h, h->blind ? BLIND_NS : ANYWAY_NS))
            settle(h);
    }
    return NULL;
}

/* ---- from outside ---- */

static cm_status start_locked(struct cm_hotfiles *h, struct cm_cache *cache, struct cm_err *err)
{
    if (h->stopped)
        return cm_fail(err, CM_E_STATE, "the cache has been stopped: it watches no files any more");
    if (h->n >= PAIRS_MAX)
        return cm_fail(err, CM_E_LIMIT, "%zu pairs of files are watched already", h->n);
    if (h->running)
        return CM_OK;
    if (h->wake < 0)
        h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->wake < 0)
        return cm_fail_errno(err, "watch files");
    h->cache = cache;
    cm_status rc = cm_thread_start(&h->thread, "cm-hotfiles", run, h, err);
    h->running = rc == CM_OK;
    return rc;
}

static void wake(struct cm_hotfiles *h)
{
    const uint64_t one = 1;

    /* Cannot fail but by overflow, and then it is awake anyway. */
    (void)!write(h->wake, &one, sizeof one);
}

/* First served, then the thread's: so it finds the certificate that it may have to replace. */
static cm_status serve_first(struct cm_cache *cache, struct cm_hot_pair *p, struct cm_err *err)
{
    struct cm_cert *cert = NULL;

    cm_status rc = cm_hot_pair_look(p, wall_s(), &cert, err);
    if (rc == CM_OK)
        rc = cm_cache_replace_own(cache, NULL, cert, &p->cert, err);
    cm_cert_unref(cert);
    return rc;
}

cm_status cm_cache_watch_files(struct cm_cache *cache, const char *chain_file, const char *key_file,
                               const char *const *tags, struct cm_err *err)
{
    struct cm_hotfiles *h;
    struct cm_hot_pair *p = NULL;

    if (cache == NULL || chain_file == NULL || key_file == NULL)
        return cm_fail(err, CM_E_INVAL, "no cache, or no files to watch");
    h = cm_cache_hotfiles(cache);
    cm_status rc = cm_hot_pair_new(chain_file, key_file, tags, &p, err);
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&h->lock);
    rc = start_locked(h, cache, err);
    if (rc == CM_OK)
        h->n++;
    cm_mutex_unlock(&h->lock);
    if (rc == CM_OK) {
        rc = serve_first(cache, p, err);
        cm_mutex_lock(&h->lock);
        if (rc == CM_OK) {
            p->next = h->fresh;
            h->fresh = p;
            wake(h);
        } else {
            h->n--;
        }
        cm_mutex_unlock(&h->lock);
    }
    if (rc == CM_OK)
        return rc;
    cm_hot_pair_free(p);
    return cm_wrap(err, rc, "'%s' with '%s'", chain_file, key_file);
}

static void stop(struct cm_hotfiles *h)
{
    bool join;

    if (h == NULL)
        return;
    cm_mutex_lock(&h->lock);
    h->stopped = true;
    join = h->running;
    h->running = false;
    cm_mutex_unlock(&h->lock);
    if (join) {
        wake(h);
        (void)pthread_join(h->thread, NULL);
    }
}

void cm_hotfiles_stop(struct cm_cache *cache)
{
    stop(cm_cache_hotfiles(cache));
}

static void free_pairs(struct cm_hot_pair *p)
{
    while (p != NULL) {
        struct cm_hot_pair *next = p->next;

        cm_hot_pair_free(p);
        p = next;
    }
}

void cm_hotfiles_free(struct cm_hotfiles *h)
{
    if (h == NULL)
        return;
    stop(h);
    free_pairs(h->pairs);
    free_pairs(h->fresh);
    if (h->watch >= 0)
        (void)close(h->watch);
    if (h->wake >= 0)
        (void)close(h->wake);
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
}
