/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand.h"

#include <string.h>

#define CLIENTS 4096u

/* Filled by time up to a second's worth. */
struct bucket {
    uint64_t hash; /* of the client */
    int64_t at_ns;
    double tokens;
};

struct cm_pace {
    pthread_mutex_t lock;
    const struct cm_env *env;
    uint64_t seed;
    unsigned per_s, per_client_s;
    struct bucket all;
    struct bucket clients[CLIENTS];
};

cm_status cm_pace_new(const struct cm_env *env, unsigned per_s, unsigned per_client_s,
                      struct cm_pace **ret, struct cm_err *err)
{
    struct cm_pace *p = cm_calloc(1, sizeof *p);

    if (p == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_env_random(env, &p->seed, sizeof p->seed, err);
    if (rc != CM_OK) {
        free(p);
        return rc;
    }
    p->env = env;
    p->per_s = per_s;
    p->per_client_s = per_client_s;
    p->all = (struct bucket){ .at_ns = env->mono_ns(env), .tokens = per_s };
    cm_mutex_init(&p->lock);
    *ret = p;
    return CM_OK;
}

void cm_pace_free(struct cm_pace *p)
{
    if (p == NULL)
        return;
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

static void fill(struct bucket *b, unsigned per_s, int64_t now)
{
    b->tokens += (double)(now - b->at_ns) * per_s / (double)CM_NS_PER_S;
    if (b->tokens > per_s)
        b->tokens = per_s;
    b->at_ns = now;
}

bool cm_pace_take(struct cm_pace *p, const char *client)
{
    uint64_t h = cm_fnv1a64(CM_FNV1A64 ^ p->seed, client, strlen(client));
    struct bucket *c = &p->clients[(h ^ h >> 32) % CLIENTS];
    int64_t now = p->env->mono_ns(p->env);
    bool yes;

    cm_mutex_lock(&p->lock);
    if (c->hash != h)
        *c = (struct bucket){ .hash = h, .at_ns = now, .tokens = p->per_client_s };
    fill(c, p->per_client_s, now);
    fill(&p->all, p->per_s, now);
    yes = c->tokens >= 1 && p->all.tokens >= 1;
    if (yes) {
        c->tokens -= 1;
        p->all.tokens -= 1;
    }
    cm_mutex_unlock(&p->lock);
    return yes;
}
