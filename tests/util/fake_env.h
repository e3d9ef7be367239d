/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UTIL_FAKE_ENV_H
#define CM_TESTS_UTIL_FAKE_ENV_H

/* A clock that moves only when told to, or by waiting, and begins in 2030. Randomness is real. */

#include <certmesh/cm_spi.h>

#include <stdatomic.h>
#include <string.h>

struct fake_env {
    struct cm_env env;
    _Atomic int64_t wall_ns;
    _Atomic int64_t mono_ns;
};

static inline int64_t fake_env_wall(const struct cm_env *env)
{
    return atomic_load(&((struct fake_env *)env->user)->wall_ns);
}

static inline int64_t fake_env_mono(const struct cm_env *env)
{
    return atomic_load(&((struct fake_env *)env->user)->mono_ns);
}

static inline cm_status fake_env_random(const struct cm_env *env, void *out, size_t len)
{
    const struct cm_env *real = cm_env_system();

    (void)env;
    return real->random(real, out, len);
}

static inline void fake_env_advance(struct fake_env *f, int64_t ns)
{
    atomic_fetch_add(&f->wall_ns, ns);
    atomic_fetch_add(&f->mono_ns, ns);
}

static inline cm_status fake_env_wait(const struct cm_env *env, struct cm_cancel *cancel,
                                      int64_t ns)
{
    if (cm_cancel_is_fired(cancel))
        return CM_E_CANCELED;
    fake_env_advance(env->user, ns);
    return CM_OK;
}

static inline void fake_env_init(struct fake_env *f)
{
    memset(f, 0, sizeof *f);
    f->env.abi = CM_ENV_ABI;
    f->env.size = sizeof f->env;
    f->env.wall_ns = fake_env_wall;
    f->env.mono_ns = fake_env_mono;
    f->env.random = fake_env_random;
    f->env.wait = fake_env_wait;
    f->env.user = f;
    f->wall_ns = INT64_C(1900000000) * CM_NS_PER_S;
    f->mono_ns = 1000 * CM_NS_PER_S;
}

#endif
