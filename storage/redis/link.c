/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <unistd.h>

/* The life of a link. */

cm_status redis_link_new(const struct redis_options *o, const struct cm_env *env,
                         const struct cm_log *log, struct redis_link **ret, struct cm_err *err)
{
    struct redis_link *l = cm_calloc(1, sizeof *l);
    cm_status rc = CM_OK;

    if (l == NULL)
        return cm_fail_nomem(err);
    l->o = o;
    l->env = env != NULL ? env : cm_env_system();
    if (log != NULL)
        l->log = *log;
    l->pid = getpid();
    if (o->tls)
        rc = redis_tls_new(o, &l->cred, err);
    if (rc != CM_OK) {
        free(l);
        return rc;
    }
    cm_mutex_init(&l->mutex);
    if (o->tls_insecure)
        cm_logf(&l->log, CM_LOG_WARN, "redis_insecure", NULL, 0,
                "%s: insecure=true: whoever stands between here and Redis can read and change "
                "everything, private keys too",
                o->shown);
    *ret = l;
    return CM_OK;
}

void redis_link_free(struct redis_link *l)
{
    if (l == NULL)
        return;
    /* In a forked child another thread's lock may be held for ever, and what it guards be half
     * done. The descriptors go with exec. */
    if (getpid() != l->pid)
        return;
    redis_route_clear(l);
    CM_ASSERT(l->nodes == NULL);
    if (l->cred != NULL)
        gnutls_certificate_free_credentials(l->cred);
    (void)pthread_mutex_destroy(&l->mutex);
    free(l);
}

bool redis_link_is_cluster(const struct redis_link *l)
{
    return l->o->topology == REDIS_CLUSTER;
}

cm_status redis_check_owner(const struct redis_link *l, struct cm_err *err)
{
    if (getpid() == l->pid)
        return CM_OK;
    return cm_fail(err, CM_E_STATE,
                   "%s was opened before this process was forked: open it anew here", l->o->shown);
}
