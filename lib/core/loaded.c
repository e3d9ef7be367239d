/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "names.h"

/* Certificates that are loaded and never ordered: somebody else renews them. Names of such are in
 * the table like others, so that they are looked after; what would ask a CA passes them by
 * (load.c, managejob.c, life/tend.c). */

/* Checked to the bottom already: it may be served at once. */
static cm_status check_loaded(struct cm_config *cfg, const char *name, const struct cm_cert *cert,
                              struct cm_err *err)
{
    int64_t now_s = cm_env_wall_s(cfg->env);

    if (cm_revoked_is(cfg, cert, NULL))
        return cm_fail(err, CM_E_CERT, "the certificate in storage for '%s' (serial %s) is revoked",
                       name, cm_cert_serial(cert));
    if (cm_cert_is_valid_at(cert, now_s, CM_CERT_SKEW_S))
        return CM_OK;
    return cm_fail(err, CM_E_CERT, "the certificate in storage for '%s' (serial %s) %s", name,
                   cm_cert_serial(cert),
                   now_s > cert->not_after_s ? "has expired" : "is not valid yet");
}

/* The name, for whoever looks after what is served. It is not awaited: it is served already. */
static cm_status note_name(struct cm_config *cfg, const char *name, struct cm_err *err)
{
    const struct cm_engage how = { .background = true, .load_only = true };
    struct cm_todo todo = { NULL, NULL, 0 };
    struct cm_managed *m;

    cm_status rc = cm_names_engage(cfg, name, &how, &todo, &m, err);
    cm_peers_begin(cfg);
    cm_rounds_begin(cfg);
    cm_managed_start_all(cfg, &todo);
    return rc;
}

cm_status cm_cache_managed(struct cm_config *cfg, const struct cm_op *op, const char *name,
                           struct cm_cert **ret, struct cm_err *err)
{
    struct cm_subject *s = NULL;
    struct cm_cert *cert = NULL;
    struct cm_op own = { NULL, 0, NULL };

    if (cfg == NULL || name == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration or no name");
    if (op != NULL)
        own = *op;
    if (own.env == NULL)
        own.env = cfg->env;
    cm_status rc = cm_subject_new(&name, 1, &s, err);
    if (rc == CM_OK)
        rc = cm_store_load(cfg, &own, s, CM_LOAD_NEWEST, &cert, err);
    if (rc == CM_OK)
        rc = check_loaded(cfg, s->ident, cert, err);
    if (rc == CM_OK)
        rc = cm_serve_managed(cfg, cert, err);
    if (rc == CM_OK) {
        cm_snapshot_changed(cfg);
        rc = note_name(cfg, s->ident, err);
    }
    if (rc == CM_OK && ret != NULL)
        *ret = cm_cert_ref(cert);
    cm_cert_unref(cert);
    cm_subject_free(s);
    return rc;
}
