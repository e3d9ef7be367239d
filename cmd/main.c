/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Results that could not be written are a failure; a reader that had enough is not. */
static int flush_results(int code)
{
    errno = 0;
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return code;
    if (errno != EPIPE)
        cli_complain("certmesh: cannot write the results: %s",
                     errno != 0 ? strerror(errno) : "write error");
    return code == CLI_OK ? CLI_FAILED : code;
}

#if defined(__SANITIZE_ADDRESS__)
#define LEAK_CHECK 1
#elif defined(__has_feature)
#define LEAK_CHECK __has_feature(address_sanitizer)
#else
#define LEAK_CHECK 0
#endif

/* Keys are in this memory: no core file, and no reading by other programs of the same user. Root
 * still can. A leak check attaches to its own process, and could not any more. */
static void keep_memory_private(void)
{
    const struct rlimit none = { 0, 0 };

    (void)setrlimit(RLIMIT_CORE, &none);
    if (!LEAK_CHECK)
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

int main(int argc, char **argv)
{
    struct cli c;
    struct cm_err err = CM_ERR_INIT;
    int code = CLI_OK;

    keep_memory_private();
    memset(&c, 0, sizeof c);
    code = cli_parse(&c, argc, argv);
    if (code >= 0)
        return flush_results(code);
    cli_ui_start(&c.o);
    if (cm_cancel_new(NULL, &c.cancel, &err) != CM_OK)
        return cli_report(&c, NULL, &err);
    cli_signals_start(c.cancel, 0);
    code = c.command->run(&c);
    cli_ui_untrack();
    code = flush_results(code);
    cli_close(&c);
    cli_signals_start(NULL, 0); /* from here on a signal has nothing to fire */
    cm_cancel_free(c.cancel);
    cli_ui_stop();
    return code;
}
