/* SPDX-License-Identifier: Apache-2.0 */
#include "acme.h"
#include "autocert.h"

/* Asking the program whether the CA's terms are agreed to, before an account is made. */

#define LIMIT_NS (60 * CM_NS_PER_S)

bool cm_accept_tos(void *user, const char *tos_url)
{
    (void)user;
    (void)tos_url;
    return true;
}

cm_status cm_autocert_any_host(void *user, const struct cm_op *op, const char *host,
                               struct cm_err *err)
{
    (void)user;
    (void)op;
    (void)host;
    (void)err;
    return CM_OK;
}

cm_status autocert_agree(void *user, const struct cm_op *op, struct cm_err *err)
{
    const struct cm_autocert *m = user;
    const struct cm_acme_directory *dir = NULL;
    struct cm_acme *client = NULL;
    const struct cm_acme_client_options co = {
        .directory_url = m->directory_url,
        .http = { .ca_file = m->ca_root_file,
                  .proxy = m->proxy,
                  .no_proxy = m->no_proxy,
                  .allow_plain_http = m->allow_plain_http,
                  .log = m->log },
        .log = m->log,
    };
    const struct cm_op limited = cm_op_within(op, LIMIT_NS);

    if (m->prompt == cm_accept_tos || m->directory_url == NULL)
        return CM_OK;
    cm_status rc = cm_acme_new(&co, &client, err);
    if (rc == CM_OK)
        rc = cm_acme_directory(client, &limited, &dir, err);
    const char *tos = rc == CM_OK && dir->terms_of_service != NULL ? dir->terms_of_service : "";
    if (rc == CM_OK && !m->prompt(m->prompt_user, tos)) {
        rc = cm_fail(err, CM_E_POLICY, "the terms of service of %s are not agreed to%s%s",
                     m->directory_url, tos[0] != '\0' ? ": " : "", tos);
        if (err != NULL)
            err->no_retry = true;
    }
    cm_acme_free(client);
    return rc;
}
