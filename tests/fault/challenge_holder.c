/* SPDX-License-Identifier: Apache-2.0 */
#include "core.h"
#include "issuers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* challenge_holder HTTP-PORT TLS-PORT: an issuance that has got as far as its challenges, and stays
 * there until its input ends: http-01 and tls-alpn-01 for a.test are open on 127.0.0.1. The token
 * is "token", the key authorization "token.thumb". Says "open" when they are. */

#define PREFIX "acme/holder"

struct holder {
    struct cm_issuer base;
    const struct cm_issuer_host *host;
};

static const char *holder_key(struct cm_issuer *is)
{
    (void)is;
    return "holder";
}

static cm_status holder_attach(struct cm_issuer *is, const struct cm_issuer_host *host,
                               struct cm_err *err)
{
    (void)err;
    CM_CONTAINER_OF(is, struct holder, base)->host = host;
    return CM_OK;
}

static cm_status holder_issue(struct cm_issuer *is, const struct cm_op *op,
                              const struct cm_issue_request *req, struct cm_issued *ret,
                              struct cm_err *err)
{
    (void)is;
    (void)op;
    (void)req;
    (void)ret;
    return cm_fail(err, CM_E_UNSUPPORTED, "this one only holds challenges open");
}

static const char *holder_prefix(struct cm_issuer *is, unsigned i)
{
    (void)is;
    return i == 0 ? PREFIX : NULL;
}

static void holder_destroy(struct cm_issuer *is)
{
    (void)is;
}

static const struct cm_issuer_ops ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof ops,
    .name = "holder",
    .key = holder_key,
    .attach = holder_attach,
    .issue = holder_issue,
    .challenge_prefix = holder_prefix,
    .destroy = holder_destroy,
};

static void must(cm_status rc, const struct cm_err *err)
{
    if (rc == CM_OK)
        return;
    fprintf(stderr, "challenge_holder: %s\n", err->msg);
    exit(1);
}

static void *present(struct cm_solver *solver, const char *type)
{
    const struct cm_challenge ch = { .type = type,
                                     .url = "https://ca.test/chal/1",
                                     .token = "token",
                                     .key_authorization = "token.thumb",
                                     .ident_type = CM_IDENT_DNS,
                                     .ident = "a.test",
                                     .prefix = PREFIX };
    struct cm_err err = CM_ERR_INIT;
    void *state = NULL;

    must(cm_solver_present(solver, NULL, &ch, &state, &err), &err);
    return state;
}

int main(int argc, char **argv)
{
    static struct holder holder = { .base = { &ops } };
    static struct cm_issuer *issuers[] = { &holder.base };
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_err err = CM_ERR_INIT;
    struct cm_config *cfg = NULL;
    struct cm_solver *solver = NULL;
    void *http, *tls;

    if (argc != 3)
        return 2;
    o.storage = "memory:";
    o.issuers = issuers;
    o.n_issuers = 1;
    o.listen_host = "127.0.0.1";
    o.http_port = (uint16_t)strtoul(argv[1], NULL, 10);
    o.tls_port = (uint16_t)strtoul(argv[2], NULL, 10);
    must(cm_config_new(&o, &cfg, &err), &err);
    must(cm_solver_shared_new(holder.host, NULL, &solver, &err), &err);
    http = present(solver, "http-01");
    tls = present(solver, "tls-alpn-01");
    puts("open");
    fflush(stdout);
    while (getchar() != EOF)
        continue;
    cm_solver_cleanup(solver, NULL, http);
    cm_solver_cleanup(solver, NULL, tls);
    cm_solver_destroy(solver);
    cm_config_free(cfg);
    return 0;
}
