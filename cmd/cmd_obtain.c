/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

static cm_status obtain_one(struct cli *c, const struct cm_op *op, struct cli_job *job)
{
    return cm_obtain(c->cfg, op, job->names, job->n_names, &job->result, &job->err);
}

/* Names as the library sees them, each once; progress and results are told in these. */
static int normalize_names(struct cli *c, char (*normal)[256], const char **names, size_t *ret_n)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_names; i++) {
        struct cm_err err = CM_ERR_INIT;
        bool seen = false;

        if (cm_normalize_name(c->names[i], normal[n], &err) != CM_OK)
            return cli_report(c, c->names[i], &err);
        for (size_t k = 0; k < n && !seen; k++)
            seen = strcmp(normal[k], normal[n]) == 0;
        if (seen)
            continue;
        names[n] = normal[n];
        n++;
    }
    *ret_n = n;
    return CLI_OK;
}

int cli_run_obtain(struct cli *c)
{
    if (c->o.csr != NULL)
        return cli_run_csr(c);
    char(*normal)[256] = calloc(c->n_names, sizeof *normal);
    const char **names = calloc(c->n_names, sizeof *names);
    struct cli_job *jobs = calloc(c->n_names, sizeof *jobs);
    char *joined = NULL;
    size_t n = 0, n_jobs = 0;
    int code = CLI_FAILED;

    if (normal == NULL || names == NULL || jobs == NULL) {
        cli_complain("certmesh: out of memory");
        goto out;
    }
    code = normalize_names(c, normal, names, &n);
    if (code != CLI_OK)
        goto out;
    n_jobs = c->o.san ? 1 : n;
    if (c->o.san)
        joined = cli_join_names(names, n);
    for (size_t i = 0; i < n_jobs; i++) {
        jobs[i].names = &names[i];
        jobs[i].n_names = c->o.san ? n : 1;
        jobs[i].label = joined != NULL ? joined : names[i];
        jobs[i].result.size = (uint32_t)sizeof jobs[i].result;
    }
    code = cli_open(c);
    if (code == CLI_OK) {
        cli_batch_run(c, jobs, n_jobs, obtain_one);
        code = cli_batch_report(c, jobs, n_jobs, "obtained", "already there");
    }
out:
    free(joined);
    free(jobs);
    free(names);
    free(normal);
    return code;
}
