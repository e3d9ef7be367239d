/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>

/* The allocator of the whole process, libraries too, with a counter in front: a program's own
 * symbols go before those of the C library. */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

_Atomic bool bench_counting;
_Atomic uint64_t bench_allocations;

static void count(void)
{
    if (atomic_load_explicit(&bench_counting, memory_order_relaxed))
        (void)atomic_fetch_add_explicit(&bench_allocations, 1, memory_order_relaxed);
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size)
{
    count();
    return __libc_realloc(p, size);
}

__attribute__((visibility("default"))) int posix_memalign(void **ret, size_t alignment, size_t size)
{
    void *p;

    count();
    p = __libc_memalign(alignment, size);
    if (p == NULL)
        return ENOMEM;
    *ret = p;
    return 0;
}

__attribute__((visibility("default"))) void *aligned_alloc(size_t alignment, size_t size)
{
    count();
    return __libc_memalign(alignment, size);
}

void bench_allocations_work(void)
{
    struct cm_buf b = CM_BUF_INIT(64);
    struct cm_err err = CM_ERR_INIT;
    uint64_t before = atomic_load(&bench_allocations);

    atomic_store(&bench_counting, true);
    bench_ok(cm_buf_puts(&b, "an allocation of the library", &err), &err, "allocate");
    atomic_store(&bench_counting, false);
    cm_buf_free(&b);
    bench_check(atomic_load(&bench_allocations) > before,
                "the counter of allocations does not see those of the library");
}
