/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <errno.h>
#include <poll.h>
#include <sys/random.h>
#include <time.h>

static int64_t clock_ns(clockid_t id)
{
    struct timespec ts = { 0, 0 };

    CM_ASSERT(clock_gettime(id, &ts) == 0);
    return (int64_t)ts.tv_sec * CM_NS_PER_S + ts.tv_nsec;
}

static int64_t system_wall_ns(const struct cm_env *env)
{
    (void)env;
    return clock_ns(CLOCK_REALTIME);
}

static int64_t system_mono_ns(const struct cm_env *env)
{
    (void)env;
    return clock_ns(CLOCK_MONOTONIC);
}

static cm_status system_random(const struct cm_env *env, void *out, size_t len)
{
    uint8_t *p = out;

    (void)env;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            return CM_E_IO;
        }
        p += n;
        len -= (size_t)n;
    }
    return CM_OK;
}

static cm_status system_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    struct pollfd pfd = { cm_cancel_fd(cancel), POLLIN, 0 };
    nfds_t n_fds = cancel != NULL ? 1 : 0;
    int64_t start = system_mono_ns(env);
    int64_t left = ns;

    for (;;) {
        struct timespec ts;
        int n;

        if (cm_cancel_is_fired(cancel))
            return CM_E_CANCELED;
        if (left <= 0)
            return CM_OK;
        ts.tv_sec = (time_t)(left / CM_NS_PER_S);
        ts.tv_nsec = (long)(left % CM_NS_PER_S);
        n = ppoll(&pfd, n_fds, &ts, NULL);
        if (n < 0 && errno != EINTR)
            return CM_E_IO;
        left = ns - (system_mono_ns(env) - start);
    }
}

const struct cm_env *cm_env_system(void)
{
    static const struct cm_env env = {
        .abi = CM_ENV_ABI,
        .size = sizeof(struct cm_env),
        .wall_ns = system_wall_ns,
        .mono_ns = system_mono_ns,
        .random = system_random,
        .wait = system_wait,
    };

    return &env;
}

int64_t cm_env_wall_s(const struct cm_env *env)
{
    int64_t ns;
    int64_t s;

    if (env == NULL)
        env = cm_env_system();
    ns = env->wall_ns(env);
    s = ns / CM_NS_PER_S;
    return ns % CM_NS_PER_S < 0 ? s - 1 : s;
}

cm_status cm_env_random(const struct cm_env *env, void *out, size_t len, struct cm_err *err)
{
    cm_status rc;

    if (env == NULL)
        env = cm_env_system();
    rc = env->random(env, out, len);
    return rc == CM_OK ? CM_OK : cm_fail(err, rc, "no randomness from the environment");
}

uint64_t cm_random_below(const struct cm_env *env, uint64_t n)
{
    uint64_t reject; /* 2^64 mod n: the numbers below it would be too likely */
    uint64_t r;

    CM_ASSERT(n > 0);
    if (env == NULL)
        env = cm_env_system();
    reject = (UINT64_MAX - n + 1) % n;
    do {
        /* Not for secrets: without randomness the clock still spreads retries a little. */
        if (cm_env_random(env, &r, sizeof r, NULL) != CM_OK)
            return (uint64_t)env->mono_ns(env) % n;
    } while (r < reject);
    return r % n;
}
