/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PARALLEL_DEFAULT  10u
#define TIMEOUT_DEFAULT_S 300

struct batch {
    struct cli *cli;
    struct cli_job *jobs;
    size_t n;
    cli_job_fn fn;
    pthread_mutex_t lock;
    size_t next;
};

static struct cli_job *take(struct batch *b)
{
    struct cli_job *job = NULL;

    (void)pthread_mutex_lock(&b->lock);
    if (b->next < b->n)
        job = &b->jobs[b->next++];
    (void)pthread_mutex_unlock(&b->lock);
    return job;
}

static void *work(void *arg)
{
    struct batch *b = arg;
    const struct cm_env *env = cm_env_system();

    for (struct cli_job *job = take(b); job != NULL; job = take(b)) {
        struct cm_op op = cli_op(b->cli, TIMEOUT_DEFAULT_S);
        int64_t start = env->mono_ns(env);

        job->status = cm_op_check(&op, &job->err);
        if (job->status == CM_OK)
            job->status = b->fn(b->cli, &op, job);
        job->took_ns = env->mono_ns(env) - start;
        cli_ui_settle(job->label, job->status == CM_OK);
    }
    return NULL;
}

void cli_batch_run(struct cli *c, struct cli_job *jobs, size_t n, cli_job_fn fn)
{
    struct batch b = { c, jobs, n, fn, PTHREAD_MUTEX_INITIALIZER, 0 };
    size_t wanted = c->o.parallel > 0 ? c->o.parallel : PARALLEL_DEFAULT;
    pthread_t *threads = NULL;
    const char **labels = NULL;
    size_t started = 0;

    wanted = wanted < n ? wanted : n;
    threads = calloc(wanted + 1, sizeof *threads);
    labels = calloc(n + 1, sizeof *labels);
    if (labels != NULL) {
        for (size_t i = 0; i < n; i++)
            labels[i] = jobs[i].label;
        cli_ui_track(labels, n);
    }
    /* this thread is one of them, so that the work is done even where no other can be had */
    while (threads != NULL && started + 1 < wanted &&
           pthread_create(&threads[started], NULL, work, &b) == 0)
        started++;
    (void)work(&b);
    for (size_t i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
    cli_ui_untrack();
    free(labels);
    free(threads);
    (void)pthread_mutex_destroy(&b.lock);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *cli_join_names(const char *const *names, size_t n)
{
    const char **sorted = calloc(n + 1, sizeof *sorted);
    size_t len = 1, at = 0;
    char *text = NULL;

    if (sorted == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        sorted[i] = names[i];
        len += strlen(names[i]) + 1;
    }
    qsort(sorted, n, sizeof *sorted, by_text);
    text = malloc(len);
    for (size_t i = 0; text != NULL && i < n; i++)
        at += (size_t)snprintf(text + at, len - at, "%s%s", i > 0 ? "," : "", sorted[i]);
    free(sorted);
    return text;
}

static void print_json(const struct cli_job *jobs, size_t n, const char *done, const char *idle)
{
    struct cli_json j;

    cli_json_start(&j, stdout);
    cli_json_open(&j, NULL, '{');
    cli_json_open(&j, "results", '[');
    for (size_t i = 0; i < n; i++) {
        const struct cli_job *job = &jobs[i];
        const struct cm_obtain_result *r = &job->result;

        cli_json_open(&j, NULL, '{');
        cli_json_text(&j, "name", job->label);
        cli_json_open(&j, "names", '[');
        for (size_t k = 0; k < job->n_names; k++)
            cli_json_text(&j, NULL, job->names[k]);
        cli_json_close(&j, ']');
        cli_json_text(&j, "result",
                      job->status != CM_OK ? "failed"
                      : r->already_there   ? idle
                                           : done);
        if (job->status == CM_OK && r->not_after_s != 0) {
            cli_json_time(&j, "not_after", r->not_after_s);
            cli_json_text(&j, "issuer_key", r->issuer_key);
        }
        if (job->status != CM_OK)
            cli_json_err(&j, "error", &job->err);
        cli_json_int(&j, "took_ms", job->took_ns / CM_NS_PER_MS);
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
    cli_json_close(&j, '}');
    cli_json_finish(&j);
}

static void print_lines(const struct cli_job *jobs, size_t n, const char *done, const char *idle)
{
    int widest = 0;

    for (size_t i = 0; i < n; i++) {
        int len = (int)strlen(jobs[i].label);

        widest = jobs[i].status == CM_OK && len > widest ? len : widest;
    }
    for (size_t i = 0; i < n; i++) {
        const struct cm_obtain_result *r = &jobs[i].result;
        char when[CLI_TIME_SIZE], span[CLI_TIME_SIZE];

        if (jobs[i].status != CM_OK)
            continue;
        printf("%-*s  %s", widest, jobs[i].label, r->already_there ? idle : done);
        if (r->not_after_s != 0)
            printf(", valid until %s (%s)", cli_time_human(r->not_after_s, when),
                   cli_relative(r->not_after_s - cli_now_s(), span));
        putchar('\n');
    }
    fflush(stdout);
}

int cli_batch_report(struct cli *c, const struct cli_job *jobs, size_t n, const char *done,
                     const char *idle)
{
    size_t failed = 0;
    int code = CLI_OK;

    if (c->o.json)
        print_json(jobs, n, done, idle);
    else if (!c->o.quiet)
        print_lines(jobs, n, done, idle);
    for (size_t i = 0; i < n; i++) {
        if (jobs[i].status == CM_OK)
            continue;
        int one = cli_report(c, jobs[i].label, &jobs[i].err);

        if (failed++ == 0)
            code = one;
        if (jobs[i].status == CM_E_NOTFOUND)
            cli_say_where_else(c, jobs[i].label);
    }
    if (cli_signals_exit() != 0 && failed > 0) {
        cli_complain("certmesh: %s: interrupted; %zu of %zu done", c->command->name, n - failed, n);
        return cli_signals_exit();
    }
    return failed > 0 && failed < n ? CLI_SOME : code;
}
