/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <stdio.h>
#include <string.h>

#define BUF_FIRST_CAP 64u

void cm_wipe(void *p, size_t len)
{
    if (p != NULL && len > 0)
        explicit_bzero(p, len);
}

struct cm_span cm_span_str(const char *s)
{
    struct cm_span span = { NULL, 0 };

    if (s != NULL) {
        span.data = (const uint8_t *)s;
        span.len = strlen(s);
    }
    return span;
}

static void release(uint8_t *data, size_t cap, bool secret)
{
    if (secret)
        cm_wipe(data, cap);
    free(data);
}

/* The memory for @extra more bytes and a NUL. When it moves, the old block is handed out in @old
 * (with its size) instead of being freed: the bytes to append may lie in it. */
static cm_status grow(struct cm_buf *b, size_t extra, uint8_t **old, size_t *old_cap,
                      struct cm_err *err)
{
    size_t need;
    size_t cap;
    uint8_t *data;

    *old = NULL;
    *old_cap = 0;
    if (b->len > b->max || extra > b->max - b->len || b->max == SIZE_MAX)
        return cm_fail(err, CM_E_LIMIT, "more than %zu bytes", b->max);
    need = b->len + extra + 1;
    if (need <= b->cap)
        return CM_OK;

    cap = b->cap <= (b->max + 1) / 2 ? b->cap * 2 : b->max + 1;
    if (cap < BUF_FIRST_CAP)
        cap = BUF_FIRST_CAP < b->max + 1 ? BUF_FIRST_CAP : b->max + 1;
    if (cap < need)
        cap = need;
    data = cm_calloc(1, cap);
    if (data == NULL)
        return cm_fail_nomem(err);
    if (b->len > 0)
        memcpy(data, b->data, b->len);
    *old = b->data;
    *old_cap = b->cap;
    b->data = data;
    b->cap = cap;
    return CM_OK;
}

cm_status cm_buf_reserve(struct cm_buf *b, size_t extra, struct cm_err *err)
{
    uint8_t *old;
    size_t old_cap;
    cm_status rc = grow(b, extra, &old, &old_cap, err);

    if (rc == CM_OK)
        release(old, old_cap, b->secret);
    return rc;
}

cm_status cm_buf_append(struct cm_buf *b, const void *data, size_t len, struct cm_err *err)
{
    uint8_t *old;
    size_t old_cap;
    cm_status rc;

    if (len == 0)
        return CM_OK;
    if (data == NULL)
        return cm_fail(err, CM_E_INVAL, "no data for %zu bytes", len);
    rc = grow(b, len, &old, &old_cap, err);
    if (rc != CM_OK)
        return rc;
    memmove(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
    release(old, old_cap, b->secret);
    return CM_OK;
}

cm_status cm_buf_puts(struct cm_buf *b, const char *s, struct cm_err *err)
{
    struct cm_span span = cm_span_str(s);

    return cm_buf_append(b, span.data, span.len, err);
}

cm_status cm_buf_printf(struct cm_buf *b, struct cm_err *err, const char *fmt, ...)
{
    va_list ap;
    cm_status rc;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return cm_fail(err, CM_E_INVAL, "text cannot be formatted");
    if (n == 0)
        return CM_OK;
    rc = cm_buf_reserve(b, (size_t)n, err);
    if (rc != CM_OK)
        return rc;
    va_start(ap, fmt);
    (void)vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return CM_OK;
}

void cm_buf_reset(struct cm_buf *b)
{
    if (b->data != NULL) {
        if (b->secret)
            cm_wipe(b->data, b->cap);
        b->data[0] = 0;
    }
    b->len = 0;
}

void cm_buf_recycle(struct cm_buf *b, size_t keep)
{
    if (b->secret)
        cm_wipe(b->data, b->len);
    b->len = 0;
    if (b->cap > keep) {
        free(b->data);
        b->data = NULL;
        b->cap = 0;
    } else if (b->data != NULL) {
        b->data[0] = 0;
    }
}

void cm_buf_free(struct cm_buf *b)
{
    if (b == NULL)
        return;
    release(b->data, b->cap, b->secret);
    b->data = NULL;
    b->len = 0;
    b->cap = 0;
}

struct cm_span cm_buf_span(const struct cm_buf *b)
{
    struct cm_span span = { b->data, b->len };

    return span;
}

const char *cm_buf_str(const struct cm_buf *b)
{
    return b->data != NULL ? (const char *)b->data : "";
}
