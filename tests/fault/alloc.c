/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* alloc SCENARIO EVERY ROOT [DIRECTORY-URL CA-ROOT HTTP-PORT TLS-PORT]
 *
 * Runs the scenario again and again, and lets the first allocation fail, then the one EVERY later,
 * and so on, until runs are over before the failure is reached. After each: what must hold holds,
 * and a plain run succeeds. Leaks are told by LeakSanitizer at the end, crashes by the exit.
 * With CM_ALLOC_PLANT=leak in the environment each failure leaks something: the sweep must say so.
 *
 * Threads and the answers of a CA may change the order and number of allocations from run to run;
 * so a count is not an address, and one run that is over early is no proof that there is no more.
 */

#define POINT_S 120 /* longer is a hang */
#define PAST    3u  /* so many runs in a row are over before their failure */

static unsigned stores;
static void *volatile planted;

static cm_status fresh_store(struct alloc_lab *lab)
{
    char path[480];

    (void)snprintf(path, sizeof path, "%s/%u", lab->root, stores++);
    (void)snprintf(lab->store, sizeof lab->store, "file://%s", path);
    return mkdir(path, 0700) == 0 ? CM_OK : cm_fail_errno(NULL, "%s", path);
}

static void must(const char *what, uint64_t n, cm_status rc, const struct cm_err *err)
{
    if (rc == CM_OK)
        return;
    (void)fprintf(stderr, "alloc: allocation %llu: %s: %s: %s\n", (unsigned long long)n, what,
                  cm_status_name(rc), err->msg);
    exit(EXIT_FAILURE);
}

static const struct alloc_scenario *scenario_of(const char *name)
{
    for (size_t i = 0; i < alloc_n_scenarios; i++)
        if (strcmp(alloc_scenarios[i].name, name) == 0)
            return &alloc_scenarios[i];
    return NULL;
}

/* Was there something left to fail? And how many allocations there were. */
static bool point(const struct alloc_scenario *s, struct alloc_lab *lab, uint64_t n,
                  unsigned *survived, uint64_t *ret_all)
{
    struct cm_err err = CM_ERR_INIT;
    cm_status rc;
    bool fired;

    (void)alarm(POINT_S);
    if (s->fresh)
        must("a fresh storage", n, fresh_store(lab), &err);
    if (s->prepare != NULL)
        must("before", n, s->prepare(lab, &err), &err);
    (void)cm_alloc_fail_at(n);
    rc = s->run(lab, &err);
    *ret_all = cm_alloc_fail_at(0);
    fired = *ret_all >= n;
    if (fired && rc == CM_OK)
        ++*survived; /* what can be done without */
    if (fired && getenv("CM_ALLOC_PLANT") != NULL)
        planted = malloc(100);
    if (!fired || (rc != CM_OK && rc != CM_E_NOMEM && rc != s->also[0] && rc != s->also[1]))
        must("failed, and not for lack of memory", n, rc, &err);
    must("afterwards", n, s->check(lab, &err), &err);
    return fired;
}

int main(int argc, char **argv)
{
    const struct alloc_scenario *s = argc >= 4 ? scenario_of(argv[1]) : NULL;
    struct alloc_lab lab = { 0 };
    struct cm_err err = CM_ERR_INIT;
    unsigned points = 0;
    unsigned survived = 0;
    uint64_t every = argc >= 4 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t n = 1;
    uint64_t all = 0;
    unsigned past = 0;

    if (s == NULL || every == 0 || argc != (s->needs_ca ? 8 : 4)) {
        (void)fputs("usage: alloc SCENARIO EVERY ROOT [DIRECTORY CA-ROOT HTTP-PORT TLS-PORT]\n",
                    stderr);
        return 2;
    }
    lab.root = argv[3];
    (void)signal(SIGPIPE, SIG_IGN); /* of the client's socket: a program's own matter */
    if (s->needs_ca) {
        lab.directory_url = argv[4];
        lab.ca_root = argv[5];
        lab.http_port = (uint16_t)strtoul(argv[6], NULL, 10);
        lab.tls_port = (uint16_t)strtoul(argv[7], NULL, 10);
    }
    must("a fresh storage", 0, fresh_store(&lab), &err);
    for (; past < PAST; n += every) {
        uint64_t count = 0;

        if (point(s, &lab, n, &survived, &count)) {
            points++;
            past = 0;
            continue;
        }
        past++;
        if (count > all) /* of runs in which nothing failed */
            all = count;
    }
    printf("%s: %u points, %llu allocations, %u of them can be done without\n", s->name, points,
           (unsigned long long)all, survived);
    /* Threads make a few more or fewer from run to run: maintenance looks after what was loaded, at
     * once or a moment later. */
    if (all < s->least || points + 6 / every + all / every / 20 < all / every) {
        (void)fprintf(stderr, "alloc: the sweep ended early\n");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
