/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *cm_status_text(cm_status rc)
{
#define STATUS_TEXT(name, value, text)                                                             \
    case CM_##name:                                                                                \
        return text;
    switch (rc) {
        CM_STATUS_MAP(STATUS_TEXT)
    }
#undef STATUS_TEXT
    return "unknown status";
}

const char *cm_status_name(cm_status rc)
{
#define STATUS_NAME(name, value, text)                                                             \
    case CM_##name:                                                                                \
        return "CM_" #name;
    switch (rc) {
        CM_STATUS_MAP(STATUS_NAME)
    }
#undef STATUS_NAME
    return "CM_E_UNKNOWN";
}

bool cm_status_is_damage(cm_status rc)
{
    return rc == CM_E_PARSE || rc == CM_E_KEY || rc == CM_E_CERT || rc == CM_E_LIMIT;
}

/* Text is made aside and copied then: arguments may point into the cm_err that is being filled. */
static void put_message(struct cm_err *err, const char *text)
{
    size_t n = strnlen(text, sizeof err->msg - 1);

    memcpy(err->msg, text, n);
    err->msg[n] = '\0';
}

static void fill(struct cm_err *err, cm_status rc, const char *text)
{
    memset(err, 0, sizeof *err);
    err->status = rc;
    put_message(err, text);
}

static CM_PRINTF(3, 0) void format(char *out, size_t size, const char *fmt, va_list ap)
{
    if (vsnprintf(out, size, fmt, ap) < 0)
        out[0] = '\0';
}

static void append(char *text, size_t size, const char *more)
{
    size_t at = strnlen(text, size - 1);
    size_t n = strnlen(more, size - 1 - at);

    memcpy(text + at, more, n);
    text[at + n] = '\0';
}

cm_status cm_fail(struct cm_err *err, cm_status rc, const char *fmt, ...)
{
    int saved = errno;
    char text[sizeof err->msg];
    va_list ap;

    if (err != NULL) {
        va_start(ap, fmt);
        format(text, sizeof text, fmt, ap);
        va_end(ap);
        fill(err, rc, text);
    }
    errno = saved;
    return rc;
}

static cm_status status_of_errno(int e)
{
    switch (e) {
    case ENOENT:
        return CM_E_NOTFOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return CM_E_PERM;
    case ENOMEM:
        return CM_E_NOMEM;
    default:
        return CM_E_IO;
    }
}

cm_status cm_fail_errno(struct cm_err *err, const char *fmt, ...)
{
    int saved = errno;
    cm_status rc = status_of_errno(saved);
    char text[sizeof err->msg];
    va_list ap;

    if (err != NULL) {
        va_start(ap, fmt);
        format(text, sizeof text, fmt, ap);
        va_end(ap);
        /* strerror() keeps its buffer per thread in glibc >= 2.32 and in musl. */
        append(text, sizeof text, ": ");
        append(text, sizeof text, strerror(saved));
        fill(err, rc, text);
        err->sys_errno = saved;
    }
    errno = saved;
    return rc;
}

cm_status cm_wrap(struct cm_err *err, cm_status rc, const char *fmt, ...)
{
    int saved = errno;
    char text[sizeof err->msg];
    va_list ap;

    if (err != NULL) {
        va_start(ap, fmt);
        format(text, sizeof text, fmt, ap);
        va_end(ap);
        append(text, sizeof text, ": ");
        append(text, sizeof text, err->msg[0] != '\0' ? err->msg : cm_status_text(rc));
        err->status = rc;
        put_message(err, text);
    }
    errno = saved;
    return rc;
}

/* A wrong "yes" costs some attempts spaced by back-off; a wrong "no" costs a certificate. So what
 * a peer, a disk or the moment may have caused is retried; what only a person can change is not. */
bool cm_status_is_retryable(cm_status rc, const struct cm_err *err)
{
    if (err != NULL && err->no_retry)
        return false;
    switch (rc) {
    case CM_E_NOMEM:
    case CM_E_IO:
    case CM_E_PARSE: /* of a CA's answer: a maintenance page instead of JSON */
    case CM_E_LIMIT: /* the same, and it is a long one */
    case CM_E_TIMEOUT:
    case CM_E_AGAIN:
    case CM_E_BUSY:
    case CM_E_LOCK_LOST:
    case CM_E_NET:
    case CM_E_TLS:
    case CM_E_ACME:
    case CM_E_RATELIMITED:
    case CM_E_CERT: /* not yet valid by a clock that is a little late */
        return true;
    case CM_OK:
    case CM_E_INVAL:
    case CM_E_NOTFOUND:
    case CM_E_EXISTS:
    case CM_E_PERM:
    case CM_E_CANCELED:
    case CM_E_UNSUPPORTED:
    case CM_E_POLICY:
    case CM_E_KEY:
    case CM_E_STATE:
    case CM_E_INTERNAL:
        return false;
    }
    return false;
}
