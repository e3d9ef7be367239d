/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_ACME_HTTP_KIT_H
#define CM_TESTS_UNIT_ACME_HTTP_KIT_H

/* A server that says what a test wants, and a client that asks it. For one file of tests at a time.
 */

#include "fake_ca.h"

#include <string.h>

static struct scripted_http *sh;
static struct cm_http *http;
static struct cm_http_response resp;

static void setup(void)
{
    const struct cm_http_options o = { .allow_plain_http = true };

    memset(&err, 0, sizeof err);
    resp = (struct cm_http_response)CM_HTTP_RESPONSE_INIT;
    sh = sh_start(0);
    ck_ok(cm_http_new(&o, &http, &err));
}

static void teardown(void)
{
    cm_http_response_free(&resp);
    cm_http_free(http);
    sh_stop(sh);
}

static cm_status get(const char *path, size_t max)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, path),
                                         .max_body = max };

    return cm_http_do(http, NULL, &req, &resp, &err);
}

static cm_status post(const char *path, const char *body)
{
    const struct cm_http_request req = { .method = "POST",
                                         .url = sh_url(sh, path),
                                         .content_type = "application/jose+json",
                                         .body = cm_span_str(body),
                                         .max_body = 1000 };

    return cm_http_do(http, NULL, &req, &resp, &err);
}

static char *filled(size_t n)
{
    char *s = malloc(n + 1);

    ck_assert_ptr_nonnull(s);
    memset(s, 'x', n);
    s[n] = '\0';
    return s;
}

#endif
