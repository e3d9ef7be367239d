/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

/* What time it is at the CA. Every answer tells (RFC 9110 6.6.1), so this costs nothing. Kept is
 * the CA's time beside our monotonic clock: then a wall clock that is set later shows at once, in
 * either direction, without another request. */

/* The monotonic clock stands still while a machine sleeps, so an old comparison that alarms may be
 * wrong itself. */
#define FRESH_NS (60 * CM_NS_PER_S)

void cm__acme_clock_note(struct cm_acme *a, const struct cm_op *op,
                         const struct cm_http_response *resp)
{
    const struct cm_env *env = cm_op_env(op);
    struct cm_span v;
    int64_t at_s;

    /* What comes out of a cache has the date of when it went in. */
    if (cm_http_header(resp, "age", 0, &v) || !cm_http_header(resp, "date", 0, &v) ||
        cm_time_parse_http_date(v, cm_env_wall_s(env), &at_s, NULL) != CM_OK)
        return;
    cm_mutex_lock(&a->lock);
    a->clock_known = true;
    a->clock_ca_s = at_s;
    a->clock_mono_ns = env->mono_ns(env);
    cm_mutex_unlock(&a->lock);
}

static bool skew_now(struct cm_acme *a, const struct cm_env *env, int64_t *ret_skew_s,
                     int64_t *ret_age_ns)
{
    cm_mutex_lock(&a->lock);
    bool known = a->clock_known;
    int64_t ca_s = a->clock_ca_s;
    int64_t at_ns = a->clock_mono_ns;
    cm_mutex_unlock(&a->lock);

    *ret_age_ns = known ? env->mono_ns(env) - at_ns : INT64_MAX;
    if (known)
        *ret_skew_s = cm_env_wall_s(env) - (ca_s + *ret_age_ns / CM_NS_PER_S);
    return known;
}

static cm_status ask(struct cm_acme *a, const struct cm_op *op, struct cm_err *err)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = a->directory_url,
                                         .accept = "application/json",
                                         .max_body = CM_ACME_JSON_MAX,
                                         .follow = true };
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    cm_status rc = cm__acme_get(a, op, &req, "the directory", &resp, err);

    cm_http_response_free(&resp);
    return rc;
}

cm_status cm_acme_clock_skew(struct cm_acme *a, const struct cm_op *op, int64_t alarm_s,
                             int64_t *ret_skew_s, struct cm_err *err)
{
    const struct cm_env *env = cm_op_env(op);
    int64_t skew_s = 0;
    int64_t age_ns;
    cm_status rc;

    if (skew_now(a, env, &skew_s, &age_ns) &&
        ((skew_s <= alarm_s && skew_s >= -alarm_s) || age_ns < FRESH_NS)) {
        *ret_skew_s = skew_s;
        return CM_OK;
    }
    rc = ask(a, op, err);
    if (rc != CM_OK)
        return rc;
    if (!skew_now(a, env, &skew_s, &age_ns) || age_ns >= FRESH_NS)
        return cm_fail(err, CM_E_NOTFOUND, "the CA's answers have no date");
    *ret_skew_s = skew_s;
    return CM_OK;
}
