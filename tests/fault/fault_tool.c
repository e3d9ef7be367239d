/* SPDX-License-Identifier: Apache-2.0 */
#include "fault_tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

_Noreturn void tool_die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vprintf(fmt, ap);
    va_end(ap);
    (void)putchar('\n');
    (void)fflush(stdout);
    exit(1);
}

void tool_must(cm_status rc, const char *what, const struct cm_err *err)
{
    if (rc != CM_OK)
        tool_die("%s: %s (%s)", what, err->msg, cm_status_name(rc));
}

struct cm_storage *tool_open(const char *url)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_storage *st = NULL;

    tool_must(cm_storage_open(url, NULL, &st, &err), "open storage", &err);
    return st;
}

unsigned tool_number(const char *text, const char *what)
{
    char *end = NULL;
    unsigned long n = strtoul(text, &end, 10);

    if (end == text || *end != '\0' || n == 0 || n > 1000000)
        tool_die("%s: '%s' is no number from 1 to 1000000", what, text);
    return (unsigned)n;
}

void *tool_shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        tool_die("no shared memory");
    return p;
}

void tool_pause_ms(unsigned ms)
{
    struct timespec left = { ms / 1000, (long)(ms % 1000) * 1000000 };

    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

int64_t tool_now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
