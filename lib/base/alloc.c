/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic uint64_t alloc_count;
static _Atomic uint64_t alloc_fail; /* the count at which to fail; 0 = never */

uint64_t cm_alloc_fail_at(uint64_t n)
{
    uint64_t count;

    atomic_store(&alloc_fail, 0);
    count = atomic_exchange(&alloc_count, 0);
    atomic_store(&alloc_fail, n);
    return count;
}

static bool may_allocate(void)
{
    uint64_t now = atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed) + 1;

    if (now != atomic_load_explicit(&alloc_fail, memory_order_relaxed))
        return true;
    errno = ENOMEM;
    return false;
}

/* Bytes of @n times @size, 0 if there is no such number. Never asks for no bytes at all: so NULL
 * from an allocator always means out of memory. */
static size_t total(size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return 0;
    }
    return bytes > 0 ? bytes : 1;
}

void *cm_calloc(size_t n, size_t size)
{
    size_t bytes = total(n, size);

    return bytes > 0 && may_allocate() ? calloc(1, bytes) : NULL;
}

void *cm_calloc_aligned(size_t align, size_t size)
{
    void *p = NULL;

    if (!may_allocate() || posix_memalign(&p, align, size) != 0)
        return NULL;
    memset(p, 0, size);
    return p;
}

void *cm_realloc_array(void *p, size_t n, size_t size)
{
    size_t bytes = total(n, size);

    return bytes > 0 && may_allocate() ? realloc(p, bytes) : NULL;
}

char *cm_strdup(const char *s)
{
    return s != NULL ? cm_strndup(s, strlen(s)) : NULL;
}

char *cm_strndup(const char *s, size_t len)
{
    char *copy;

    if (s == NULL || len == SIZE_MAX)
        return NULL;
    len = strnlen(s, len);
    copy = cm_calloc(1, len + 1);
    if (copy != NULL)
        memcpy(copy, s, len);
    return copy;
}

char *cm_asprintf(const char *fmt, ...)
{
    va_list ap;
    char *text;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return NULL;
    text = cm_calloc(1, (size_t)n + 1);
    if (text == NULL)
        return NULL;
    va_start(ap, fmt);
    (void)vsnprintf(text, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return text;
}

cm_status cm_fail_nomem(struct cm_err *err)
{
    return cm_fail(err, CM_E_NOMEM, "out of memory");
}

void cm__assert_failed(const char *cond, const char *file, int line)
{
    (void)fprintf(stderr, "certmesh: %s:%d: broken invariant: %s\n", file, line, cond);
    abort();
}

/* Cleanup attributes pass the address of the variable. */
void cm__auto_free(void *p)
{
    void *mem;

    memcpy(&mem, p, sizeof mem);
    free(mem);
}

void cm__auto_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        (void)close(*fd);
    errno = saved;
}
