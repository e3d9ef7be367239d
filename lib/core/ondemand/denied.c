/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand.h"

/* So a flood of different names costs one question each and no memory, and one name that is asked
 * for again and again costs next to nothing. */

#define SETS        8192u
#define WAYS        4u
#define DOUBLED_MAX 6u /* times, so 64 times as long */

struct place {
    uint64_t hash; /* 0: free */
    int64_t until_ns;
    uint8_t times;
};

struct cm_denied {
    pthread_mutex_t lock;
    const struct cm_env *env;
    uint64_t seed[2];
    int64_t first_ns;
    struct place at[SETS][WAYS];
};

cm_status cm_denied_new(const struct cm_env *env, int64_t first_ns, struct cm_denied **ret,
                        struct cm_err *err)
{
    struct cm_denied *d = cm_calloc(1, sizeof *d);

    if (d == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_env_random(env, d->seed, sizeof d->seed, err);
    if (rc != CM_OK) {
        free(d);
        return rc;
    }
    d->env = env;
    d->first_ns = first_ns;
    cm_mutex_init(&d->lock);
    *ret = d;
    return CM_OK;
}

void cm_denied_free(struct cm_denied *d)
{
    if (d == NULL)
        return;
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

/* With a seed nobody knows, so that nobody can have a name denied by asking for others. */
static uint64_t hash_of(const struct cm_denied *d, const char *name)
{
    uint64_t h = d->seed[0];

    for (; *name != '\0'; name++) {
        h = (h ^ (uint8_t)*name) * UINT64_C(0x9E3779B97F4A7C15);
        h ^= h >> 32 ^ d->seed[1];
    }
    h *= UINT64_C(0xC4CEB9FE1A85EC53);
    h ^= h >> 29;
    return h != 0 ? h : 1;
}

static struct place *find_locked(struct cm_denied *d, uint64_t h)
{
    struct place *set = d->at[(h >> 20) % SETS];

    for (unsigned i = 0; i < WAYS; i++)
        if (set[i].hash == h)
            return &set[i];
    return NULL;
}

int64_t cm_denied_wait_ns(struct cm_denied *d, const char *name)
{
    uint64_t h = hash_of(d, name);
    int64_t now = d->env->mono_ns(d->env);
    int64_t left = 0;

    cm_mutex_lock(&d->lock);
    const struct place *p = find_locked(d, h);
    if (p != NULL && p->until_ns > now)
        left = p->until_ns - now;
    cm_mutex_unlock(&d->lock);
    return left;
}

/* The one of its set that is over, or will be first. */
static struct place *room_locked(struct cm_denied *d, uint64_t h)
{
    struct place *set = d->at[(h >> 20) % SETS];
    struct place *best = &set[0];

    for (unsigned i = 0; i < WAYS && best->hash != 0; i++)
        if (set[i].hash == 0 || set[i].until_ns < best->until_ns)
            best = &set[i];
    *best = (struct place){ .hash = h };
    return best;
}

void cm_denied_note(struct cm_denied *d, const char *name)
{
    uint64_t h = hash_of(d, name);
    int64_t now = d->env->mono_ns(d->env);

    cm_mutex_lock(&d->lock);
    struct place *p = find_locked(d, h);
    if (p == NULL)
        p = room_locked(d, h);
    p->until_ns = now + (d->first_ns << p->times);
    if (p->times < DOUBLED_MAX)
        p->times++;
    cm_mutex_unlock(&d->lock);
}

void cm_denied_clear(struct cm_denied *d, const char *name)
{
    uint64_t h = hash_of(d, name);

    cm_mutex_lock(&d->lock);
    struct place *p = find_locked(d, h);
    if (p != NULL)
        *p = (struct place){ .hash = 0 };
    cm_mutex_unlock(&d->lock);
}
