/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct cm_cancel *target;
static unsigned shutdown_grace_s;
static volatile sig_atomic_t caught;

static void on_stop(int signo)
{
    if (caught != 0 && signo == SIGINT)
        _exit(CLI_SIGINT); /* asked twice: leases run out by themselves */
    if (caught == 0) {
        caught = signo;
        if (shutdown_grace_s > 0)
            (void)alarm(shutdown_grace_s);
    }
    cm_cancel_fire(target);
}

static void on_alarm(int signo)
{
    static const char text[] = "certmesh: still busy long after the signal; leaving at once\n";

    (void)signo;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(CLI_FAILED);
    _exit(CLI_FAILED);
}

void cli_signals_start(struct cm_cancel *cancel, unsigned grace_s)
{
    struct sigaction act, was;

    target = cancel;
    shutdown_grace_s = grace_s;
    memset(&act, 0, sizeof act);
    (void)sigemptyset(&act.sa_mask);
    act.sa_flags = SA_RESTART;
    act.sa_handler = on_stop;
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    /* The terminal is gone, or somebody means "reload", which there is nothing for: end cleanly, so
     * that no lock is left. Under nohup it stays ignored. */
    if (sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
        (void)sigaction(SIGHUP, &act, NULL);
    act.sa_handler = on_alarm;
    (void)sigaction(SIGALRM, &act, NULL);
    act.sa_handler = SIG_IGN; /* a peer that hangs up, or `| head`, is an error code, not a death */
    (void)sigaction(SIGPIPE, &act, NULL);
}

int cli_signals_exit(void)
{
    return caught == 0 ? 0 : 128 + (int)caught;
}
