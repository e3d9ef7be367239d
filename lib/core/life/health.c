/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

/* Is the storage there? Whoever used it says how that went; a program is told once when it is gone
 * and once when it is back. */

#define DOWN_AFTER 3u

struct cm_health {
    _Atomic unsigned failures; /* in a row */
    _Atomic bool down;
    pthread_mutex_t lock; /* guards what follows; a leaf, not held while the program is told */
    bool told_down;       /* what the program knows */
    bool telling;         /* somebody is at it, and sees to what changes meanwhile */
    struct cm_err why;
};

cm_status cm_health_new(struct cm_health **ret, struct cm_err *err)
{
    struct cm_health *h = cm_calloc(1, sizeof *h);

    if (h == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&h->lock);
    *ret = h;
    return CM_OK;
}

void cm_health_free(struct cm_health *h)
{
    if (h == NULL)
        return;
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
}

enum verdict { SAYS_NOTHING, IT_ANSWERED, IT_FAILED };

static enum verdict judge(cm_status rc)
{
    switch ((int)rc) {
    case CM_E_IO:
    case CM_E_NET:
    case CM_E_TIMEOUT:
    case CM_E_PERM:
        return IT_FAILED;
    case CM_OK:
    case CM_E_NOTFOUND:
    case CM_E_EXISTS:
    case CM_E_BUSY:
    case CM_E_LOCK_LOST:
        return IT_ANSWERED;
    default: /* canceled, out of memory, ...: about us */
        return SAYS_NOTHING;
    }
}

static void tell(const struct cm_config *cfg, bool down, const struct cm_err *why)
{
    struct cm_event ev = { .type = down ? CM_EVENT_STORAGE_DOWN : CM_EVENT_STORAGE_UP,
                           .error = down ? why : NULL };

    if (down)
        cm_logf(&cfg->log, CM_LOG_ERROR, "storage_down", NULL, 0,
                "storage %s does not work: %s; what is in memory goes on being served",
                cm_storage_describe(cfg->storage), why->msg);
    else
        cm_logf(&cfg->log, CM_LOG_WARN, "storage_up", NULL, 0, "storage %s works again",
                cm_storage_describe(cfg->storage));
    (void)cm_emit(cfg, &ev, NULL);
}

/* One at a time, so that the program never hears of the return before the loss. Who finds another
 * at it leaves it to him; he looks once more before he goes. */
static void tell_changes(const struct cm_config *cfg, struct cm_health *h)
{
    cm_mutex_lock(&h->lock);
    while (!h->telling && h->told_down != atomic_load(&h->down)) {
        struct cm_err why = h->why;
        bool down = !h->told_down;

        h->told_down = down;
        h->telling = true;
        cm_mutex_unlock(&h->lock);
        tell(cfg, down, &why);
        cm_mutex_lock(&h->lock);
        h->telling = false;
    }
    cm_mutex_unlock(&h->lock);
}

static void note_failure(const struct cm_config *cfg, struct cm_health *h, cm_status rc,
                         const struct cm_err *why)
{
    if (atomic_fetch_add(&h->failures, 1) + 1 < DOWN_AFTER || atomic_load(&h->down))
        return;
    cm_mutex_lock(&h->lock);
    if (why != NULL)
        h->why = *why;
    else
        (void)cm_fail(&h->why, rc, "%s", cm_status_text(rc));
    cm_mutex_unlock(&h->lock);
    atomic_store(&h->down, true);
    tell_changes(cfg, h);
}

void cm_health_note(struct cm_config *cfg, cm_status rc, const struct cm_err *why)
{
    struct cm_health *h = cfg->health;
    enum verdict v = judge(rc);

    if (h == NULL || v == SAYS_NOTHING)
        return;
    if (v == IT_FAILED) {
        note_failure(cfg, h, rc, why);
        return;
    }
    if (atomic_load_explicit(&h->failures, memory_order_relaxed) != 0)
        atomic_store(&h->failures, 0);
    if (atomic_load_explicit(&h->down, memory_order_relaxed) && atomic_exchange(&h->down, false))
        tell_changes(cfg, h);
}

bool cm_health_is_down(const struct cm_config *cfg)
{
    return cfg->health != NULL && atomic_load(&cfg->health->down);
}
