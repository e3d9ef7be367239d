/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_FUZZ_FUZZ_H
#define CM_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* What each target defines; the engine, or replay.c, calls it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Negative control of every target: stands where the properties of an input that was taken are
 * checked. With CM_FUZZ_PLANT in the environment that is a failure, which the corpus must show: so
 * it is known that the checks are reached. */
static inline void fuzz_reached(void)
{
    if (getenv("CM_FUZZ_PLANT") != NULL)
        abort();
}

#endif
