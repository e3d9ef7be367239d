/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

void cm_mutex_init(pthread_mutex_t *m)
{
    CM_ASSERT(pthread_mutex_init(m, NULL) == 0);
}

void cm_mutex_lock(pthread_mutex_t *m)
{
    CM_ASSERT(pthread_mutex_lock(m) == 0);
}

bool cm_mutex_try_lock(pthread_mutex_t *m)
{
    int rc = pthread_mutex_trylock(m);

    CM_ASSERT(rc == 0 || rc == EBUSY);
    return rc == 0;
}

void cm_mutex_unlock(pthread_mutex_t *m)
{
    CM_ASSERT(pthread_mutex_unlock(m) == 0);
}

void cm_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;

    CM_ASSERT(pthread_condattr_init(&attr) == 0);
    CM_ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    CM_ASSERT(pthread_cond_init(c, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
}

bool cm_cond_wait_ns(pthread_cond_t *c, pthread_mutex_t *m, int64_t ns)
{
    struct timespec until = { 0, 0 };
    int rc;

    if (ns < 0)
        ns = 0;
    CM_ASSERT(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_sec += (time_t)(ns / CM_NS_PER_S);
    until.tv_nsec += (long)(ns % CM_NS_PER_S);
    if (until.tv_nsec >= CM_NS_PER_S) {
        until.tv_sec += 1;
        until.tv_nsec -= (long)CM_NS_PER_S;
    }
    rc = pthread_cond_timedwait(c, m, &until);
    CM_ASSERT(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

cm_status cm_thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg,
                          struct cm_err *err)
{
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
    sigset_t block;
    sigset_t saved;

    (void)sigfillset(&block);
    for (size_t i = 0; i < CM_ARRAY_LEN(faults); i++)
        (void)sigdelset(&block, faults[i]);
    CM_ASSERT(pthread_sigmask(SIG_SETMASK, &block, &saved) == 0);
    int e = pthread_create(ret, NULL, run, arg);
    CM_ASSERT(pthread_sigmask(SIG_SETMASK, &saved, NULL) == 0);
    if (e != 0) {
        errno = e;
        return cm_fail_errno(err, "start thread '%s'", name);
    }
    (void)pthread_setname_np(*ret, name);
    return CM_OK;
}
