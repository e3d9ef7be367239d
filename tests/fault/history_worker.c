/* SPDX-License-Identifier: Apache-2.0 */
#include "history.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One life of a worker: take a lock, read, commit a few times, give it back, and write down each
 * step before and after. It goes on after its lease has run out, on purpose, at random: what keeps
 * it from doing harm must be the storage. */

struct worker {
    const struct history_plan *plan;
    struct cm_storage *st;
    uint64_t who;
    uint64_t random;
    uint64_t next_id;
    int log;
    struct history_shared *shared;
    unsigned slot;
};

/* A lock as this worker has it: by hand, or by a lease with its heartbeat. */
struct hold {
    unsigned lock;
    uint64_t fence;
    struct cm_grant grant;
    struct cm_lease *lease;
    bool pretended; /* sabotage: not granted at all */
};

static bool one_in(struct worker *w, uint64_t n)
{
    return history_random(&w->random, n) == 0;
}

static void nap(int64_t ns)
{
    const struct cm_env *env = cm_env_system();

    (void)env->wait(env, NULL, ns);
}

static bool cheats(const struct worker *w, const char *how)
{
    return w->plan->sabotage != NULL && strcmp(w->plan->sabotage, how) == 0;
}

/* '+' '-' '!' '~' for how an operation ended. What is neither is no part of this test's faults. */
static void ended(struct worker *w, const char *op, struct history_event *e, cm_status rc,
                  const struct cm_err *err)
{
    char event[16];
    char how = rc == CM_OK ? '+' : rc == CM_E_BUSY ? '!' : rc == CM_E_LOCK_LOST ? '-' : '~';

    (void)snprintf(event, sizeof event, "%s%c", op, how);
    history_log(w->log, w->who, event, e);
    if (how == '~')
        (void)fprintf(stderr, "history: %s: %s\n", op, err->msg);
}

static bool take(struct worker *w, struct hold *h)
{
    struct history_event e = { .lock = h->lock };
    struct cm_err err = CM_ERR_INIT;
    int64_t ttl_ns = history_ttl_ns(w->plan, h->lock);
    int64_t wait_ns = 0;
    char name[32];
    cm_status rc;

    history_lock_name(h->lock, name, sizeof name);
    history_log(w->log, w->who, "lock?", &e);
    if (one_in(w, 8)) {
        struct cm_lease_options opts = CM_LEASE_OPTIONS_INIT;

        opts.ttl_ns = ttl_ns;
        opts.try_only = true;
        rc = cm_lease_acquire(w->st, NULL, name, &opts, &h->lease, &err);
        if (rc == CM_OK)
            h->fence = cm_lease_fence(h->lease);
    } else {
        rc = cm_storage_try_lock(w->st, NULL, name, ttl_ns, &h->grant, &wait_ns, &err);
        if (rc == CM_OK)
            h->fence = h->grant.fence;
    }
    e.fence = h->fence;
    e.extra = (uint64_t)(h->lease == NULL ? h->grant.ttl_ns : ttl_ns);
    if (rc == CM_E_BUSY && cheats(w, "ignore")) {
        h->pretended = true;
        return true;
    }
    ended(w, "lock", &e, rc, &err);
    if (rc == CM_OK)
        w->shared->progress++;
    return rc == CM_OK;
}

static void beat(struct worker *w, struct hold *h)
{
    struct history_event e = { .lock = h->lock, .fence = h->fence };
    struct cm_err err = CM_ERR_INIT;

    if (h->lease != NULL || h->pretended)
        return;
    history_log(w->log, w->who, "beat?", &e);
    ended(w, "beat", &e, cm_storage_refresh(w->st, NULL, &h->grant, &err), &err);
}

static cm_status commit_items(struct worker *w, struct hold *h, const struct cm_commit_item *items,
                              size_t n, struct cm_err *err)
{
    size_t step = cheats(w, "torn") ? 1 : n; /* one key after the other */
    cm_status rc = CM_OK;

    for (size_t i = 0; i < n && rc == CM_OK; i += step) {
        if (h->pretended || cheats(w, "unfenced"))
            rc = cm_storage_commit(w->st, NULL, NULL, &items[i], step, err);
        else if (h->lease != NULL)
            rc = cm_lease_commit(h->lease, NULL, &items[i], step, err);
        else
            rc = cm_storage_commit(w->st, NULL, &h->grant, &items[i], step, err);
    }
    return rc;
}

/* False when it is of no use to go on. */
static bool commit(struct worker *w, struct hold *h, uint64_t *prev, uint64_t *turn)
{
    struct cm_commit_item items[HISTORY_KEYS + 1];
    struct history_event e = { h->lock, h->fence, (w->who << 24) + w->next_id++, *prev, 0 };
    struct cm_err err = CM_ERR_INIT;
    char keys[HISTORY_KEYS + 1][64];
    char value[64];
    cm_status rc;

    (void)snprintf(value, sizeof value, "%" PRIu64 " %" PRIu64, e.id, *turn + 1);
    memset(items, 0, sizeof items);
    for (unsigned i = 0; i <= HISTORY_KEYS; i++) {
        history_key(h->lock, i, keys[i], sizeof keys[i]);
        items[i].key = keys[i];
        items[i].value = cm_span_str(value);
        items[i].remove = i == HISTORY_KEYS && *turn % 2 == 1;
    }
    history_log(w->log, w->who, "commit?", &e);
    w->shared->is_committing[w->slot] = true;
    rc = commit_items(w, h, items, HISTORY_KEYS + 1, &err);
    w->shared->is_committing[w->slot] = false;
    ended(w, "commit", &e, rc, &err);
    w->shared->progress++;
    if (rc == CM_OK) {
        *prev = e.id;
        ++*turn;
    }
    return rc == CM_OK;
}

static bool read_all(struct worker *w, struct hold *h, uint64_t *ret_id, uint64_t *ret_turn)
{
    struct history_event e = { .lock = h->lock, .fence = h->fence };
    struct cm_err err = CM_ERR_INIT;
    bool torn = false;
    cm_status rc;

    history_log(w->log, w->who, "read?", &e);
    rc = history_read_all(w->st, h->lock, ret_id, ret_turn, &torn, &err);
    e.id = *ret_id;
    e.extra = torn;
    ended(w, "read", &e, rc, &err);
    return rc == CM_OK;
}

/* One key, without any lock: the checker knows which values it may be. */
static void peek(struct worker *w, unsigned lock)
{
    struct history_event e = { .lock = lock };
    struct cm_err err = CM_ERR_INIT;
    struct cm_buf value = CM_BUF_INIT(256);
    char key[64];
    cm_status rc;

    history_key(lock, 0, key, sizeof key);
    history_log(w->log, w->who, "read?", &e);
    rc = cm_storage_load(w->st, NULL, key, &value, &err);
    if (rc == CM_OK && sscanf(cm_buf_str(&value), "%" SCNu64, &e.id) != 1)
        rc = cm_fail(&err, CM_E_PARSE, "'%s' holds '%s'", key, cm_buf_str(&value));
    ended(w, "read", &e, rc == CM_E_NOTFOUND ? CM_OK : rc, &err);
    cm_buf_free(&value);
}

static void give_back(struct worker *w, struct hold *h)
{
    struct history_event e = { .lock = h->lock, .fence = h->fence };
    struct cm_err err = CM_ERR_INIT;

    if (h->pretended)
        return;
    history_log(w->log, w->who, "unlock?", &e);
    if (h->lease != NULL) { /* it does not say how that went */
        cm_lease_release(h->lease);
        history_log(w->log, w->who, "unlock~", &e);
        return;
    }
    ended(w, "unlock", &e, cm_storage_unlock(w->st, NULL, &h->grant, &err), &err);
}

static void one_turn(struct worker *w)
{
    struct hold h = { .lock = (unsigned)history_random(&w->random, w->plan->locks) };
    int64_t over_ns = w->plan->ttl_ns + w->plan->ttl_ns / 4;
    uint64_t commits = 1 + history_random(&w->random, 3);
    uint64_t prev = 0;
    uint64_t turn = 0;

    if (one_in(w, 4))
        peek(w, (unsigned)history_random(&w->random, w->plan->locks));
    if (!take(w, &h)) {
        nap((int64_t)history_random(&w->random, 3 * (uint64_t)CM_NS_PER_MS));
        return;
    }
    if (read_all(w, &h, &prev, &turn)) {
        if (one_in(w, 150))
            nap(over_ns);
        else if (w->plan->sabotage != NULL)
            nap(CM_NS_PER_MS);
        for (uint64_t i = 0; i < commits && commit(w, &h, &prev, &turn); i++)
            if (one_in(w, 10))
                beat(w, &h);
        if (one_in(w, 150))
            nap(over_ns);
    }
    give_back(w, &h);
}

int history_work(const struct history_plan *plan, uint64_t who, unsigned slot,
                 struct history_shared *shared)
{
    struct worker w = {
        .plan = plan,
        .who = who,
        .random = plan->seed ^ (who * UINT64_C(0x2545F4914F6CDD1D)),
        .next_id = 1,
        .log = -1,
        .shared = shared,
        .slot = slot,
    };
    struct cm_err err = CM_ERR_INIT;
    char path[4096];

    (void)snprintf(path, sizeof path, "%s/%" PRIu64, plan->dir, who);
    w.log = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (w.log < 0) {
        perror(path);
        return 3;
    }
    if (history_open(plan, &w.st, &err) != CM_OK) {
        (void)fprintf(stderr, "history: %s\n", err.msg);
        return 3;
    }
    for (;;)
        one_turn(&w);
}
