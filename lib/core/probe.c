/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* A fixed number of places, found by hash; a new note overwrites what was there. So a flood of
 * different names costs nothing, and one name costs one read of storage per time. */

struct place {
    uint64_t hash;
    int64_t until_ns;
};

struct cm_probes {
    pthread_mutex_t lock;
    const struct cm_env *env;
    uint64_t seed;
    size_t size;
    struct place places[];
};

cm_status cm_probes_new(const struct cm_env *env, size_t size, struct cm_probes **ret,
                        struct cm_err *err)
{
    struct cm_probes *p = cm_calloc(1, sizeof *p + size * sizeof p->places[0]);

    if (p == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_env_random(env, &p->seed, sizeof p->seed, err);
    if (rc != CM_OK) {
        free(p);
        return rc;
    }
    p->env = env;
    p->size = size;
    cm_mutex_init(&p->lock);
    *ret = p;
    return CM_OK;
}

void cm_probes_free(struct cm_probes *p)
{
    if (p == NULL)
        return;
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

static uint64_t mix(uint64_t h, const char *s)
{
    for (; *s != '\0'; s++)
        h = (h ^ (uint8_t)*s) * UINT64_C(0x9E3779B97F4A7C15) ^ h >> 29;
    return (h ^ 0x100) * UINT64_C(0xC4CEB9FE1A85EC53);
}

static uint64_t hash_of(const struct cm_probes *p, const char *what, const char *key)
{
    uint64_t h = mix(mix(p->seed, what), key);

    return h != 0 ? h : 1;
}

int64_t cm_probes_wait_ns(struct cm_probes *p, const char *what, const char *key)
{
    uint64_t h = hash_of(p, what, key);
    int64_t now = p->env->mono_ns(p->env);
    int64_t left = 0;

    cm_mutex_lock(&p->lock);
    const struct place *at = &p->places[(h >> 16) % p->size];
    if (at->hash == h && at->until_ns > now)
        left = at->until_ns - now;
    cm_mutex_unlock(&p->lock);
    return left;
}

void cm_probes_note(struct cm_probes *p, const char *what, const char *key, int64_t ttl_ns)
{
    uint64_t h = hash_of(p, what, key);
    int64_t now = p->env->mono_ns(p->env);

    cm_mutex_lock(&p->lock);
    struct place *at = &p->places[(h >> 16) % p->size];
    at->hash = h;
    at->until_ns = now + ttl_ns;
    cm_mutex_unlock(&p->lock);
}
