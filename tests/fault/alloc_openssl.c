/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

#include <certmesh/cm_openssl.h>

#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Client and server in one thread, on a pair of sockets. */

#define NAME       "alloc.test"
#define ROUNDS_MAX 1000

/* OpenSSL tells who asks for memory: what lib/openssl asks for is ours to let fail. */
static bool is_ours(const char *file)
{
    return file != NULL && strstr(file, "lib/openssl/") != NULL;
}

static void *give(size_t size, const char *file, int line)
{
    (void)line;
    if (size == 0)
        return NULL;
    return is_ours(file) ? cm_calloc(1, size) : malloc(size);
}

static void *give_more(void *p, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    if (size == 0) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

static void take_back(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

/* Of the point, made before the failure is armed; no thread allocates beside it. */
static struct cm_config *cfg;
static struct cm_cache *cache;

cm_status alloc_openssl_prepare(const struct alloc_lab *lab, struct cm_err *err)
{
    static bool begun;
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_cache_options co = { .size = sizeof co, .no_thread = true };
    struct cm_op op = cm_op_within(NULL, 40 * CM_NS_PER_S);
    const char *const name = NAME;

    CM_ASSERT(begun || CRYPTO_set_mem_functions(give, give_more, take_back) == 1);
    begun = true;
    o.storage = lab->store;
    o.internal = true;
    o.handshake_wait_ms = 5000;
    cm_status rc = cm_cache_new(&co, &cache, err);
    o.cache = cache;
    if (rc == CM_OK)
        rc = cm_config_new(&o, &cfg, err);
    return rc == CM_OK ? cm_manage(cfg, &op, &name, 1, err) : rc;
}

static int step(SSL *s, bool server)
{
    int rc = server ? SSL_accept(s) : SSL_connect(s);
    int how = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(s, rc);

    ERR_clear_error();
    return how;
}

static bool wants_more(int how)
{
    return how == SSL_ERROR_WANT_READ || how == SSL_ERROR_WANT_WRITE;
}

static cm_status shake(SSL *server, SSL *client, struct cm_err *err)
{
    int s = SSL_ERROR_WANT_READ, c = SSL_ERROR_WANT_READ;

    for (int i = 0; i < ROUNDS_MAX && (wants_more(s) || wants_more(c)); i++) {
        if (wants_more(c))
            c = step(client, false);
        if (wants_more(s))
            s = step(server, true);
        if (!wants_more(s) && s != SSL_ERROR_NONE)
            break;
    }
    if (s == SSL_ERROR_NONE && c == SSL_ERROR_NONE)
        return CM_OK;
    cm_status rc = cm_openssl_refusal(server, err);
    return rc != CM_OK ? rc : cm_fail(err, CM_E_TLS, "the server says %d, the client %d", s, c);
}

static cm_status between(SSL_CTX *server_ctx, SSL_CTX *client_ctx, struct cm_err *err)
{
    SSL *server = SSL_new(server_ctx), *client = SSL_new(client_ctx);
    cm_status rc = CM_E_NOMEM;
    int fd[2];

    CM_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
    if (server == NULL || client == NULL || SSL_set_fd(server, fd[0]) != 1 ||
        SSL_set_fd(client, fd[1]) != 1 || SSL_set_tlsext_host_name(client, NAME) != 1)
        (void)cm_fail_nomem(err);
    else
        rc = shake(server, client, err);
    SSL_free(server);
    SSL_free(client);
    (void)close(fd[0]);
    (void)close(fd[1]);
    return rc;
}

cm_status alloc_openssl(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_openssl_options o = CM_OPENSSL_OPTIONS_INIT;
    SSL_CTX *server = SSL_CTX_new(TLS_server_method());
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    cm_status rc = CM_OK;

    (void)lab;
    o.wait = CM_OPENSSL_WAIT_BLOCK;
    o.session_context = "alloc";
    CM_ASSERT(server != NULL && client != NULL);
    rc = cm_openssl_setup(cfg, server, &o, err);
    if (rc == CM_OK)
        rc = between(server, client, err);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
    return rc;
}

cm_status alloc_openssl_check(const struct alloc_lab *lab, struct cm_err *err)
{
    cm_status rc = alloc_openssl(lab, err);

    cm_config_free(cfg);
    cm_cache_free(cache);
    cfg = NULL;
    cache = NULL;
    return rc;
}
