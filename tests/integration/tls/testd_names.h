/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_TESTD_NAMES_H
#define CM_TESTS_TESTD_NAMES_H

/* What the small TLS servers of the tests serve, as their command lines tell it. */

#include "fake_core.h"

/* @spec: name[=keytype][@delay_ms] | +name (challenge) | !name=status/alert | "=keytype" (no SNI).
 * Aborts when it is none of these. */
void testd_add_name(struct cm_config *cfg, const char *spec);
/* After the config is gone. */
void testd_names_free(void);

#endif
