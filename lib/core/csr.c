/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <stdio.h>
#include <string.h>

/* Certificates for requests whose keys are not here. There is no pair to commit, nothing that could
 * be served, and nobody but the operator who could make the next request: so no job of obtain.c,
 * but the same lock, the same gates in front of the CAs, and the same rules for what is accepted.
 *
 *   certmesh/csr/<I>/<N>/<K>.crt    the chain; <K> is of the request's public key
 *   certmesh/csr/<I>/<N>/<K>.order  the issuer's state of an order under way */

#define ID_BYTES  8u
#define STATE_MAX (64u * 1024)
#define YOUNG_S   (24 * 3600)

struct request {
    struct cm_config *cfg;
    const struct cm_op *op;
    bool force;
    struct cm_lease *lease; /* NULL before it is taken */
    struct cm_buf der;
    struct cm_subject *subject;
    char id[2 * ID_BYTES + 1];
    struct cm_issuer *issuer; /* at work */
    struct cm_buf chain_pem;  /* found or issued, by: */
    const char *issuer_key;
    struct cm_leaf *leaf; /* of it */
};

static cm_status path(const struct request *r, const char *issuer_key, const char *suffix,
                      char ret[CM_KEY_BUF], struct cm_err *err)
{
    return cm_path_csr(issuer_key, r->subject->dir, r->id, suffix, ret, err);
}

static cm_status take_in(struct request *r, struct cm_span text, struct cm_err *err)
{
    uint8_t digest[CM_SHA256_LEN];
    char **names = NULL;
    size_t n = 0;

    cm_status rc = cm_csr_read(text, &r->der, err);
    if (rc == CM_OK)
        rc = cm_csr_verify(cm_buf_span(&r->der), digest, err);
    if (rc == CM_OK)
        rc = cm_csr_names(cm_buf_span(&r->der), &names, &n, err);
    if (rc == CM_OK)
        rc = cm_subject_new((const char *const *)names, n, &r->subject, err);
    for (size_t i = 0; rc == CM_OK && i < ID_BYTES; i++)
        (void)snprintf(r->id + 2 * i, 3, "%02x", digest[i]);
    cm_csr_names_free(names, n);
    return rc;
}

/* The rules for what was issued, and for what lies in storage. */
static cm_status accept(const struct request *r, struct cm_span pem, struct cm_leaf **ret,
                        struct cm_err *err)
{
    struct cm_chain chain = { .n = 0 };

    cm_status rc = cm_chain_from_pem(pem, &chain, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_chain_accept(&chain, NULL, r->subject->names, r->subject->n, true,
                         cm_env_wall_s(r->cfg->env), CM_CERT_SKEW_S, err);
    if (rc == CM_OK && !cm_csr_is_for(cm_buf_span(&r->der), chain.der[0]))
        rc = cm_fail(err, CM_E_CERT, "certificate refused (key match): it is for another key");
    if (rc == CM_OK)
        rc = cm_leaf_parse(chain.der[0], ret, err);
    cm_chain_free(&chain);
    return rc;
}

/* ------------------------------------------------------------------- storage */

static void keep(struct request *r, struct cm_buf *pem, struct cm_leaf *leaf, const char *key)
{
    cm_buf_free(&r->chain_pem);
    cm_leaf_free(r->leaf);
    r->chain_pem = *pem;
    r->leaf = leaf;
    r->issuer_key = key;
}

/* What is not there, damaged or expired is as if there were none. */
static cm_status look_at(struct request *r, const char *key, struct cm_err *err)
{
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_leaf *leaf = NULL;
    struct cm_err why = CM_ERR_INIT;
    char at[CM_KEY_BUF];

    cm_status rc = path(r, key, ".crt", at, err);
    if (rc == CM_OK)
        rc = cm_storage_load(r->cfg->storage, r->op, at, &pem, err);
    if (rc == CM_OK && accept(r, cm_buf_span(&pem), &leaf, &why) == CM_OK &&
        (r->leaf == NULL || leaf->not_before_s > r->leaf->not_before_s)) {
        keep(r, &pem, leaf, key);
        return CM_OK;
    }
    if (rc == CM_OK && leaf == NULL)
        cm_logf(&r->cfg->log, CM_LOG_INFO, "csr_certificate_over", NULL, 0, "'%s': %s", at,
                why.msg);
    cm_leaf_free(leaf);
    cm_buf_free(&pem);
    return rc == CM_E_NOTFOUND || rc == CM_E_LIMIT ? CM_OK : rc;
}

/* The newest valid one of all issuers' into @r. */
static cm_status look(struct request *r, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; rc == CM_OK && i < r->cfg->n_issuers; i++)
        rc = look_at(r, cm_issuer_key(r->cfg->issuers[i]), err);
    return rc;
}

static struct cm_issuer *issuer_of(const struct request *r)
{
    for (size_t i = 0; i < r->cfg->n_issuers; i++)
        if (strcmp(cm_issuer_key(r->cfg->issuers[i]), r->issuer_key) == 0)
            return r->cfg->issuers[i];
    return NULL;
}

/* The CA's suggestion, asked for now; where in its window is told by the serial number, so that it
 * is the same each time. */
static bool suggestion(const struct request *r, struct cm_ari *ret)
{
    struct cm_renewal_info info = { .size = (uint32_t)sizeof info };
    struct cm_chain chain = { .n = 0 };
    struct cm_issuer *is = issuer_of(r);
    uint8_t digest[CM_SHA256_LEN];

    if (is == NULL || cm_chain_from_pem(cm_buf_span(&r->chain_pem), &chain, NULL) != CM_OK)
        return false;
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = cm_issuer_renewal_info(is, r->op, chain.der[0], &info, &why);
    cm_chain_free(&chain);
    int64_t now_s = cm_env_wall_s(r->cfg->env);
    /* A CA that wants back at once what it has only just issued would get an order at each run. */
    if (rc != CM_OK || (info.end_s <= now_s && now_s - r->leaf->not_before_s < YOUNG_S))
        return false;
    cm_sha256((struct cm_span){ r->leaf->serial, r->leaf->serial_len }, digest);
    uint32_t part = (uint32_t)digest[0] << 16 | (uint32_t)digest[1] << 8 | digest[2];
    double at = (double)(info.end_s - info.start_s) * (double)part / (double)(1u << 24);
    *ret = (struct cm_ari){ .start_s = info.start_s,
                            .end_s = info.end_s,
                            .selected_s = info.start_s + (int64_t)at };
    return true;
}

static bool is_due(const struct request *r)
{
    struct cm_ari ari;
    struct cm_when w;
    const struct cm_when_input in = { .not_before_s = r->leaf->not_before_s,
                                      .not_after_s = r->leaf->not_after_s,
                                      .ratio = r->cfg->renew_ratio,
                                      .renew_before_s = r->cfg->renew_before_s,
                                      .ari = suggestion(r, &ari) ? &ari : NULL };

    cm_when(&in, &w);
    return cm_env_wall_s(r->cfg->env) >= w.renew_at_s;
}

/* --------------------------------------------------------------------- order */

static cm_status checkpoint(void *user, const struct cm_op *op, struct cm_span state,
                            struct cm_err *err)
{
    struct request *r = user;
    char at[CM_KEY_BUF];

    cm_status rc = path(r, cm_issuer_key(r->issuer), ".order", at, err);
    const struct cm_commit_item item = { at, state, false };
    if (rc == CM_OK)
        rc = cm_lease_commit(r->lease, op != NULL ? op : r->op, &item, 1, err);
    return rc == CM_OK ? rc
                       : cm_wrap(err, rc, "note the order for '%s' in storage", r->subject->ident);
}

static void progress(void *user, enum cm_phase phase)
{
    const struct request *r = user;
    const struct cm_config *cfg = r->cfg;

    if (cfg->on_progress != NULL)
        cfg->on_progress(cfg->progress_user, r->subject->ident, phase, NULL);
}

static cm_status store(struct request *r, const char *key, struct cm_span pem, struct cm_err *err)
{
    char crt[CM_KEY_BUF];
    char order[CM_KEY_BUF];

    cm_status rc = path(r, key, ".crt", crt, err);
    if (rc == CM_OK)
        rc = path(r, key, ".order", order, err);
    const struct cm_commit_item items[] = { { crt, pem, false }, { order, { NULL, 0 }, true } };
    return rc == CM_OK ? cm_lease_commit(r->lease, r->op, items, CM_ARRAY_LEN(items), err) : rc;
}

/* An order that came to nothing acceptable is not gone on with. */
static void forget_order(struct request *r, const char *key)
{
    char at[CM_KEY_BUF];

    if (path(r, key, ".order", at, NULL) == CM_OK)
        (void)!cm_storage_remove(r->cfg->storage, r->op, at, NULL);
}

static cm_status order_from(struct request *r, size_t i, struct cm_err *err)
{
    struct cm_issued issued = { CM_BUF_INIT(CM_CHAIN_PEM_MAX), CM_BUF_INIT(CM_META_MAX) };
    CM_AUTO_BUF struct cm_buf state = CM_BUF_INIT(STATE_MAX);
    const char *key = cm_issuer_key(r->cfg->issuers[i]);
    struct cm_leaf *leaf = NULL;
    char at[CM_KEY_BUF];

    r->issuer = r->cfg->issuers[i];
    cm_status rc = path(r, key, ".order", at, err);
    if (rc == CM_OK && cm_storage_load(r->cfg->storage, r->op, at, &state, NULL) != CM_OK)
        cm_buf_reset(&state); /* not there, or of no use: an order anew */
    const struct cm_ca_ask ask = { .resumes = state.len > 0 };
    if (rc == CM_OK)
        rc = cm_ca_admit(r->cfg, r->op, i, &ask, err);
    if (rc != CM_OK)
        return rc;

    bool replaces = r->leaf != NULL && strcmp(r->issuer_key, key) == 0 && r->leaf->ari_id[0];
    struct cm_issue_request req = { .size = (uint32_t)sizeof req,
                                    .names = r->subject->names,
                                    .n_names = r->subject->n,
                                    .csr_der = cm_buf_span(&r->der),
                                    .resume = cm_buf_span(&state),
                                    .replaces = replaces ? r->leaf->ari_id : NULL,
                                    .checkpoint = checkpoint,
                                    .progress = progress,
                                    .user = r,
                                    .renewal = r->leaf != NULL,
                                    .forced = r->force };
    if (r->leaf != NULL)
        req.replaces_not_after_s = r->leaf->not_after_s;
    progress(r, CM_PHASE_ORDERING);
    rc = cm_issuer_issue(r->issuer, r->op, &req, &issued, err);
    if (rc == CM_E_EXISTS && replaces) { /* ordered, but lost before it was stored */
        req.replaces = NULL;
        rc = cm_issuer_issue(r->issuer, r->op, &req, &issued, err);
    }
    cm_ca_outcome(r->cfg, r->op, i, rc, err);
    if (rc == CM_OK) {
        rc = accept(r, cm_buf_span(&issued.chain_pem), &leaf, err);
        if (rc == CM_E_CERT || rc == CM_E_PARSE)
            forget_order(r, key);
        if (rc == CM_OK)
            rc = store(r, key, cm_buf_span(&issued.chain_pem), err);
    }
    if (rc == CM_OK) {
        keep(r, &issued.chain_pem, leaf, key);
        issued.chain_pem = (struct cm_buf)CM_BUF_INIT(0);
    } else {
        cm_leaf_free(leaf);
    }
    cm_buf_free(&issued.chain_pem);
    cm_buf_free(&issued.issuer_data);
    return rc;
}

/* One issuer after the other. */
static cm_status order(struct request *r, struct cm_err *err)
{
    const struct cm_config *cfg = r->cfg;
    cm_status rc = CM_E_INTERNAL;

    for (size_t i = 0; i < cfg->n_issuers; i++) {
        rc = cm_issuer_precheck(cfg->issuers[i], r->subject->names, r->subject->n, err);
        if (rc == CM_OK)
            rc = order_from(r, i, err);
        if (rc == CM_OK || cm_op_check(r->op, NULL) != CM_OK ||
            cm_lease_check(r->lease, NULL) != CM_OK)
            return rc;
        if (i + 1 < cfg->n_issuers)
            cm_logf(&cfg->log, CM_LOG_WARN, "issuer_failed", NULL, 0,
                    "'%s' from %s: %s; trying the next issuer", r->subject->ident,
                    cm_issuer_key(cfg->issuers[i]), err->msg);
    }
    return rc;
}

/* Under the lock that all have who order for these names. */
static cm_status order_locked(struct request *r, bool *ret_there, struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    char name[CM_LOCK_NAME_MAX + 1];
    struct cm_op op = *r->op;
    const struct cm_op *own = r->op;

    cm_status rc = cm_lock_issue(r->subject->ident, name, err);
    if (rc != CM_OK)
        return rc;
    lo.log = r->cfg->log;
    progress(r, CM_PHASE_WAITING);
    rc = cm_lease_acquire(r->cfg->storage, r->op, name, &lo, &r->lease, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "lock for '%s'", r->subject->ident);
    op.cancel = cm_lease_cancel(r->lease);
    r->op = &op;
    rc = look(r, err); /* a peer may have been quicker */
    *ret_there = rc == CM_OK && !r->force && r->leaf != NULL && !is_due(r);
    if (rc == CM_OK && !*ret_there)
        rc = order(r, err);
    r->op = own;
    cm_lease_release(r->lease);
    r->lease = NULL;
    return rc;
}

/* -------------------------------------------------------------- public call */

static cm_status give(const struct request *r, bool there, struct cm_csr_result *ret,
                      struct cm_err *err)
{
    struct cm_csr_result full = { .size = (uint32_t)sizeof full, .already_there = there };
    char at[CM_KEY_BUF];
    size_t used = 0;

    cm_status rc = path(r, r->issuer_key, ".crt", at, err);
    if (rc != CM_OK || ret == NULL)
        return rc;
    full.not_after_s = r->leaf->not_after_s;
    (void)snprintf(full.issuer_key, sizeof full.issuer_key, "%s", r->issuer_key);
    memcpy(full.storage_key, at, strlen(at) + 1);
    for (size_t i = 0; i < r->subject->n && used < sizeof full.names; i++) {
        int n = snprintf(full.names + used, sizeof full.names - used, "%s%s", i > 0 ? "," : "",
                         r->subject->names[i]);
        used += n > 0 ? (size_t)n : sizeof full.names;
    }
    size_t size = ret->size > 0 && ret->size < sizeof full ? ret->size : sizeof full;
    full.size = (uint32_t)size;
    memcpy(ret, &full, size);
    return CM_OK;
}

static cm_status run(struct request *r, struct cm_span csr, bool *ret_there, struct cm_err *err)
{
    cm_status rc = take_in(r, csr, err);

    if (rc == CM_OK)
        rc = look(r, err);
    *ret_there = rc == CM_OK && !r->force && r->leaf != NULL && !is_due(r);
    if (rc == CM_OK && !*ret_there)
        rc = order_locked(r, ret_there, err);
    if (r->subject != NULL && r->cfg->on_progress != NULL && !*ret_there)
        r->cfg->on_progress(r->cfg->progress_user, r->subject->ident,
                            rc == CM_OK ? CM_PHASE_STORED : CM_PHASE_FAILED,
                            rc == CM_OK ? NULL : err);
    return rc;
}

cm_status cm_obtain_csr(struct cm_config *cfg, const struct cm_op *op, struct cm_span csr,
                        bool force, struct cm_csr_result *ret, struct cm_buf *ret_chain_pem,
                        struct cm_err *err)
{
    struct cm_op own = { NULL, 0, NULL };
    struct cm_err why = CM_ERR_INIT;
    bool there = false;

    if (cfg == NULL || csr.data == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, or no certificate request");
    if (op != NULL)
        own = *op;
    if (own.env == NULL)
        own.env = cfg->env;
    struct request r = { .cfg = cfg,
                         .op = &own,
                         .force = force,
                         .der = CM_BUF_INIT(CM_CERT_DER_MAX),
                         .chain_pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX) };
    cm_status rc = run(&r, csr, &there, &why);
    if (rc == CM_OK)
        rc = give(&r, there, ret, &why);
    if (rc == CM_OK && ret_chain_pem != NULL)
        rc = cm_buf_append(ret_chain_pem, r.chain_pem.data, r.chain_pem.len, &why);
    if (rc != CM_OK && err != NULL)
        *err = why;
    cm_leaf_free(r.leaf);
    cm_subject_free(r.subject);
    cm_buf_free(&r.chain_pem);
    cm_buf_free(&r.der);
    return rc;
}
