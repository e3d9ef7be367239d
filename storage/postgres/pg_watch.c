/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

/* The feed: LISTEN on a connection of its own, kept up by a thread, for all who watch in this
 * storage; each of them has a queue and a thread besides (feed.h), so that who is slow delays
 * nobody. What was told while the connection was down is gone, so after each one everything may be
 * new. It is there while anybody watches. */

#define RETRY_MIN_NS (200 * CM_NS_PER_MS)
#define RETRY_MAX_NS (15 * CM_NS_PER_S)
#define PROBE_NS     (30 * CM_NS_PER_S) /* of silence; then the server is asked whether it lives */

struct pg_listener {
    struct pg_storage *s;
    struct cm_cancel *cancel;
    pthread_t thread;
};

static void tell(const struct pg_listener *w, enum cm_change_kind kind, const char *key)
{
    feed_tell(&w->s->feed, kind, key);
}

/* "v KEY", "u LOCK"; anything else, as a later version may say, is some change. */
static void tell_notice(const struct pg_listener *w, const char *text)
{
    if (strncmp(text, "v ", 2) == 0 && text[2] != '\0')
        tell(w, CM_CHANGE_VALUE, text + 2);
    else if (strncmp(text, "u ", 2) == 0 && text[2] != '\0')
        tell(w, CM_CHANGE_UNLOCKED, text + 2);
    else
        tell(w, CM_CHANGE_MISSED, NULL);
}

static void tell_all(const struct pg_listener *w, PGconn *conn)
{
    PGnotify *n;

    while ((n = PQnotifies(conn)) != NULL) {
        tell_notice(w, n->extra);
        PQfreemem(n);
    }
}

static cm_status ask(const struct pg_listener *w, const struct cm_op *op, PGconn *conn,
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

static cm_status listen_on(const struct pg_listener *w, const struct cm_op *op, PGconn *conn,
                           struct cm_err *err)
{
    CM_AUTO_FREE char *sql = cm_asprintf("LISTEN %s", w->s->channel);

    if (sql == NULL)
        return cm_fail_nomem(err);
    return ask(w, op, conn, sql, err);
}

/* Until the connection breaks or the watch ends. */
static cm_status follow(const struct pg_listener *w, const struct cm_op *op, PGconn *conn,
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
static cm_status listen_once(const struct pg_listener *w, const struct cm_op *op, bool *ret_stood,
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
static void *listener_main(void *arg)
{
    const struct pg_listener *w = arg;
    const struct cm_op op = { NULL, 0, w->cancel };
    int64_t pause_ns = RETRY_MIN_NS;
    bool first = true;

    while (!cm_cancel_is_fired(w->cancel)) {
        struct cm_err why = CM_ERR_INIT;
        bool stood;

        (void)listen_once(w, &op, &stood, &why);
        if (cm_cancel_is_fired(w->cancel))
            break;
        cm_logf(&w->s->log, stood || first ? CM_LOG_WARN : CM_LOG_DEBUG, "feed_lost", NULL, 0,
                "changes are not told at present: %s", why.msg);
        first = false;
        tell(w, CM_CHANGE_LOST, NULL); /* each time: somebody may have begun to watch since */
        pause_ns = stood ? RETRY_MIN_NS : pause_ns < RETRY_MAX_NS / 2 ? pause_ns * 2 : RETRY_MAX_NS;
        if (cm_op_wait(&op,
                       pause_ns / 2 +
                           (int64_t)cm_random_below(cm_env_system(), (uint64_t)pause_ns / 2 + 1),
                       NULL) != CM_OK)
            break;
    }
    return NULL;
}

static void listener_free(struct pg_listener *w)
{
    cm_cancel_free(w->cancel);
    free(w);
}

static cm_status listener_start(struct pg_storage *s, struct pg_listener **ret, struct cm_err *err)
{
    struct pg_listener *w = cm_calloc(1, sizeof *w);
    cm_status rc;

    if (w == NULL)
        return cm_fail_nomem(err);
    w->s = s;
    rc = cm_cancel_new(NULL, &w->cancel, err);
    if (rc == CM_OK)
        rc = cm_thread_start(&w->thread, "cm-pg-feed", listener_main, w, err);
    if (rc != CM_OK) {
        listener_free(w);
        return rc;
    }
    *ret = w;
    return CM_OK;
}

static void listener_end(struct pg_listener *w)
{
    if (w == NULL)
        return;
    cm_cancel_fire(w->cancel);
    (void)pthread_join(w->thread, NULL);
    listener_free(w);
}

/* ------------------------------------------------------------------- watching */

cm_status pg_watch(struct cm_storage *st, cm_change_fn fn, void *user, struct cm_watch **ret,
                   struct cm_err *err)
{
    struct pg_storage *s = pg_of(st);
    struct cm_watch *w = NULL;
    cm_status rc;

    if (!s->options.feed)
        return cm_fail(err, CM_E_UNSUPPORTED, "%s does not tell of changes: feed=off",
                       s->options.shown);
    if (s->pid != getpid())
        return cm_fail(err, CM_E_UNSUPPORTED,
                       "%s tells of changes to who opened it, not to a child", s->options.shown);
    rc = feed_watch(&s->feed, fn, user, &w, err);
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&s->watch_mutex);
    if (s->watchers == 0)
        rc = listener_start(s, &s->listener, err);
    if (rc == CM_OK)
        s->watchers++;
    cm_mutex_unlock(&s->watch_mutex);
    if (rc != CM_OK) {
        feed_unwatch(&s->feed, w);
        return rc;
    }
    *ret = w;
    return CM_OK;
}

/* In a forked child there are no such threads: what it inherited stays as it is. */
void pg_unwatch(struct cm_storage *st, struct cm_watch *w)
{
    struct pg_storage *s = pg_of(st);
    struct pg_listener *last = NULL;

    if (s->pid != getpid())
        return;
    feed_unwatch(&s->feed, w);
    cm_mutex_lock(&s->watch_mutex);
    if (--s->watchers == 0) {
        last = s->listener;
        s->listener = NULL;
    }
    cm_mutex_unlock(&s->watch_mutex);
    listener_end(last);
}
