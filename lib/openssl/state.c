/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter.h"

#include <openssl/err.h>
#include <pthread.h>

/* What is certmesh's of an SSL_CTX and of an SSL hangs in their ex_data, and OpenSSL frees it with
 * them. */

static int ctx_index = -1;
static int ssl_index = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void cm_ossl_ctx_free(struct cm_ossl_ctx *oc)
{
    if (oc == NULL)
        return;
    SSL_CTX_free(oc->challenge);
    OPENSSL_free(oc->session_context);
    OPENSSL_free(oc);
}

void cm_ossl_session_reset(struct cm_ossl_session *st)
{
    cm_pending_free(st->pending);
    cm_cert_unref(st->cert);
    st->pending = NULL;
    st->cert = NULL;
    st->begun = false;
    st->decided = false;
    st->challenge = false;
    st->refusal_rc = CM_OK;
    st->server_name[0] = '\0';
    st->local_ip[0] = '\0';
}

static void ctx_gone(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    (void)parent;
    (void)ad;
    (void)idx;
    (void)argl;
    (void)argp;
    cm_ossl_ctx_free(ptr);
}

static void ssl_gone(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    struct cm_ossl_session *st = ptr;

    (void)parent;
    (void)ad;
    (void)idx;
    (void)argl;
    (void)argp;
    if (st == NULL)
        return;
    cm_ossl_session_reset(st);
    SSL_CTX_free(st->ctx);
    OPENSSL_free(st);
}

/* SSL_dup(): the copy begins without, or both would free it. */
static int ssl_copied(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **from_d, int idx,
                      long argl, void *argp)
{
    (void)to;
    (void)from;
    (void)idx;
    (void)argl;
    (void)argp;
    *from_d = NULL;
    return 1;
}

static void make_indexes(void)
{
    ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, ctx_gone);
    ssl_index = SSL_get_ex_new_index(0, NULL, NULL, ssl_copied, ssl_gone);
}

static bool has_indexes(void)
{
    (void)pthread_once(&once, make_indexes);
    return ctx_index >= 0 && ssl_index >= 0;
}

struct cm_ossl_ctx *cm_ossl_ctx_of(const SSL_CTX *ctx)
{
    return has_indexes() ? SSL_CTX_get_ex_data(ctx, ctx_index) : NULL;
}

cm_status cm_ossl_ctx_tie(SSL_CTX *ctx, struct cm_ossl_ctx *oc, struct cm_err *err)
{
    if (!has_indexes() || SSL_CTX_set_ex_data(ctx, ctx_index, oc) != 1)
        return cm_ossl_fail(err, CM_E_TLS, "tie certmesh to the SSL_CTX");
    return CM_OK;
}

struct cm_ossl_session *cm_ossl_session_of(const SSL *ssl)
{
    return has_indexes() ? SSL_get_ex_data(ssl, ssl_index) : NULL;
}

struct cm_ossl_session *cm_ossl_session_get(SSL *ssl)
{
    struct cm_ossl_session *st = cm_ossl_session_of(ssl);
    SSL_CTX *ctx = SSL_get_SSL_CTX(ssl);
    struct cm_ossl_ctx *oc = cm_ossl_ctx_of(ctx);

    if (st != NULL || oc == NULL)
        return st;
    st = OPENSSL_zalloc(sizeof *st);
    if (st == NULL)
        return NULL;
    if (SSL_set_ex_data(ssl, ssl_index, st) != 1 || SSL_CTX_up_ref(ctx) != 1) {
        (void)SSL_set_ex_data(ssl, ssl_index, NULL);
        OPENSSL_free(st);
        return NULL;
    }
    st->of = oc;
    st->ctx = ctx;
    return st;
}

cm_status cm_ossl_fail(struct cm_err *err, cm_status rc, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    char text[200] = "no further reason";

    if (code != 0)
        ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error(); /* or the caller's next SSL_get_error() would meet it */
    return cm_fail(err, rc, "OpenSSL: %s: %s", what, text);
}
