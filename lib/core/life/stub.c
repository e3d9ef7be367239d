/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
/* Stand-ins until the parts arrive: weak, so that those take their place. */
#define W __attribute__((weak))
W cm_status cm_retry_load(struct cm_config *cfg, const struct cm_op *op, const char *dir,
                          struct cm_retry *ret, struct cm_err *err)
{
    (void)cfg;
    (void)op;
    (void)dir;
    (void)ret;
    return cm_fail(err, CM_E_NOTFOUND, "none");
}
W void cm_retry_note(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                     const struct cm_cert *old, const char *issuer_key, const struct cm_err *why,
                     struct cm_retry *io)
{
    (void)op;
    (void)s;
    (void)old;
    (void)issuer_key;
    (void)why;
    io->attempts++;
    io->next_s = cm_env_wall_s(cfg->env) + 60;
}
W void cm_retry_clear(struct cm_config *cfg, const struct cm_op *op, const char *dir)
{
    (void)cfg;
    (void)op;
    (void)dir;
}
W cm_status cm_staple_tend(struct cm_config *cfg, const struct cm_op *op, struct cm_cert *cert,
                           bool may_fetch, int64_t *ret_again_s, struct cm_revocation *r,
                           struct cm_err *err)
{
    (void)cfg;
    (void)op;
    (void)cert;
    (void)may_fetch;
    (void)r;
    (void)err;
    *ret_again_s = INT64_MAX;
    return CM_OK;
}
W cm_status cm_crl_tend(struct cm_config *cfg, const struct cm_op *op, const struct cm_cert *cert,
                        bool may_fetch, int64_t *ret_again_s, struct cm_revocation *r,
                        struct cm_err *err)
{
    (void)cfg;
    (void)op;
    (void)cert;
    (void)may_fetch;
    (void)r;
    (void)err;
    *ret_again_s = INT64_MAX;
    return CM_OK;
}
W cm_status cm_emit(const struct cm_config *cfg, struct cm_event *ev, struct cm_err *err)
{
    (void)cfg;
    (void)ev;
    (void)err;
    return CM_OK;
}
W void cm_count(struct cm_config *cfg, enum cm_counter c)
{
    (void)cfg;
    (void)c;
}
W void cm_count_failure(struct cm_config *cfg, cm_status rc, const struct cm_err *why)
{
    (void)cfg;
    (void)rc;
    (void)why;
}
