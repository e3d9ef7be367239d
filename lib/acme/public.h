/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ACME_PUBLIC_H
#define CM_ACME_PUBLIC_H

/* What the files behind certmesh/cm_acme.h share: a client of this room, and the account it is for.
 */

#include "acme_internal.h"

struct cm_acme_doc {
    char *url;
    struct cm_buf json;
    struct json_object *top;
    int64_t retry_after_s;
};

struct cm_acme_client {
    struct cm_acme *a;
    pthread_mutex_t lock; /* guards what follows */
    struct cm_key *key;
    char *account_url; /* NULL = not known yet, then never changes */
};

/* @json is copied. */
CM_MUST_CHECK cm_status cm__acme_doc_new(const char *url, struct cm_span json, const char *what,
                                         int64_t retry_after_s, struct cm_acme_doc **ret,
                                         struct cm_err *err);
/* The value at @path, borrowed; NULL when there is none. */
struct json_object *cm__acme_doc_at(const struct cm_acme_doc *d, const char *path);

/* The client's key as it is now; a reference. */
struct cm_key *cm__acme_client_key(struct cm_acme_client *c);
/* Who signs one request, whatever becomes of the client's key meanwhile. */
struct acme_session {
    struct cm_acme_signer who;
    struct cm_key *key;
    char *kid;
};
void cm__acme_session_end(struct acme_session *s);
#define CM_AUTO_SESSION __attribute__((cleanup(cm__acme_session_end)))
/* The account, which is asked for by its key if need be. */
CM_MUST_CHECK cm_status cm__acme_client_session(struct cm_acme_client *c, const struct cm_op *op,
                                                struct acme_session *ret, struct cm_err *err);
/* POST @payload (empty: POST-as-GET) to @url; the answer's document goes to @ret, which may be
 * NULL. */
CM_MUST_CHECK cm_status cm__acme_client_post(struct cm_acme_client *c, const struct cm_op *op,
                                             const char *what, const char *url,
                                             struct cm_span payload, struct cm_acme_doc **ret,
                                             struct cm_err *err);
/* The same to an endpoint; the document's URL is the answer's Location. */
CM_MUST_CHECK cm_status cm__acme_client_post_endpoint(struct cm_acme_client *c,
                                                      const struct cm_op *op, const char *what,
                                                      size_t offset, struct cm_span payload,
                                                      struct cm_acme_doc **ret, struct cm_err *err);

#endif
