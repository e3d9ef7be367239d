/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter.h"

#include <string.h>

/* What an SSL_CTX needs, once. */

static const unsigned char acme_tls[] = "acme-tls/1";

/* The hello offered nothing else. */
static int agree_on_acme(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                         const unsigned char *in, unsigned in_len, void *arg)
{
    (void)ssl;
    (void)in;
    (void)in_len;
    (void)arg;
    *out = acme_tls;
    *out_len = sizeof acme_tls - 1;
    return SSL_TLSEXT_ERR_OK;
}

/* An SSL_CTX of its own for challenges: so the program's ALPN callback stays the program's. */
static cm_status make_challenge(struct cm_ossl_ctx *oc, struct cm_err *err)
{
    oc->challenge = SSL_CTX_new(TLS_server_method());
    if (oc->challenge == NULL)
        return cm_ossl_fail(err, CM_E_NOMEM, "make an SSL_CTX");
    SSL_CTX_set_alpn_select_cb(oc->challenge, agree_on_acme, NULL);
    /* For a second hello. */
    SSL_CTX_set_client_hello_cb(oc->challenge, cm_openssl_client_hello, NULL);
    return CM_OK;
}

static cm_status make(struct cm_config *cfg, const struct cm_openssl_options *o,
                      struct cm_ossl_ctx **ret, struct cm_err *err)
{
    struct cm_ossl_ctx *oc = OPENSSL_zalloc(sizeof *oc);
    cm_status rc;

    if (oc == NULL)
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    oc->cfg = cfg;
    oc->wait = o->wait;
    rc = make_challenge(oc, err);
    if (rc == CM_OK && o->session_context != NULL) {
        oc->session_context = OPENSSL_strdup(o->session_context);
        if (oc->session_context == NULL)
            rc = cm_fail(err, CM_E_NOMEM, "out of memory");
    }
    if (rc != CM_OK) {
        cm_ossl_ctx_free(oc);
        return rc;
    }
    *ret = oc;
    return CM_OK;
}

static cm_status set_tickets(const struct cm_config *cfg, SSL_CTX *ctx, struct cm_err *err)
{
    if (!cm_config_tickets(cfg)) {
        (void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        return SSL_CTX_set_num_tickets(ctx, 0) == 1
                   ? CM_OK
                   : cm_ossl_fail(err, CM_E_TLS, "switch tickets off");
    }
    if (SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, cm_ossl_ticket_key) != 1)
        return cm_ossl_fail(err, CM_E_TLS, "set the callback for ticket keys");
    return CM_OK;
}

cm_status cm_openssl_setup(struct cm_config *cfg, SSL_CTX *ctx,
                           const struct cm_openssl_options *opts, struct cm_err *err)
{
    struct cm_openssl_options o = CM_OPENSSL_OPTIONS_INIT;
    struct cm_ossl_ctx *oc = NULL;
    cm_status rc;

    if (cfg == NULL || ctx == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_openssl_setup: no config or no SSL_CTX");
    if (opts != NULL) {
        if (opts->size < offsetof(struct cm_openssl_options, session_context))
            return cm_fail(err, CM_E_INVAL,
                           "cm_openssl_options.size is %u: use CM_OPENSSL_OPTIONS_INIT",
                           opts->size);
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    }
    if ((unsigned)o.wait > CM_OPENSSL_WAIT_RETRY)
        return cm_fail(err, CM_E_INVAL, "cm_openssl_options.wait: %d is none of the values",
                       (int)o.wait);
    if (cm_ossl_ctx_of(ctx) != NULL)
        return cm_fail(err, CM_E_STATE, "this SSL_CTX was set up already");
    rc = set_tickets(cfg, ctx, err);
    if (rc == CM_OK && SSL_CTX_get_min_proto_version(ctx) == 0 &&
        SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
        rc = cm_ossl_fail(err, CM_E_TLS, "set the oldest version");
    if (rc == CM_OK)
        rc = make(cfg, &o, &oc, err);
    if (rc == CM_OK)
        rc = cm_ossl_ctx_tie(ctx, oc, err);
    if (rc != CM_OK) {
        cm_ossl_ctx_free(oc);
        return rc;
    }
    (void)SSL_CTX_set_tlsext_status_cb(ctx, cm_ossl_status);
    SSL_CTX_set_client_hello_cb(ctx, cm_openssl_client_hello, NULL);
    cm_config_tickets_begin(cfg);
    return CM_OK;
}
