/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_FUZZ_FUZZ_H
#define CM_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* What each target defines; the engine, or replay.c, calls it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
