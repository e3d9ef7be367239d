/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <string.h>

#define PAGE_MAX (16u * 1024u)

static cm_status put_escaped(struct cm_buf *b, const char *text)
{
    cm_status rc = CM_OK;

    for (const char *s = text; *s != '\0' && rc == CM_OK; s++) {
        switch (*s) {
        case '<':
            rc = cm_buf_puts(b, "&lt;", NULL);
            break;
        case '>':
            rc = cm_buf_puts(b, "&gt;", NULL);
            break;
        case '&':
            rc = cm_buf_puts(b, "&amp;", NULL);
            break;
        case '"':
            rc = cm_buf_puts(b, "&quot;", NULL);
            break;
        default:
            rc = cm_buf_append(b, s, 1, NULL);
            break;
        }
    }
    return rc;
}

static cm_status put_row(struct cm_buf *b, const char *label, const char *value)
{
    cm_status rc = cm_buf_printf(b, NULL, "<tr><th>%s<td>", label);

    if (rc == CM_OK)
        rc = put_escaped(b, value);
    return rc == CM_OK ? cm_buf_puts(b, "\n", NULL) : rc;
}

static bool first_match(void *user, struct cm_cert *cert)
{
    struct cm_cert **slot = user;

    *slot = cm_cert_ref(cert);
    return false;
}

static cm_status put_cert(struct cm_buf *b, const struct cm_cert *cert)
{
    char when[CLI_TIME_SIZE], span[CLI_TIME_SIZE], text[80], issuer[128];
    const char *type = cm_key_type_name(cm_cert_key_type(cert));
    cm_status rc = CM_OK;

    for (size_t i = 0; i < cm_cert_name_count(cert) && i < 16 && rc == CM_OK; i++)
        rc = put_row(b, i == 0 ? "Names" : "", cm_cert_name(cert, i));
    (void)snprintf(text, sizeof text, "%.31s (%.31s)",
                   cli_time_human(cm_cert_not_after_s(cert), when),
                   cli_relative(cm_cert_not_after_s(cert) - cli_now_s(), span));
    if (rc == CM_OK)
        rc = put_row(b, "Valid until", text);
    if (rc == CM_OK)
        rc = put_row(b, "Issued by", cm_cert_issuer_cn(cert));
    if (rc == CM_OK && cm_cert_is_managed(cert))
        rc =
            put_row(b, "Issuer", cli_issuer_label(cm_cert_issuer_key(cert), issuer, sizeof issuer));
    if (rc == CM_OK)
        rc = put_row(b, "Serial", cm_cert_serial(cert));
    return rc == CM_OK ? put_row(b, "Key", type != NULL ? type : "?") : rc;
}

static void reply_page(struct cli_site *site, struct cm_http_exchange *x)
{
    struct cm_buf b = CM_BUF_INIT(PAGE_MAX);
    struct cm_cert *cert = NULL;
    cm_status rc = CM_OK;

    cm_cache_match(cm_config_cache(site->cli->cfg), cm_http_host(x), first_match, &cert);
    rc = cm_buf_puts(&b,
                     "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width\">\n"
                     "<title>It works</title>\n"
                     "<style>body{font:16px/1.5 sans-serif;max-width:40em;margin:3em auto;"
                     "padding:0 1em}th{text-align:left;padding-right:2em;font-weight:600}"
                     "td{font-family:monospace;overflow-wrap:anywhere}</style>\n<h1>",
                     NULL);
    if (rc == CM_OK)
        rc = put_escaped(&b, cm_http_host(x));
    if (rc == CM_OK)
        rc = cm_buf_puts(&b, " is served by certmesh</h1>\n", NULL);
    if (rc == CM_OK && cert != NULL) {
        rc = cm_buf_puts(&b,
                         "<p>This connection is protected by the following certificate.</p>\n"
                         "<table>\n",
                         NULL);
        if (rc == CM_OK)
            rc = put_cert(&b, cert);
        if (rc == CM_OK)
            rc = cm_buf_puts(&b, "</table>\n", NULL);
    }
    if (rc == CM_OK)
        rc = cm_buf_puts(
            &b, "<p>Serve your own files: <code>certmesh serve --dir DIR</code>.</p>\n", NULL);
    cm_cert_unref(cert);
    if (rc == CM_OK)
        rc = cm_http_reply(x, 200, "text/html; charset=utf-8", cm_buf_span(&b), NULL);
    else
        rc = cm_http_reply(x, 500, NULL, cm_span_str("out of memory\n"), NULL);
    (void)rc; /* the peer may be gone; nobody is left to tell */
    cm_buf_free(&b);
}

void cli_site_handle(void *user, struct cm_http_exchange *x)
{
    struct cli_site *site = user;
    const char *target = cm_http_target(x);
    char path[2048];
    size_t len = strcspn(target, "?#");
    cm_status rc = CM_OK;

    if (strcmp(cm_http_method(x), "GET") != 0 && strcmp(cm_http_method(x), "HEAD") != 0) {
        rc = cm_http_reply(x, 405, NULL, cm_span_str("only GET and HEAD here\n"), NULL);
    } else if (site->dir_fd >= 0 && len < sizeof path) {
        memcpy(path, target, len);
        path[len] = '\0';
        rc = cm_http_reply_file(x, site->dir_fd, path, NULL);
    } else if (site->dir_fd >= 0) {
        rc = cm_http_reply(x, 414, NULL, cm_span_str("path too long\n"), NULL);
    } else if (strncmp(target, "/", 1) == 0 && len == 1) {
        reply_page(site, x);
    } else {
        rc = cm_http_reply(x, 404, NULL, cm_span_str("nothing here; see /\n"), NULL);
    }
    (void)rc;
}
