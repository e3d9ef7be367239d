/* SPDX-License-Identifier: Apache-2.0 */
#include "scripted_http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX (1024u * 1024)

struct conn {
    struct conn *next;
    struct scripted_http *sh;
    pthread_t thread;
    int fd;
};

/* ---------------------------------------------------------------------- bytes */

/* False when the server stops meanwhile. */
static bool pause_ms(struct scripted_http *sh, int ms)
{
    struct pollfd p = { .fd = sh->stop_fd, .events = POLLIN };

    return poll(&p, 1, ms) == 0;
}

static bool send_all(struct conn *c, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return !atomic_load(&c->sh->stop);
}

static bool send_slowly(struct conn *c, const char *data, size_t len, int delay_ms)
{
    for (size_t i = 0; i < len; i++)
        if (!send_all(c, data + i, 1) || !pause_ms(c->sh, delay_ms))
            return false;
    return true;
}

/* -------------------------------------------------------------------- requests */

static const char *find_in(const char *text, const char *what)
{
    size_t len = strlen(what);

    for (; *text != '\0'; text++)
        if (strncasecmp(text, what, len) == 0)
            return text + len;
    return NULL;
}

/* ---------------------------------------------------------------------- answers */

static void expand(struct scripted_http *sh, const char *text, struct sh_text *out)
{
    while (text != NULL && *text != '\0') {
        char nonce[SH_NONCE_BUF];

        if (strncmp(text, "{BASE}", 6) == 0) {
            sh__text_add(out, sh->base, strlen(sh->base));
            text += 6;
        } else if (strncmp(text, "{NONCE}", 7) == 0) {
            sh_nonce_make(sh, nonce);
            sh__text_add(out, nonce, strlen(nonce));
            text += 7;
        } else {
            size_t plain = 1 + strcspn(text + 1, "{");

            sh__text_add(out, text, plain);
            text += plain;
        }
    }
}

static void put_head(struct scripted_http *sh, const struct sh_reply *r, bool head, size_t body_len,
                     struct sh_text *out)
{
    char line[128];

    (void)snprintf(line, sizeof line, "HTTP/1.1 %d Scripted\r\n", r->status != 0 ? r->status : 200);
    expand(sh, line, out);
    if (!r->no_nonce)
        expand(sh, "Replay-Nonce: {NONCE}\r\n", out);
    expand(sh, r->headers, out);
    if (r->fault == SH_SHORT_LENGTH)
        body_len--;
    (void)snprintf(line, sizeof line, "Content-Length: %zu\r\n", body_len);
    if (r->chunked || r->fault == SH_ENDLESS_BODY)
        expand(sh, "Transfer-Encoding: chunked\r\n", out);
    else if (!head)
        expand(sh, line, out);
    if (r->fault != SH_ENDLESS_HEADERS)
        expand(sh, "\r\n", out);
}

static bool send_endless(struct conn *c, enum sh_fault fault)
{
    static const char filler[] = "x: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
    static const char interim[] = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    char chunk[1024 + 16];
    size_t n;

    switch ((int)fault) {
    case SH_ENDLESS_HEADERS:
        while (send_all(c, filler, sizeof filler - 1))
            ;
        return false;
    case SH_ENDLESS_INTERIM:
        while (send_all(c, interim, sizeof interim - 1))
            ;
        return false;
    default:
        memset(chunk, 'x', sizeof chunk);
        memcpy(chunk, "400\r\n", 5);
        memcpy(chunk + 5 + 1024, "\r\n", 2);
        n = 5 + 1024 + 2;
        while (send_all(c, chunk, n))
            ;
        return false;
    }
}

static bool send_body(struct conn *c, const struct sh_reply *r, const struct sh_text *body)
{
    const char *data = body->s;
    char size[32];

    if (r->fault == SH_CUT_BODY) {
        (void)send_all(c, data, body->len / 2);
        return false;
    }
    if (r->fault == SH_SLOW_BODY)
        return send_slowly(c, data, body->len, r->delay_ms);
    if (!r->chunked)
        return send_all(c, data, body->len);
    (void)snprintf(size, sizeof size, "%zx\r\n", body->len);
    return (body->len == 0 || (send_all(c, size, strlen(size)) && send_all(c, data, body->len) &&
                               send_all(c, "\r\n", 2))) &&
           send_all(c, "0\r\n\r\n", 5);
}

static void reset(struct conn *c)
{
    const struct linger hard = { 1, 0 };

    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

/* False: the connection is to be closed. */
static bool answer(struct conn *c, const struct sh_request *req, const struct sh_reply *r)
{
    bool head = strcmp(req->method, "HEAD") == 0;
    bool slow = r->fault == SH_SLOW_BODY || r->fault == SH_SLOW_HEADERS;
    struct sh_text header = { 0 };
    struct sh_text body = { 0 };
    bool go_on = true;

    if (r->fault == SH_STALL) {
        (void)pause_ms(c->sh, -1);
        return false;
    }
    if (!slow && r->delay_ms > 0)
        go_on = pause_ms(c->sh, r->delay_ms);
    if (r->fault == SH_RESET)
        reset(c);
    if (!go_on || r->fault == SH_CLOSE || r->fault == SH_RESET)
        return false;

    if (r->body_len > 0)
        sh__text_add(&body, r->body, r->body_len);
    else
        expand(c->sh, r->body, &body);
    put_head(c->sh, r, head, body.len, &header);
    switch (r->fault) {
    case SH_GARBAGE:
        (void)send_all(c, body.s, body.len);
        go_on = false;
        break;
    case SH_CUT_HEADERS:
        (void)send_all(c, header.s, header.len / 2);
        go_on = false;
        break;
    case SH_SLOW_HEADERS:
        go_on = send_slowly(c, header.s, header.len, r->delay_ms);
        break;
    case SH_ENDLESS_INTERIM:
        go_on = send_endless(c, r->fault);
        break;
    case SH_NONE:
    case SH_STALL:
    case SH_CLOSE:
    case SH_RESET:
    case SH_CUT_BODY:
    case SH_SHORT_LENGTH:
    case SH_SLOW_BODY:
    case SH_ENDLESS_BODY:
    case SH_ENDLESS_HEADERS:
        go_on = send_all(c, header.s, header.len);
        break;
    }
    if (go_on && (r->fault == SH_ENDLESS_BODY || r->fault == SH_ENDLESS_HEADERS))
        go_on = send_endless(c, r->fault);
    else if (go_on && !head)
        go_on = send_body(c, r, &body);
    free(header.s);
    free(body.s);
    return go_on && r->fault != SH_SHORT_LENGTH;
}

static bool serve(struct conn *c, char *text, size_t header_len, size_t body_len)
{
    struct scripted_http *sh = c->sh;
    struct sh_reply reply = { .status = 404 };
    char method[16];
    char path[4096];
    char nonce[SH_NONCE_BUF];
    CM_AUTO_FREE char *header = sh__copy(text, header_len);
    CM_AUTO_FREE char *body = sh__copy(text + header_len, body_len);
    struct sh_request req = { .method = method,
                              .path = path,
                              .header = header,
                              .body = body,
                              .body_len = body_len,
                              .nonce = nonce };
    sh_handler_fn fn = NULL;
    void *user = NULL;

    if (sscanf(header, "%15s %4095s", method, path) != 2)
        return false;
    sh__book(sh, &req, nonce, &reply, &fn, &user);
    if (fn != NULL)
        fn(user, sh, &req, &reply);
    return answer(c, &req, &reply);
}

/* One request out of @buf, which has @have bytes. True: it was served and is cut off. */
static bool take_request(struct conn *c, char *buf, size_t *have, bool *close_it)
{
    char *end;
    const char *length;
    size_t header_len;
    size_t body_len;

    buf[*have] = '\0';
    end = strstr(buf, "\r\n\r\n");
    if (end == NULL)
        return false;
    header_len = (size_t)(end - buf) + 4;
    *end = '\0';
    length = find_in(buf, "\r\ncontent-length:");
    *end = '\r';
    body_len = length != NULL ? (size_t)strtoul(length, NULL, 10) : 0;
    CM_ASSERT(header_len + body_len < REQUEST_MAX);
    if (*have < header_len + body_len)
        return false;
    *close_it = !serve(c, buf, header_len, body_len);
    *have -= header_len + body_len;
    memmove(buf, buf + header_len + body_len, *have);
    return true;
}

static void *run_conn(void *arg)
{
    struct conn *c = arg;
    CM_AUTO_FREE char *buf = sh__must(calloc(1, REQUEST_MAX + 1));
    size_t have = 0;
    bool close_it = false;

    while (!close_it && !atomic_load(&c->sh->stop)) {
        ssize_t n;

        if (take_request(c, buf, &have, &close_it))
            continue;
        n = recv(c->fd, buf + have, REQUEST_MAX - have, 0);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    /* Closed by sh_stop(), so that its number is not taken meanwhile; but say goodbye now. A reset
     * needs the close itself. */
    cm_mutex_lock(&c->sh->lock);
    (void)close(c->fd);
    c->fd = -1;
    cm_mutex_unlock(&c->sh->lock);
    return NULL;
}

static void *run_acceptor(void *arg)
{
    struct scripted_http *sh = arg;
    const int on = 1;

    for (;;) {
        struct conn *c;
        int fd = accept4(sh->listen_fd, NULL, NULL, SOCK_CLOEXEC);

        /* A test may have left the process without descriptors for a while; the kernel wants one
         * before anybody connects. */
        if (fd < 0 && (errno == EMFILE || errno == ENFILE) && pause_ms(sh, 1))
            continue;
        if (fd < 0)
            return NULL;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c = sh__must(calloc(1, sizeof *c));
        c->sh = sh;
        c->fd = fd;
        cm_mutex_lock(&sh->lock);
        c->next = sh->conns;
        sh->conns = c;
        sh->n_conns++;
        cm_mutex_unlock(&sh->lock);
        CM_ASSERT(pthread_create(&c->thread, NULL, run_conn, c) == 0);
    }
}

/* -------------------------------------------------------------------- the door */

struct scripted_http *sh_start(unsigned port)
{
    struct scripted_http *sh = sh__must(calloc(1, sizeof *sh));
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    socklen_t len = sizeof a;
    const int on = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cm_mutex_init(&sh->lock);
    sh->stop_fd = eventfd(0, EFD_CLOEXEC);
    sh->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CM_ASSERT(sh->stop_fd >= 0 && sh->listen_fd >= 0);
    (void)setsockopt(sh->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CM_ASSERT(bind(sh->listen_fd, (struct sockaddr *)&a, sizeof a) == 0);
    CM_ASSERT(listen(sh->listen_fd, 128) == 0);
    CM_ASSERT(getsockname(sh->listen_fd, (struct sockaddr *)&a, &len) == 0);
    (void)snprintf(sh->base, sizeof sh->base, "http://127.0.0.1:%u", ntohs(a.sin_port));
    CM_ASSERT(pthread_create(&sh->acceptor, NULL, run_acceptor, sh) == 0);
    return sh;
}

void sh_stop(struct scripted_http *sh)
{
    const uint64_t one = 1;

    if (sh == NULL)
        return;
    atomic_store(&sh->stop, true);
    CM_ASSERT(write(sh->stop_fd, &one, sizeof one) == (ssize_t)sizeof one);
    (void)shutdown(sh->listen_fd, SHUT_RDWR);
    CM_ASSERT(pthread_join(sh->acceptor, NULL) == 0);
    cm_mutex_lock(&sh->lock);
    for (struct conn *c = sh->conns; c != NULL; c = c->next)
        if (c->fd >= 0)
            (void)shutdown(c->fd, SHUT_RDWR);
    cm_mutex_unlock(&sh->lock);
    while (sh->conns != NULL) {
        struct conn *c = sh->conns;

        sh->conns = c->next;
        CM_ASSERT(pthread_join(c->thread, NULL) == 0);
        free(c);
    }
    (void)close(sh->listen_fd);
    (void)close(sh->stop_fd);
    sh__book_free(sh);
    (void)pthread_mutex_destroy(&sh->lock);
    free(sh);
}

const char *sh_base(const struct scripted_http *sh)
{
    return sh->base;
}
