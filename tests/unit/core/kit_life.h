/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_CORE_KIT_LIFE_H
#define CM_TESTS_UNIT_CORE_KIT_LIFE_H

/* Storage as it looks to those who are told of a certificate's life. */

#include "kit.h"
#include "life.h"

/* @name has failed @times in a row, at "ca.test-dir". */
void kit_note_failure(struct cm_config *cfg, const char *name, const struct cm_err *why,
                      unsigned times);
/* Metadata of "ca.test-dir" with a suggested window from 2026-01-20 to 22, for the leaf that is
 * stored (@id NULL) or for another one; may be asked again at 06:00. */
void kit_put_suggestion(struct cm_storage *st, const char *name, const char *id,
                        const char *selected);
/* stapled.example, from issuer "elsewhere", with an OCSP responder, 2025-12-01 to 2026-03-01. */
void kit_put_stapled(struct cm_storage *st);
/* And a response for it, as kit_put_staple(). */
void kit_put_response(struct cm_storage *st, int64_t this_s, int64_t next_s, bool revoked);

#endif
