/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_DNS_API_H
#define CM_ISSUERS_DNS_API_H

/* What providers with an HTTP API share: JSON there and back, patience with limits, and errors that
 * quote the peer without showing our secrets. */

#include "dns_provider.h"
#include "net.h"

struct json_object;

struct dns_api {
    struct cm_http *http;
    char *base; /* URL without final slash */
};

/* @base: https, or http to this host itself; without user, query or fragment. @ca_file NULL: the
 * system's trust. Connects to nobody. */
CM_MUST_CHECK cm_status dns_api_open(const char *base, size_t len, const char *ca_file,
                                     const struct cm_dns_provider_options *opts,
                                     struct dns_api *ret, struct cm_err *err);
void dns_api_close(struct dns_api *api);

struct dns_api_call {
    const char *method;
    const char *path;           /* behind the base, with query */
    const char *const *headers; /* see cm_http_request */
    struct json_object *body;   /* POST; NULL = empty */
    const char *const *secrets; /* NULL ends: what no error may show */
    bool once;                  /* never sent again, as a second time would do something else */
};

struct dns_api_answer {
    int status;
    struct json_object *json; /* an object, or NULL: there was none */
    struct cm_buf text;       /* the body as it came: may echo secrets, see dns_api_refused() */
};
#define DNS_API_ANSWER_INIT                                                                        \
    {                                                                                              \
        0, NULL, CM_BUF_INIT(0)                                                                    \
    }
void dns_api_answer_free(struct dns_api_answer *a);

/* Do it. After 429, 5xx and failures of the network it is done again, at most three times, after as
 * long as the peer asks for if that is at most a minute. CM_OK for any other answer, whatever its
 * status. Errors: those of cm_http_do(), CM_E_RATELIMITED (retry_after_s is set). */
CM_MUST_CHECK cm_status dns_api_do(struct dns_api *api, const struct cm_op *op,
                                   const struct dns_api_call *call, struct dns_api_answer *ret,
                                   struct cm_err *err);

/* The error for an answer that is none to go on with: "POST URL: HTTP 403: @why, or the beginning
 * of the body". 401 and 403 are CM_E_PERM, 404 CM_E_NOTFOUND, 5xx CM_E_NET, others CM_E_IO. */
cm_status dns_api_refused(const struct dns_api *api, const struct dns_api_call *call,
                          const struct dns_api_answer *a, const char *why, struct cm_err *err);

/* Member @name if it is a string of 1..@max printable ASCII characters, else NULL. Borrowed. */
const char *dns_api_text(struct json_object *o, const char *name, size_t max);

#endif
