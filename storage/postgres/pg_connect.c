/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* Connecting, host by host: left to itself, libpq would wait for one that does not answer for as
 * long as the system pleases. */

/* Certificates, and settings that a server tells unasked. */
#define HELLO_MAX (1024u * 1024)

/* On a simulated clock nobody wakes us when it moves. */
#define SIMULATED_POLL_NS (20 * CM_NS_PER_MS)

static int64_t now_ns(void)
{
    const struct cm_env *env = cm_env_system();

    return env->mono_ns(env);
}

struct pg_wait pg_wait_begin(const struct cm_op *op, int64_t limit_ns)
{
    struct pg_wait w = { op, now_ns() + limit_ns, limit_ns };

    return w;
}

cm_status pg_wait_fd(const struct pg_wait *w, int fd, short events, struct cm_err *err)
{
    bool simulated = cm_op_env(w->op) != cm_env_system();

    for (;;) {
        struct pollfd fds[2] = { { fd, events, 0 },
                                 { w->op != NULL ? cm_cancel_fd(w->op->cancel) : -1, POLLIN, 0 } };
        int64_t left_ns = w->until_ns - now_ns();
        cm_status rc = cm_op_check(w->op, err);
        int n;

        if (rc != CM_OK)
            return rc;
        if (left_ns <= 0)
            return cm_fail(err, CM_E_TIMEOUT, "no answer within %.3g s",
                           (double)w->limit_ns / (double)CM_NS_PER_S);
        left_ns = cm_op_remaining_ns(w->op, left_ns);
        if (simulated && left_ns > SIMULATED_POLL_NS)
            left_ns = SIMULATED_POLL_NS;
        /* Rounded up, or the last millisecond would be a busy loop. */
        n = poll(fds, 2, (int)((left_ns + CM_NS_PER_MS - 1) / CM_NS_PER_MS));
        if (n < 0 && errno != EINTR)
            return cm_fail_errno(err, "poll");
        if (n > 0 && fds[0].revents != 0)
            return CM_OK;
    }
}

/* Without "LOCATION: ..." and what else may be on further lines of the same message. */
const char *pg_said(const char *said, char *out, size_t out_size)
{
    size_t len = 0;

    if (said == NULL)
        said = "";
    while (said[len] != '\0' && strncmp(said + len, "\nLOCATION:", 10) != 0)
        len++;
    while (len > 0 && said[len - 1] == '\n')
        len--;
    return cm_escape(said, len, out, out_size);
}

/* ---------------------------------------------------------------- what failed */

/* libpq gives no code for a connection that came to nothing; but verbose messages have it, as
 * "FATAL:  28P01: ...", in whichever language the rest is. */
static bool find_sqlstate(const char *said, char ret[6])
{
    for (const char *c = strstr(said, ":  "); c != NULL; c = strstr(c + 1, ":  ")) {
        const char *code = c + 3;

        if (strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && code[5] == ':') {
            memcpy(ret, code, 5);
            ret[5] = '\0';
            return true;
        }
    }
    return false;
}

static cm_status refused_by_server(const char *state, const char *shown, struct cm_err *err)
{
    if (strncmp(state, "28", 2) == 0 || strcmp(state, "42501") == 0)
        return cm_fail(err, CM_E_PERM, "PostgreSQL lets us not in: %s", shown);
    if (strncmp(state, "3D", 2) == 0)
        return cm_fail(err, CM_E_INVAL, "%s: make the database first", shown);
    return cm_fail(err, CM_E_NET, "%s", shown);
}

static cm_status not_connected(const struct pg_storage *s, PGconn *conn, struct cm_err *err)
{
    const char *said = PQerrorMessage(conn);
    char shown[PG_SAID];
    char state[6];

    (void)pg_said(said, shown, sizeof shown);
    if (find_sqlstate(said, state))
        return refused_by_server(state, shown, err);
    if (strstr(said, "root certificate file") != NULL)
        return cm_fail(err, CM_E_TLS, "%s: name the CA of the server with sslrootcert=FILE%s",
                       shown,
                       s->options.tls_by_default
                           ? " (a host that is not this one has sslmode=verify-full here)"
                           : "");
    if (strstr(said, "SSL") != NULL || strstr(said, "certificate") != NULL)
        return cm_fail(err, CM_E_TLS, "%s", shown);
    if (PQconnectionNeedsPassword(conn))
        return cm_fail(err, CM_E_PERM, "%s", shown);
    return cm_fail(err, CM_E_NET, "%s", shown);
}

/* ---------------------------------------------------------------- one host */

static void no_notice(void *user, const PGresult *res)
{
    (void)user;
    (void)res;
}

static PGconn *begin(const struct pg_storage *s, const struct pg_host *h)
{
    const struct pg_options *o = &s->options;
    const char *keywords[64];
    const char *values[64];
    size_t n = o->n;
    const struct {
        const char *keyword;
        const char *value;
    } where[PG_HOST_WORDS] = { { "host", h->host },
                               { "hostaddr", h->hostaddr },
                               { "port", h->port } };

    CM_ASSERT(n + PG_HOST_WORDS < CM_ARRAY_LEN(keywords));
    memcpy(keywords, o->keywords, n * sizeof keywords[0]);
    memcpy(values, o->values, n * sizeof values[0]);
    for (size_t i = 0; i < PG_HOST_WORDS; i++) {
        if (where[i].value == NULL)
            continue;
        keywords[n] = where[i].keyword;
        values[n++] = where[i].value;
    }
    keywords[n] = NULL;
    values[n] = NULL;
    return PQconnectStartParams(keywords, values, 0);
}

/* One step. Whoever could write and now waits for an answer has said something, or tried to. */
static cm_status connect_on(PGconn *conn, PostgresPollingStatusType *io, struct cm_err *err)
{
    bool could_write = *io == PGRES_POLLING_WRITING;
    int64_t given = could_write ? pg_given(PQsocket(conn)) : -1;

    *io = PQconnectPoll(conn);
    if (given >= 0 && *io == PGRES_POLLING_READING && pg_given(PQsocket(conn)) == given)
        return cm_fail(err, CM_E_NET, "nothing could be sent");
    return CM_OK;
}

static cm_status connect_one(struct pg_storage *s, const struct pg_wait *whole,
                             const struct pg_host *h, PGconn **ret, struct cm_err *err)
{
    struct pg_wait w = pg_wait_begin(whole->op, s->options.connect_ns);
    PGconn *conn = begin(s, h);
    PostgresPollingStatusType at = PGRES_POLLING_WRITING;
    cm_status rc = CM_OK;

    if (conn == NULL)
        return cm_fail_nomem(err);
    if (w.until_ns > whole->until_ns)
        w = *whole;
    (void)PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
    (void)PQsetNoticeReceiver(conn, no_notice, NULL);
    if (PQstatus(conn) == CONNECTION_BAD)
        at = PGRES_POLLING_FAILED;
    while (rc == CM_OK && at != PGRES_POLLING_OK && at != PGRES_POLLING_FAILED) {
        rc = pg_wait_fd(&w, PQsocket(conn), at == PGRES_POLLING_READING ? POLLIN : POLLOUT, err);
        if (rc == CM_OK)
            rc = pg_check_received(PQsocket(conn), 0, HELLO_MAX, err);
        if (rc == CM_OK)
            rc = connect_on(conn, &at, err);
    }
    if (rc == CM_OK && at == PGRES_POLLING_FAILED)
        rc = not_connected(s, conn, err);
    if (rc == CM_OK && PQsetnonblocking(conn, 1) != 0)
        rc = cm_fail_nomem(err);
    if (rc != CM_OK) {
        PQfinish(conn);
        return rc;
    }
    (void)PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
    *ret = conn;
    return CM_OK;
}

static cm_status name_host(const struct pg_host *h, cm_status rc, struct cm_err *err)
{
    const char *name = h->host != NULL ? h->host : h->hostaddr;
    char shown[128];

    if (name == NULL)
        return cm_wrap(err, rc, "connect to PostgreSQL");
    return cm_wrap(err, rc, "connect to PostgreSQL at %s%s%s",
                   cm_escape(name, strlen(name), shown, sizeof shown), h->port != NULL ? ":" : "",
                   h->port != NULL ? h->port : "");
}

/* One that refuses us for a reason that somebody has to mend is better told of than one that is
 * only down. */
static bool is_worse(cm_status rc)
{
    return rc == CM_E_PERM || rc == CM_E_TLS || rc == CM_E_INVAL;
}

cm_status pg_connect(struct pg_storage *s, const struct pg_wait *w, PGconn **ret,
                     struct cm_err *err)
{
    size_t n = s->options.n_hosts;
    unsigned first = atomic_load(&s->host) % (unsigned)n;
    struct cm_err told = CM_ERR_INIT;
    cm_status told_rc = CM_OK;

    for (size_t i = 0; i < n; i++) {
        unsigned at = (first + (unsigned)i) % (unsigned)n;
        struct cm_err why = CM_ERR_INIT;
        cm_status rc = connect_one(s, w, &s->options.hosts[at], ret, &why);

        if (rc == CM_OK) {
            atomic_store(&s->host, at);
            return CM_OK;
        }
        rc = name_host(&s->options.hosts[at], rc, &why);
        if (told_rc == CM_OK || (is_worse(rc) && !is_worse(told_rc))) {
            told = why;
            told_rc = rc;
        }
        /* The operation itself is over, or all the time is used up. */
        if (cm_op_check(w->op, NULL) != CM_OK || now_ns() >= w->until_ns)
            break;
    }
    /* A host that did not answer in its time is one that cannot be reached. */
    if (told_rc == CM_E_TIMEOUT && cm_op_check(w->op, NULL) == CM_OK)
        told.status = told_rc = CM_E_NET;
    if (err != NULL)
        *err = told;
    return told_rc;
}

void pg_connect_elsewhere(struct pg_storage *s)
{
    atomic_fetch_add(&s->host, 1);
}
