/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A few connections, used in turn by all threads. Places are counted by an eventfd, so that who
 * waits for one can be canceled like any other wait.
 *
 * After a fork the child starts a pool of its own. What it inherited it must not even close
 * properly: libpq would say goodbye to the server in the parent's name. */

#define IDLE_MAX_NS     (300 * CM_NS_PER_S)
#define STOPPERS_MAX    4
#define CONNECTIONS_TOP 64u

struct idle {
    PGconn *conn;
    int64_t since_ns;
};

struct pg_pool {
    struct pg_pool *inherited; /* of the parent process: unusable, kept reachable */
    pid_t pid;
    int places; /* eventfd, a semaphore */
    unsigned max;
    pthread_mutex_t mutex; /* for what follows */
    struct idle idle[CONNECTIONS_TOP];
    unsigned n;
};

static int64_t now_ns(void)
{
    const struct cm_env *env = cm_env_system();

    return env->mono_ns(env);
}

cm_status pg_pool_new(unsigned max, struct pg_pool **ret, struct cm_err *err)
{
    struct pg_pool *p = cm_calloc(1, sizeof *p);

    if (p == NULL)
        return cm_fail_nomem(err);
    p->pid = getpid();
    p->max = max < CONNECTIONS_TOP ? max : CONNECTIONS_TOP;
    p->places = eventfd(p->max, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->places < 0) {
        cm_status rc = cm_fail_errno(err, "eventfd");

        free(p);
        return rc;
    }
    cm_mutex_init(&p->mutex);
    *ret = p;
    return CM_OK;
}

/* That of this process. */
static cm_status pool_of(struct pg_storage *s, struct pg_pool **ret, struct cm_err *err)
{
    struct pg_pool *p = atomic_load(&s->pool);
    struct pg_pool *fresh = NULL;
    cm_status rc;

    if (p->pid == getpid()) {
        *ret = p;
        return CM_OK;
    }
    rc = pg_pool_new(s->options.pool_max, &fresh, err);
    if (rc != CM_OK)
        return rc;
    fresh->inherited = p;
    if (!atomic_compare_exchange_strong(&s->pool, &p, fresh)) {
        fresh->inherited = NULL;
        pg_pool_free(fresh);
        fresh = p;
    }
    *ret = fresh;
    return CM_OK;
}

static void give_place(const struct pg_pool *p)
{
    const uint64_t one = 1;
    ssize_t n = write(p->places, &one, sizeof one);

    CM_ASSERT(n == (ssize_t)sizeof one);
}

static cm_status take_place(const struct pg_pool *p, const struct pg_wait *w, struct cm_err *err)
{
    uint64_t one;

    while (read(p->places, &one, sizeof one) != (ssize_t)sizeof one) {
        cm_status rc = pg_wait_fd(w, p->places, POLLIN, err);

        if (rc != CM_OK)
            return cm_wrap(err, rc, "all %u connections to PostgreSQL are in use", p->max);
    }
    return CM_OK;
}

/* Nothing may come on an idle connection but the news that it is over. */
static bool is_dead(PGconn *conn)
{
    struct pollfd fd = { PQsocket(conn), POLLIN, 0 };

    if (PQstatus(conn) != CONNECTION_OK || fd.fd < 0)
        return true;
    if (poll(&fd, 1, 0) == 0)
        return false;
    /* A server tells of a changed setting, too. */
    if ((fd.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0 || PQconsumeInput(conn) != 1 ||
        PQstatus(conn) != CONNECTION_OK)
        return true;
    (void)PQisBusy(conn); /* looks at what came */
    return PQstatus(conn) != CONNECTION_OK || (poll(&fd, 1, 0) != 0);
}

static PGconn *take_idle(struct pg_pool *p)
{
    PGconn *conn = NULL;

    while (conn == NULL) {
        struct idle i = { NULL, 0 };

        cm_mutex_lock(&p->mutex);
        if (p->n > 0)
            i = p->idle[--p->n];
        cm_mutex_unlock(&p->mutex);
        if (i.conn == NULL)
            return NULL;
        if (now_ns() - i.since_ns > IDLE_MAX_NS || is_dead(i.conn))
            PQfinish(i.conn);
        else
            conn = i.conn;
    }
    return conn;
}

cm_status pg_pool_get(struct pg_storage *s, const struct pg_wait *w, PGconn **ret,
                      struct cm_err *err)
{
    struct pg_pool *p;
    cm_status rc = pool_of(s, &p, err);

    if (rc == CM_OK)
        rc = take_place(p, w, err);
    if (rc != CM_OK)
        return rc;
    *ret = take_idle(p);
    if (*ret != NULL)
        return CM_OK;
    rc = pg_connect(s, w, ret, err);
    if (rc != CM_OK)
        give_place(p);
    return rc;
}

void pg_pool_put(struct pg_storage *s, PGconn *conn)
{
    struct pg_pool *p = atomic_load(&s->pool);

    cm_mutex_lock(&p->mutex);
    CM_ASSERT(p->n < p->max);
    p->idle[p->n++] = (struct idle){ conn, now_ns() };
    cm_mutex_unlock(&p->mutex);
    give_place(p);
}

/* ------------------------------------------------------------------- ending */

static atomic_int stoppers;

static void *stop_main(void *arg)
{
    char why[256];

    (void)PQcancel(arg, why, sizeof why);
    PQfreeCancel(arg);
    atomic_fetch_sub(&stoppers, 1);
    return NULL;
}

/* Ask the server to stop what it does for @conn, so that it holds no row any longer than we wait.
 * libpq does that in one blocking call without a limit, hence on a thread that nobody waits for;
 * a courtesy, so a few at a time are enough. */
static void ask_to_stop(PGconn *conn)
{
    PGcancel *cancel = NULL;
    pthread_t thread;

    if (atomic_fetch_add(&stoppers, 1) < STOPPERS_MAX)
        cancel = PQgetCancel(conn);
    if (cancel == NULL ||
        cm_thread_start(&thread, "cm-pg-stop", stop_main, cancel, NULL) != CM_OK) {
        PQfreeCancel(cancel);
        atomic_fetch_sub(&stoppers, 1);
        return;
    }
    (void)pthread_detach(thread);
}

void pg_pool_drop(struct pg_storage *s, PGconn *conn, bool busy, bool all)
{
    struct pg_pool *p = atomic_load(&s->pool);
    struct idle idle[CONNECTIONS_TOP];
    unsigned n = 0;

    if (busy && PQstatus(conn) == CONNECTION_OK)
        ask_to_stop(conn);
    PQfinish(conn);
    if (all) {
        cm_mutex_lock(&p->mutex);
        n = p->n;
        memcpy(idle, p->idle, n * sizeof idle[0]);
        p->n = 0;
        cm_mutex_unlock(&p->mutex);
    }
    for (unsigned i = 0; i < n; i++)
        PQfinish(idle[i].conn);
    give_place(p);
}

/* Of an inherited pool: the descriptors, and nothing else. */
static void forget(struct pg_pool *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        int fd = PQsocket(p->idle[i].conn);

        if (fd >= 0)
            (void)close(fd);
    }
    (void)close(p->places);
}

void pg_pool_free(struct pg_pool *p)
{
    while (p != NULL) {
        struct pg_pool *next = p->inherited;

        if (p->pid == getpid()) {
            for (unsigned i = 0; i < p->n; i++)
                PQfinish(p->idle[i].conn);
            (void)close(p->places);
            (void)pthread_mutex_destroy(&p->mutex);
        } else {
            forget(p);
        }
        free(p);
        p = next;
    }
}
