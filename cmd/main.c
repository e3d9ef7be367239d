/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <errno.h>
#include <string.h>

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

int main(int argc, char **argv)
{
    struct cli c;
    struct cm_err err = CM_ERR_INIT;
    int code = CLI_OK;

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
