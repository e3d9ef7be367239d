/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs each test in a process of its own: a backend that crashes, hangs or leaves threads behind
 * fails that test, and the others go on. The report is TAP, or one JSON document. */

#define FAILED_EXIT  3 /* of the child: its message is in the pipe */
#define SKIPPED_EXIT 4
#define MESSAGE_MAX  4096

static struct {
    unsigned run, failed, skipped;
} total;

static int message_fd = -1; /* in the child */

static volatile sig_atomic_t stopped;
static bool clearing; /* which is done in any case */

static void on_stop(int sig)
{
    (void)sig;
    stopped = 1;
}

void kit_watch_signals(void)
{
    const struct sigaction action = { .sa_handler = on_stop };

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
}

/* ------------------------------------------------------------- in the child */

static void tell(const char *prefix, const char *fmt, va_list ap)
{
    char text[MESSAGE_MAX];
    int n = snprintf(text, sizeof text, "%s", prefix);

    (void)vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
    if (message_fd >= 0 && write(message_fd, text, strlen(text)) < 0)
        perror("certmesh-storage-test");
}

void kit_fail(const char *file, int line, const char *fmt, ...)
{
    const char *name = strrchr(file, '/');
    char where[128];
    va_list ap;

    (void)snprintf(where, sizeof where, "%s:%d: ", name != NULL ? name + 1 : file, line);
    va_start(ap, fmt);
    tell(where, fmt, ap);
    va_end(ap);
    _exit(FAILED_EXIT);
}

void kit_skip(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tell("", fmt, ap);
    va_end(ap);
    _exit(SKIPPED_EXIT);
}

_Noreturn static void child(void (*fn)(void *user), void *user, int fd)
{
    (void)setpgid(0, 0); /* its own children end with it */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    message_fd = fd;
    (void)dup2(STDERR_FILENO, STDOUT_FILENO); /* standard output is the report's */
    fn(user);
    exit(0); /* not _exit(): what looks for leaks looks then */
}

/* ------------------------------------------------------------ in the parent */

static int64_t now_ns(void)
{
    const struct cm_env *env = cm_env_system();

    return env->mono_ns(env);
}

/* Read until the child closes the pipe, by ending; false when it is late. */
static bool drain(int fd, int64_t deadline_ns, char *ret_text, size_t size)
{
    size_t len = 0;

    ret_text[0] = '\0';
    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };
        int64_t left_ns = deadline_ns - now_ns();
        char chunk[512];
        ssize_t n;

        if (left_ns <= 0 || (stopped && !clearing))
            return false;
        if (poll(&p, 1, (int)(left_ns / CM_NS_PER_MS < 1000 ? left_ns / CM_NS_PER_MS + 1 : 1000)) <=
            0)
            continue;
        n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return true;
        if ((size_t)n > size - 1 - len)
            n = (ssize_t)(size - 1 - len);
        memcpy(ret_text + len, chunk, (size_t)n);
        len += (size_t)n;
        ret_text[len] = '\0';
    }
}

static bool wait_for(pid_t pid, int64_t deadline_ns, int *ret_status)
{
    for (;;) {
        const struct cm_env *env = cm_env_system();
        pid_t got = waitpid(pid, ret_status, WNOHANG);

        if (got == pid)
            return true;
        if (now_ns() >= deadline_ns)
            return false;
        (void)env->wait(env, NULL, CM_NS_PER_MS);
    }
}

bool kit_in_child(void (*fn)(void *user), void *user, double timeout_s, char *ret_text, size_t size,
                  bool *ret_skipped)
{
    int64_t deadline_ns = now_ns() + (int64_t)(timeout_s * (double)CM_NS_PER_S);
    int fds[2];
    int status = 0;
    pid_t pid;

    *ret_skipped = false;
    (void)fflush(NULL);
    if (pipe(fds) != 0) {
        (void)snprintf(ret_text, size, "pipe: %s", strerror(errno));
        return false;
    }
    pid = fork();
    if (pid == 0) {
        (void)close(fds[0]);
        child(fn, user, fds[1]);
    }
    (void)close(fds[1]);
    if (pid < 0) {
        (void)close(fds[0]);
        (void)snprintf(ret_text, size, "fork: %s", strerror(errno));
        return false;
    }
    /* a grandchild may hold the pipe for longer than the child lives */
    bool in_time =
        drain(fds[0], deadline_ns, ret_text, size) && wait_for(pid, deadline_ns, &status);
    (void)kill(-pid, SIGKILL); /* whatever is left of it */
    if (!in_time) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        (void)snprintf(ret_text, size, "not done after %.0f s: it hangs, or is far too slow",
                       timeout_s);
    } else if (WIFSIGNALED(status)) {
        (void)snprintf(ret_text, size, "ended by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
        in_time = false;
    } else if (WEXITSTATUS(status) != 0) {
        if (ret_text[0] == '\0')
            (void)snprintf(ret_text, size, "ended with exit code %d", WEXITSTATUS(status));
        *ret_skipped = WEXITSTATUS(status) == SKIPPED_EXIT;
        in_time = *ret_skipped;
    }
    (void)close(fds[0]);
    return in_time;
}

/* ------------------------------------------------------------------ report */

static void json_text(const char *s)
{
    putchar('"');
    for (; *s != '\0'; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
            printf("\\u%04x", (unsigned char)*s);
        else
            putchar(*s);
    }
    putchar('"');
}

static void report_json(const char *name, bool passed, bool skipped, int64_t took_ns,
                        const char *text)
{
    if (total.run == 1) {
        printf("{\n  \"storage\": ");
        json_text(kit_nature->describe);
        printf(",\n  \"backend\": ");
        json_text(kit_nature->name);
        printf(",\n  \"seed\": %" PRIu64 ",\n  \"own_clock\": %s,\n  \"tests\": [", kit.seed,
               kit_nature->server_clock ? "true" : "false");
    }
    printf("%s\n    { \"name\": ", total.run == 1 ? "" : ",");
    json_text(name);
    printf(", \"result\": \"%s\", \"ms\": %" PRId64,
           skipped  ? "skipped"
           : passed ? "passed"
                    : "failed",
           took_ns / CM_NS_PER_MS);
    if (text[0] != '\0') {
        printf(", \"why\": ");
        json_text(text);
    }
    printf(" }");
}

static void report_tap(const char *name, bool passed, bool skipped, const char *text)
{
    printf("%sok %u - %s%s%s\n", passed ? "" : "not ", total.run, name, skipped ? " # SKIP " : "",
           skipped ? text : "");
    if (!passed) {
        printf("# ");
        for (const char *c = text; *c != '\0'; c++) {
            putchar(*c);
            if (*c == '\n')
                printf("# ");
        }
        putchar('\n');
    }
}

static void report(const char *name, bool passed, bool skipped, int64_t took_ns, const char *text)
{
    total.run++;
    total.failed += !passed;
    total.skipped += skipped;
    if (kit.json)
        report_json(name, passed, skipped, took_ns, text);
    else
        report_tap(name, passed, skipped, text);
    (void)fflush(stdout);
}

int kit_report_end(void)
{
    if (kit.json)
        printf("%s],\n  \"n_run\": %u,\n  \"n_failed\": %u,\n  \"n_skipped\": %u\n}\n",
               total.run == 0 ? "{ \"tests\": [" : "\n  ", total.run, total.failed, total.skipped);
    else
        printf("1..%u\n# %s: %u passed, %u failed, %u skipped (seed %" PRIu64 ")\n", total.run,
               kit_nature->describe, total.run - total.failed - total.skipped, total.failed,
               total.skipped, kit.seed);
    if (stopped) {
        (void)fputs("certmesh-storage-test: interrupted\n", stderr);
        return KIT_USAGE;
    }
    if (total.run == 0)
        (void)fprintf(stderr, "certmesh-storage-test: no test is called like '%s'\n", kit.only[0]);
    return total.run == 0 ? KIT_USAGE : total.failed > 0 ? KIT_FAILED : KIT_PASSED;
}

struct one {
    const TCase *c;
    const struct kit_test *test;
};

static void run_one(void *user)
{
    const struct one *o = user;

    if (o->c->setup != NULL)
        o->c->setup();
    o->test->run();
    if (o->c->teardown != NULL)
        o->c->teardown();
}

static void clear(void *unused)
{
    struct cm_err why = CM_ERR_INIT;

    (void)unused;
    if (kit_clear(&why) != CM_OK)
        kit_fail(__FILE__, __LINE__, "cannot clear up after a test: %s", why.msg);
}

static bool is_wanted(const char *name)
{
    bool wanted = kit.only[0] == NULL;

    for (size_t i = 0; i < KIT_ONLY_MAX && kit.only[i] != NULL; i++)
        wanted = wanted || strstr(name, kit.only[i]) != NULL;
    return wanted && (kit.skip == NULL || strstr(name, kit.skip) == NULL);
}

void kit_run_case(TCase *c)
{
    char text[MESSAGE_MAX];
    char name[192];
    bool skipped = false;

    for (size_t i = 0; i < c->n; i++) {
        struct one o = { c, &c->tests[i] };
        int64_t began_ns = now_ns();
        bool passed;

        (void)snprintf(name, sizeof name, "%s/%s", c->name, o.test->name);
        if (stopped || !is_wanted(name))
            continue;
        passed = kit_in_child(run_one, &o, c->timeout_s, text, sizeof text, &skipped);
        if (!stopped)
            report(name, passed, skipped, now_ns() - began_ns, text);
        if (kit.keep && !passed)
            continue;
        clearing = true;
        if (!kit_in_child(clear, NULL, 600, text, sizeof text, &skipped))
            report("clear up", false, false, 0, text);
        clearing = false;
    }
    free(c);
}

/* ------------------------------------------------- what stands in for check */

TCase *tcase_create(const char *name)
{
    TCase *c = calloc(1, sizeof *c);

    if (c == NULL)
        abort();
    c->name = name;
    c->timeout_s = 60;
    return c;
}

void kit_case_add(TCase *c, const struct kit_test *test)
{
    if (c->n == sizeof c->tests / sizeof c->tests[0])
        abort();
    c->tests[c->n++] = *test;
}

static void (*fixture[2])(void);

void kit_run_with_fixture(TCase *c)
{
    c->setup = fixture[0];
    c->teardown = fixture[1];
    kit_run_case(c);
}

void tcase_add_checked_fixture(TCase *c, void (*setup)(void), void (*teardown)(void))
{
    fixture[0] = setup;
    fixture[1] = teardown;
    c->setup = setup;
    c->teardown = teardown;
}

/* A server far away may be slower than what these times were made for. */
void tcase_set_timeout(TCase *c, double seconds)
{
    c->timeout_s = seconds < 120 ? 120 : seconds;
}

struct kit_suite {
    int unused;
};

Suite *suite_create(const char *name)
{
    static Suite suite;

    (void)name;
    return &suite;
}

void suite_add_tcase(Suite *s, TCase *c)
{
    (void)s;
    kit_run_case(c);
}

SRunner *srunner_create(Suite *s)
{
    return s;
}

void srunner_run_all(SRunner *r, int mode)
{
    (void)r;
    (void)mode;
}

int srunner_ntests_failed(SRunner *r)
{
    (void)r;
    return (int)total.failed;
}

void srunner_free(SRunner *r)
{
    (void)r;
}
