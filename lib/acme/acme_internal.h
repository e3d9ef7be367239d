/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ACME_ACME_INTERNAL_H
#define CM_ACME_ACME_INTERNAL_H

/* What the files of this room share, and what its tests and fuzz targets look at: the parsers
 * are pure functions of bytes. */

#include "acme.h"

#include <json-c/json.h>
#include <stdatomic.h>
#include <sys/types.h>

#define CM_ACME_JSON_MAX       (64u * 1024)
#define CM_ACME_PROBLEM_MAX    (16u * 1024)
#define CM_ACME_JSON_DEPTH     16
#define CM_ACME_JSON_NODES_MAX 2048u         /* objects and arrays in one document */
#define CM_ACME_REQUEST_MAX    (256u * 1024) /* of what we send: 256 long names fit */
#define CM_ACME_NONCE_MAX      256
#define CM_ACME_NONCES_MAX     64
#define CM_ACME_BAD_NONCES_MAX 10 /* retries of one request at once, and as many slowly */
#define CM_ACME_TRIES_MAX      3  /* retries of one idempotent request */
#define CM_ACME_CONTACTS_MAX   32
#define CM_ACME_PROFILES_MAX   64
#define CM_ACME_TEXT_MAX       1024 /* a contact, a profile name */

/* ---- json.c: bounded reading, escaped writing ---- */

/* The whole of @in is one object: depth, size, node count, UTF-8 and duplicate members checked.
 * @what names the document in errors (CM_E_PARSE, CM_E_LIMIT). Free with json_object_put(). */
CM_MUST_CHECK cm_status cm__json_parse(struct cm_span in, const char *what,
                                       struct json_object **ret, struct cm_err *err);
void cm__json_auto_put(struct json_object **o);
#define CM_AUTO_JSON __attribute__((cleanup(cm__json_auto_put)))
/* NULL unless the member is there, is of that type and (text) has at most @max bytes and no NUL. */
const char *cm__json_str(struct json_object *o, const char *key, size_t max);
const char *cm__json_text_of(struct json_object *value, size_t max);
struct json_object *cm__json_array(struct json_object *o, const char *key);
struct json_object *cm__json_object(struct json_object *o, const char *key);
bool cm__json_bool(struct json_object *o, const char *key, bool otherwise);
/* A member of a usable absolute http(s) URL, else NULL. */
const char *cm__json_url(struct json_object *o, const char *key);
/* "text" with quotes, escaped. */
CM_MUST_CHECK cm_status cm__json_put_str(struct cm_buf *out, const char *s, struct cm_err *err);

/* A NULL-terminated array of copies that grows by one. */
CM_MUST_CHECK cm_status cm__strv_add(char ***v, size_t *n, const char *s, struct cm_err *err);

/* Does it look like an absolute http(s) URL within the size limit? */
bool cm__acme_is_url(const char *url);

/* ---- jws.c ---- */

/* RFC 8555 6.2: flattened JWS over @payload (empty: POST-as-GET). @nonce NULL: without one, as the
 * inner JWS of a change of key is. Appends to @out. */
CM_MUST_CHECK cm_status cm__jws_make(const struct cm_acme_signer *who, const char *url,
                                     const char *nonce, struct cm_span payload, struct cm_buf *out,
                                     struct cm_err *err);
/* RFC 8555 7.3.4: the inner JWS, its payload the account key. */
CM_MUST_CHECK cm_status cm__jws_make_eab(const struct cm_acme_new_account *req,
                                         const struct cm_key *key, const char *url,
                                         struct cm_buf *out, struct cm_err *err);

/* ---- client.c ---- */

/* One fetch for all who want the same at the same time. */
struct acme_flight {
    bool busy;
    uint64_t ended;    /* how many have ended */
    bool leader_left;  /* the last one ended because its caller gave up: says nothing to others */
    struct cm_err err; /* of the last one; status CM_OK = it succeeded */
};

struct acme_directory {
    struct cm_acme_directory d;
    struct acme_directory *older; /* kept: callers hold borrowed strings */
};

struct acme_nonce {
    int64_t got_ns;
    char text[CM_ACME_NONCE_MAX + 1];
};

struct cm_acme {
    struct cm_http *http;
    struct cm_acme_transport *transport; /* instead; NULL */
    char *directory_url;
    char **origins; /* further allowed ones, "https://host:port" */
    size_t n_origins;
    bool allow_plain_http;
    int64_t poll_first_ns;
    int64_t poll_cap_ns;
    struct cm_log log;
    pid_t pid; /* of the maker; see cm_acme_free() */
    atomic_uint_fast64_t requests;

    pthread_mutex_t lock; /* all below; a leaf, never held over a request */
    pthread_cond_t changed;
    struct acme_directory *directory; /* the current one */
    int64_t directory_got_ns;
    int64_t directory_next_ns; /* when to ask again */
    struct acme_flight directory_flight;
    struct acme_flight nonce_flight;
    struct acme_nonce nonces[CM_ACME_NONCES_MAX]; /* a stack: the freshest is used first */
    size_t n_nonces;
    bool clock_known;
    int64_t clock_ca_s;    /* what the CA's clock showed ... */
    int64_t clock_mono_ns; /* ... when ours, the one that measures, showed this */
};

/* Wait with the lock held until @f's current flight has ended: CM_OK = look again, else what is
 * to be returned (own deadline, or the flight's failure). */
CM_MUST_CHECK cm_status cm__acme_flight_wait_locked(struct cm_acme *a, struct acme_flight *f,
                                                    const struct cm_op *op, struct cm_err *err);
void cm__acme_flight_begin_locked(struct acme_flight *f);
void cm__acme_flight_end_locked(struct cm_acme *a, struct acme_flight *f, const struct cm_op *op,
                                cm_status rc, const struct cm_err *err);

/* R16, R17: https, and an origin that is the directory's, named in it, or configured. @foreign
 * (NULL ok) tells that it is neither the directory's own nor configured. */
CM_MUST_CHECK cm_status cm__acme_check_url(struct cm_acme *a, const char *url, const char *what,
                                           bool *foreign, struct cm_err *err);
bool cm__acme_scheme_ok(const struct cm_acme *a, const char *url);

/* ---- directory.c ---- */

CM_MUST_CHECK cm_status cm__acme_parse_directory(struct cm_span json, struct cm_acme_directory *ret,
                                                 struct cm_err *err);
void cm__acme_directory_clear(struct cm_acme_directory *d);
/* Ask again because an endpoint is gone; @changed tells whether that brought another directory.
 * Never more than once a minute. */
void cm__acme_directory_refresh(struct cm_acme *a, const struct cm_op *op, bool *changed);

/* ---- nonce.c ---- */

/* The freshest nonce of the pool, else one from newNonce. @out: CM_ACME_NONCE_MAX + 1 bytes. */
CM_MUST_CHECK cm_status cm__acme_nonce_take(struct cm_acme *a, const struct cm_op *op, char *out,
                                            struct cm_err *err);
void cm__acme_nonce_put(struct cm_acme *a, const struct cm_op *op, const char *nonce);
/* The usable Replay-Nonce of an answer, else "". */
void cm__acme_nonce_of(const struct cm_http_response *resp, char *out);

/* ---- problem.c ---- */

/* What an answer that is no success means: status, problem type, Retry-After, message, no_retry. */
cm_status cm__acme_fail_answer(const char *what, const struct cm_http_response *resp, int64_t now_s,
                               struct cm_err *err);
/* The error object inside an order or a challenge; @o may be NULL. */
void cm__acme_problem_from(struct json_object *o, struct cm_acme_problem *ret);
cm_status cm__acme_fail_problem(const char *what, const struct cm_acme_problem *p, int http_status,
                                struct cm_err *err);
/* Seconds of the answer's Retry-After, 0 = none or nonsense. */
int64_t cm__acme_retry_after(const struct cm_http_response *resp, int64_t now_s);

/* ---- scope.c ---- */

/* Is this refusal of @what about the CA as a whole, or our account there, and not about the names
 * that were asked for? @p is the answer's problem, type "" if it had none. */
bool cm__acme_is_whole_ca(const char *what, int http_status, const struct cm_acme_problem *p);

/* ---- clock.c ---- */

/* Note the Date of an answer. */
void cm__acme_clock_note(struct cm_acme *a, const struct cm_op *op,
                         const struct cm_http_response *resp);

/* ---- request.c ---- */

struct acme_request {
    const char *what; /* for messages: "order", "finalize" */
    const char *url;
    const struct cm_acme_signer *who;
    struct cm_span payload; /* empty = POST-as-GET */
    const char *accept;     /* NULL = none */
    size_t max_body;        /* 0 = CM_ACME_JSON_MAX */
    bool idempotent;        /* may be sent again when it is not known what became of it */
};

struct acme_answer {
    struct cm_http_response http;
    int64_t retry_after_s;
};
#define ACME_ANSWER_INIT                                                                           \
    {                                                                                              \
        CM_HTTP_RESPONSE_INIT, 0                                                                   \
    }
void cm__acme_answer_free(struct acme_answer *ans);
#define CM_AUTO_ANSWER __attribute__((cleanup(cm__acme_answer_free)))

/* Sign and POST; badNonce and (if idempotent) passing failures are retried here. CM_OK means 2xx;
 * for all else @err is filled from the problem document. */
CM_MUST_CHECK cm_status cm__acme_post(struct cm_acme *a, const struct cm_op *op,
                                      const struct acme_request *req, struct acme_answer *ans,
                                      struct cm_err *err);
/* The same to an endpoint of the directory, @offset its member. The payload is made for the URL
 * by @make (NULL arg ok); after 404 or 405 the directory is fetched again, once. */
typedef cm_status (*acme_payload_fn)(void *arg, const char *url, struct cm_buf *out,
                                     struct cm_err *err);
CM_MUST_CHECK cm_status cm__acme_post_endpoint(struct cm_acme *a, const struct cm_op *op,
                                               size_t offset, struct acme_request *req,
                                               acme_payload_fn make, void *arg,
                                               struct acme_answer *ans, struct cm_err *err);
/* GET or HEAD without signature, with the same retries. */
CM_MUST_CHECK cm_status cm__acme_get(struct cm_acme *a, const struct cm_op *op,
                                     const struct cm_http_request *req, const char *what,
                                     struct cm_http_response *resp, struct cm_err *err);
/* A copy of the checked Location header; CM_E_ACME when there is none. */
CM_MUST_CHECK cm_status cm__acme_location(struct cm_acme *a, const struct acme_answer *ans,
                                          const char *base, const char *what, char **ret,
                                          struct cm_err *err);

/* ---- pure parsers of the documents ---- */

enum cm_acme_status cm__acme_status_of(const char *s);
CM_MUST_CHECK cm_status cm__acme_parse_account(struct cm_span json, struct cm_acme_account *ret,
                                               struct cm_err *err);
/* @names (NULL = any) are what the identifiers have to be, as a set. */
CM_MUST_CHECK cm_status cm__acme_parse_order(struct cm_span json, const char *const *names,
                                             size_t n, struct cm_acme_order *ret,
                                             struct cm_err *err);
CM_MUST_CHECK cm_status cm__acme_parse_authz(struct cm_span json, struct cm_acme_authz *ret,
                                             struct cm_err *err);
/* Window and explanation; retry_after_s is left alone. */
CM_MUST_CHECK cm_status cm__acme_parse_renewal_info(struct cm_span json,
                                                    struct cm_renewal_info *ret,
                                                    struct cm_err *err);

#endif
