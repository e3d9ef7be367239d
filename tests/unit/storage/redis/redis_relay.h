/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_REDIS_RELAY_H
#define CM_TESTS_UNIT_REDIS_RELAY_H

/* Between the backend and the server: passes everything on, or swallows one command, or its reply,
 * and then closes the connection instead of answering; or says nothing any more. */

#include "redis_fixture.h"

enum relay_cut {
    RELAY_PASS,
    RELAY_AFTER,  /* the server did it, and nobody is told */
    RELAY_BEFORE, /* the server never hears of it */
    RELAY_HOLE,   /* neither is anybody told that the connection is gone */
};

/* A storage behind the relay, with the prefix of the test; the relay lasts as long as the program.
 */
struct cm_storage *relayed(void);
/* From now on @how happens to commands with @word in them, after @skip of them have passed, and
 * @times times. @between runs after the server did it and before anybody knows; may be NULL. */
void relay_arm(const char *word, int skip, enum relay_cut how, int times, void (*between)(void));
/* Has it happened so often since? Fails the test if not. */
void relay_happened(unsigned times);

#endif
