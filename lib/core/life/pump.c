/* SPDX-License-Identifier: Apache-2.0 */
#include "maintain.h"

#include "names.h"

#define BEYOND       4u                          /* times the limit, with those that hang */
#define PAUSE_MAX_MS (24 * 3600 * INT64_C(1000)) /* longer: the clock went back meanwhile */
#define PATIENCE_NS  (30 * CM_NS_PER_S)

#define URGENT_S (-(INT64_C(1) << 50)) /* so much earlier than any date */

struct slot {
    bool used;
    int64_t since_ns; /* monotonic */
};

struct cm_pump {
    pthread_mutex_t lock;
    struct cm_config *cfg;
    struct cm_due line;   /* by urgency, not by time */
    struct cm_task task;  /* when to look again */
    int64_t paused_until; /* ms, wall clock */
    unsigned limit;
    unsigned n_slots;
    bool stopped;
    struct slot slots[];
};

static void fire(struct cm_task *t);

cm_status cm_pump_new(struct cm_config *cfg, unsigned max_parallel, struct cm_pump **ret,
                      struct cm_err *err)
{
    struct cm_pump *p = cm_calloc(1, sizeof *p + max_parallel * BEYOND * sizeof p->slots[0]);

    if (p == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&p->lock);
    p->cfg = cfg;
    p->paused_until = INT64_MIN;
    p->limit = max_parallel;
    p->n_slots = max_parallel * BEYOND;
    cm_task_init(&p->task, cfg, fire);
    *ret = p;
    return CM_OK;
}

void cm_pump_free(struct cm_pump *p)
{
    if (p == NULL)
        return;
    cm_due_free(&p->line);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

/* A place for one more job; n_slots if there is none. *@ret_soonest_ns: when there may be one
 * because another has hung for too long. */
static unsigned free_slot_locked(const struct cm_pump *p, int64_t now_ns, int64_t *ret_soonest_ns)
{
    unsigned lively = 0;
    unsigned at = p->n_slots;

    *ret_soonest_ns = INT64_MAX;
    for (unsigned i = 0; i < p->n_slots; i++) {
        const struct slot *s = &p->slots[i];

        if (!s->used) {
            at = i;
        } else if (now_ns - s->since_ns < PATIENCE_NS) {
            lively++;
            if (s->since_ns + PATIENCE_NS < *ret_soonest_ns)
                *ret_soonest_ns = s->since_ns + PATIENCE_NS;
        }
    }
    return lively < p->limit ? at : p->n_slots;
}

static void look_again_at(struct cm_pump *p, int64_t at_ms)
{
    cm_maint_at(cm_cache_maint(p->cfg->cache), &p->task, at_ms);
}

/* The next that may go to work, NULL if none may; and the slot that it has. */
static struct cm_managed *take_locked(struct cm_pump *p, unsigned *ret_slot)
{
    const struct cm_env *env = p->cfg->env;
    int64_t now_ns = env->mono_ns(env), now_ms = cm_wall_ms(env), soonest_ns;
    struct cm_due_item *first = cm_due_first(&p->line);

    if (first == NULL || p->stopped)
        return NULL;
    if (first->at_ms >= 0 && p->paused_until > now_ms && p->paused_until - now_ms <= PAUSE_MAX_MS) {
        look_again_at(p, p->paused_until);
        return NULL;
    }
    unsigned slot = free_slot_locked(p, now_ns, &soonest_ns);
    if (slot == p->n_slots) {
        if (soonest_ns < INT64_MAX)
            look_again_at(p, now_ms + (soonest_ns - now_ns) / CM_NS_PER_MS + 1);
        return NULL;
    }
    struct cm_managed *m = CM_CONTAINER_OF(first, struct cm_managed, line);
    cm_due_remove(&p->line, first);
    p->slots[slot] = (struct slot){ true, now_ns };
    *ret_slot = slot;
    return m;
}

static void pump(struct cm_pump *p)
{
    struct cm_managed *m;
    unsigned slot = 0;

    do {
        cm_mutex_lock(&p->lock);
        m = take_locked(p, &slot);
        cm_mutex_unlock(&p->lock);
        if (m != NULL)
            cm_managed_to_work(m, slot);
    } while (m != NULL);
}

static void fire(struct cm_task *t)
{
    pump(CM_CONTAINER_OF(t, struct cm_pump, task));
}

static int64_t place_of(int64_t urgency_s, bool urgent)
{
    if (urgency_s < 0)
        urgency_s = 0;
    if (urgency_s > -URGENT_S / 2)
        urgency_s = -URGENT_S / 2;
    return urgent ? URGENT_S + urgency_s : urgency_s;
}

bool cm_pump_add(struct cm_pump *p, struct cm_managed *m, int64_t urgency_s, bool urgent)
{
    bool taken;

    cm_mutex_lock(&p->lock);
    taken = !p->stopped;
    /* There is room for every name since it became one. */
    if (taken)
        CM_ASSERT(cm_due_set(&p->line, &m->line, place_of(urgency_s, urgent), NULL) == CM_OK);
    cm_mutex_unlock(&p->lock);
    if (taken)
        pump(p);
    return taken;
}

void cm_pump_hurry(struct cm_pump *p, struct cm_managed *m)
{
    cm_mutex_lock(&p->lock);
    if (m->line.pos != CM_DUE_NOT_IN)
        CM_ASSERT(cm_due_set(&p->line, &m->line, INT64_MIN, NULL) == CM_OK);
    cm_mutex_unlock(&p->lock);
}

void cm_pump_done(struct cm_pump *p, unsigned slot)
{
    cm_mutex_lock(&p->lock);
    CM_ASSERT(slot < p->n_slots && p->slots[slot].used);
    p->slots[slot].used = false;
    cm_mutex_unlock(&p->lock);
    pump(p);
}

void cm_pump_pause(struct cm_pump *p, int64_t wait_s)
{
    cm_mutex_lock(&p->lock);
    int64_t now_ms = cm_wall_ms(p->cfg->env);
    int64_t until_ms = now_ms + cm_ms_of(wait_s > 0 ? wait_s : 1);
    /* Of several who are turned away together the first is told when a place is free. */
    if (p->paused_until <= now_ms || p->paused_until - now_ms > PAUSE_MAX_MS ||
        until_ms < p->paused_until)
        p->paused_until = until_ms;
    cm_mutex_unlock(&p->lock);
}

cm_status cm_pump_room(struct cm_pump *p, size_t n, struct cm_err *err)
{
    cm_mutex_lock(&p->lock);
    cm_status rc = n > p->line.n ? cm_due_reserve(&p->line, n - p->line.n, err) : CM_OK;
    cm_mutex_unlock(&p->lock);
    return rc;
}

void cm_pump_stop(struct cm_pump *p, void (*drop)(struct cm_managed *m))
{
    struct cm_due_item *first;

    if (p == NULL)
        return;
    do {
        cm_mutex_lock(&p->lock);
        p->stopped = true;
        first = cm_due_first(&p->line);
        if (first != NULL)
            cm_due_remove(&p->line, first);
        cm_mutex_unlock(&p->lock);
        if (first != NULL)
            drop(CM_CONTAINER_OF(first, struct cm_managed, line));
    } while (first != NULL);
}

size_t cm_pump_length(struct cm_pump *p)
{
    cm_mutex_lock(&p->lock);
    size_t n = p->line.n;
    cm_mutex_unlock(&p->lock);
    return n;
}
