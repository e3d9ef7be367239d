/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>

/* Source: RFC 8555 6.5, 7.2. Every answer brings a nonce, so a client that keeps them needs
 * newNonce only when it starts or grows. A nonce leaves the pool when it is taken and never comes
 * back: what became of the request makes no difference. */

/* CAs forget nonces, some within minutes; a refused one costs as much as a new one. */
#define NONCE_AGE_NS (5 * 60 * CM_NS_PER_S)

void cm__acme_nonce_of(const struct cm_http_response *resp, char *out)
{
    struct cm_span v;

    out[0] = '\0';
    if (!cm_http_header(resp, "replay-nonce", 0, &v) || v.len > CM_ACME_NONCE_MAX ||
        !cm_is_b64url((const char *)v.data, v.len))
        return;
    memcpy(out, v.data, v.len);
    out[v.len] = '\0';
}

void cm__acme_nonce_put(struct cm_acme *a, const struct cm_op *op, const char *nonce)
{
    const struct cm_env *env = cm_op_env(op);
    struct acme_nonce *to;

    if (nonce[0] == '\0')
        return;
    cm_mutex_lock(&a->lock);
    if (a->n_nonces == CM_ACME_NONCES_MAX) { /* the oldest makes room */
        memmove(&a->nonces[0], &a->nonces[1], sizeof a->nonces - sizeof a->nonces[0]);
        a->n_nonces--;
    }
    to = &a->nonces[a->n_nonces++];
    to->got_ns = env->mono_ns(env);
    memcpy(to->text, nonce, strnlen(nonce, CM_ACME_NONCE_MAX) + 1);
    to->text[CM_ACME_NONCE_MAX] = '\0';
    CM_ASSERT(pthread_cond_broadcast(&a->changed) == 0);
    cm_mutex_unlock(&a->lock);
}

static bool pop_locked(struct cm_acme *a, const struct cm_op *op, char *out)
{
    const struct cm_env *env = cm_op_env(op);
    const struct acme_nonce *top;

    if (a->n_nonces == 0)
        return false;
    top = &a->nonces[a->n_nonces - 1];
    if (env->mono_ns(env) - top->got_ns > NONCE_AGE_NS) {
        a->n_nonces = 0; /* those below are older still */
        return false;
    }
    memcpy(out, top->text, strlen(top->text) + 1);
    a->n_nonces--;
    return true;
}

/* RFC 8555 7.2: HEAD newNonce answers 200; some CAs say 204, which serves as well. */
static cm_status fetch_once(struct cm_acme *a, const struct cm_op *op, char *out,
                            struct cm_err *err)
{
    const struct cm_acme_directory *d = NULL;
    struct cm_http_request req = { .method = "HEAD", .max_body = CM_ACME_PROBLEM_MAX };
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    cm_status rc = cm_acme_directory(a, op, &d, err);

    if (rc != CM_OK)
        return rc;
    req.url = d->new_nonce;
    rc = cm__acme_check_url(a, req.url, "newNonce", &req.refuse_local, err);
    if (rc == CM_OK)
        rc = cm__acme_get(a, op, &req, "newNonce", &resp, err);
    if (rc == CM_OK) {
        cm__acme_nonce_of(&resp, out);
        if (out[0] == '\0') {
            rc = cm_fail(err, CM_E_ACME, "the CA's newNonce brings no usable nonce");
            if (err != NULL)
                err->whole_ca = true;
        }
    }
    cm_http_response_free(&resp);
    return rc;
}

static cm_status fetch(struct cm_acme *a, const struct cm_op *op, char *out, struct cm_err *err)
{
    cm_status rc = fetch_once(a, op, out, err);
    bool changed = false;

    if (rc != CM_OK && (err->http_status == 404 || err->http_status == 405)) {
        cm__acme_directory_refresh(a, op, &changed);
        if (changed)
            rc = fetch_once(a, op, out, err);
    }
    return rc;
}

/* One HEAD at a time: others may meanwhile be served by a nonce that an answer brings, and a CA
 * that is down hears from us once, not once per thread. */
cm_status cm__acme_nonce_take(struct cm_acme *a, const struct cm_op *op, char *out,
                              struct cm_err *err)
{
    struct cm_err mine = CM_ERR_INIT;
    cm_status rc = CM_OK;

    cm_mutex_lock(&a->lock);
    for (;;) {
        if (pop_locked(a, op, out))
            break;
        if (a->nonce_flight.busy) {
            rc = cm__acme_flight_wait_locked(a, &a->nonce_flight, op, err);
            if (rc != CM_OK)
                break;
            continue;
        }
        cm__acme_flight_begin_locked(&a->nonce_flight);
        cm_mutex_unlock(&a->lock);
        rc = fetch(a, op, out, &mine);
        cm_mutex_lock(&a->lock);
        cm__acme_flight_end_locked(a, &a->nonce_flight, op, rc, &mine);
        if (rc != CM_OK && err != NULL)
            *err = mine;
        break;
    }
    cm_mutex_unlock(&a->lock);
    return rc;
}
