/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"

#include <stdio.h>
#include <string.h>

/* What a manager answers on the plain port: challenges, and redirects. */

#define CHALLENGE_DIR "/.well-known/acme-challenge/"
#define TARGET_MAX    2000u

static cm_status reply(struct cm_autocert_reply *r, int status, const char *text,
                       struct cm_err *err)
{
    r->status = status;
    return cm_buf_puts(&r->body, text, err);
}

/* Host header to @name without port, and to @bracketed as it stands in a URL. */
static bool host_of(const char *host, char name[CM_NAME_BUF], char bracketed[CM_NAME_BUF + 2])
{
    char bare[CM_NAME_BUF + 16];
    size_t len = host != NULL ? strlen(host) : 0;
    char *port;

    if (len == 0 || len >= sizeof bare)
        return false;
    memcpy(bare, host, len + 1);
    port = bare[0] == '[' ? strchr(bare, ']') : bare;
    port = port != NULL ? strchr(port, ':') : NULL;
    if (port != NULL && port[1 + strspn(port + 1, "0123456789")] != '\0')
        return false;
    if (port != NULL)
        *port = '\0';
    if (cm_name_normalize(bare, CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE, name, NULL) != CM_OK)
        return false;
    (void)snprintf(bracketed, CM_NAME_BUF + 2, strchr(name, ':') != NULL ? "[%s]" : "%s", name);
    return true;
}

/* It goes into a header. */
static bool target_is_clean(const char *target)
{
    size_t len = target != NULL ? strlen(target) : 0;

    if (len == 0 || len > TARGET_MAX || target[0] != '/')
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)target[i] <= 0x20 || (unsigned char)target[i] >= 0x7f)
            return false;
    return true;
}

static cm_status redirect(const char *method, const char *host, const char *target,
                          struct cm_autocert_reply *r, struct cm_err *err)
{
    char name[CM_NAME_BUF], bracketed[CM_NAME_BUF + 2];

    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return reply(r, 400, "Use HTTPS\n", err);
    if (!host_of(host, name, bracketed) || !target_is_clean(target))
        return reply(r, 400, "Bad request\n", err);
    (void)snprintf(r->location, sizeof r->location, "https://%s%s", bracketed, target);
    return reply(r, 302, "Use HTTPS\n", err);
}

/* This process's answer, else what another one that shares the cache has put there. */
static cm_status find_token(struct cm_autocert *m, const struct cm_op *op, const char *method,
                            const char *host, const char *target, struct cm_buf *ret,
                            struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf blob = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    const char *token = target + sizeof CHALLENGE_DIR - 1;
    size_t len = strlen(token);
    cm_status rc = CM_E_NOTFOUND;

    for (size_t i = 0; i < CM_ARRAY_LEN(m->half) && rc != CM_OK; i++)
        rc = cm_http01_handle(m->half[i].cfg, op, method, host, target, ret, err);
    if (rc == CM_OK)
        return rc;
    if (m->cache == NULL || len == 0 || len > 128 || !cm_is_b64url(token, len))
        return cm_fail(err, CM_E_NOTFOUND, "no such challenge");
    CM_AUTO_FREE char *name = cm_asprintf("%s" AUTOCERT_HTTP, token);
    if (name == NULL)
        return cm_fail_nomem(err);
    rc = cm_autocert_cache_get(m->cache, op, name, &blob, err);
    /* RFC 8555 8.1: a key authorization begins with its token, and nothing else is sent for us. */
    if (rc == CM_OK &&
        (blob.len <= len || memcmp(blob.data, token, len) != 0 || blob.data[len] != '.'))
        rc = cm_fail(err, CM_E_NOTFOUND, "'%s' in the autocert cache is no answer", name);
    return rc == CM_OK ? cm_buf_append(ret, blob.data, blob.len, err) : rc;
}

static cm_status challenge(struct cm_autocert *m, const struct cm_op *op, const char *method,
                           const char *host, const char *target, struct cm_autocert_reply *r,
                           struct cm_err *err)
{
    char name[CM_NAME_BUF], bracketed[CM_NAME_BUF + 2];
    struct cm_err why = CM_ERR_INIT;

    if (!host_of(host, name, bracketed))
        return reply(r, 400, "Bad request\n", err);
    if (autocert_allowed(m, op, name, &why) != CM_OK)
        return reply(r, 403, "Forbidden\n", err);
    if (find_token(m, op, method, host, target, &r->body, &why) != CM_OK)
        return reply(r, 404, "Not found\n", err);
    r->status = 200;
    return CM_OK;
}

cm_status cm_autocert_http(struct cm_autocert *m, const struct cm_op *op, const char *method,
                           const char *host, const char *target, bool has_fallback,
                           struct cm_autocert_reply *ret, struct cm_err *err)
{
    struct cm_autocert_reply r = CM_AUTOCERT_REPLY_INIT;
    cm_status rc;

    if (m == NULL || method == NULL || target == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "autocert: no manager, request or place for the reply");
    const struct cm_op limited = autocert_op(m, op, m->token_timeout_ns);
    if (strncmp(target, CHALLENGE_DIR, sizeof CHALLENGE_DIR - 1) == 0)
        rc = challenge(m, &limited, method, host, target, &r, err);
    else if (has_fallback)
        return cm_fail(err, CM_E_NOTFOUND, "not a challenge");
    else
        rc = redirect(method, host, target, &r, err);
    if (rc == CM_OK)
        *ret = r;
    else
        cm_buf_free(&r.body);
    return rc;
}
