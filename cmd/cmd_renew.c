/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

static cm_status renew_one(struct cli *c, const struct cm_op *op, struct cli_job *job)
{
    return cm_renew(c->cfg, op, job->target, c->o.force, &job->result, &job->err);
}

static int out_of_memory(void)
{
    cli_complain("certmesh: out of memory");
    return CLI_FAILED;
}

static int renew_named(struct cli *c)
{
    struct cli_job *jobs = calloc(c->n_names, sizeof *jobs);
    char(*normal)[256] = calloc(c->n_names, sizeof *normal);
    int code = CLI_FAILED;

    if (jobs == NULL || normal == NULL) {
        code = out_of_memory();
        goto out;
    }
    for (size_t i = 0; i < c->n_names; i++) {
        jobs[i].target = c->names[i];
        jobs[i].names = &c->names[i];
        jobs[i].n_names = 1;
        jobs[i].result.size = (uint32_t)sizeof jobs[i].result;
        /* progress comes under the normal form; what has none may be a directory of storage */
        jobs[i].label =
            cm_normalize_name(c->names[i], normal[i], NULL) == CM_OK ? normal[i] : c->names[i];
    }
    cli_batch_run(c, jobs, c->n_names, renew_one);
    code = cli_batch_report(c, jobs, c->n_names, "renewed", "not due");
out:
    free(normal);
    free(jobs);
    return code;
}

/* One job per certificate that this CA issued, damaged ones included: those are obtained anew. The
 * joined names are the caller's. */
static size_t stored_jobs(struct cli *c, const struct cli_stored_list *list, struct cli_job *jobs,
                          char **joined, const char **names)
{
    size_t n = 0, n_names = 0;

    for (size_t i = 0; i < list->n; i++) {
        const struct cli_stored *s = &list->items[i];
        size_t count = s->cert != NULL ? cm_cert_name_count(s->cert) : 0;

        if (!cli_stored_is_ours(c, s))
            continue;
        if (count == 0) {
            cli_complain("certmesh: renew %s: cannot be used: %s", s->dir,
                         s->problem != NULL ? s->problem : "it has no names");
            names[n_names] = s->dir;
            jobs[n].names = &names[n_names++];
            jobs[n].n_names = 1;
            jobs[n].label = jobs[n].target = s->dir;
            jobs[n].result.size = (uint32_t)sizeof jobs[n].result;
            n++;
            continue;
        }
        jobs[n].names = &names[n_names];
        jobs[n].n_names = count;
        for (size_t k = 0; k < count; k++)
            names[n_names++] = cm_cert_name(s->cert, k);
        joined[n] = cli_join_names(jobs[n].names, count);
        jobs[n].label = joined[n] != NULL ? joined[n] : s->dir;
        /* several names are found by the directory they share */
        jobs[n].target = count == 1 ? jobs[n].names[0] : s->dir;
        jobs[n].result.size = (uint32_t)sizeof jobs[n].result;
        n++;
    }
    return n;
}

/* Everything that this CA issued. */
static int renew_stored(struct cli *c)
{
    struct cli_stored_list list;
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op = cli_op(c, 300);
    struct cli_job *jobs = NULL;
    char **joined = NULL;
    const char **names = NULL;
    size_t n = 0, n_names = 0;
    int code = CLI_OK;

    if (cli_stored_collect(c, &op, NULL, 0, &list, &err) != CM_OK)
        return cli_report(c, NULL, &err);
    for (size_t i = 0; i < list.n; i++)
        n_names += list.items[i].cert != NULL ? cm_cert_name_count(list.items[i].cert) : 1;
    jobs = calloc(list.n + 1, sizeof *jobs);
    joined = calloc(list.n + 1, sizeof *joined);
    names = calloc(n_names + 1, sizeof *names);
    if (jobs == NULL || joined == NULL || names == NULL) {
        code = out_of_memory();
        goto out;
    }
    n = stored_jobs(c, &list, jobs, joined, names);
    if (n > 0) {
        cli_batch_run(c, jobs, n, renew_one);
        code = cli_batch_report(c, jobs, n, "renewed", "not due");
    } else if (c->o.json) {
        puts("{\n  \"results\": []\n}");
    } else {
        cli_say("certmesh: nothing to renew in %s", cm_storage_describe(cm_config_storage(c->cfg)));
    }
out:
    for (size_t i = 0; joined != NULL && i < list.n; i++)
        free(joined[i]);
    free(names);
    free(joined);
    free(jobs);
    cli_stored_free(&list);
    return code;
}

int cli_run_renew(struct cli *c)
{
    int code = cli_open(c);

    if (code != CLI_OK)
        return code;
    return c->n_names > 0 ? renew_named(c) : renew_stored(c);
}
