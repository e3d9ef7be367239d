/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_ZEROSSL_H
#define CM_ISSUERS_ZEROSSL_H

/* What the files of the ZeroSSL issuer share. */

#include "issuers.h"

#include <json-c/json.h>

#define ZEROSSL_PREFIX      "zerossl" /* issuer key, and storage prefix of its validation files */
#define ZEROSSL_ID_MAX      64
#define ZEROSSL_ANSWER_MAX  (512u * 1024) /* a hundred names with their validation */
#define ZEROSSL_CONTENT_MAX 1000          /* of one validation file */

/* ---- zerossl_api.c: one call ---- */

struct zerossl_api {
    struct cm_http *http;
    char *base;        /* URL without slash at the end */
    struct cm_buf key; /* secret; letters, digits, '-' and '_' only */
};

struct zerossl_request {
    const char *what; /* for messages: "create certificate" */
    bool post;
    const char *path;           /* "/certificates/..." */
    const char *query;          /* more of it, escaped, without '&' before; NULL = none */
    struct json_object *fields; /* body of a POST as JSON; NULL = none */
    bool again;                 /* may be sent again after a passing failure */
};

/* The JSON object that the API answers, the caller's to put. What the API calls an error (it does
 * so with status 200, too) is CM_E_ACME with problem "zerossl:<type>"; a limit CM_E_RATELIMITED; no
 * JSON CM_E_PARSE. No message holds the key. */
CM_MUST_CHECK cm_status zerossl_call(struct zerossl_api *api, const struct cm_op *op,
                                     const struct zerossl_request *req, struct json_object **ret,
                                     struct cm_err *err);
/* NULL unless it is a string, printable, of at most @max bytes. */
const char *zerossl_text(struct json_object *o, const char *name, size_t max);

/* ---- zerossl_file.c: validation files ---- */

struct zerossl_files {
    const struct cm_issuer_host *host;
    struct cm_responder *responder;
    char **keys; /* of what is stored */
    size_t n;
    bool open; /* the port is ours */
};
/* Store the file for each of @names as the API's certificate object @cert has it, and open the port
 * if nobody has it. CM_E_PARSE for an object that has no proper file for each. */
CM_MUST_CHECK cm_status zerossl_files_put(struct zerossl_files *f, const struct cm_op *op,
                                          const char *const *names, size_t n,
                                          struct json_object *cert, struct cm_err *err);
/* Take back what is there; @op bounds it. */
void zerossl_files_remove(struct zerossl_files *f, const struct cm_op *op);

#endif
