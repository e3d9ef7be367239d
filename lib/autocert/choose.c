/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"
#include "core.h"
#include "door.h"

#include <string.h>

/* What a ClientHello gets from a manager, and when something is ordered for it. */

#define TLS13                   0x0304
#define SIG_ECDSA_P256          0x0403
#define SIG_ECDSA_SHA1          0x0203
#define GROUP_P256              23
#define ALERT_UNRECOGNIZED_NAME 112
#define ALERT_INTERNAL          80

static bool lists(const uint16_t *list, size_t n, size_t max, uint16_t value)
{
    for (size_t i = 0; i < n && i < max; i++)
        if (list[i] == value)
            return true;
    return false;
}

/* ECDHE_ECDSA suites of TLS 1.2 that are still spoken. */
static bool has_ecdsa_suite(const struct cm_hello *h)
{
    static const uint16_t suites[] = { 0xC009, 0xC00A, 0xC023, 0xC024, 0xC02B, 0xC02C,
                                       0xC0AC, 0xC0AD, 0xC0AE, 0xC0AF, 0xCCA9, 0xC008 };

    for (size_t i = 0; i < CM_ARRAY_LEN(suites); i++)
        if (lists(h->suites, h->n_suites, CM_HELLO_MAX_LIST, suites[i]))
            return true;
    return false;
}

/* Can the client use a certificate with a P-256 key? */
static bool takes_ecdsa(const struct cm_hello *h)
{
    bool sig = lists(h->sigalgs, h->n_sigalgs, CM_HELLO_MAX_LIST, SIG_ECDSA_P256);

    if (sig && lists(h->versions, h->n_versions, CM_ARRAY_LEN(h->versions), TLS13))
        return true;
    if (!sig && h->n_sigalgs > 0 &&
        !lists(h->sigalgs, h->n_sigalgs, CM_HELLO_MAX_LIST, SIG_ECDSA_SHA1))
        return false;
    if (h->n_groups > 0 && !lists(h->groups, h->n_groups, CM_HELLO_MAX_LIST, GROUP_P256))
        return false;
    return has_ecdsa_suite(h);
}

/* What is served, or a wait for what is on its way. */
static cm_status serve(struct cm_config *cfg, const struct cm_op *op, const struct cm_hello *hello,
                       struct cm_cert **ret, struct cm_err *err)
{
    struct cm_pending *pending = NULL;
    cm_status rc = cm_get_certificate(cfg, hello, ret, &pending, err);

    if (rc == CM_E_AGAIN && pending != NULL) {
        rc = cm_pending_wait(pending, op, ret, err);
        cm_pending_free(pending);
    }
    return rc;
}

static bool in_storage(const struct autocert_half *h, const struct cm_op *op, const char *host)
{
    struct cm_cert *cert = NULL;
    bool good;

    if (cm_load_stored(h->cfg, op, host, &cert, NULL) != CM_OK)
        return false;
    good = cm_cert_not_after_s(cert) > cm_env_wall_s(cm_op_env(op));
    cm_cert_unref(cert);
    return good;
}

/* Have a certificate for @host served from now on: the cache's, or if it may be, an ordered one. */
static cm_status begin(struct cm_autocert *m, const struct autocert_half *h, const struct cm_op *op,
                       const char *host, struct cm_err *err)
{
    struct cm_obtain_result result = { .size = sizeof result };
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = autocert_view_fetch(h->view, op, host, err);
    if (rc != CM_OK)
        return rc;
    if (!in_storage(h, op, host)) {
        rc = autocert_allowed(m, op, host, err);
        if (rc == CM_OK)
            rc = autocert_failed_lately(m, host, h->rsa, err);
        if (rc != CM_OK)
            return rc;
        rc = cm_obtain(h->cfg, op, &host, 1, &result, &why);
        if (rc != CM_OK) {
            if (rc != CM_E_CANCELED && rc != CM_E_NOMEM)
                autocert_note_failure(m, host, h->rsa, &why);
            if (err != NULL)
                *err = why;
            return rc;
        }
    }
    return cm_manage(h->cfg, op, &host, 1, err);
}

/* ------------------------------------------------------------- challenges */

/* The answer of another process that shares the cache. */
static cm_status foreign_token(struct cm_autocert *m, const struct cm_op *op, const char *host,
                               struct cm_cert **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf blob = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    CM_AUTO_FREE char *name = cm_asprintf("%s" AUTOCERT_TOKEN, host);
    struct autocert_pair p = AUTOCERT_PAIR_INIT;

    if (name == NULL)
        return cm_fail_nomem(err);
    if (m->cache == NULL)
        return cm_fail(err, CM_E_NOTFOUND, "no challenge is open for '%s'", host);
    cm_status rc = cm_autocert_cache_get(m->cache, op, name, &blob, err);
    if (rc == CM_OK)
        rc = autocert_blob_read(cm_buf_span(&blob), host, AUTOCERT_CHALLENGE, cm_env_wall_s(m->env),
                                &p, err);
    if (rc == CM_OK)
        rc = cm_cert_of_challenge(cm_buf_span(&p.chain_pem), cm_buf_span(&p.key_pem), ret, err);
    autocert_pair_free(&p);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "challenge of '%s' in the autocert cache", host);
}

static cm_status get_token(struct cm_autocert *m, const struct cm_op *op,
                           const struct cm_hello *hello, const char *host, struct cm_cert **ret,
                           struct cm_err *err)
{
    const struct cm_op limited = cm_op_within(op, m->token_timeout_ns);
    cm_status rc = serve(m->half[0].cfg, &limited, hello, ret, err);

    if (rc != CM_E_NOTFOUND && rc != CM_E_TIMEOUT)
        return rc;
    return foreign_token(m, &limited, host, ret, err);
}

/* ------------------------------------------------------------------- entry */

/* autocert's rules for a name, before anything is looked up anywhere. */
static cm_status check_name(const struct cm_hello *hello, char host[CM_NAME_BUF],
                            struct cm_err *err)
{
    const char *sni = hello->server_name;

    if (hello->sni_invalid || strpbrk(sni, "+/\\") != NULL)
        return cm_fail(err, CM_E_INVAL, "the client asked for something that is no host name");
    if (sni[0] == '\0')
        return cm_fail(err, CM_E_INVAL, "the client asked for no name");
    cm_status rc = cm_name_normalize(sni, CM_NAME_ALLOW_UNDERSCORE, host, err);
    if (rc == CM_OK && strchr(host, '.') == NULL)
        rc = cm_fail(err, CM_E_INVAL, "'%s' is a name of one label only", host);
    return rc;
}

static cm_status get(struct cm_autocert *m, const struct cm_op *op, const struct cm_hello *hello,
                     struct cm_cert **ret, struct cm_err *err)
{
    const struct autocert_half *h = &m->half[takes_ecdsa(hello) ? 0 : 1];
    char host[CM_NAME_BUF];

    cm_status rc = check_name(hello, host, err);
    if (rc != CM_OK)
        return rc;
    if (hello->acme_tls)
        return get_token(m, op, hello, host, ret, err);
    rc = serve(h->cfg, op, hello, ret, err);
    if (rc != CM_E_NOTFOUND)
        return rc;
    rc = begin(m, h, op, host, err);
    return rc == CM_OK ? serve(h->cfg, op, hello, ret, err) : rc;
}

cm_status cm_autocert_get_certificate(struct cm_autocert *m, const struct cm_op *op,
                                      const struct cm_hello *hello, struct cm_cert **ret,
                                      struct cm_err *err)
{
    if (m == NULL || hello == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "autocert: no manager, hello or place for the answer");
    const struct cm_op limited = autocert_op(m, op, m->timeout_ns);
    cm_status rc = get(m, &limited, hello, ret, err);
    if (rc != CM_OK && err != NULL && err->tls_alert == 0)
        err->tls_alert = rc == CM_E_INVAL || rc == CM_E_POLICY || rc == CM_E_NOTFOUND
                             ? ALERT_UNRECOGNIZED_NAME
                             : ALERT_INTERNAL;
    return rc;
}

static cm_status choose(void *user, const struct cm_hello *hello, struct cm_cert **ret,
                        struct cm_err *err)
{
    return cm_autocert_get_certificate(user, NULL, hello, ret, err);
}

cm_status cm_autocert_tls_setup(struct cm_autocert *m, gnutls_session_t session,
                                const char *const *alpn, struct cm_err *err)
{
    if (m == NULL)
        return cm_fail(err, CM_E_INVAL, "autocert: no manager");
    return cm_tls_setup_choosing(m->half[0].cfg, session, alpn, choose, m, err);
}
