/* SPDX-License-Identifier: Apache-2.0 */
#include "history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* history run URL DIR SEED OPS WORKERS TTL_MS LIMIT_S [ignore|unfenced|torn]
 * history check DIR
 *
 * run: make a history of at least OPS grants and commits in the empty folder DIR.
 * check: prove the promises from it; exit 1 and the reasons when one does not hold. */

static uint64_t number(const char *s)
{
    char *end = NULL;
    uint64_t v = strtoull(s, &end, 10);

    if (end == s || *end != '\0') {
        (void)fprintf(stderr, "history: '%s' is no number\n", s);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "check") == 0)
        return history_check(argv[2]);
    if ((argc == 9 || argc == 10) && strcmp(argv[1], "run") == 0) {
        struct history_plan plan = {
            .url = argv[2],
            .leases_only = strncmp(argv[2], "file:", strlen("file:")) != 0,
            .dir = argv[3],
            .seed = number(argv[4]),
            .locks = 4,
            .ops = number(argv[5]),
            .workers = (unsigned)number(argv[6]),
            .ttl_ns = (int64_t)number(argv[7]) * CM_NS_PER_MS,
            .limit_ns = (int64_t)number(argv[8]) * CM_NS_PER_S,
            .sabotage = argc == 10 ? argv[9] : NULL,
        };

        return history_run(&plan);
    }
    (void)fputs("usage: history run URL DIR SEED OPS WORKERS TTL_MS LIMIT_S [SABOTAGE]\n"
                "       history check DIR\n",
                stderr);
    return 2;
}
