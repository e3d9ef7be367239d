/* SPDX-License-Identifier: Apache-2.0 */

/* What a Go program does with autocert, in C: HTTPS for the names given, whose certificates are
 * ordered when somebody asks for them the first time, and kept in a directory that both can use.
 *
 *   autocert --agree [--cache DIR] [--port PORT] [--http PORT] [--ca URL] [--ca-root FILE]
 *            [--email ADDRESS] NAME...
 *
 * --http: also answer plain HTTP there, with challenges and redirects. --ca and --ca-root: another
 * ACME CA than Let's Encrypt, and what to trust for it. Ends on SIGTERM and SIGINT. */

#include <certmesh/cm.h>

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static struct cm_cancel *stop;
static struct cm_autocert *manager;

static void on_signal(int signal_number)
{
    (void)signal_number;
    cm_cancel_fire(stop); /* safe in a signal handler */
}

static int fail(const char *what, const struct cm_err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->msg);
    return 1;
}

static void on_log(void *user, enum cm_log_level level, const char *event, const char *msg,
                   const struct cm_log_field *fields, size_t n)
{
    (void)user;
    (void)fields;
    (void)n;
    fprintf(stderr, "%s%s: %s\n", level >= CM_LOG_WARN ? "warning: " : "", event, msg);
}

/* Stands for what a program would do here: show the URL to somebody, once. */
static bool agree(void *user, const char *tos_url)
{
    fprintf(stderr, "terms of service: %s\n", tos_url);
    return *(const bool *)user;
}

/* ------------------------------------------------- threads, one per connection */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t none_left = PTHREAD_COND_INITIALIZER;
static unsigned under_way;

static void count(bool one_more)
{
    (void)pthread_mutex_lock(&lock);
    under_way = one_more ? under_way + 1 : under_way - 1;
    if (under_way == 0)
        (void)pthread_cond_signal(&none_left);
    (void)pthread_mutex_unlock(&lock);
}

static void wait_for_all(void)
{
    (void)pthread_mutex_lock(&lock);
    while (under_way > 0)
        (void)pthread_cond_wait(&none_left, &lock);
    (void)pthread_mutex_unlock(&lock);
}

static bool start(void *(*run)(void *), void *arg)
{
    pthread_attr_t detached;
    pthread_t thread;

    (void)pthread_attr_init(&detached);
    (void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    count(true);
    bool ok = pthread_create(&thread, &detached, run, arg) == 0;
    if (!ok)
        count(false);
    (void)pthread_attr_destroy(&detached);
    return ok;
}

/* Whoever says nothing must not keep a thread for ever. */
static void limit(int fd)
{
    const struct timeval patience = { .tv_sec = 10 };

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

/* ---------------------------------------------------------------------- HTTPS */

static void *serve_tls(void *arg)
{
    static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                "Content-Length: 6\r\nConnection: close\r\n\r\nhello\n";
    struct cm_conn *conn = arg;
    char request[4096];
    int rc;

    do /* the first time for a name this takes as long as the order */
        rc = gnutls_handshake(conn->session);
    while (rc < 0 && gnutls_error_is_fatal(rc) == 0 && rc != GNUTLS_E_AGAIN);
    if (rc < 0)
        (void)gnutls_alert_send_appropriate(conn->session, rc);
    else if (!cm_tls_is_challenge(conn->session) &&
             gnutls_record_recv(conn->session, request, sizeof request) > 0)
        (void)gnutls_record_send(conn->session, reply, sizeof reply - 1);
    (void)gnutls_bye(conn->session, GNUTLS_SHUT_WR);
    gnutls_deinit(conn->session);
    (void)close(conn->fd);
    free(conn);
    count(false);
    return NULL;
}

static void accept_all(struct cm_autocert_listener *listener)
{
    const struct cm_op op = { .cancel = stop };
    struct cm_err err = CM_ERR_INIT;
    struct cm_conn conn;

    while (cm_autocert_accept(listener, &op, &conn, &err) == CM_OK) {
        struct cm_conn *own = malloc(sizeof *own);

        if (own != NULL)
            *own = conn;
        limit(conn.fd);
        if (own == NULL || !start(serve_tls, own)) {
            gnutls_deinit(conn.session);
            (void)close(conn.fd);
            free(own);
        }
    }
    if (err.status != CM_E_CANCELED)
        (void)fail("accept", &err);
}

/* ----------------------------------------------------------------- plain HTTP */

static void send_reply(int fd, const struct cm_autocert_reply *r)
{
    char head[3000];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d X\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                     "Connection: close\r\n%s%s%s\r\n",
                     r->status, r->body.len, r->location[0] != '\0' ? "Location: " : "",
                     r->location, r->location[0] != '\0' ? "\r\n" : "");

    if (send(fd, head, (size_t)n, MSG_NOSIGNAL) == n && r->body.len > 0)
        (void)!send(fd, r->body.data, r->body.len, MSG_NOSIGNAL);
}

/* As much of HTTP as a challenge and a redirect take. */
static void answer_plain(int fd)
{
    struct cm_autocert_reply r = CM_AUTOCERT_REPLY_INIT;
    char text[4096], method[16], target[2048], host[300] = "";
    size_t len = 0;
    const char *at;

    for (text[0] = '\0'; strstr(text, "\r\n\r\n") == NULL; text[len] = '\0') {
        ssize_t n = recv(fd, text + len, sizeof text - 1 - len, 0);

        if (n <= 0)
            return;
        len += (size_t)n;
    }
    at = strcasestr(text, "\r\nHost:");
    if (sscanf(text, "%15s %2047s", method, target) != 2 ||
        (at != NULL && sscanf(at + 7, " %299[^\r\n ]", host) != 1))
        return;
    if (cm_autocert_http(manager, NULL, method, host, target, false, &r, NULL) == CM_OK)
        send_reply(fd, &r);
    cm_buf_free(&r.body);
}

static void *serve_plain(void *arg)
{
    int listener = *(int *)arg;
    struct pollfd p[2] = { { .fd = listener, .events = POLLIN },
                           { .fd = cm_cancel_fd(stop), .events = POLLIN } };

    while (poll(p, 2, -1) >= 0 && p[1].revents == 0) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            continue;
        limit(fd);
        answer_plain(fd);
        (void)close(fd);
    }
    count(false);
    return NULL;
}

static int listen_plain(uint16_t port)
{
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 64) != 0) {
        perror("plain HTTP");
        return -1;
    }
    return fd;
}

/* ---------------------------------------------------------------- the program */

static int run(uint16_t port, uint16_t http_port)
{
    struct cm_autocert_listener *listener = NULL;
    struct cm_err err = CM_ERR_INIT;
    int plain = -1;

    if (http_port != 0) {
        plain = listen_plain(http_port);
        if (plain < 0 || !start(serve_plain, &plain))
            return 1;
    }
    if (cm_autocert_listen(manager, NULL, port, &listener, &err) != CM_OK) {
        cm_cancel_fire(stop);
        wait_for_all();
        return fail("listen", &err);
    }
    printf("listening on port %u\n", (unsigned)cm_autocert_listener_port(listener));
    (void)fflush(stdout);
    accept_all(listener);
    wait_for_all();
    cm_autocert_listener_free(listener);
    if (plain >= 0)
        (void)close(plain);
    return 0;
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s --agree [--cache DIR] [--port PORT] [--http PORT] [--ca URL]"
            " [--ca-root FILE] [--email ADDRESS] NAME...\n",
            program);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        { "agree", no_argument, NULL, 'a' },       { "cache", required_argument, NULL, 'd' },
        { "port", required_argument, NULL, 'p' },  { "http", required_argument, NULL, 'h' },
        { "ca", required_argument, NULL, 'c' },    { "ca-root", required_argument, NULL, 'r' },
        { "email", required_argument, NULL, 'e' }, { NULL, 0, NULL, 0 }
    };
    struct cm_config_options config = CM_CONFIG_OPTIONS_INIT;
    struct cm_autocert_options o = CM_AUTOCERT_OPTIONS_INIT;
    struct sigaction action = { .sa_handler = on_signal };
    struct cm_autocert_cache *cache = NULL;
    struct cm_err err = CM_ERR_INIT;
    const char *dir = "autocert-cache";
    bool agreed = false;
    int rc, c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (c == 'a')
            agreed = true;
        else if (c == 'd')
            dir = optarg;
        else if (c == 'p')
            config.tls_port = (uint16_t)strtoul(optarg, NULL, 10);
        else if (c == 'h')
            config.http_port = (uint16_t)strtoul(optarg, NULL, 10);
        else if (c == 'c')
            config.acme.directory_url = optarg;
        else if (c == 'r')
            config.acme.ca_root_file = optarg;
        else if (c == 'e')
            o.email = optarg;
        else
            return usage(argv[0]);
    }
    if (optind == argc)
        return usage(argv[0]);
    config.log = (struct cm_log){ on_log, NULL, CM_LOG_INFO };
    o.config = &config;
    o.prompt = agree;
    o.prompt_user = &agreed;
    o.hosts = (const char *const *)(argv + optind);
    o.n_hosts = (size_t)(argc - optind);
    o.http01 = config.http_port != 0;
    if (cm_cancel_new(NULL, &stop, &err) != CM_OK ||
        cm_autocert_dircache(dir, &cache, &err) != CM_OK)
        return fail("start", &err);
    o.cache = cache;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    if (cm_autocert_new(&o, &manager, &err) != CM_OK)
        return fail("autocert", &err);
    rc = run(config.tls_port, config.http_port);
    cm_autocert_free(manager);
    cm_autocert_cache_free(cache);
    cm_cancel_free(stop);
    return rc;
}
