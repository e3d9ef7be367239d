/* SPDX-License-Identifier: Apache-2.0 */
#include "net_internal.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_NS (10 * CM_NS_PER_S)
#define TOTAL_TIMEOUT_NS   (60 * CM_NS_PER_S)
#define MAX_IDLE_S         30L /* a connection idle for longer may be about to be closed */
#define LOW_SPEED_S        15L /* below 1 byte/s for this long: a peer that holds us up */

/* ------------------------------------------------------------------- options */

/* libcurl's GnuTLS reads a directory of certificates anew for every connection (measured: 3,200
 * opens for eleven connections, 17 ms each) and trusts it beside any bundle. So a bundle it is. */
static const char *system_bundle(void)
{
    static const char *const known[] = {
        "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Arch */
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora, RHEL */
        "/etc/ssl/ca-bundle.pem",                            /* SUSE */
        "/etc/ssl/cert.pem",                                 /* Alpine, BSD */
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(known); i++)
        if (access(known[i], R_OK) == 0)
            return known[i];
    return NULL;
}

/* GnuTLS takes an empty bundle for "no trust" only when it connects; find out now. */
static cm_status check_ca_file(const char *path, struct cm_err *err)
{
    static const char begin[] = "-----BEGIN ";
    CM_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    char start[4096];
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) != 0)
        return cm_fail_errno(err, "open CA bundle '%s'", path);
    if (!S_ISREG(st.st_mode))
        return cm_fail(err, CM_E_INVAL, "CA bundle '%s' is not a file", path);
    /* Bundles may begin with comments; a first block further down than this is not one. */
    for (off_t at = 0; at < 256 * 1024; at += (off_t)(sizeof start - sizeof begin)) {
        n = pread(fd, start, sizeof start, at);
        if (n < 0)
            return cm_fail_errno(err, "read CA bundle '%s'", path);
        if (memmem(start, (size_t)n, begin, sizeof begin - 1) != NULL)
            return CM_OK;
        if ((size_t)n < sizeof start)
            break;
    }
    return cm_fail(err, CM_E_INVAL, "CA bundle '%s' has no PEM block", path);
}

static cm_status copy_options(struct cm_http *h, const struct cm_http_options *o,
                              struct cm_err *err)
{
    const char *ca = o->ca_file != NULL ? o->ca_file : system_bundle();

    h->ca_file = cm_strdup(ca);
    h->user_agent = cm_strdup(o->user_agent != NULL ? o->user_agent : "certmesh/" CM_VERSION);
    h->proxy = cm_strdup(o->proxy != NULL ? o->proxy : "");
    h->no_proxy = cm_strdup(o->no_proxy != NULL ? o->no_proxy : "");
    if ((ca != NULL && h->ca_file == NULL) || h->user_agent == NULL || h->proxy == NULL ||
        h->no_proxy == NULL)
        return cm_fail_nomem(err);
    h->allow_plain_http = o->allow_plain_http;
    h->connect_timeout_ns = o->connect_timeout_ns > 0 ? o->connect_timeout_ns : CONNECT_TIMEOUT_NS;
    h->total_timeout_ns = o->total_timeout_ns > 0 ? o->total_timeout_ns : TOTAL_TIMEOUT_NS;
    h->log = o->log;
    if (h->proxy[0] != '\0') {
        cm_status rc = cm__net_proxy_port(h->proxy, &h->proxy_port, err);
        if (rc != CM_OK)
            return rc;
    }
    return o->ca_file != NULL ? check_ca_file(o->ca_file, err) : CM_OK;
}

static void http_destroy(struct cm_http *h)
{
    (void)pthread_mutex_destroy(&h->lock);
    free(h->ca_file);
    free(h->user_agent);
    if (h->proxy != NULL) /* there may be a password in it */
        cm_wipe(h->proxy, strlen(h->proxy));
    free(h->proxy);
    free(h->no_proxy);
    free(h);
}

cm_status cm_http_new(const struct cm_http_options *opts, struct cm_http **ret, struct cm_err *err)
{
    struct cm_http *h = cm_calloc(1, sizeof *h);
    cm_status rc;

    if (h == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&h->lock);
    h->pid = getpid();
    rc = copy_options(h, opts, err);
    if (rc == CM_OK)
        rc = cm__net_multi_init(h, err);
    if (rc != CM_OK) {
        http_destroy(h);
        return rc;
    }
    *ret = h;
    return CM_OK;
}

void cm_http_free(struct cm_http *h)
{
    if (h == NULL)
        return;
    /* In the child of a fork() the driving thread does not exist, its lock may be held for ever
     * and its connections are the parent's: touching any of it would do harm. */
    if (h->pid != getpid())
        return;
    cm__net_multi_end(h);
    http_destroy(h);
}

/* ----------------------------------------------------------------- callbacks */

static size_t stop(struct transfer *t, cm_status rc, const char *why)
{
    t->stop_rc = rc;
    t->stop_why = why;
    return 0; /* a short count makes libcurl give up */
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    cm_status rc;

    n *= size; /* size is 1, always */
    t->body_begun = true;
    rc = cm_buf_append(&t->body, data, n, NULL);
    if (rc != CM_OK)
        return stop(t, rc, "the body of the answer is too large");
    return n;
}

/* Called once per line, final CRLF included, with status lines, interim (1xx) answers and
 * trailers. The caps are for all of them together; kept are the lines of the final answer. */
static size_t on_header(char *data, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    size_t len = n * size;
    cm_status rc;

    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
        len--;
    if (len > CM_HTTP_LINE_MAX)
        return stop(t, CM_E_LIMIT, "a header line of the answer is too long");
    t->header_bytes += len + 1;
    if (t->header_bytes > CM_HTTP_HEADERS_MAX)
        return stop(t, CM_E_LIMIT, "the headers of the answer are too large");
    if (len == 0) {
        t->header_ended = true;
        return n * size;
    }
    if (!t->body_begun && len > 5 && memcmp(data, "HTTP/", 5) == 0) {
        cm_buf_reset(&t->headers);
        t->header_ended = false;
        return n * size;
    }
    if (++t->header_lines > CM_HTTP_LINES_MAX)
        return stop(t, CM_E_LIMIT, "the answer has too many header lines");
    if (t->body_begun)
        return n * size; /* a trailer: nothing that ACME uses */
    rc = cm_buf_append(&t->headers, data, len, NULL);
    if (rc == CM_OK)
        rc = cm_buf_append(&t->headers, "\n", 1, NULL);
    if (rc != CM_OK)
        return stop(t, rc, "the headers of the answer are too large");
    return n * size;
}

/* A request body is handed out once. libcurl would by itself send a request again when a kept
 * connection turns out to be closed; but a POST may have been acted on, and a signed one must not
 * go out twice with one nonce. Who may repeat what is decided by the caller. */
static size_t on_read(char *out, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    size_t left = t->post.len - t->post_sent;

    n *= size;
    if (left == 0) {
        (void)stop(t, CM_E_NET, "the connection was closed before the answer");
        return CURL_READFUNC_ABORT;
    }
    if (n > left)
        n = left;
    memcpy(out, t->post.data + t->post_sent, n);
    t->post_sent += n;
    return n;
}

static int on_rewind(void *user, curl_off_t offset, int origin)
{
    struct transfer *t = user;

    (void)origin;
    return offset == 0 && t->post_sent == 0 ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

/* Also makes our sockets close-on-exec: hooks and other children must not inherit them. */
static curl_socket_t on_open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct transfer *t = user;

    (void)purpose;
    /* The proxy may be here. libcurl does not say whether an address is its, or that of a host
     * which is asked without it; the port does, well enough. */
    if (t->refuse_local && cm__net_is_local(&a->addr, a->addrlen) &&
        !cm__net_has_port(&a->addr, a->addrlen, t->proxy_port)) {
        (void)stop(t, CM_E_POLICY, "its host resolves to a loopback or link-local address");
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* --------------------------------------------------------------- one request */

static long ms_of(int64_t ns)
{
    int64_t ms = (ns + CM_NS_PER_MS - 1) / CM_NS_PER_MS;

    return ms < 1 ? 1 : ms > INT32_MAX ? INT32_MAX : (long)ms;
}

static bool add_line(struct transfer *t, const char *name, const char *value)
{
    CM_AUTO_FREE char *line = cm_asprintf("%s: %s", name, value);
    struct curl_slist *grown = line != NULL ? curl_slist_append(t->lines, line) : NULL;

    if (grown == NULL)
        return false;
    t->lines = grown;
    return true;
}

/* Every option is set for every request: a handle comes from curl_easy_reset(). */
#define SET(option, value)                                                                         \
    do {                                                                                           \
        CURLcode set_rc = curl_easy_setopt(t->easy, option, value);                                \
        if (set_rc != CURLE_OK)                                                                    \
            return cm_fail(err, set_rc == CURLE_OUT_OF_MEMORY ? CM_E_NOMEM : CM_E_INTERNAL,        \
                           "libcurl refuses " #option ": %s", curl_easy_strerror(set_rc));         \
    } while (0)

static cm_status set_transport(struct cm_http *h, struct transfer *t, struct cm_err *err)
{
    const char *protocols = h->allow_plain_http ? "http,https" : "https";

#if LIBCURL_VERSION_NUM >= 0x075500
    SET(CURLOPT_PROTOCOLS_STR, protocols);
    SET(CURLOPT_REDIR_PROTOCOLS_STR, protocols);
#else
    SET(CURLOPT_PROTOCOLS,
        h->allow_plain_http ? CURLPROTO_HTTP | CURLPROTO_HTTPS : CURLPROTO_HTTPS);
    (void)protocols;
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Leaving a transfer must not wait for its getaddrinfo() thread: that one clears up itself. */
    SET(CURLOPT_QUICK_EXIT, 1L);
#endif
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L); /* cm_http_do() does it, for GET, hop by hop */
    SET(CURLOPT_CONNECTTIMEOUT_MS, ms_of(h->connect_timeout_ns));
    SET(CURLOPT_TIMEOUT_MS, ms_of(h->total_timeout_ns));
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, LOW_SPEED_S);
    SET(CURLOPT_PROXY, h->proxy); /* "" also hides http_proxy and its like */
    SET(CURLOPT_NOPROXY, h->no_proxy);
    t->proxy_port = h->proxy_port;
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_PATH_AS_IS, 1L); /* the JWS "url" has to be what the CA sees */
    SET(CURLOPT_MAXAGE_CONN, MAX_IDLE_S);
    SET(CURLOPT_PIPEWAIT, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    SET(CURLOPT_OPENSOCKETDATA, t);

    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (h->ca_file != NULL) {
        SET(CURLOPT_CAINFO, h->ca_file);
        /* With GnuTLS both are trusted: without this, pinning a CA would pin nothing. */
        SET(CURLOPT_CAPATH, NULL);
    }
    return CM_OK;
}

static cm_status set_request(struct cm_http *h, struct transfer *t,
                             const struct cm_http_request *req, const char *url, struct cm_err *err)
{
    /* "Expect:" without value takes the header out: waiting for 100 Continue costs a round trip. */
    static const char no_expect[] = "Expect:";
    struct curl_slist *grown = curl_slist_append(t->lines, no_expect);
    cm_status rc;

    if (grown == NULL)
        return cm_fail_nomem(err);
    t->lines = grown;
    /* RFC 8555 6.1 asks for a User-Agent and an Accept-Language. */
    if (!add_line(t, "Accept-Language", "en"))
        return cm_fail_nomem(err);
    if (req->accept != NULL ? !add_line(t, "Accept", req->accept) : false)
        return cm_fail_nomem(err);
    if (req->content_type != NULL && !add_line(t, "Content-Type", req->content_type))
        return cm_fail_nomem(err);

    for (size_t i = 0; req->headers != NULL && req->headers[i] != NULL; i++) {
        grown = curl_slist_append(t->lines, req->headers[i]);
        if (grown == NULL)
            return cm_fail_nomem(err);
        t->lines = grown;
    }

    SET(CURLOPT_URL, url);
    SET(CURLOPT_USERAGENT, h->user_agent);
    SET(CURLOPT_HTTPHEADER, t->lines);
    SET(CURLOPT_PRIVATE, t);
    SET(CURLOPT_ERRORBUFFER, t->error_text);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    t->body.max = req->max_body;
    t->headers.max = CM_HTTP_HEADERS_MAX;

    if (strcmp(req->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
        return CM_OK;
    }
    SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)req->max_body);
    if (strcmp(req->method, "POST") != 0) {
        SET(CURLOPT_HTTPGET, 1L);
        if (strcmp(req->method, "DELETE") == 0)
            SET(CURLOPT_CUSTOMREQUEST, "DELETE");
        return CM_OK;
    }
    /* A copy: the caller may leave before libcurl is done with it. */
    t->post.max = req->body.len;
    rc = cm_buf_append(&t->post, req->body.data, req->body.len, err);
    if (rc != CM_OK)
        return rc;
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->post.len);
    if (t->post.len == 0) {
        SET(CURLOPT_POSTFIELDS, "");
        return CM_OK;
    }
    SET(CURLOPT_READFUNCTION, on_read);
    SET(CURLOPT_READDATA, t);
    SET(CURLOPT_SEEKFUNCTION, on_rewind);
    SET(CURLOPT_SEEKDATA, t);
    return CM_OK;
}

static cm_status status_of(CURLcode c)
{
    switch ((int)c) {
    case CURLE_OUT_OF_MEMORY:
        return CM_E_NOMEM;
    case CURLE_OPERATION_TIMEDOUT:
        return CM_E_TIMEOUT;
    case CURLE_ABORTED_BY_CALLBACK:
        return CM_E_CANCELED;
    case CURLE_URL_MALFORMAT:
        return CM_E_INVAL;
    case CURLE_FILESIZE_EXCEEDED:
    case 100: /* CURLE_TOO_LARGE, libcurl >= 8.6 */
        return CM_E_LIMIT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
        return CM_E_TLS;
    default:
        return CM_E_NET;
    }
}

static cm_status harvest(struct transfer *t, const struct cm_http_request *req, const char *url,
                         struct cm_http_response *resp, struct cm_err *err)
{
    char shown_url[200];
    char shown_why[200];
    const char *why;

    /* libcurl takes a connection that ends inside the header for the end of an answer. */
    if (t->result == CURLE_OK && !t->header_ended) {
        t->result = CURLE_GOT_NOTHING;
        t->stop_why = "the connection ended inside the header";
    }
    if (t->result == CURLE_SSL_CACERT_BADFILE)
        t->stop_why = "the file of trusted roots cannot be read (the system's is in "
                      "package ca-certificates)";
    if (t->result != CURLE_OK) {
        cm_status rc = t->stop_rc != CM_OK ? t->stop_rc : status_of(t->result);

        /* CURLE_UNSUPPORTED_PROTOCOL can only be an answer that is not HTTP/1 or 2: the scheme of
         * the URL has been looked at before. */
        why = t->stop_why != NULL        ? t->stop_why
              : t->error_text[0] != '\0' ? t->error_text
                                         : curl_easy_strerror(t->result);
        return cm_fail(err, rc, "%s %s: %s", req->method,
                       cm_escape(url, strlen(url), shown_url, sizeof shown_url),
                       cm_escape(why, strlen(why), shown_why, sizeof shown_why));
    }
    resp->status = (int)t->status;
    cm_buf_free(&resp->body);
    cm_buf_free(&resp->headers);
    resp->body = t->body;
    resp->headers = t->headers;
    t->body = (struct cm_buf)CM_BUF_INIT(0);
    t->headers = (struct cm_buf)CM_BUF_INIT(0);
    return CM_OK;
}

static cm_status do_one(struct cm_http *h, const struct cm_op *op,
                        const struct cm_http_request *req, const char *url, bool refuse_local,
                        struct cm_http_response *resp, struct cm_err *err)
{
    char shown[200];
    struct transfer *t = NULL;
    cm_status rc = cm__net_transfer_get(h, &t, err);

    if (rc != CM_OK)
        return rc;
    t->refuse_local = refuse_local;
    rc = set_transport(h, t, err);
    if (rc == CM_OK)
        rc = set_request(h, t, req, url, err);
    if (rc != CM_OK) {
        cm__net_transfer_recycle(h, t);
        return rc;
    }
    rc = cm__net_transfer_run(h, op, t, err);
    if (rc != CM_OK) /* the transfer is the driving thread's now */
        return cm_wrap(err, rc, "%s %s", req->method,
                       cm_escape(url, strlen(url), shown, sizeof shown));
    rc = harvest(t, req, url, resp, err);
    cm__net_transfer_recycle(h, t);
    return rc;
}

/* ------------------------------------------------------------------ the door */

static cm_status check_url(const struct cm_http *h, const char *url, struct cm_err *err)
{
    char shown[200];
    size_t len = strnlen(url, CM_HTTP_URL_MAX + 1);

    if (len > CM_HTTP_URL_MAX)
        return cm_fail(err, CM_E_LIMIT, "URL is longer than %d bytes", CM_HTTP_URL_MAX);
    for (size_t i = 0; i < len; i++)
        if (url[i] <= 0x20 || url[i] >= 0x7f)
            return cm_fail(err, CM_E_INVAL, "not a URL: '%s'",
                           cm_escape(url, len, shown, sizeof shown));
    if (strncasecmp(url, "https://", 8) == 0)
        return CM_OK;
    if (h->allow_plain_http && strncasecmp(url, "http://", 7) == 0)
        return CM_OK;
    return cm_fail(err, CM_E_POLICY, "only https is allowed, not '%s'",
                   cm_escape(url, len, shown, sizeof shown));
}

/* A line break in one would begin another, or the body. */
static cm_status check_headers(const char *const *headers, struct cm_err *err)
{
    for (size_t i = 0; headers != NULL && headers[i] != NULL; i++) {
        const char *colon = strstr(headers[i], ": ");
        bool bad = colon == NULL || colon == headers[i] || i >= 16 ||
                   strnlen(headers[i], CM_HTTP_LINE_MAX) == CM_HTTP_LINE_MAX;

        for (const char *s = headers[i]; !bad && *s != '\0'; s++)
            bad = *s < 0x20 || *s >= 0x7f || (s < colon && *s == ' ');
        if (bad)
            return cm_fail(err, CM_E_INVAL, "a header line that cannot be sent");
    }
    return CM_OK;
}

static cm_status check_request(const struct cm_http *h, const struct cm_http_request *req,
                               struct cm_err *err)
{
    bool post = req->method != NULL && strcmp(req->method, "POST") == 0;
    bool get = req->method != NULL && strcmp(req->method, "GET") == 0;

    if (!post && !get &&
        (req->method == NULL ||
         (strcmp(req->method, "HEAD") != 0 && strcmp(req->method, "DELETE") != 0)))
        return cm_fail(err, CM_E_INVAL, "no such HTTP method here");
    if (req->url == NULL || req->max_body == 0 || req->max_body >= SIZE_MAX / 2 ||
        (req->follow && (!get || req->headers != NULL)))
        return cm_fail(err, CM_E_INVAL, "incomplete HTTP request");
    if (check_headers(req->headers, err) != CM_OK)
        return CM_E_INVAL;
    return check_url(h, req->url, err);
}

/* A redirect that may be followed; @url (CM_HTTP_URL_MAX + 1) becomes its target. */
static cm_status next_hop(const struct cm_http *h, const struct cm_http_response *resp, char *url,
                          struct cm_err *err)
{
    char next[CM_HTTP_URL_MAX + 1];
    struct cm_span location;
    CM_AUTO_FREE char *ref = NULL;
    cm_status rc;

    if (!cm_http_header(resp, "location", 0, &location))
        return cm_fail(err, CM_E_PARSE, "%s redirects to nowhere", url);
    ref = cm_strndup((const char *)location.data, location.len);
    if (ref == NULL)
        return cm_fail_nomem(err);
    rc = cm_url_resolve(url, ref, next, sizeof next, err);
    if (rc == CM_OK)
        rc = check_url(h, next, err);
    if (rc == CM_OK && strncasecmp(url, "https:", 6) == 0 && strncasecmp(next, "https:", 6) != 0)
        rc = cm_fail(err, CM_E_POLICY, "redirect from https to http refused");
    if (rc == CM_OK)
        memcpy(url, next, strlen(next) + 1);
    return rc;
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

cm_status cm_http_do(struct cm_http *h, const struct cm_op *op, const struct cm_http_request *req,
                     struct cm_http_response *resp, struct cm_err *err)
{
    char url[CM_HTTP_URL_MAX + 1];
    struct cm_op within;
    cm_status rc;

    if (h->pid != getpid())
        return cm_fail(err, CM_E_STATE, "an HTTP client cannot be used after fork()");
    rc = check_request(h, req, err);
    if (rc != CM_OK)
        return rc;
    (void)memcpy(url, req->url, strlen(req->url) + 1);
    /* All hops share one budget, beyond what libcurl gives each of them. */
    within = cm_op_within(op, h->total_timeout_ns);
    rc = cm_op_check(&within, err);
    if (rc != CM_OK)
        return rc;

    for (unsigned hop = 0;; hop++) {
        struct cm_http_response one = CM_HTTP_RESPONSE_INIT;
        bool elsewhere = req->refuse_local || (hop > 0 && !cm_url_same_origin(url, req->url));

        rc = do_one(h, &within, req, url, elsewhere, &one, err);
        if (rc != CM_OK)
            return rc;
        if (!req->follow || !is_redirect(one.status)) {
            cm_http_response_free(resp);
            *resp = one;
            return CM_OK;
        }
        if (hop == CM_HTTP_REDIRECTS)
            rc =
                cm_fail(err, CM_E_LIMIT, "%s: more than %d redirects", req->url, CM_HTTP_REDIRECTS);
        else
            rc = next_hop(h, &one, url, err);
        cm_http_response_free(&one);
        if (rc != CM_OK)
            return rc;
    }
}

void cm_http_response_free(struct cm_http_response *resp)
{
    cm_buf_free(&resp->body);
    cm_buf_free(&resp->headers);
    resp->status = 0;
}
