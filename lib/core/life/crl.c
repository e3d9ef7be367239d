/* SPDX-License-Identifier: Apache-2.0 */
#include "crl_private.h"

#include <stdio.h>
#include <string.h>

/* Revocation lists are watched for certificates of CAs that run no OCSP responder any more. One
 * list stands for very many certificates, so what is known of it is kept once in the process, and
 * fetched once for the fleet: whoever holds the lease asks the CA, the others find it in storage.
 *
 * A list that does not come, or cannot be believed, says nothing, and the certificate is served on:
 * who can keep a list from us must not be able to take a site off the net. */

#define FETCH_TIMEOUT_NS (60 * CM_NS_PER_S)
#define WORK_LIMIT_NS    (180 * CM_NS_PER_S)
#define FAIL_FIRST_S     60
#define FAIL_MAX_S       3600
#define STORAGE_AGAIN_S  60 /* what was not in storage, is looked for there again */
#define PEER_AGAIN_S     5  /* somebody else is at it */

/* When to look for a newer one: half of what remains after it came. Not half of its life: a CA that
 * renews late would be asked over and over. Each node has its own moment, so that one of them is
 * first and the others find what it fetched. */
static int64_t refresh_at(const struct cm_env *env, const struct cm_crl_found *f)
{
    int64_t wait_s = (f->next_s - f->fetched_s) / 2;

    if (wait_s > CM_CRL_REFRESH_MAX_S)
        wait_s = CM_CRL_REFRESH_MAX_S;
    wait_s -= (int64_t)cm_random_below(env, (uint64_t)(wait_s > 0 ? wait_s / 10 : 0) + 1);
    return f->fetched_s + (wait_s > CM_CRL_REFRESH_MIN_S ? wait_s : CM_CRL_REFRESH_MIN_S);
}

/* @f->set is the table's from now on, or freed. */
static cm_status adopt(struct cm_config *cfg, struct cm_crl_list *l, struct cm_crl_found *f,
                       struct cm_err *err)
{
    int64_t at = refresh_at(cfg->env, f);
    bool fits;

    cm_mutex_lock(&cm_crl_table_lock);
    cm_crl_drop_set_locked(l);
    fits = cm_crl_make_room_locked(l, cm_crl_set_bytes(f->set));
    if (fits) {
        cm_crl_put_set_locked(l, f);
        l->refresh_s = at;
    }
    cm_mutex_unlock(&cm_crl_table_lock);
    if (fits)
        return CM_OK;
    cm_crl_set_free(f->set);
    return cm_fail(err, CM_E_LIMIT, "revocation list: more than %u bytes for all lists together",
                   CM_CRL_TABLE_BYTES);
}

/* ---------------------------------------------------- storage and the CA */

/* One piece of work on a list that is busy in our name. */
struct work {
    struct cm_config *cfg;
    const struct cm_op *op;
    const struct cm_crl_watch *w;
    struct cm_crl_list *l;
    struct cm_lease *lease; /* NULL: storage cannot be shared now */
    int64_t known_s;        /* issue of the newest list that is known */
};

static cm_status verify(const struct work *k, struct cm_span der, int64_t fetched_s,
                        struct cm_crl_found *ret, struct cm_err *err)
{
    struct cm_crl crl;

    cm_status rc =
        cm_crl_verify(der, k->w->issuer_der, k->w->url, cm_env_wall_s(k->cfg->env), &crl, err);
    /* Whoever answers for the CA may keep an old list, signed and not expired yet, for the day
     * when a newer one has what he does not want to be known. */
    if (rc == CM_OK && crl.this_update_s < k->known_s)
        rc = cm_fail(err, CM_E_CERT, "revocation list refused: it is %lld s older than one seen",
                     (long long)(k->known_s - crl.this_update_s));
    if (rc == CM_OK)
        rc = cm_crl_set_new(&crl, &ret->set, err);
    if (rc == CM_OK) {
        ret->this_s = crl.this_update_s;
        ret->next_s = crl.next_update_s;
        ret->fetched_s = fetched_s;
    }
    return rc;
}

/* A peer's, if it is fresher than ours: CM_OK also if it is not. What cannot be used counts as
 * absent, but to whom the reason matters. */
static cm_status look_into_storage(struct work *k)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CRL_MAX + CM_STORAGE_VALUE_MAX);
    int64_t now = cm_env_wall_s(k->cfg->env);
    struct cm_err why = CM_ERR_INIT;
    struct cm_crl_found f = { NULL, 0, 0, 0 };
    int64_t fetched_s = 0;

    cm_status rc = cm_crl_store_load(k->cfg, k->op, k->w->id_text, &der, &fetched_s, &why);
    if (rc == CM_OK && fetched_s > now) /* its clock was wrong: when it came is not known */
        fetched_s = now - CM_CRL_REFRESH_MIN_S;
    if (rc == CM_OK && k->l->got.set != NULL && fetched_s <= k->l->got.fetched_s)
        return CM_OK;
    if (rc == CM_OK)
        rc = verify(k, cm_buf_span(&der), fetched_s, &f, &why);
    if (rc == CM_OK)
        rc = adopt(k->cfg, k->l, &f, &why);
    if (rc == CM_OK)
        k->known_s = f.this_s;
    else if (rc != CM_E_NOTFOUND)
        cm_logf(&k->cfg->log, CM_LOG_INFO, "crl_stored_unusable", NULL, 0,
                "the stored revocation list of '%s' is not used: %s", k->w->url, why.msg);
    return rc;
}

static cm_status fetch(const struct work *k, struct cm_buf *body, struct cm_err *err)
{
    const struct cm_fetch req = { .size = (uint32_t)sizeof req,
                                  .method = "GET",
                                  .url = k->w->url,
                                  .accept = "application/pkix-crl",
                                  .max_body = CM_CRL_MAX,
                                  .timeout_ns = FETCH_TIMEOUT_NS };
    int status = 0;

    cm_status rc = cm_fetcher_fetch(k->cfg->fetcher, k->op, &req, &status, body, err);
    if (rc == CM_OK && status != 200)
        rc = cm_fail(err, CM_E_NET, "the server answered with status %d", status);
    return rc;
}

static void share(const struct work *k, struct cm_span der, int64_t fetched_s)
{
    struct cm_err why = CM_ERR_INIT;

    if (k->lease == NULL)
        return;
    if (cm_crl_store_save(k->cfg, k->op, k->lease, k->w->id_text, der, fetched_s, &why) != CM_OK)
        cm_logf(&k->cfg->log, CM_LOG_WARN, "crl_not_stored", NULL, 0,
                "the revocation list of '%s' is known here, but not shared: %s", k->w->url,
                why.msg);
}

static cm_status ask_ca(struct work *k, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf body = CM_BUF_INIT(CM_CRL_MAX);
    CM_AUTO_BUF struct cm_buf room = CM_BUF_INIT(CM_CRL_MAX);
    struct cm_crl_found f = { NULL, 0, 0, 0 };
    struct cm_span der;

    cm_status rc = fetch(k, &body, err);
    int64_t now = cm_env_wall_s(k->cfg->env);
    if (rc == CM_OK)
        rc = cm_crl_der(cm_buf_span(&body), &room, &der, err);
    if (rc == CM_OK)
        rc = verify(k, der, now, &f, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "revocation list of '%s'", k->w->url);
    rc = adopt(k->cfg, k->l, &f, err);
    if (rc == CM_OK) {
        cm_count(k->cfg, CM_COUNT_CRL_FETCHED);
        share(k, der, now);
    }
    return rc;
}

static void note_failure(const struct work *k, const struct cm_err *why)
{
    const struct cm_env *env = k->cfg->env;
    struct cm_crl_list *l = k->l;
    int64_t wait_s = FAIL_FIRST_S;

    if (cm_op_check(k->op, NULL) != CM_OK)
        return; /* ours, not the CA's */
    for (unsigned i = 0; i < l->failures && wait_s < FAIL_MAX_S; i++)
        wait_s *= 2;
    if (wait_s > FAIL_MAX_S)
        wait_s = FAIL_MAX_S;
    wait_s -= (int64_t)cm_random_below(env, (uint64_t)wait_s / 10 + 1);
    cm_mutex_lock(&cm_crl_table_lock);
    l->failures++;
    l->retry_s = cm_env_wall_s(env) + wait_s;
    l->last = *why;
    cm_mutex_unlock(&cm_crl_table_lock);
    cm_count(k->cfg, CM_COUNT_CRL_FAILED);
    cm_logf(&k->cfg->log, CM_LOG_WARN, "crl_failed", NULL, 0,
            "%s; the certificates are served on, next try in %lld s", why->msg, (long long)wait_s);
}

static bool is_fresh(const struct cm_crl_list *l, int64_t now_s)
{
    return l->got.set != NULL && now_s < l->refresh_s && now_s < l->got.next_s;
}

static void ask_later(const struct work *k)
{
    int64_t wait_s = PEER_AGAIN_S + (int64_t)cm_random_below(k->cfg->env, PEER_AGAIN_S);

    cm_mutex_lock(&cm_crl_table_lock);
    k->l->retry_s = cm_env_wall_s(k->cfg->env) + wait_s;
    k->l->storage_s = k->l->retry_s;
    cm_mutex_unlock(&cm_crl_table_lock);
}

/* One of the fleet asks the CA. Storage that fails is no reason not to: then each asks for itself,
 * and nothing is shared. */
static void fetch_for_all(struct work *k)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    CM_AUTO_FREE char *lock = cm_asprintf("crl_%s", k->w->id_text);
    struct cm_err why = CM_ERR_INIT;
    const struct cm_op *outer = k->op;
    struct cm_op op = *outer;

    lo.try_only = true;
    lo.log = k->cfg->log;
    cm_status rc = lock != NULL
                       ? cm_lease_acquire(k->cfg->storage, k->op, lock, &lo, &k->lease, &why)
                       : cm_fail_nomem(&why);
    if (rc == CM_E_BUSY) {
        ask_later(k);
        return;
    }
    if (rc == CM_OK) {
        op.cancel = cm_lease_cancel(k->lease);
        k->op = &op;
        (void)look_into_storage(k); /* a peer may just have been there */
    }
    rc = is_fresh(k->l, cm_env_wall_s(k->cfg->env)) ? CM_OK : ask_ca(k, &why);
    k->op = outer;
    cm_lease_release(k->lease);
    k->lease = NULL;
    if (rc != CM_OK) {
        note_failure(k, &why);
        return;
    }
    cm_mutex_lock(&cm_crl_table_lock);
    k->l->failures = 0;
    cm_mutex_unlock(&cm_crl_table_lock);
}

/* ------------------------------------------------------------------ tending */

/* Does somebody answer for this certificate by OCSP, as far as this config asks? */
static bool has_responder(const struct cm_config *cfg, const char *url)
{
    if (cfg->disable_ocsp)
        return false;
    for (size_t i = 0; i < cfg->n_ocsp_overrides; i++)
        if (strcmp(cfg->ocsp_overrides[i].from, url) == 0)
            url = cfg->ocsp_overrides[i].to;
    return url[0] != '\0';
}

static bool is_watched(const struct cm_config *cfg, const struct cm_leaf *leaf)
{
    return !cfg->disable_crl && cfg->fetcher != NULL && !has_responder(cfg, leaf->ocsp_url);
}

/* CM_E_NOTFOUND if there is no list, or it is not watched here although it has to be @watched. */
static cm_status watch_of(const struct cm_config *cfg, const struct cm_cert *cert, bool watched,
                          struct cm_crl_watch *ret, struct cm_err *err)
{
    struct cm_leaf *leaf = NULL;
    bool wanted;

    if (cm_cert_chain_len(cert) < 2 || !cm_crl_url(cm_cert_der(cert, 0), ret->url))
        return CM_E_NOTFOUND;
    cm_status rc = cm_leaf_parse(cm_cert_der(cert, 0), &leaf, err);
    if (rc != CM_OK)
        return rc;
    wanted = !watched || is_watched(cfg, leaf);
    memcpy(ret->serial, leaf->serial, leaf->serial_len);
    ret->serial_len = leaf->serial_len;
    cm_leaf_free(leaf);
    if (!wanted)
        return CM_E_NOTFOUND;
    ret->issuer_der = cm_cert_der(cert, 1);
    rc = cm_crl_id(ret->issuer_der, ret->url, ret->id, err);
    if (rc == CM_OK)
        cm_crl_id_text(ret->id, ret->id_text);
    return rc;
}

/* One that has expired says nothing any more. True if that is found now. Whoever is at work on it
 * reads it without the lock. */
static bool expire_locked(struct cm_crl_list *l, int64_t now_s)
{
    if (l->busy || l->got.set == NULL || now_s < l->got.next_s)
        return false;
    cm_crl_drop_set_locked(l);
    return true;
}

/* What there is to be done on @l, in our name if anything. */
static bool claim_locked(struct cm_crl_list *l, int64_t now_s, bool may_fetch, bool *ret_fetch)
{
    bool load = now_s >= l->storage_s;

    *ret_fetch = may_fetch && now_s >= l->retry_s;
    if (l->busy || is_fresh(l, now_s) || (!load && !*ret_fetch))
        return false;
    if (load)
        l->storage_s = now_s + STORAGE_AGAIN_S;
    l->busy = true;
    return true;
}

static void work_on(struct cm_config *cfg, const struct cm_op *op, const struct cm_crl_watch *w,
                    struct cm_crl_list *l, bool may_fetch)
{
    struct cm_op own = op != NULL ? *op : (struct cm_op){ NULL, 0, NULL };
    struct work k = { .cfg = cfg, .op = &own, .w = w, .l = l, .known_s = l->got.this_s };

    if (own.env == NULL)
        own.env = cfg->env;
    own = cm_op_within(&own, WORK_LIMIT_NS);
    (void)look_into_storage(&k);
    if (may_fetch && !is_fresh(l, cm_env_wall_s(cfg->env)))
        fetch_for_all(&k);
}

static int64_t again_locked(const struct cm_crl_list *l, int64_t now_s, bool may_fetch)
{
    if (is_fresh(l, now_s))
        return l->refresh_s;
    if (now_s < l->retry_s)
        return l->retry_s;
    if (l->busy)
        return now_s + PEER_AGAIN_S;
    return may_fetch ? now_s + FAIL_FIRST_S : now_s;
}

static cm_status answer_locked(const struct cm_crl_list *l, const struct cm_crl_watch *w,
                               int64_t now_s, struct cm_revocation *ret, struct cm_err *err)
{
    struct cm_revocation r = { .source = "crl" };
    bool known = l->got.set != NULL && now_s < l->got.next_s;

    if (!known && l->failures > 0) {
        if (err != NULL)
            *err = l->last;
        return l->last.status;
    }
    if (!known)
        return CM_OK; /* what was known before is as true as it was */
    r.revoked = cm_crl_set_find(l->got.set, (struct cm_span){ w->serial, w->serial_len }, &r.reason,
                                &r.at_s);
    *ret = r;
    return CM_OK;
}

/* What is known of @w, after a look where that is due. */
static cm_status consult(struct cm_config *cfg, const struct cm_op *op,
                         const struct cm_crl_watch *w, bool may_fetch, int64_t *ret_again_s,
                         struct cm_revocation *ret_revoked, struct cm_err *err)
{
    int64_t now = cm_env_wall_s(cfg->env);
    bool expired = false;
    bool fetch_too = false;
    cm_status rc;

    cm_mutex_lock(&cm_crl_table_lock);
    struct cm_crl_list *l = cm_crl_list_of_locked(w);
    if (l == NULL) {
        cm_mutex_unlock(&cm_crl_table_lock);
        return cm_fail_nomem(err);
    }
    l->used_s = now;
    expired = expire_locked(l, now);
    if (claim_locked(l, now, may_fetch, &fetch_too)) {
        cm_mutex_unlock(&cm_crl_table_lock);
        work_on(cfg, op, w, l, fetch_too);
        now = cm_env_wall_s(cfg->env);
        cm_mutex_lock(&cm_crl_table_lock);
        l->busy = false;
    }
    rc = answer_locked(l, w, now, ret_revoked, err);
    *ret_again_s = again_locked(l, now, may_fetch);
    cm_mutex_unlock(&cm_crl_table_lock);
    if (expired)
        cm_logf(&cfg->log, CM_LOG_WARN, "crl_expired", NULL, 0,
                "the revocation list of '%s' has expired and no newer one came: until one does, "
                "nothing is known of revocations",
                w->url);
    return rc;
}

cm_status cm_crl_tend(struct cm_config *cfg, const struct cm_op *op, const struct cm_cert *cert,
                      bool may_fetch, int64_t *ret_again_s, struct cm_revocation *ret_revoked,
                      struct cm_err *err)
{
    struct cm_crl_watch w;

    cm_status rc = watch_of(cfg, cert, true, &w, err);
    *ret_again_s =
        rc == CM_OK || rc == CM_E_NOMEM ? cm_env_wall_s(cfg->env) + FAIL_FIRST_S : INT64_MAX;
    if (rc != CM_OK)
        return rc == CM_E_NOTFOUND ? CM_OK : rc;
    return consult(cfg, op, &w, may_fetch, ret_again_s, ret_revoked, err);
}

void cm_crl_known(struct cm_config *cfg, const struct cm_op *op, const struct cm_cert *cert,
                  struct cm_revocation *ret)
{
    int64_t again_s;
    struct cm_crl_watch w;

    if (watch_of(cfg, cert, false, &w, NULL) == CM_OK)
        (void)!consult(cfg, op, &w, false, &again_s, ret, NULL);
}

/* ------------------------------------------------------------- of all lists */

cm_status cm_crl_reload(struct cm_config *cfg, const struct cm_op *op,
                        const uint8_t id[CM_CRL_ID_LEN])
{
    struct cm_crl_watch w = { .serial_len = 0 };
    struct work k = { .cfg = cfg, .op = op, .w = &w };

    cm_mutex_lock(&cm_crl_table_lock);
    struct cm_crl_list *l = cm_crl_find_locked(id);
    cm_status rc = l == NULL ? CM_E_NOTFOUND : l->busy ? CM_E_BUSY : CM_OK;
    if (rc != CM_OK) {
        cm_mutex_unlock(&cm_crl_table_lock);
        return rc;
    }
    l->busy = true;
    k.l = l;
    k.known_s = l->got.this_s;
    cm_mutex_unlock(&cm_crl_table_lock);
    memcpy(w.id, id, sizeof w.id);
    cm_crl_id_text(id, w.id_text);
    (void)snprintf(w.url, sizeof w.url, "%s", l->url);
    w.issuer_der = cm_buf_span(&l->issuer_der);
    rc = look_into_storage(&k);
    cm_mutex_lock(&cm_crl_table_lock);
    l->busy = false;
    cm_mutex_unlock(&cm_crl_table_lock);
    return rc;
}
