/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <stdio.h>
#include <string.h>

/* Source: RFC 9773 4. */

#define AFTER_DEFAULT_S (6 * 3600) /* 4.3.3 */
#define AFTER_MIN_S     60         /* 4.3.2 */
#define AFTER_MAX_S     86400
#define YEAR_2000_S     INT64_C(946684800)
#define YEAR_2200_S     INT64_C(7258118400)

static cm_status parse_time(struct json_object *window, const char *key, int64_t *ret_ns,
                            struct cm_err *err)
{
    const char *text = cm__json_str(window, key, 64);
    cm_status rc;

    if (text == NULL)
        return cm_fail(err, CM_E_PARSE, "the suggested window has no %s", key);
    rc = cm_time_parse_rfc3339(text, strlen(text), ret_ns, err);
    if (rc != CM_OK)
        return cm_wrap(err, CM_E_PARSE, "%s of the suggested window", key);
    if (*ret_ns / CM_NS_PER_S < YEAR_2000_S || *ret_ns / CM_NS_PER_S > YEAR_2200_S)
        return cm_fail(err, CM_E_PARSE, "%s of the suggested window is no date of this age", key);
    return CM_OK;
}

cm_status cm__acme_parse_renewal_info(struct cm_span json, struct cm_renewal_info *ret,
                                      struct cm_err *err)
{
    CM_AUTO_JSON struct json_object *o = NULL;
    struct json_object *window;
    const char *why;
    int64_t start_ns;
    int64_t end_ns;
    cm_status rc = cm__json_parse(json, "renewal information", &o, err);

    if (rc != CM_OK)
        return rc;
    window = cm__json_object(o, "suggestedWindow");
    if (window == NULL)
        return cm_fail(err, CM_E_PARSE, "renewal information without a suggested window");
    rc = parse_time(window, "start", &start_ns, err);
    if (rc == CM_OK)
        rc = parse_time(window, "end", &end_ns, err);
    if (rc != CM_OK)
        return rc;
    /* 4.2: "a start before its end"; what is not is as good as no answer. */
    if (start_ns >= end_ns)
        return cm_fail(err, CM_E_PARSE, "the suggested window ends before it starts");
    ret->start_s = start_ns / CM_NS_PER_S;
    ret->end_s = (end_ns + CM_NS_PER_S - 1) / CM_NS_PER_S;
    ret->explanation_url[0] = '\0';
    why = cm__json_url(o, "explanationURL");
    if (why != NULL && strlen(why) < sizeof ret->explanation_url)
        (void)cm_escape(why, strlen(why), ret->explanation_url, sizeof ret->explanation_url);
    return CM_OK;
}

/* Absent and nonsense are the same; 0 and a date in the past are "at once", which is a minute. */
static int64_t ask_again_s(const struct cm_http_response *resp, int64_t now_s)
{
    char text[64];
    struct cm_span v;
    int64_t s;

    if (!cm_http_header(resp, "retry-after", 0, &v) || v.len >= sizeof text)
        return AFTER_DEFAULT_S;
    memcpy(text, v.data, v.len);
    text[v.len] = '\0';
    if (cm_time_parse_retry_after(text, now_s, &s, NULL) != CM_OK)
        return AFTER_DEFAULT_S;
    return s < AFTER_MIN_S ? AFTER_MIN_S : s > AFTER_MAX_S ? AFTER_MAX_S : s;
}

static cm_status get_once(struct cm_acme *a, const struct cm_op *op, const char *cert_id,
                          struct cm_http_response *resp, struct cm_err *err)
{
    const struct cm_acme_directory *d = NULL;
    struct cm_http_request req = {
        .method = "GET", .accept = "application/json", .max_body = CM_ACME_JSON_MAX, .follow = true
    };
    CM_AUTO_FREE char *url = NULL;
    cm_status rc = cm_acme_directory(a, op, &d, err);

    if (rc != CM_OK)
        return rc;
    if (d->renewal_info == NULL)
        return cm_fail(err, CM_E_UNSUPPORTED, "the CA gives no renewal information");
    url = cm_asprintf("%s/%s", d->renewal_info, cert_id); /* 4.1 */
    if (url == NULL)
        return cm_fail_nomem(err);
    req.url = url;
    rc = cm__acme_check_url(a, url, "renewalInfo", &req.refuse_local, err);
    return rc == CM_OK ? cm__acme_get(a, op, &req, "renewalInfo", resp, err) : rc;
}

static cm_status get(struct cm_acme *a, const struct cm_op *op, const char *cert_id,
                     struct cm_http_response *resp, struct cm_err *err)
{
    bool changed = false;
    cm_status rc = get_once(a, op, cert_id, resp, err);

    if (rc != CM_E_ACME || (err->http_status != 404 && err->http_status != 405))
        return rc;
    /* Either the certificate is not known, or the endpoint is somewhere else by now. */
    cm__acme_directory_refresh(a, op, &changed);
    if (changed)
        rc = get_once(a, op, cert_id, resp, err);
    if (rc == CM_E_ACME && err->http_status == 404) {
        err->status = rc = CM_E_NOTFOUND;
        err->no_retry = false; /* it may learn of it */
    }
    return rc;
}

cm_status cm_acme_renewal_info(struct cm_acme *a, const struct cm_op *op, const char *cert_id,
                               struct cm_renewal_info *ret, struct cm_err *err)
{
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    struct cm_renewal_info info = { .size = (uint32_t)sizeof info };
    struct cm_err mine = CM_ERR_INIT;
    cm_status rc = get(a, op, cert_id, &resp, &mine);

    if (rc == CM_OK)
        rc = cm__acme_parse_renewal_info(cm_buf_span(&resp.body), &info, &mine);
    if (rc == CM_OK) {
        info.retry_after_s = ask_again_s(&resp, cm_env_wall_s(cm_op_env(op)));
        *ret = info;
    } else if (err != NULL) {
        *err = mine;
    }
    cm_http_response_free(&resp);
    return rc;
}
