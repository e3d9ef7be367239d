/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <stdio.h>
#include <string.h>

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        { 200, "OK" },
        { 201, "Created" },
        { 202, "Accepted" },
        { 204, "No Content" },
        { 301, "Moved Permanently" },
        { 302, "Found" },
        { 303, "See Other" },
        { 304, "Not Modified" },
        { 307, "Temporary Redirect" },
        { 308, "Permanent Redirect" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 408, "Request Timeout" },
        { 411, "Length Required" },
        { 413, "Content Too Large" },
        { 414, "URI Too Long" },
        { 417, "Expectation Failed" },
        { 429, "Too Many Requests" },
        { 431, "Request Header Fields Too Large" },
        { 500, "Internal Server Error" },
        { 501, "Not Implemented" },
        { 502, "Bad Gateway" },
        { 503, "Service Unavailable" },
        { 505, "HTTP Version Not Supported" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(known); i++) {
        if (known[i].status == status)
            return known[i].text;
    }
    return "";
}

static bool has_body(int status)
{
    return status != 204 && status != 304;
}

/* RFC 9110 5.6.7, from the RFC 3339 text: no libc calendar, no locale. */
static void format_date(int64_t wall_ns, char *out, size_t size)
{
    static const char days[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char t[CM_TIME_TEXT] = "";
    int64_t s = wall_ns / CM_NS_PER_S;
    int month;

    cm_time_format_rfc3339(s * CM_NS_PER_S, false, t);
    month = (t[5] - '0') * 10 + (t[6] - '0') - 1;
    if (month < 0 || month > 11)
        month = 0;
    (void)snprintf(out, size, "%.3s, %.2s %.3s %.4s %.8s GMT", days + 3 * (s / 86400 % 7), t + 8,
                   months + 3 * month, t, t + 11);
}

/* Goes into a header line as it is: no way to start another one. */
static bool is_field_value(const char *s)
{
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7F)
            return false;
    }
    return true;
}

cm_status reply_head(struct conn *c, int status, const char *content_type, uint64_t length,
                     const char *extra, struct cm_err *err)
{
    const struct cm_env *env = c->server->env;
    const char *persist = "";
    char date[48];
    cm_status rc;

    if (c->close_after)
        persist = "Connection: close\r\n";
    else if (c->minor == 0)
        persist = "Connection: keep-alive\r\n";
    format_date(env->wall_ns(env), date, sizeof date);
    cm_buf_reset(&c->out);
    rc = cm_buf_printf(&c->out, err,
                       "HTTP/1.1 %d %s\r\nDate: %s\r\n%s%sX-Content-Type-Options: nosniff\r\n",
                       status, reason(status), date, persist, extra != NULL ? extra : "");
    if (rc == CM_OK && has_body(status))
        rc = cm_buf_printf(&c->out, err, "Content-Type: %s\r\nContent-Length: %llu\r\n",
                           content_type != NULL ? content_type : "text/plain; charset=utf-8",
                           (unsigned long long)length);
    if (rc == CM_OK)
        rc = cm_buf_puts(&c->out, "\r\n", err);
    if (rc != CM_OK)
        cm_buf_reset(&c->out);
    return rc;
}

cm_status reply_put_target(struct cm_buf *out, const char *target, size_t len)
{
    cm_status rc = CM_OK;

    if (len == 0 || target[0] != '/')
        return cm_buf_puts(out, "/", NULL);
    for (size_t i = 0; i < len && rc == CM_OK; i++) {
        unsigned char c = (unsigned char)target[i];

        if (c <= 0x20 || c >= 0x7F || strchr("\"<>\\^`{|}", c) != NULL)
            rc = cm_buf_printf(out, NULL, "%%%02X", c);
        else
            rc = cm_buf_append(out, &c, 1, NULL);
    }
    return rc;
}

static cm_status put_reply(struct conn *c, int status, const char *content_type,
                           struct cm_span body, const char *extra, struct cm_err *err)
{
    cm_status rc = reply_head(c, status, content_type, body.len, extra, err);

    if (rc == CM_OK && has_body(status) && !c->head_only)
        rc = cm_buf_append(&c->out, body.data, body.len, err);
    if (rc != CM_OK)
        cm_buf_reset(&c->out);
    return rc;
}

void reply_status(struct conn *c, int status, const char *extra)
{
    char text[64];

    (void)snprintf(text, sizeof text, "%d %s\n", status, reason(status));
    (void)!put_reply(c, status, NULL, cm_span_str(text), extra, NULL);
}

cm_status cm_http_reply(struct cm_http_exchange *x, int status, const char *content_type,
                        struct cm_span body, struct cm_err *err)
{
    cm_status rc;

    if (x == NULL || status < 200 || status > 599 || (body.data == NULL && body.len > 0))
        return cm_fail(err, CM_E_INVAL, "cm_http_reply: status %d or a body without bytes", status);
    if (content_type != NULL && !is_field_value(content_type))
        return cm_fail(err, CM_E_INVAL, "cm_http_reply: control bytes in the content type");
    if (body.len > SERVER_REPLY_MAX)
        return cm_fail(err, CM_E_LIMIT, "cm_http_reply: %zu bytes, more than %u", body.len,
                       SERVER_REPLY_MAX);
    if (x->replied)
        return cm_fail(err, CM_E_STATE, "this request was answered already");
    rc = put_reply(x->conn, status, content_type, body, NULL, err);
    x->replied = rc == CM_OK;
    return rc;
}

const char *cm_http_method(const struct cm_http_exchange *x)
{
    return x->method;
}

const char *cm_http_target(const struct cm_http_exchange *x)
{
    return x->target;
}

const char *cm_http_host(const struct cm_http_exchange *x)
{
    return x->host;
}

const char *cm_http_peer(const struct cm_http_exchange *x)
{
    return x->conn->peer;
}

gnutls_session_t cm_http_session(const struct cm_http_exchange *x)
{
    return x->conn->session;
}
