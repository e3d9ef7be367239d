/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Locks: a key that ends by itself. For the peers (redislock) its value is any text that nobody
 * else has; ours is
 *
 *   token:fence:since in µs:time to live in ms:holder
 *
 * Time is the server's throughout. */

#define TOKEN_BYTES   16u
#define FENCE_KEPT_MS "2592000000"         /* 30 days: no clock of a server is wrong by more */
#define BUSY_WAIT_NS  (200 * CM_NS_PER_MS) /* peers do not tell when they unlock */
#define PARTS         5u
#define US_MAX        INT64_C(9000000000000000)

void rds_grant_head(const struct cm_grant *g, char ret[80])
{
    (void)snprintf(ret, 80, "%s:%llu:", g->token, (unsigned long long)g->fence);
}

cm_status rds_lost(const struct cm_grant *g, struct cm_err *err)
{
    return cm_fail(err, CM_E_LOCK_LOST, "lock '%s' (fence %llu) is not held any more", g->name,
                   (unsigned long long)g->fence);
}

static void ms_text(int64_t ns, char ret[24])
{
    int64_t ms = ns / CM_NS_PER_MS + (ns % CM_NS_PER_MS > 0 ? 1 : 0);

    (void)snprintf(ret, 24, "%lld", (long long)ms);
}

static cm_status make_token(const struct redis_storage *rs, char ret[48], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(48);
    uint8_t bytes[TOKEN_BYTES];
    cm_status rc = cm_env_random(rs->env, bytes, sizeof bytes, err);

    if (rc == CM_OK)
        rc = cm_b64url_encode((struct cm_span){ bytes, sizeof bytes }, &text, err);
    if (rc == CM_OK)
        memcpy(ret, text.data, text.len + 1);
    return rc;
}

/* An array of texts, the first of which is the word for what happened. */
static bool is_words(const redisReply *r, size_t at_least)
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements == 0 || r->elements < at_least)
        return false;
    for (size_t i = 0; i < r->elements; i++)
        if (r->element[i]->type != REDIS_REPLY_STRING)
            return false;
    return true;
}

static bool says(const redisReply *r, const char *word)
{
    return strcmp(r->element[0]->str, word) == 0;
}

static cm_status busy(const char *name, const redisReply *r, int64_t *ret_wait_ns,
                      struct cm_err *err)
{
    long long left_ms = strtoll(r->element[1]->str, NULL, 10);

    *ret_wait_ns = BUSY_WAIT_NS;
    if (left_ms >= 0 && left_ms < BUSY_WAIT_NS / CM_NS_PER_MS)
        *ret_wait_ns = (left_ms + 1) * CM_NS_PER_MS;
    if (left_ms == -1)
        return cm_fail(err, CM_E_BUSY,
                       "lock '%s' is held by another, and for ever: its key in Redis has no time "
                       "to live; delete it if nobody works under it",
                       name);
    return cm_fail(err, CM_E_BUSY, "lock '%s' is held by another", name);
}

static cm_status granted(const char *name, const redisReply *r, const char *what,
                         struct cm_grant *ret, int64_t *ret_wait_ns, struct cm_err *err)
{
    if (r->type == REDIS_REPLY_ERROR)
        return rds_refused(r, what, err);
    if (!is_words(r, 2) || (!says(r, "ok") && !says(r, "busy")))
        return rds_odd(what, err);
    if (says(r, "busy"))
        return busy(name, r, ret_wait_ns, err);
    ret->fence = strtoull(r->element[1]->str, NULL, 10);
    if (ret->fence == 0)
        return rds_odd(what, err);
    return CM_OK;
}

cm_status rds_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                       int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                       struct cm_err *err)
{
    struct redis_storage *rs = rds_of(st);
    char lock[RDS_NAME_MAX];
    char fence[RDS_NAME_MAX];
    char what[CM_LOCK_NAME_MAX + 16];
    char host[CM_HOST_NAME_BUF];
    char holder[CM_HOST_NAME_BUF + 32];
    char ttl[24];
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;
    cm_status rc = rds_lock_name(rs, name, lock, err);

    if (rc == CM_OK)
        rc = make_token(rs, ret->token, err);
    if (rc != CM_OK)
        return rc;
    bool has_fence = rds_side_name(rs, 'n', lock, fence);
    cm_host_name(host);
    (void)snprintf(holder, sizeof holder, "%s %ld", host, (long)getpid());
    (void)snprintf(what, sizeof what, "lock '%s'", name);
    ms_text(ttl_ns, ttl);
    rds_arg(&a, lock);
    if (has_fence)
        rds_arg(&a, fence);
    rds_arg(&a, ret->token);
    rds_arg(&a, ttl);
    rds_arg(&a, FENCE_KEPT_MS);
    rds_arg(&a, holder);
    rc = rds_eval_texts(rs, op, true, RDS_TRY_LOCK, has_fence ? 2 : 1, &a, &r, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "%s", what);
    rds_check_server(rs, op);
    rc = granted(name, r, what, ret, ret_wait_ns, err);
    freeReplyObject(r);
    return rc;
}

/* A script on the lock that @grant holds, which is given the lock's name, what its value begins
 * with if it is held still, and @more. *ret_gone (NULL: not asked): nobody has it. */
static cm_status ask_held(struct redis_storage *rs, const struct cm_op *op, bool again,
                          enum rds_script script, const struct cm_grant *grant,
                          const char *const more[2], bool *ret_gone, struct cm_err *err)
{
    const char *verb = script == RDS_REFRESH ? "refresh lock" : "unlock";
    char lock[RDS_NAME_MAX];
    char head[80];
    char what[CM_LOCK_NAME_MAX + 24];
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;
    cm_status rc = rds_lock_name(rs, grant->name, lock, err);

    if (rc != CM_OK)
        return rc;
    rds_grant_head(grant, head);
    rds_arg(&a, lock);
    rds_arg(&a, head);
    for (size_t i = 0; i < 2 && more[i] != NULL; i++)
        rds_arg(&a, more[i]);
    (void)snprintf(what, sizeof what, "%s '%s'", verb, grant->name);
    rc = rds_eval_texts(rs, op, again, script, 1, &a, &r, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "%s", what);
    if (r->type == REDIS_REPLY_ERROR) {
        rc = rds_refused(r, what, err);
    } else if (!is_words(r, 1)) {
        rc = rds_odd(what, err);
    } else if (!says(r, "ok")) {
        if (ret_gone != NULL)
            *ret_gone = says(r, "gone");
        rc = rds_lost(grant, err);
    }
    freeReplyObject(r);
    return rc;
}

cm_status rds_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                      struct cm_err *err)
{
    char ttl[24];
    const char *const more[2] = { ttl, NULL };

    ms_text(grant->ttl_ns, ttl);
    return ask_held(rds_of(st), op, true, RDS_REFRESH, grant, more, NULL, err);
}

/* When the first answer was lost, a lock that is gone is one that was given back. */
cm_status rds_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                     struct cm_err *err)
{
    struct redis_storage *rs = rds_of(st);
    const char *const more[2] = { rs->channel, grant->name };
    bool gone = false;
    cm_status rc = ask_held(rs, op, false, RDS_UNLOCK, grant, more, NULL, err);

    if (rc != CM_E_NET)
        return rc;
    rc = ask_held(rs, op, false, RDS_UNLOCK, grant, more, &gone, err);
    return rc == CM_E_LOCK_LOST && gone ? CM_OK : rc;
}

/* ---------------------------------------------------------------- lock_info */

/* token:fence:since:ttl:holder in @text, which is cut up. False: a peer's. */
static bool split(char *text, char *parts[PARTS])
{
    for (size_t i = 0; i < PARTS; i++) {
        parts[i] = text;
        if (i == PARTS - 1)
            return true;
        char *colon = strchr(text, ':');
        if (colon == NULL)
            return false;
        *colon = '\0';
        text = colon + 1;
    }
    return false;
}

static void tell_holder(const char *holder, struct cm_lock_info *ret)
{
    char shown[96];
    const char *space = strchr(holder, ' ');

    if (space == NULL) {
        (void)snprintf(ret->holder, sizeof ret->holder, "another node");
        return;
    }
    (void)cm_escape(holder, (size_t)(space - holder), shown, sizeof shown);
    (void)snprintf(ret->holder, sizeof ret->holder, "host %s, process %ld", shown,
                   strtol(space + 1, NULL, 10));
}

/* What somebody else wrote there may be no number, or any. */
static int64_t number(const char *text, int64_t max)
{
    int64_t n = strtoll(text, NULL, 10);

    return n >= 0 && n <= max ? n : 0;
}

/* {'held', value, ms to live, now in µs} */
static void tell(const redisReply *r, struct cm_lock_info *ret)
{
    int64_t left_ms = strtoll(r->element[2]->str, NULL, 10);
    int64_t now_us = number(r->element[3]->str, US_MAX);
    char *parts[PARTS];

    if (!split(r->element[1]->str, parts)) {
        (void)snprintf(ret->holder, sizeof ret->holder, "another node");
        return;
    }
    int64_t ttl_ms = number(parts[3], US_MAX / 1000);
    tell_holder(parts[4], ret);
    ret->since_ns = number(parts[2], US_MAX) * 1000;
    if (left_ms >= 0 && left_ms <= ttl_ms)
        ret->refreshed_ns = (now_us - (ttl_ms - left_ms) * 1000) * 1000;
    if (ret->refreshed_ns < ret->since_ns)
        ret->refreshed_ns = ret->since_ns; /* ms and µs */
}

cm_status rds_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                        struct cm_lock_info *ret, struct cm_err *err)
{
    struct redis_storage *rs = rds_of(st);
    char lock[RDS_NAME_MAX];
    char what[CM_LOCK_NAME_MAX + 24];
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;
    cm_status rc = rds_lock_name(rs, name, lock, err);

    if (rc != CM_OK)
        return rc;
    rds_arg(&a, lock);
    (void)snprintf(what, sizeof what, "look at lock '%s'", name);
    rc = rds_eval_texts(rs, op, true, RDS_LOCK_INFO, 1, &a, &r, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "%s", what);
    if (r->type == REDIS_REPLY_ERROR)
        rc = rds_refused(r, what, err);
    else if (!is_words(r, 1))
        rc = rds_odd(what, err);
    else if (says(r, "held") && is_words(r, 4))
        tell(r, ret);
    else
        rc = cm_fail(err, CM_E_NOTFOUND, "nobody holds the lock '%s'", name);
    freeReplyObject(r);
    return rc;
}
