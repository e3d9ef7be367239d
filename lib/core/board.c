/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* Answers to challenges that this process has open. There are few at a time, so it is a list with
 * a bound. */

#define ENTRIES_MAX 10000u

struct posting {
    struct posting *next;
    char *type;
    char *ident;
    char *token;
    char *key_authorization;
    struct cm_cert *cert; /* tls-alpn-01 */
};

struct cm_board {
    pthread_mutex_t lock;
    const struct cm_env *env;
    struct posting *first;
    size_t n;
    cm_thumbprint_fn thumbprint; /* set once, or NULL */
    void *user;
};

cm_status cm_board_new_env(const struct cm_env *env, struct cm_board **ret, struct cm_err *err)
{
    struct cm_board *b = cm_calloc(1, sizeof *b);

    if (b == NULL)
        return cm_fail_nomem(err);
    b->env = env != NULL ? env : cm_env_system();
    cm_mutex_init(&b->lock);
    *ret = b;
    return CM_OK;
}

cm_status cm_board_new(struct cm_board **ret, struct cm_err *err)
{
    return cm_board_new_env(NULL, ret, err);
}

static void posting_free(struct posting *p)
{
    if (p == NULL)
        return;
    free(p->type);
    free(p->ident);
    free(p->token);
    free(p->key_authorization);
    cm_cert_unref(p->cert);
    free(p);
}

void cm_board_free(struct cm_board *b)
{
    if (b == NULL)
        return;
    while (b->first != NULL) {
        struct posting *p = b->first;

        b->first = p->next;
        posting_free(p);
    }
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
}

static struct posting **find_locked(struct cm_board *b, const char *type, const char *ident)
{
    struct posting **at = &b->first;

    while (*at != NULL && (strcmp((*at)->ident, ident) != 0 || strcmp((*at)->type, type) != 0))
        at = &(*at)->next;
    return at;
}

static cm_status posting_new(const struct cm_env *env, const struct cm_challenge *ch,
                             struct posting **ret, struct cm_err *err)
{
    char ident[CM_NAME_BUF];
    cm_status rc = cm_name_normalize(ch->ident, CM_NAME_FLAGS, ident, err);

    if (rc != CM_OK)
        return rc;
    struct posting *p = cm_calloc(1, sizeof *p);
    if (p == NULL)
        return cm_fail_nomem(err);
    p->type = cm_strdup(ch->type);
    p->ident = cm_strdup(ident);
    p->token = cm_strdup(ch->token);
    p->key_authorization = cm_strdup(ch->key_authorization);
    if (p->type == NULL || p->ident == NULL || p->token == NULL || p->key_authorization == NULL)
        rc = cm_fail_nomem(err);
    if (rc == CM_OK && strcmp(ch->type, "tls-alpn-01") == 0)
        rc = cm_challenge_cert(env, ident, ch->key_authorization, &p->cert, err);
    if (rc != CM_OK) {
        posting_free(p);
        return rc;
    }
    *ret = p;
    return CM_OK;
}

cm_status cm_board_put(struct cm_board *b, const struct cm_challenge *ch, struct cm_err *err)
{
    struct posting *p = NULL;
    struct posting *old;

    if (b == NULL || ch == NULL || ch->type == NULL || ch->ident == NULL || ch->token == NULL ||
        ch->key_authorization == NULL)
        return cm_fail(err, CM_E_INVAL, "an incomplete challenge cannot be answered");
    cm_status rc = posting_new(b->env, ch, &p, err);
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&b->lock);
    struct posting **at = find_locked(b, p->type, p->ident);
    old = *at;
    if (old == NULL && b->n >= ENTRIES_MAX) {
        rc = cm_fail(err, CM_E_LIMIT, "%u challenges are open already", ENTRIES_MAX);
        old = p;
    } else {
        b->n += old == NULL;
        p->next = old != NULL ? old->next : NULL;
        *at = p;
    }
    cm_mutex_unlock(&b->lock);
    posting_free(old);
    return rc;
}

void cm_board_remove(struct cm_board *b, const struct cm_challenge *ch)
{
    char ident[CM_NAME_BUF];
    struct posting *old = NULL;

    if (b == NULL || ch == NULL || ch->type == NULL || ch->ident == NULL || ch->token == NULL ||
        cm_name_normalize(ch->ident, CM_NAME_FLAGS, ident, NULL) != CM_OK)
        return;
    cm_mutex_lock(&b->lock);
    struct posting **at = find_locked(b, ch->type, ident);
    if (*at != NULL && strcmp((*at)->token, ch->token) == 0) {
        old = *at;
        *at = old->next;
        b->n--;
    }
    cm_mutex_unlock(&b->lock);
    posting_free(old);
}

struct cm_cert *cm_board_cert(struct cm_board *b, const char *ident)
{
    struct cm_cert *cert = NULL;

    cm_mutex_lock(&b->lock);
    const struct posting *p = *find_locked(b, "tls-alpn-01", ident);
    if (p != NULL)
        cert = cm_cert_ref(p->cert);
    cm_mutex_unlock(&b->lock);
    return cert;
}

cm_status cm_board_http(struct cm_board *b, const char *host, const char *token, struct cm_buf *ret,
                        struct cm_err *err)
{
    cm_status rc = CM_E_NOTFOUND;

    cm_mutex_lock(&b->lock);
    const struct posting *p = *find_locked(b, "http-01", host);
    if (p != NULL && cm_equal_ct(cm_span_str(p->token), cm_span_str(token)))
        rc = cm_buf_puts(ret, p->key_authorization, err);
    else
        rc = cm_fail(err, rc, "no open http-01 challenge for '%s' with this token", host);
    cm_mutex_unlock(&b->lock);
    return rc;
}

/* ------------------------------------------------------ http-01 without tokens */

cm_status cm_board_set_thumbprint(struct cm_board *b, cm_thumbprint_fn fn, void *user,
                                  struct cm_err *err)
{
    bool taken;

    if (b == NULL || fn == NULL)
        return cm_fail(err, CM_E_INVAL, "no board, or nobody who knows the thumbprint");
    cm_mutex_lock(&b->lock);
    taken = b->thumbprint != NULL;
    if (!taken) {
        b->thumbprint = fn;
        b->user = user;
    }
    cm_mutex_unlock(&b->lock);
    if (!taken)
        return CM_OK;
    return cm_fail(err, CM_E_EXISTS, "http-01 without tokens is for one CA of a config only");
}

bool cm_board_is_stateless(struct cm_board *b)
{
    cm_mutex_lock(&b->lock);
    bool is = b->thumbprint != NULL;
    cm_mutex_unlock(&b->lock);
    return is;
}

cm_status cm_board_stateless(struct cm_board *b, const struct cm_op *op, const char *token,
                             struct cm_buf *ret, struct cm_err *err)
{
    char thumbprint[44] = "";
    cm_thumbprint_fn fn;
    void *user;

    cm_mutex_lock(&b->lock);
    fn = b->thumbprint;
    user = b->user;
    cm_mutex_unlock(&b->lock);
    if (fn == NULL)
        return cm_fail(err, CM_E_NOTFOUND, "http-01 is answered by tokens only");
    cm_status rc = fn(user, op, thumbprint, err);
    thumbprint[sizeof thumbprint - 1] = '\0';
    return rc == CM_OK ? cm_buf_printf(ret, err, "%s.%s", token, thumbprint) : rc;
}
