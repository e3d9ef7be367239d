/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "cmd.h"
#include "fuzz.h"

#include <getopt.h>
#include <string.h>

/* A command line, one word per line. What is taken is within the bounds that the manual names; the
 * same words give the same answer. What the command prints goes nowhere. */

#define WORDS_MAX 32

static void check(const struct cli *c, int argc)
{
    fuzz_reached();
    CM_ASSERT(c->command != NULL);
    CM_ASSERT((c->n_names >= c->command->min_args || c->o.certs.n > 0) &&
              c->n_names <= c->command->max_args);
    CM_ASSERT(c->o.certs.n == c->o.keys.n && c->o.certs.n <= CLI_LIST_MAX);
    CM_ASSERT(c->n_names < (size_t)argc);
    for (size_t i = 0; i < c->n_names; i++)
        CM_ASSERT(c->names[i] != NULL);
    CM_ASSERT(c->o.parallel <= 1000);
    CM_ASSERT(c->o.timeout_s >= 0 && c->o.grace_s >= -1);
    CM_ASSERT(c->o.reason >= -1 && c->o.reason <= 10 && c->o.reason != 7);
    CM_ASSERT((c->o.challenges & ~(unsigned)(CM_CHALLENGE_HTTP01 | CM_CHALLENGE_TLSALPN01)) == 0);
    CM_ASSERT(cm_key_type_name(c->o.key_type) != NULL);
    CM_ASSERT((c->o.rate.events == 0) == (c->o.rate.window_ms <= 0) && c->o.rate.window_ms >= -1);
    CM_ASSERT(c->o.fallback_cas.n < 16 && (!c->o.ca_random || c->o.fallback_cas.n > 0));
    for (size_t i = 0; i < c->o.responders.n; i++)
        CM_ASSERT(strchr(c->o.responders.at[i], '=') != NULL);
    CM_ASSERT(c->o.renew_before_s >= 0);
    CM_ASSERT(!(c->o.quiet && c->o.verbose) && !(c->o.storage != NULL && c->o.root != NULL));
}

static int parse(const char *words, size_t size, struct cli *c)
{
    static char *nothing[] = { (char *)(uintptr_t) "certmesh", NULL };
    char *argv[WORDS_MAX + 2] = { (char *)(uintptr_t) "certmesh" };
    char *text = cm_strndup(size > 0 ? words : "", size);
    int argc = 1;
    int rc;

    CM_ASSERT(text != NULL);
    for (char *at = text; at != NULL && argc <= WORDS_MAX;) {
        char *end = strchr(at, '\n');

        if (end != NULL)
            *end++ = '\0';
        argv[argc++] = at;
        at = end;
    }
    optind = 0; /* glibc: forget the words of the call before */
    (void)getopt_long(1, nothing, "", NULL, NULL);
    memset(c, 0, sizeof *c);
    rc = cli_parse(c, argc, argv);
    CM_ASSERT(rc == -1 || rc == CLI_OK || rc == CLI_USAGE);
    if (rc == -1)
        check(c, argc);
    free(text);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const variables[] = { "CERTMESH_CA",      "CERTMESH_STORAGE",
                                             "CERTMESH_CA_ROOT", "CERTMESH_EMAIL",
                                             "CERTMESH_TEST_CA", "CERTMESH_FALLBACK_CA" };
    static FILE *nowhere;
    struct cli a;
    struct cli b;
    int rc;

    if (nowhere == NULL) {
        for (size_t i = 0; i < CM_ARRAY_LEN(variables); i++)
            CM_ASSERT(unsetenv(variables[i]) == 0);
        nowhere = fopen("/dev/null", "w");
        CM_ASSERT(nowhere != NULL);
        stdout = nowhere; /* the engine and the sanitizers have their own */
        stderr = nowhere;
    }
    rc = parse((const char *)data, size, &a);
    CM_ASSERT(parse((const char *)data, size, &b) == rc);
    CM_ASSERT(rc != -1 || (a.command == b.command && a.n_names == b.n_names));
    return 0;
}
