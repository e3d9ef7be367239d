/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "record.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* When a name that failed is tried again. The memory of it is in storage: a process that crashes
 * and starts in a loop, or each of a hundred nodes, must not begin anew with one attempt after the
 * other and spend what the CA allows in failures.
 *
 * Three kinds of failure:
 *  - most may be over by themselves (network, CA, DNS, CAA: somebody mends a zone any minute, and
 *    CAs tell failures of the resolver as CAA, too): the schedule;
 *  - what the CA says is final (its policy on the name, terms that changed, a key or a profile that
 *    it does not take): somebody may change that at the CA, which is not seen here: once a day;
 *  - what is refused here, before the CA hears of it (POLICY, INVAL): never again by this process,
 *    but at once by the next, as it may have another configuration and asking costs no order. */

#define MINUTE_S     60
#define HOUR_S       (60 * MINUTE_S)
#define DAY_S        (24 * HOUR_S)
#define SHORT_LIFE_S (30 * MINUTE_S)
#define ATTEMPTS_MAX 1000000u
/* No stamp of ours is further ahead: a day, a fifth more, and clocks that differ a little. */
#define AHEAD_MAX_S (30 * HOUR_S)

/* ---- the schedule ---- */

int64_t cm_retry_delay_s(unsigned attempts, uint64_t dice)
{
    static const int64_t steps[] = { MINUTE_S,      2 * MINUTE_S,  5 * MINUTE_S, 10 * MINUTE_S,
                                     20 * MINUTE_S, 40 * MINUTE_S, HOUR_S,       2 * HOUR_S,
                                     4 * HOUR_S,    8 * HOUR_S,    16 * HOUR_S,  DAY_S };
    size_t i = attempts > 0 ? attempts - 1 : 0;
    int64_t base = steps[i < CM_ARRAY_LEN(steps) ? i : CM_ARRAY_LEN(steps) - 1];
    int64_t fifth = base / 5;

    return base - fifth + (int64_t)(dice % (uint64_t)(2 * fifth + 1));
}

enum kind { KIND_PASSING, KIND_DAILY, KIND_FINAL };

static enum kind kind_of(const struct cm_err *why)
{
    /* Also of an issuer that does not say no_retry of them. RFC 8555 6.7. */
    static const char *const daily[] = { "rejectedIdentifier", "unsupportedIdentifier",
                                         "userActionRequired" };
    const char *colon = strrchr(why->problem, ':');
    const char *type = colon != NULL ? colon + 1 : why->problem;

    if (why->status == CM_E_POLICY || why->status == CM_E_INVAL)
        return KIND_FINAL;
    for (size_t i = 0; i < CM_ARRAY_LEN(daily); i++)
        if (strcmp(type, daily[i]) == 0)
            return KIND_DAILY;
    if (why->no_retry)
        return why->problem[0] != '\0' ? KIND_DAILY : KIND_FINAL;
    return KIND_PASSING;
}

/* The CA's wish, as far as it is to be obeyed: a year by mistake must not outlast the certificate.
 */
static int64_t wish_of(const struct cm_config *cfg, const struct cm_subject *s,
                       const struct cm_err *why)
{
    if (why->retry_after_s <= DAY_S)
        return why->retry_after_s > 0 ? why->retry_after_s : 0;
    cm_logf(&cfg->log, CM_LOG_WARN, "retry_after_too_long", NULL, 0,
            "'%s' is not to be tried for %lld s, says the CA; it is tried again in a day", s->ident,
            (long long)why->retry_after_s);
    return DAY_S;
}

/* The next moment at which it gets more urgent, if that is before @next_s. Lives below half an hour
 * are over before the schedule has begun: there a quarter of what is left is waited. */
static int64_t brought_forward(const struct cm_config *cfg, const struct cm_cert *old,
                               int64_t now_s, int64_t next_s)
{
    struct cm_when when;

    if (old == NULL)
        return next_s;
    cm_when_for(cfg, old, NULL, &when);
    int64_t tier_s = cm_when_next_tier_s(old, &when, now_s);
    if (tier_s < next_s)
        next_s = tier_s;
    int64_t left_s = old->not_after_s + 1 - now_s;
    if (old->not_after_s - old->not_before_s < SHORT_LIFE_S && left_s > 0 &&
        now_s + left_s / 4 + 1 < next_s)
        next_s = now_s + left_s / 4 + 1;
    return next_s;
}

static int64_t next_try_s(const struct cm_config *cfg, const struct cm_subject *s,
                          const struct cm_cert *old, const struct cm_err *why, unsigned attempts,
                          int64_t now_s)
{
    enum kind kind = kind_of(why);
    uint64_t dice = cm_random_below(cfg->env, UINT64_MAX);

    if (kind == KIND_FINAL)
        return INT64_MAX;
    int64_t next_s = now_s + cm_retry_delay_s(kind == KIND_DAILY ? ATTEMPTS_MAX : attempts, dice);
    next_s = brought_forward(cfg, old, now_s, next_s);
    int64_t wish_s = wish_of(cfg, s, why);
    if (next_s < now_s + wish_s) /* not all at the very moment */
        next_s = now_s + wish_s + (int64_t)(dice % (uint64_t)(wish_s / 10 + 1));
    return next_s;
}

/* ---- the record ---- */

static cm_status path_of(const char *dir, char ret[CM_KEY_BUF], struct cm_err *err)
{
    int n = snprintf(ret, CM_KEY_BUF, CM_RETRY_DIR "/%s", dir);

    if (n < 0 || n >= (int)CM_KEY_BUF)
        return cm_fail(err, CM_E_INVAL, "no storage key for '%s': it is too long", dir);
    return CM_OK;
}

static bool status_of(const char *name, cm_status *ret)
{
#define STATUS_IS(x, value, text)                                                                  \
    if (strcmp(name, "CM_" #x) == 0) {                                                             \
        *ret = CM_##x;                                                                             \
        return true;                                                                               \
    }
    CM_STATUS_MAP(STATUS_IS)
#undef STATUS_IS
    return false;
}

static bool parse(struct json_object *o, struct cm_retry *r)
{
    char status[32];

    return cm_record_get_number(o, "attempts", &r->attempts) && r->attempts > 0 &&
           cm_record_get_time(o, "first", &r->first_s) &&
           cm_record_get_time(o, "last", &r->last_s) && r->last_s > 0 &&
           cm_record_get_time(o, "next", &r->next_s) &&
           cm_record_get_flag(o, "no_retry", &r->no_retry) &&
           cm_record_get_text(o, "status", status, sizeof status) &&
           status_of(status, &r->status) &&
           cm_record_get_text(o, "issuer", r->issuer_key, sizeof r->issuer_key) &&
           cm_record_get_text(o, "problem", r->problem, sizeof r->problem) &&
           cm_record_get_text(o, "error", r->msg, sizeof r->msg);
}

/* A clock that was wrong when it was written must not keep the name from being tried. */
static void mend_times(struct cm_retry *r, int64_t now_s)
{
    if (r->last_s > now_s)
        r->last_s = now_s;
    if (r->first_s > r->last_s || r->first_s == 0)
        r->first_s = r->last_s;
    if (r->no_retry || r->next_s - now_s > AHEAD_MAX_S)
        r->next_s = now_s;
    if (r->attempts > ATTEMPTS_MAX)
        r->attempts = ATTEMPTS_MAX;
}

cm_status cm_retry_load(struct cm_config *cfg, const struct cm_op *op, const char *dir,
                        struct cm_retry *ret, struct cm_err *err)
{
    struct json_object *o = NULL;
    char key[CM_KEY_BUF];
    struct cm_retry r;

    memset(&r, 0, sizeof r);
    cm_status rc = path_of(dir, key, err);
    if (rc == CM_OK)
        rc = cm_record_load(cfg, op, key, &o, err);
    if (rc != CM_OK)
        return rc;
    bool good = parse(o, &r);
    (void)json_object_put(o);
    if (!good)
        return cm_record_is_damaged(cfg, key, "it lacks something or has it in a wrong form", err);
    mend_times(&r, cm_env_wall_s(cfg->env));
    *ret = r;
    return CM_OK;
}

static void store(struct cm_config *cfg, const struct cm_op *op, const char *dir,
                  const struct cm_retry *r)
{
    struct cm_record rec;
    char key[CM_KEY_BUF];

    if (path_of(dir, key, NULL) != CM_OK)
        return;
    cm_record_begin(&rec);
    cm_record_number(&rec, "attempts", r->attempts);
    cm_record_time(&rec, "first", r->first_s);
    cm_record_time(&rec, "last", r->last_s);
    if (!r->no_retry)
        cm_record_time(&rec, "next", r->next_s);
    cm_record_flag(&rec, "no_retry", r->no_retry);
    cm_record_text(&rec, "status", cm_status_name(r->status));
    cm_record_text(&rec, "issuer", r->issuer_key);
    cm_record_text(&rec, "problem", r->problem);
    cm_record_text(&rec, "error", r->msg);
    cm_peers_writing(cfg, key);
    (void)cm_record_store(cfg, op, key, &rec, NULL);
    cm_peers_written(cfg, key);
}

/* ---- what happened ---- */

static void keep(char *to, size_t size, const char *text)
{
    (void)cm_escape(text, strlen(text), to, size);
}

void cm_retry_note(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                   const struct cm_cert *old, const char *issuer_key, const struct cm_err *why,
                   struct cm_retry *io)
{
    int64_t now_s = cm_env_wall_s(cfg->env);

    if (why->status == CM_E_CANCELED)
        return;
    if (why->status == CM_E_AGAIN) {
        int64_t wish_s = wish_of(cfg, s, why);

        io->next_s = now_s + (wish_s > 0 ? wish_s : MINUTE_S);
        return;
    }
    if (io->attempts < ATTEMPTS_MAX)
        io->attempts++;
    if (io->attempts == 1 || io->first_s > now_s)
        io->first_s = now_s;
    io->last_s = now_s;
    io->next_s = next_try_s(cfg, s, old, why, io->attempts, now_s);
    io->no_retry = io->next_s == INT64_MAX;
    io->status = why->status;
    keep(io->issuer_key, sizeof io->issuer_key, issuer_key != NULL ? issuer_key : "");
    keep(io->problem, sizeof io->problem, why->problem);
    keep(io->msg, sizeof io->msg, why->msg);
    store(cfg, op, s->dir, io);
}

void cm_retry_clear(struct cm_config *cfg, const struct cm_op *op, const char *dir)
{
    struct cm_err err = CM_ERR_INIT;
    char key[CM_KEY_BUF];

    if (path_of(dir, key, NULL) != CM_OK)
        return;
    cm_peers_writing(cfg, key);
    cm_status rc = cm_record_remove(cfg, op, key, &err);
    cm_peers_written(cfg, key);
    if (rc != CM_OK)
        cm_logf(&cfg->log, CM_LOG_DEBUG, "note_left", NULL, 0, "remove '%s': %s", key, err.msg);
}
