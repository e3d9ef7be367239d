/* SPDX-License-Identifier: Apache-2.0 */
#include "https_kit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

struct cm_config *cfg;
struct cm_https_options opts;
static struct cm_cancel *stop;
static pthread_t server_thread;
static cm_status server_rc;
static struct cm_err server_err;
static atomic_uint http_port, tls_port;
static atomic_int running;
atomic_int peak;
int root_fd;
static char root[64];

/* ------------------------------------------------------------------- the handler */

static void big_reply(struct cm_http_exchange *x)
{
    size_t len = 8u * 1024 * 1024;
    uint8_t *bytes = malloc(len);

    memset(bytes, 'b', len);
    CM_ASSERT(cm_http_reply(x, 200, NULL, (struct cm_span){ bytes, len }, NULL) == CM_OK);
    free(bytes);
}

static void slow_reply(struct cm_http_exchange *x)
{
    const struct cm_env *env = cm_env_system();
    int now = atomic_fetch_add(&running, 1) + 1;
    int seen = atomic_load(&peak);

    while (now > seen && !atomic_compare_exchange_weak(&peak, &seen, now)) {
    }
    (void)env->wait(env, NULL, 500 * CM_NS_PER_MS);
    atomic_fetch_sub(&running, 1);
    CM_ASSERT(cm_http_reply(x, 200, NULL, cm_span_str("slow"), NULL) == CM_OK);
}

void https_handle(void *user, struct cm_http_exchange *x)
{
    const char *t = cm_http_target(x);
    char text[512];

    CM_ASSERT(user == &cfg && cm_http_session(x) != NULL);
    if (strcmp(t, "/none") == 0)
        return;
    if (strcmp(t, "/big") == 0) {
        big_reply(x);
    } else if (strcmp(t, "/slow") == 0) {
        slow_reply(x);
    } else if (strcmp(t, "/204") == 0) {
        CM_ASSERT(cm_http_reply(x, 204, NULL, cm_span_str("not sent"), NULL) == CM_OK);
    } else if (strcmp(t, "/twice") == 0) {
        CM_ASSERT(cm_http_reply(x, 99, NULL, cm_span_str(""), NULL) == CM_E_INVAL);
        CM_ASSERT(cm_http_reply(x, 200, "a/b\r\nX: y", cm_span_str(""), NULL) == CM_E_INVAL);
        CM_ASSERT(cm_http_reply(x, 200, "text/x", cm_span_str("one"), NULL) == CM_OK);
        CM_ASSERT(cm_http_reply(x, 200, NULL, cm_span_str("two"), NULL) == CM_E_STATE);
        CM_ASSERT(cm_http_reply_file(x, root_fd, "/a.txt", NULL) == CM_E_STATE);
    } else if (strncmp(t, "/f/", 3) == 0) {
        CM_ASSERT(cm_http_reply_file(x, root_fd, t + 2, NULL) == CM_OK);
    } else {
        (void)snprintf(text, sizeof text, "%s %s%s from %s", cm_http_method(x), cm_http_host(x), t,
                       cm_http_peer(x));
        CM_ASSERT(cm_http_reply(x, 200, NULL, cm_span_str(text), NULL) == CM_OK);
    }
}

/* -------------------------------------------------------------------- the server */

static void on_ready(void *user, uint16_t http, uint16_t tls)
{
    CM_ASSERT(user == &cfg);
    atomic_store(&http_port, http);
    atomic_store(&tls_port, tls);
}

static void *serve(void *arg)
{
    static const char *const names[] = { "a.test" };

    (void)arg;
    server_rc = cm_https(names, 1, https_handle, &cfg, &opts, &server_err);
    return NULL;
}

void wait_ms(int ms)
{
    (void)cm_env_system()->wait(cm_env_system(), NULL, ms * CM_NS_PER_MS);
}

int64_t now_ms(void)
{
    return cm_env_system()->mono_ns(cm_env_system()) / CM_NS_PER_MS;
}

void https_start(void)
{
    opts.cfg = cfg;
    opts.stop = stop;
    opts.http_port =
        opts.sockets != NULL ? cm_sockets_port(opts.sockets, CM_SOCKET_HTTP) : free_port();
    opts.tls_port =
        opts.sockets != NULL ? cm_sockets_port(opts.sockets, CM_SOCKET_TLS) : free_port();
    opts.ready = on_ready;
    atomic_store(&tls_port, 0);
    ck_assert_int_eq(pthread_create(&server_thread, NULL, serve, NULL), 0);
    for (int i = 0; i < 500 && atomic_load(&tls_port) == 0; i++)
        wait_ms(10);
    ck_assert_uint_eq(atomic_load(&tls_port), opts.tls_port);
}

void https_finish(void)
{
    int64_t begin = now_ms();

    cm_cancel_fire(stop);
    ck_assert_int_eq(pthread_join(server_thread, NULL), 0);
    ck_assert_msg(server_rc == CM_OK, "%s", server_err.msg);
    ck_assert_int_lt(now_ms() - begin, 5000);
}

void https_setup(void)
{
    cfg = fake_config();
    (void)fake_add(cfg, "a.test", CM_PK_P256);
    opts = (struct cm_https_options)CM_HTTPS_OPTIONS_INIT;
    ck_assert_int_eq(cm_cancel_new(NULL, &stop, NULL), CM_OK);
    (void)snprintf(root, sizeof root, "/tmp/cm-https-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_root(void)
{
    static const char *const files[] = { "a.txt", "sub/index.html", "sub",  ".secret", "out",
                                         "in",    "big.bin",        "fifo", "x y" };

    for (size_t i = 0; i < CM_ARRAY_LEN(files); i++) {
        if (unlinkat(root_fd, files[i], 0) != 0)
            (void)unlinkat(root_fd, files[i], AT_REMOVEDIR);
    }
    (void)rmdir(root);
}

void https_teardown(void)
{
    remove_root();
    (void)close(root_fd);
    cm_cancel_free(stop);
    fake_config_drop(cfg);
    ck_assert_uint_eq(fake_certs_alive(), 0);
}

/* ------------------------------------------------------------------------ asking */

char *plain(const char *request)
{
    struct client c;
    char *r;

    client_connect(&c, opts.http_port);
    ck_assert_int_ge(c.fd, 0);
    client_send(&c, request);
    r = client_read_all(&c);
    client_close(&c);
    ck_assert_msg(r != NULL, "no end of the reply to: %s", request);
    return r;
}

char *secure(const char *request)
{
    struct client c;
    int rc = client_tls(&c, opts.tls_port, "a.test", NULL);
    char *r;

    ck_assert_msg(rc == 0, "handshake: %s", gnutls_strerror(rc));
    client_send(&c, request);
    r = client_read_all(&c);
    client_close(&c);
    ck_assert_msg(r != NULL, "no end of the reply to: %s", request);
    return r;
}

bool begins(const char *text, const char *what)
{
    return strncmp(text, what, strlen(what)) == 0;
}

void check_plain(const char *request, const char *status, const char *part)
{
    char *r = plain(request);

    ck_assert_msg(begins(r, status), "%s -> %s", request, r);
    ck_assert_msg(part == NULL || strstr(r, part) != NULL, "%s -> %s", request, r);
    ck_assert_ptr_nonnull(strstr(r, "\r\nConnection: close\r\n"));
    ck_assert_ptr_nonnull(strstr(r, "\r\nX-Content-Type-Options: nosniff\r\n"));
    ck_assert_ptr_nonnull(strstr(r, "\r\nDate: "));
    free(r);
}

void check_secure(const char *request, const char *status, const char *part)
{
    char *r = secure(request);

    ck_assert_msg(begins(r, status), "%s -> %.300s", request, r);
    ck_assert_msg(part == NULL || strstr(r, part) != NULL, "%s -> %.300s", request, r);
    free(r);
}

void check_one(struct client *c, const char *request, bool head, const char *part)
{
    char *r;

    if (request != NULL)
        client_send(c, request);
    r = client_read_one(c, head);
    ck_assert_ptr_nonnull(r);
    ck_assert_msg(strstr(r, part) != NULL, "%s", r);
    free(r);
}
