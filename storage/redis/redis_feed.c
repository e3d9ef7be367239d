/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <string.h>
#include <unistd.h>

/* A subscription: one connection outside the pools, one thread that waits on it and makes it anew
 * when it breaks. A connection that is silent for long is asked for a sign of life: a peer that
 * vanished sends nothing, and neither does a channel on which nothing happens. */

#define QUIET_NS     (10 * CM_NS_PER_S)
#define PAUSE_MIN_NS (100 * CM_NS_PER_MS)
#define PAUSE_MAX_NS (10 * CM_NS_PER_S)

struct redis_feed {
    struct redis_link *l;
    char *channel;
    void (*on_message)(void *user, struct cm_span message);
    void (*on_gap)(void *user, bool over);
    void *user;
    struct cm_cancel *cancel;
    pthread_t thread;
    pid_t pid;
    bool lost; /* has been told of in the log */
};

static bool is_text(const redisReply *r, const char *text)
{
    return r->type == REDIS_REPLY_STRING && strcmp(r->str, text) == 0;
}

/* ["message", channel, what]; anything else that a subscriber gets is a sign of life. */
static cm_status take(struct redis_feed *f, const struct redis_conn *c, const redisReply *r,
                      struct cm_err *err)
{
    char shown[160];

    if (r->type == REDIS_REPLY_ERROR && redis_is_error(r, "NOPERM"))
        return cm_fail(err, CM_E_PERM, "Redis at %s: %s; the ACL of this user needs '&%s'", c->name,
                       redis_shown(r, shown, sizeof shown), f->channel);
    if (r->type == REDIS_REPLY_ERROR)
        return cm_fail(err, CM_E_NET, "Redis at %s: %s", c->name,
                       redis_shown(r, shown, sizeof shown));
    if (r->type != REDIS_REPLY_ARRAY || r->elements < 2 ||
        r->element[0]->type != REDIS_REPLY_STRING)
        return cm_fail(err, CM_E_PARSE, "Redis at %s: this is no message to a subscriber", c->name);
    if (r->elements == 3 && is_text(r->element[0], "subscribe"))
        f->on_gap(f->user, true);
    if (r->elements == 3 && is_text(r->element[0], "message") &&
        r->element[2]->type == REDIS_REPLY_STRING)
        f->on_message(f->user, (struct cm_span){ (const uint8_t *)r->element[2]->str,
                                                 (size_t)r->element[2]->len });
    return CM_OK;
}

static cm_status send_words(struct redis_conn *c, const struct cm_op *op, const char *word,
                            const char *arg, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(4096);
    cm_status rc = redis_put_words(&out, err, word, arg, NULL);
    bool sent;

    return rc == CM_OK ? redis_conn_exchange(c, op, cm_buf_span(&out), 0, NULL, &sent, err) : rc;
}

/* Until it breaks. */
static cm_status listen_on(struct redis_feed *f, struct redis_conn *c, const struct cm_op *op,
                           struct cm_err *err)
{
    int64_t answer_ns = f->l->o->timeout_ns;
    struct cm_op within = cm_op_within(op, answer_ns);
    bool asked = true; /* SUBSCRIBE wants an answer */
    cm_status rc = send_words(c, &within, "SUBSCRIBE", f->channel, err);

    while (rc == CM_OK) {
        redisReply *reply = NULL;

        within = cm_op_within(op, asked ? answer_ns : QUIET_NS);
        rc = redis_conn_next(c, &within, &reply, err);
        if (rc == CM_OK) {
            asked = false;
            rc = take(f, c, reply, err);
            freeReplyObject(reply);
        } else if (rc == CM_E_TIMEOUT && !asked) {
            asked = true;
            within = cm_op_within(op, answer_ns);
            rc = send_words(c, &within, "PING", NULL, err);
        }
        if (rc == CM_OK && !asked && f->lost) {
            f->lost = false;
            cm_logf(&f->l->log, CM_LOG_INFO, "redis_feed_back", NULL, 0,
                    "changes are told again by Redis at %s", c->name);
        }
    }
    return rc;
}

/* Connect and listen; *ret_stood: the subscription stood for a while. */
static cm_status once(struct redis_feed *f, const struct cm_op *op, bool *ret_stood,
                      struct cm_err *err)
{
    struct redis_login login = redis_login_of(f->l);
    struct cm_op within = cm_op_within(op, f->l->o->timeout_ns);
    const struct cm_env *env = cm_op_env(op);
    struct redis_node *node = NULL;
    struct redis_conn *c = NULL;
    int64_t began;
    cm_status rc = redis_route_find(f->l, &within, NULL, &node, err);

    *ret_stood = false;
    if (rc != CM_OK)
        return rc;
    rc = redis_conn_open(f->l, &node->addr, &login, &within, &c, err);
    if (rc == CM_OK) {
        began = env->mono_ns(env);
        rc = listen_on(f, c, op, err);
        *ret_stood = env->mono_ns(env) - began > f->l->o->timeout_ns;
        redis_conn_close(c);
    }
    if (rc == CM_E_NET || rc == CM_E_AGAIN || rc == CM_E_TIMEOUT)
        redis_route_failed(f->l, node);
    redis_node_put(f->l, node);
    return rc;
}

static void *feed_run(void *arg)
{
    struct redis_feed *f = arg;
    const struct cm_env *env = f->l->env;
    struct cm_op op = { .env = env, .cancel = f->cancel };
    int64_t pause = PAUSE_MIN_NS;

    for (;;) {
        struct cm_err why = CM_ERR_INIT;
        bool stood;
        cm_status rc = once(f, &op, &stood, &why);

        if (cm_cancel_is_fired(f->cancel))
            return NULL;
        if (!f->lost) {
            f->lost = true;
            cm_logf(&f->l->log, CM_LOG_WARN, "redis_feed_lost", NULL, 0,
                    "changes are not told until there is a connection: %s (%s)", why.msg,
                    cm_status_name(rc));
            f->on_gap(f->user, false);
        }
        if (stood)
            pause = PAUSE_MIN_NS;
        if (cm_op_wait(&op, pause / 2 + (int64_t)cm_random_below(env, (uint64_t)pause / 2 + 1),
                       NULL) != CM_OK)
            return NULL;
        pause = pause < PAUSE_MAX_NS / 2 ? pause * 2 : PAUSE_MAX_NS;
    }
}

cm_status redis_feed_new(struct redis_link *l, const char *channel,
                         void (*on_message)(void *user, struct cm_span message),
                         void (*on_gap)(void *user, bool over), void *user, struct redis_feed **ret,
                         struct cm_err *err)
{
    struct redis_feed *f;
    cm_status rc = redis_check_owner(l, err);

    if (rc != CM_OK)
        return rc;
    f = cm_calloc(1, sizeof *f);
    if (f == NULL)
        return cm_fail_nomem(err);
    f->l = l;
    f->on_message = on_message;
    f->on_gap = on_gap;
    f->user = user;
    f->pid = getpid();
    f->channel = cm_strdup(channel);
    rc = f->channel != NULL ? cm_cancel_new(NULL, &f->cancel, err) : cm_fail_nomem(err);
    if (rc == CM_OK)
        rc = cm_thread_start(&f->thread, "cm-redis-feed", feed_run, f, err);
    if (rc != CM_OK) {
        cm_cancel_free(f->cancel);
        free(f->channel);
        free(f);
        return rc;
    }
    *ret = f;
    return CM_OK;
}

void redis_feed_free(struct redis_feed *f)
{
    /* In a forked child there is no such thread. */
    if (f == NULL || f->pid != getpid())
        return;
    cm_cancel_fire(f->cancel);
    CM_ASSERT(pthread_join(f->thread, NULL) == 0);
    cm_cancel_free(f->cancel);
    free(f->channel);
    free(f);
}
