/* SPDX-License-Identifier: Apache-2.0 */
#include <certmesh/cm_spi.h>

#include "base.h"

#include <string.h>

/* The gates in front of issuers and solvers: see spi_storage.c for what gates are for. */

#define HAS_OP(x, type, op)                                                                        \
    ((x)->ops->size >= offsetof(struct type, op) + sizeof((x)->ops->op) && (x)->ops->op != NULL)
#define ISSUER_HAS(is, op) HAS_OP(is, cm_issuer_ops, op)
#define SOLVER_HAS(sv, op) HAS_OP(sv, cm_solver_ops, op)

static const char *name_of(const char *name)
{
    return name != NULL ? name : "?";
}

/* Of a foreign table nothing but abi can be trusted, so its name is not shown. */
static cm_status check_abi(uint32_t abi, const char *what, struct cm_err *err)
{
    if (abi == CM_SPI_ABI)
        return CM_OK;
    return cm_fail(err, CM_E_UNSUPPORTED,
                   "this %s was made for plugin interface %u, not %u: rebuild it", what,
                   (unsigned)abi, (unsigned)CM_SPI_ABI);
}

/* ----------------------------------------------------------------- issuer */

static cm_status check_issuer(struct cm_issuer *is, struct cm_err *err)
{
    if (is == NULL || is->ops == NULL)
        return cm_fail(err, CM_E_INVAL, "no issuer given");
    return check_abi(is->ops->abi, "issuer", err);
}

static cm_status check_names(const char *const *names, size_t n, struct cm_err *err)
{
    if (names == NULL || n == 0)
        return cm_fail(err, CM_E_INVAL, "no names given to certify");
    for (size_t i = 0; i < n; i++)
        if (names[i] == NULL || names[i][0] == '\0')
            return cm_fail(err, CM_E_INVAL, "name %zu of those to certify is empty", i + 1);
    return CM_OK;
}

const char *cm_issuer_key(struct cm_issuer *is)
{
    if (check_issuer(is, NULL) != CM_OK || !ISSUER_HAS(is, key))
        return "";
    return is->ops->key(is);
}

cm_status cm_issuer_attach(struct cm_issuer *is, const struct cm_issuer_host *host,
                           struct cm_err *err)
{
    cm_status rc = check_issuer(is, err);
    const char *key;

    if (rc != CM_OK)
        return rc;
    if (host == NULL || host->size == 0)
        return cm_fail(err, CM_E_INVAL, "no host given to attach issuer '%s' to",
                       name_of(is->ops->name));
    if (!ISSUER_HAS(is, key) || !ISSUER_HAS(is, issue))
        return cm_fail(err, CM_E_UNSUPPORTED, "issuer '%s' lacks the key or the issue operation",
                       name_of(is->ops->name));
    key = is->ops->key(is);
    if (key == NULL)
        return cm_fail(err, CM_E_INVAL, "issuer '%s' has no key", name_of(is->ops->name));
    return ISSUER_HAS(is, attach) ? is->ops->attach(is, host, err) : CM_OK;
}

cm_status cm_issuer_precheck(struct cm_issuer *is, const char *const *names, size_t n,
                             struct cm_err *err)
{
    cm_status rc = check_issuer(is, err);

    if (rc == CM_OK)
        rc = check_names(names, n, err);
    if (rc != CM_OK)
        return rc;
    return ISSUER_HAS(is, precheck) ? is->ops->precheck(is, names, n, err) : CM_OK;
}

cm_status cm_issuer_issue(struct cm_issuer *is, const struct cm_op *op,
                          const struct cm_issue_request *req, struct cm_issued *ret,
                          struct cm_err *err)
{
    cm_status rc = check_issuer(is, err);

    if (rc != CM_OK)
        return rc;
    if (req == NULL || req->size == 0 || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "issuer '%s': no request or nowhere to put the answer",
                       name_of(is->ops->name));
    rc = check_names(req->names, req->n_names, err);
    if (rc != CM_OK)
        return rc;
    if (req->csr_der.data == NULL || req->csr_der.len == 0 || req->checkpoint == NULL)
        return cm_fail(err, CM_E_INVAL, "issuer '%s': the request for '%s' lacks %s",
                       name_of(is->ops->name), req->names[0],
                       req->checkpoint == NULL ? "a checkpoint" : "a CSR");
    if (!ISSUER_HAS(is, issue))
        return cm_fail(err, CM_E_UNSUPPORTED, "issuer '%s' cannot issue", name_of(is->ops->name));
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "certificate for '%s'", req->names[0]);
    return is->ops->issue(is, op, req, ret, err);
}

cm_status cm_issuer_revoke(struct cm_issuer *is, const struct cm_op *op, struct cm_span leaf_der,
                           int reason, struct cm_err *err)
{
    cm_status rc = check_issuer(is, err);

    if (rc != CM_OK)
        return rc;
    if (leaf_der.data == NULL || leaf_der.len == 0)
        return cm_fail(err, CM_E_INVAL, "no certificate given to revoke");
    /* RFC 5280 5.3.1: 7 was never assigned. */
    if (reason < -1 || reason > 10 || reason == 7)
        return cm_fail(err, CM_E_INVAL, "%d is not a revocation reason (0..6, 8..10, -1 for none)",
                       reason);
    if (!ISSUER_HAS(is, revoke))
        return cm_fail(err, CM_E_UNSUPPORTED, "issuer '%s' cannot revoke", name_of(is->ops->name));
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "revocation");
    return is->ops->revoke(is, op, leaf_der, reason, err);
}

static cm_status check_renewal_info(const struct cm_issuer *is, const struct cm_renewal_info *info,
                                    struct cm_err *err)
{
    if (info->start_s < info->end_s && info->retry_after_s > 0 &&
        memchr(info->explanation_url, '\0', sizeof info->explanation_url) != NULL)
        return CM_OK;
    return cm_fail(err, CM_E_PARSE, "issuer '%s' suggests what is no window",
                   name_of(is->ops->name));
}

cm_status cm_issuer_renewal_info(struct cm_issuer *is, const struct cm_op *op,
                                 struct cm_span leaf_der, struct cm_renewal_info *ret,
                                 struct cm_err *err)
{
    struct cm_renewal_info info = { .size = (uint32_t)sizeof info };
    cm_status rc = check_issuer(is, err);

    if (rc != CM_OK)
        return rc;
    if (leaf_der.data == NULL || leaf_der.len == 0 || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no certificate given to ask about");
    if (!ISSUER_HAS(is, renewal_info))
        return cm_fail(err, CM_E_UNSUPPORTED, "issuer '%s' makes no suggestions when to renew",
                       name_of(is->ops->name));
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "renewal information");
    rc = is->ops->renewal_info(is, op, leaf_der, &info, err);
    if (rc == CM_OK)
        rc = check_renewal_info(is, &info, err);
    if (rc != CM_OK)
        return rc;
    info.size = ret->size > 0 && ret->size < sizeof info ? ret->size : (uint32_t)sizeof info;
    memcpy(ret, &info, info.size);
    return CM_OK;
}

const char *cm_issuer_challenge_prefix(struct cm_issuer *is, unsigned index)
{
    if (check_issuer(is, NULL) != CM_OK || !ISSUER_HAS(is, challenge_prefix))
        return NULL;
    return is->ops->challenge_prefix(is, index);
}

void cm_issuer_get_limits(struct cm_issuer *is, struct cm_issuer_limits *ret)
{
    *ret = (struct cm_issuer_limits){ .size = (uint32_t)sizeof *ret };
    if (check_issuer(is, NULL) == CM_OK && ISSUER_HAS(is, limits))
        is->ops->limits(is, ret);
}

void cm_issuer_stop(struct cm_issuer *is)
{
    if (check_issuer(is, NULL) == CM_OK && ISSUER_HAS(is, stop))
        is->ops->stop(is);
}

cm_status cm_issuer_clean(struct cm_issuer *is, const struct cm_op *op, struct cm_err *err)
{
    cm_status rc = check_issuer(is, err);

    if (rc != CM_OK || !ISSUER_HAS(is, clean))
        return rc;
    rc = cm_op_check(op, err);
    return rc == CM_OK ? is->ops->clean(is, op, err) : rc;
}

void cm_issuer_destroy(struct cm_issuer *is)
{
    if (check_issuer(is, NULL) == CM_OK && ISSUER_HAS(is, destroy))
        is->ops->destroy(is);
}

/* ----------------------------------------------------------------- solver */

static cm_status check_solver(struct cm_solver *sv, struct cm_err *err)
{
    if (sv == NULL || sv->ops == NULL)
        return cm_fail(err, CM_E_INVAL, "no solver given");
    return check_abi(sv->ops->abi, "solver", err);
}

bool cm_solver_can(struct cm_solver *sv, const char *type, enum cm_ident_type ident_type,
                   bool wildcard)
{
    if (type == NULL || check_solver(sv, NULL) != CM_OK || !SOLVER_HAS(sv, can))
        return false;
    return sv->ops->can(sv, type, ident_type, wildcard);
}

/* The token ends up in paths, URLs and TXT records: whatever made the challenge, only what RFC
 * 8555 8.1 allows passes here. */
static cm_status check_challenge(const struct cm_challenge *ch, struct cm_err *err)
{
    size_t len;

    if (ch == NULL || ch->type == NULL || ch->token == NULL || ch->key_authorization == NULL ||
        ch->ident == NULL || ch->ident[0] == '\0')
        return cm_fail(err, CM_E_INVAL, "the challenge is not complete");
    len = strlen(ch->token);
    if (len == 0 || len > 128 || !cm_is_b64url(ch->token, len))
        return cm_fail(err, CM_E_PARSE,
                       "the token of the %s challenge for '%s' is not 1 to 128 base64url "
                       "characters",
                       ch->type, ch->ident);
    return CM_OK;
}

cm_status cm_solver_present(struct cm_solver *sv, const struct cm_op *op,
                            const struct cm_challenge *ch, void **ret_state, struct cm_err *err)
{
    void *state = NULL;
    cm_status rc = check_solver(sv, err);

    if (rc == CM_OK)
        rc = check_challenge(ch, err);
    if (rc != CM_OK)
        return rc;
    /* An answer nobody can take back must not be given. */
    if (ret_state == NULL || !SOLVER_HAS(sv, present) || !SOLVER_HAS(sv, cleanup))
        return cm_fail(err, CM_E_UNSUPPORTED, "solver '%s' cannot present and clean up",
                       name_of(sv->ops->name));
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "%s challenge for '%s'", ch->type, ch->ident);
    rc = sv->ops->present(sv, op, ch, &state, err);
    if (rc == CM_OK)
        *ret_state = state;
    return rc;
}

cm_status cm_solver_wait(struct cm_solver *sv, const struct cm_op *op, void *state,
                         struct cm_err *err)
{
    cm_status rc = check_solver(sv, err);

    if (rc == CM_OK)
        rc = cm_op_check(op, err);
    if (rc != CM_OK || !SOLVER_HAS(sv, wait))
        return rc;
    return sv->ops->wait(sv, op, state, err);
}

/* No check of @op: what was presented has to go whatever happened. */
void cm_solver_cleanup(struct cm_solver *sv, const struct cm_op *op, void *state)
{
    if (check_solver(sv, NULL) == CM_OK && SOLVER_HAS(sv, cleanup))
        sv->ops->cleanup(sv, op, state);
}

void cm_solver_stop(struct cm_solver *sv)
{
    if (check_solver(sv, NULL) == CM_OK && SOLVER_HAS(sv, stop))
        sv->ops->stop(sv);
}

void cm_solver_destroy(struct cm_solver *sv)
{
    if (check_solver(sv, NULL) == CM_OK && SOLVER_HAS(sv, destroy))
        sv->ops->destroy(sv);
}
