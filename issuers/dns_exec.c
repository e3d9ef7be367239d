/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_exec.h"

#include "program.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* "exec:PROGRAM?style=&timeout=&env=&parallel=": a program of the user puts the record up and takes
 * it down. The ones that exist were written for other clients, which call them one at a time; so do
 * we, unless told otherwise. */

#define TIMEOUT_S     120 /* some sleep until their provider has caught up */
#define TIMEOUT_S_MAX 3600
#define PARALLEL_MAX  64
#define OUTPUT_MAX    (64u * 1024)
#define TURN_LOOK_NS  (50 * CM_NS_PER_MS)
#define OWN_VARIABLES 6u
#define DECLINED      1 /* exit status of a uacme hook that leaves the challenge to others */

struct exec_provider {
    struct cm_dns_provider base;
    struct cm_log log;
    char *path;
    char *description;
    enum dns_exec_style style;
    int64_t timeout_ns;
    struct dns_exec_env env;

    pthread_mutex_t lock; /* guards free_turns */
    pthread_cond_t freed;
    unsigned free_turns;
};

static struct exec_provider *self(struct cm_dns_provider *p)
{
    return CM_CONTAINER_OF(p, struct exec_provider, base);
}

/* -------------------------------------------------------------------- turns */

static cm_status take_turn(struct exec_provider *p, const struct cm_op *op, struct cm_err *err)
{
    cm_status rc = CM_OK;

    cm_mutex_lock(&p->lock);
    while (p->free_turns == 0 && rc == CM_OK) {
        (void)cm_cond_wait_ns(&p->freed, &p->lock, TURN_LOOK_NS);
        rc = cm_op_check(op, err);
    }
    if (rc == CM_OK)
        p->free_turns--;
    cm_mutex_unlock(&p->lock);
    return rc == CM_OK ? rc
                       : cm_wrap(err, rc, "'%s' is busy with other names (see parallel=)", p->path);
}

static void give_turn(struct exec_provider *p)
{
    cm_mutex_lock(&p->lock);
    p->free_turns++;
    (void)pthread_cond_signal(&p->freed);
    cm_mutex_unlock(&p->lock);
}

/* ---------------------------------------------------------------------- run */

/* What every style gets besides: programs made for certmesh need no arguments. */
static cm_status add_own(const struct cm_dns_record *rec, bool adding, char *ret[OWN_VARIABLES],
                         struct cm_err *err)
{
    size_t n = 0;

    ret[n++] = cm_asprintf("CERTMESH_DNS_ACTION=%s", adding ? "add" : "remove");
    ret[n++] = cm_asprintf("CERTMESH_DNS_FQDN=%s", rec->fqdn);
    ret[n++] = cm_asprintf("CERTMESH_DNS_VALUE=%s", rec->value);
    ret[n++] = cm_asprintf("CERTMESH_DNS_TTL=%u", (unsigned)rec->ttl);
    ret[n++] = cm_asprintf("CERTMESH_DNS_NAME=%s", rec->ident);
    if (rec->zone != NULL)
        ret[n++] = cm_asprintf("CERTMESH_DNS_ZONE=%s", rec->zone);
    for (size_t i = 0; i < n; i++)
        if (ret[i] == NULL)
            return cm_fail_nomem(err);
    return CM_OK;
}

static cm_status judge(const struct exec_provider *p, const struct dns_exec_call *call, bool adding,
                       const struct cm_program_end *end, struct cm_err *err)
{
    char words[240];
    const char *before = "";

    if (end->exit_status == 0)
        return CM_OK;
    (void)cm_program_quote(&end->output, words, sizeof words);
    if (words[0] != '\0')
        before = ": ";
    if (end->signal != 0)
        return cm_fail(err, CM_E_IO, "'%s %s' was ended by signal %d%s%s", p->path, call->argv[1],
                       end->signal, before, words);
    if (p->style == DNS_EXEC_UACME && adding && end->exit_status == DECLINED)
        return cm_fail(err, CM_E_UNSUPPORTED, "'%s' declined the challenge (exit status 1)%s%s",
                       p->path, before, words);
    return cm_fail(err, CM_E_IO, "'%s %s' failed with exit status %d%s%s", p->path, call->argv[1],
                   end->exit_status, before, words);
}

static void tell(const struct exec_provider *p, const struct dns_exec_call *call,
                 const struct cm_dns_record *rec, const struct cm_program_end *end)
{
    char words[200];
    char status[16];
    const struct cm_log_field fields[] = { { "program", p->path },
                                           { "action", call->argv[1] },
                                           { "record", rec->fqdn },
                                           { "exit_status", status },
                                           { "output", cm_program_quote(&end->output, words,
                                                                        sizeof words) } };

    (void)snprintf(status, sizeof status, "%d", end->exit_status);
    cm_logf(&p->log, CM_LOG_DEBUG, "dns_hook_run", fields, CM_ARRAY_LEN(fields), "%s %s ended",
            p->path, call->argv[1]);
}

static cm_status run(struct exec_provider *p, const struct cm_op *op,
                     const struct cm_dns_record *rec, bool adding, struct cm_err *err)
{
    const char *envp[DNS_EXEC_ENV_MAX + 16];
    char *own[OWN_VARIABLES] = { NULL };
    struct dns_exec_call call;
    struct cm_program_end end = CM_PROGRAM_END_INIT;
    const struct cm_program what = { .path = p->path,
                                     .argv = call.argv,
                                     .envp = envp,
                                     .secrets = p->env.secrets,
                                     .output_max = OUTPUT_MAX,
                                     .timeout_ns = p->timeout_ns };
    size_t n = p->env.n;
    cm_status rc = dns_exec_build(p->style, p->path, adding, rec, &call, err);

    if (rc == CM_OK)
        rc = add_own(rec, adding, own, err);
    (void)memcpy(envp, p->env.list, n * sizeof envp[0]);
    for (size_t i = 0; i < OWN_VARIABLES && own[i] != NULL; i++)
        envp[n++] = own[i];
    envp[n] = NULL;
    /* Each time: whoever can change it in between could have us run anything. */
    if (rc == CM_OK)
        rc = cm_program_check(p->path, err);
    if (rc == CM_OK)
        rc = take_turn(p, op, err);
    if (rc == CM_OK) {
        rc = cm_program_run(op, &what, &end, err);
        give_turn(p);
        if (rc == CM_OK) {
            tell(p, &call, rec, &end);
            rc = judge(p, &call, adding, &end, err);
        }
        cm_buf_free(&end.output);
    }
    for (size_t i = 0; i < OWN_VARIABLES; i++)
        free(own[i]);
    return rc;
}

static cm_status append_record(struct cm_dns_provider *p, const struct cm_op *op,
                               const struct cm_dns_record *rec, struct cm_err *err)
{
    return run(self(p), op, rec, true, err);
}

static cm_status remove_record(struct cm_dns_provider *p, const struct cm_op *op,
                               const struct cm_dns_record *rec, struct cm_err *err)
{
    return run(self(p), op, rec, false, err);
}

static const char *describe(struct cm_dns_provider *p)
{
    return self(p)->description;
}

static void destroy(struct cm_dns_provider *base)
{
    struct exec_provider *p = self(base);

    dns_exec_env_free(&p->env);
    (void)pthread_mutex_destroy(&p->lock);
    (void)pthread_cond_destroy(&p->freed);
    free(p->path);
    free(p->description);
    free(p);
}

static const struct cm_dns_provider_ops exec_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof exec_ops,
    .name = "exec",
    .append = append_record,
    .remove = remove_record,
    .describe = describe,
    .destroy = destroy,
};

/* --------------------------------------------------------------------- open */

static cm_status number(const char *name, const char *text, int64_t max, int64_t *ret,
                        struct cm_err *err)
{
    char *end = NULL;
    long value;

    if (text == NULL)
        return CM_OK;
    value = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < 1 || value > max)
        return cm_fail(err, CM_E_INVAL, "%s is not a number from 1 to %lld", name, (long long)max);
    *ret = value;
    return CM_OK;
}

/* The working directory may be another when the program is run. */
static cm_status full_path(const char *rest, size_t len, char **ret, struct cm_err *err)
{
    char cwd[PATH_MAX];
    CM_AUTO_FREE char *path = cm_strndup(rest, len);

    if (path == NULL)
        return cm_fail_nomem(err);
    if (len == 0)
        return cm_fail(err, CM_E_INVAL, "no program is named: exec:/PATH/TO/PROGRAM");
    if (path[0] == '/' || strchr(path, '/') == NULL) { /* without: refused by the check */
        *ret = path;
        path = NULL;
        return CM_OK;
    }
    if (getcwd(cwd, sizeof cwd) == NULL)
        return cm_fail_errno(err, "find the working directory");
    *ret = cm_asprintf("%s/%s", cwd, path);
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}

static cm_status fill(struct exec_provider *p, const char *rest, const char *const given[4],
                      struct cm_err *err)
{
    int64_t timeout_s = TIMEOUT_S;
    int64_t parallel = 1;
    cm_status rc = dns_exec_style_parse(given[0], &p->style, err);

    if (rc == CM_OK)
        rc = number("timeout (in seconds)", given[1], TIMEOUT_S_MAX, &timeout_s, err);
    if (rc == CM_OK)
        rc = number("parallel", given[2], PARALLEL_MAX, &parallel, err);
    if (rc == CM_OK)
        rc = dns_exec_env_new(given[3], &p->env, err);
    if (rc == CM_OK)
        rc = full_path(rest, strcspn(rest, "?"), &p->path, err);
    if (rc == CM_OK)
        rc = cm_program_check(p->path, err);
    if (rc != CM_OK)
        return rc;
    p->timeout_ns = timeout_s * CM_NS_PER_S;
    p->free_turns = (unsigned)parallel;
    p->description = cm_asprintf("exec:%s", p->path);
    return p->description != NULL ? CM_OK : cm_fail_nomem(err);
}

cm_status dns_exec_open(const char *rest, const struct cm_dns_provider_options *opts,
                        struct cm_dns_provider **ret, struct cm_err *err)
{
    char *given[4] = { NULL };
    const struct dns_param params[] = { { "style", &given[0] },
                                        { "timeout", &given[1] },
                                        { "parallel", &given[2] },
                                        { "env", &given[3] } };
    const char *query = strchr(rest, '?');
    struct exec_provider *p = cm_calloc(1, sizeof *p);
    cm_status rc;

    if (p == NULL)
        return cm_fail_nomem(err);
    p->base.ops = &exec_ops;
    p->log = opts->log;
    cm_mutex_init(&p->lock);
    cm_cond_init(&p->freed);
    rc = dns_read_params(query != NULL ? query + 1 : NULL, params, CM_ARRAY_LEN(params), err);
    if (rc == CM_OK)
        rc = fill(p, rest, (const char *const *)given, err);
    for (size_t i = 0; i < CM_ARRAY_LEN(given); i++)
        free(given[i]);
    if (rc != CM_OK) {
        destroy(&p->base);
        return rc;
    }
    *ret = &p->base;
    return CM_OK;
}
