/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

/* The feed: LISTEN on a connection of its own, kept up by a thread. What was told while it was
 * down is gone, so after each (re)connection everything may be new. */

#define RETRY_MIN_NS (200 * CM_NS_PER_MS)
#define RETRY_MAX_NS (15 * CM_NS_PER_S)
#define PROBE_NS     (30 * CM_NS_PER_S) /* of silence; then the server is asked whether it lives */

struct cm_watch {
    struct pg_storage *s;
    cm_change_fn fn;
    void *user;
    struct cm_cancel *cancel;
    pthread_t thread;
    pid_t pid;
};

static void tell(const struct cm_watch *w, enum cm_change_kind kind, const char *key)
{
    struct cm_change change = { (uint32_t)sizeof change, kind, key };

    w->fn(w->user, &change);
}

/* "v KEY", "u LOCK"; anything else, as a later version may say, is some change. */
static void tell_notice(const struct cm_watch *w, const char *text)
{
    if (strncmp(text, "v ", 2) == 0 && text[2] != '\0')
        tell(w, CM_CHANGE_VALUE, text + 2);
    else if (strncmp(text, "u ", 2) == 0 && text[2] != '\0')
        tell(w, CM_CHANGE_UNLOCKED, text + 2);
    else
        tell(w, CM_CHANGE_MISSED, NULL);
}

static void tell_all(const struct cm_watch *w, PGconn *conn)
{
    PGnotify *n;

    while ((n = PQnotifies(conn)) != NULL) {
        tell_notice(w, n->extra);
        PQfreemem(n);
    }
}

static cm_status ask(const struct cm_watch *w, const struct cm_op *op, PGconn *conn,
                     const char *sql, struct cm_err *err)
{
    struct pg_wait wait = pg_wait_begin(op, w->s->options.timeout_ns);
    PGresult *res = NULL;
    bool sent;
    cm_status rc = pg_conn_ask(conn, &wait, sql, NULL, &res, &sent, err);
    char shown[PG_SAID];

    if (rc == CM_OK && PQresultErrorField(res, PG_DIAG_SQLSTATE) != NULL)
        rc =
            cm_fail(err, CM_E_NET, "%s",
                    pg_said(PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY), shown, sizeof shown));
    PQclear(res);
    return rc;
}

static cm_status listen_on(const struct cm_watch *w, const struct cm_op *op, PGconn *conn,
                           struct cm_err *err)
{
    CM_AUTO_FREE char *sql = cm_asprintf("LISTEN %s", w->s->channel);

    if (sql == NULL)
        return cm_fail_nomem(err);
    return ask(w, op, conn, sql, err);
}

/* Until the connection breaks or the watch ends. */
static cm_status follow(const struct cm_watch *w, const struct cm_op *op, PGconn *conn,
                        struct cm_err *err)
{
    cm_status rc = CM_OK;

    while (rc == CM_OK) {
        struct pg_wait wait = pg_wait_begin(op, PROBE_NS);

        tell_all(w, conn);
        rc = pg_wait_fd(&wait, PQsocket(conn), POLLIN, err);
        if (rc == CM_E_TIMEOUT)
            rc = ask(w, op, conn, "SELECT 1", err);
        else if (rc == CM_OK && PQconsumeInput(conn) != 1)
            rc = cm_fail(err, CM_E_NET, "the connection broke");
        /* The server says goodbye with a message of its own before it hangs up. */
        (void)PQisBusy(conn);
        if (rc == CM_OK && PQstatus(conn) != CONNECTION_OK)
            rc = cm_fail(err, CM_E_NET, "the connection broke");
    }
    return rc;
}

/* *ret_stood: it was up for a while. */
static cm_status watch_once(const struct cm_watch *w, const struct cm_op *op, bool *ret_stood,
                            struct cm_err *err)
{
    struct pg_wait wait = pg_wait_begin(op, w->s->options.timeout_ns);
    PGconn *conn = NULL;
    cm_status rc = pg_connect(w->s, &wait, &conn, err);

    *ret_stood = false;
    if (rc != CM_OK)
        return rc;
    rc = listen_on(w, op, conn, err);
    if (rc == CM_OK) {
        *ret_stood = true;
        tell(w, CM_CHANGE_MISSED, NULL);
        rc = follow(w, op, conn, err);
    }
    PQfinish(conn);
    return rc;
}

/* Always in real time: a socket knows no other. */
static void *watch_main(void *arg)
{
    const struct cm_watch *w = arg;
    const struct cm_op op = { NULL, 0, w->cancel };
    int64_t pause_ns = RETRY_MIN_NS;

    while (!cm_cancel_is_fired(w->cancel)) {
        struct cm_err why = CM_ERR_INIT;
        bool stood;

        (void)watch_once(w, &op, &stood, &why);
        if (cm_cancel_is_fired(w->cancel))
            break;
        cm_logf(&w->s->log, stood ? CM_LOG_WARN : CM_LOG_DEBUG, "feed_lost", NULL, 0,
                "changes are not told at present: %s", why.msg);
        pause_ns = stood ? RETRY_MIN_NS : pause_ns < RETRY_MAX_NS / 2 ? pause_ns * 2 : RETRY_MAX_NS;
        if (cm_op_wait(&op,
                       pause_ns / 2 +
                           (int64_t)cm_random_below(cm_env_system(), (uint64_t)pause_ns / 2 + 1),
                       NULL) != CM_OK)
            break;
    }
    return NULL;
}

static void watch_free(struct cm_watch *w)
{
    cm_cancel_free(w->cancel);
    free(w);
}

cm_status pg_watch(struct cm_storage *st, cm_change_fn fn, void *user, struct cm_watch **ret,
                   struct cm_err *err)
{
    struct pg_storage *s = pg_of(st);
    struct cm_watch *w;
    cm_status rc;

    if (!s->options.feed)
        return cm_fail(err, CM_E_UNSUPPORTED, "%s does not tell of changes: feed=off",
                       s->options.shown);
    w = cm_calloc(1, sizeof *w);
    if (w == NULL)
        return cm_fail_nomem(err);
    w->s = s;
    w->fn = fn;
    w->user = user;
    w->pid = getpid();
    rc = cm_cancel_new(NULL, &w->cancel, err);
    if (rc == CM_OK)
        rc = cm_thread_start(&w->thread, "cm-pg-feed", watch_main, w, err);
    if (rc != CM_OK) {
        watch_free(w);
        return rc;
    }
    *ret = w;
    return CM_OK;
}

/* In a forked child there is no such thread. */
void pg_unwatch(struct cm_storage *st, struct cm_watch *w)
{
    (void)st;
    if (w->pid == getpid()) {
        cm_cancel_fire(w->cancel);
        (void)pthread_join(w->thread, NULL);
    }
    watch_free(w);
}
