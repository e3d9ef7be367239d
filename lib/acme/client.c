/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

#define POLL_FIRST_NS (5 * CM_NS_PER_MS)
#define POLL_CAP_NS   (5 * CM_NS_PER_S)
#define ORIGINS_MAX   16

bool cm__acme_scheme_ok(const struct cm_acme *a, const char *url)
{
    return strncasecmp(url, "https://", 8) == 0 ||
           (a->allow_plain_http && strncasecmp(url, "http://", 7) == 0);
}

/* "a.example, https://b.example:8443": without scheme https is meant. */
static cm_status add_origin(struct cm_acme *a, const char *text, size_t len, struct cm_err *err)
{
    bool has_scheme = memmem(text, len, "://", 3) != NULL;
    CM_AUTO_FREE char *url = NULL;

    while (len > 0 && (*text == ' ' || *text == '\t')) {
        text++;
        len--;
    }
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    if (len == 0)
        return CM_OK;
    if (a->n_origins == ORIGINS_MAX || len > CM_ACME_URL_MAX)
        return cm_fail(err, CM_E_LIMIT, "too many allowed origins");
    url = cm_asprintf("%s%.*s", has_scheme ? "" : "https://", (int)len, text);
    if (url == NULL)
        return cm_fail_nomem(err);
    if (!cm__acme_is_url(url) || !cm__acme_scheme_ok(a, url) || !cm_url_same_origin(url, url))
        return cm_fail(err, CM_E_INVAL, "'%.*s' is not an origin", (int)(len < 200 ? len : 200),
                       text);
    return cm__strv_add(&a->origins, &a->n_origins, url, err);
}

static cm_status add_origins(struct cm_acme *a, const char *list, struct cm_err *err)
{
    cm_status rc = CM_OK;

    while (list != NULL && *list != '\0' && rc == CM_OK) {
        size_t len = strcspn(list, ",");

        rc = add_origin(a, list, len, err);
        list += len;
        if (*list == ',')
            list++;
    }
    return rc;
}

static cm_status copy_options(struct cm_acme *a, const struct cm_acme_client_options *o,
                              struct cm_err *err)
{
    char shown[200];

    a->allow_plain_http = o->http.allow_plain_http;
    a->poll_first_ns = o->poll_first_ns > 0 ? o->poll_first_ns : POLL_FIRST_NS;
    a->poll_cap_ns = o->poll_cap_ns > 0 ? o->poll_cap_ns : POLL_CAP_NS;
    a->log = o->log;
    a->transport = o->transport;
    if (!cm__acme_is_url(o->directory_url) ||
        !cm_url_same_origin(o->directory_url, o->directory_url))
        return cm_fail(err, CM_E_INVAL, "not an ACME directory URL: '%s'",
                       cm_escape(o->directory_url,
                                 o->directory_url != NULL ? strlen(o->directory_url) : 0, shown,
                                 sizeof shown));
    if (!cm__acme_scheme_ok(a, o->directory_url))
        return cm_fail(err, CM_E_POLICY, "the ACME directory must be https, not '%s'",
                       cm_escape(o->directory_url, strlen(o->directory_url), shown, sizeof shown));
    a->directory_url = cm_strdup(o->directory_url);
    if (a->directory_url == NULL)
        return cm_fail_nomem(err);
    return add_origins(a, o->allowed_origins, err);
}

cm_status cm_acme_new(const struct cm_acme_client_options *opts, struct cm_acme **ret,
                      struct cm_err *err)
{
    struct cm_acme *a = cm_calloc(1, sizeof *a);
    cm_status rc;

    if (a == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&a->lock);
    cm_cond_init(&a->changed);
    atomic_init(&a->requests, 0);
    a->pid = getpid();
    rc = copy_options(a, opts, err);
    if (rc == CM_OK)
        rc = cm_http_new(&opts->http, &a->http, err);
    if (rc != CM_OK) {
        cm_acme_free(a);
        return rc;
    }
    *ret = a;
    return CM_OK;
}

void cm_acme_free(struct cm_acme *a)
{
    if (a == NULL)
        return;
    /* In the child of a fork() the lock may be held, and the condition waited for, by threads that
     * do not exist: destroying them would hang. See cm_http_free(). */
    if (a->pid != getpid())
        return;
    cm_http_free(a->http);
    while (a->directory != NULL) {
        struct acme_directory *d = a->directory;

        a->directory = d->older;
        cm__acme_directory_clear(&d->d);
        free(d);
    }
    cm_acme_strv_free(a->origins);
    free(a->directory_url);
    (void)pthread_cond_destroy(&a->changed);
    (void)pthread_mutex_destroy(&a->lock);
    free(a);
}

uint64_t cm_acme_request_count(const struct cm_acme *a)
{
    return atomic_load(&a->requests);
}

/* ------------------------------------------------------------------- origins */

static bool is_configured(const struct cm_acme *a, const char *url)
{
    if (cm_url_same_origin(url, a->directory_url))
        return true;
    for (size_t i = 0; i < a->n_origins; i++)
        if (cm_url_same_origin(url, a->origins[i]))
            return true;
    return false;
}

static bool is_named(const struct cm_acme_directory *d, const char *url)
{
    const char *const endpoints[] = { d->new_nonce,  d->new_account, d->new_order,   d->revoke_cert,
                                      d->key_change, d->new_authz,   d->renewal_info };

    for (size_t i = 0; i < CM_ARRAY_LEN(endpoints); i++)
        if (endpoints[i] != NULL && cm_url_same_origin(url, endpoints[i]))
            return true;
    return false;
}

cm_status cm__acme_check_url(struct cm_acme *a, const char *url, const char *what, bool *foreign,
                             struct cm_err *err)
{
    char shown[200];
    const struct acme_directory *d;

    if (!cm__acme_is_url(url))
        return cm_fail(err, CM_E_ACME, "the CA gave no usable URL for %s", what);
    if (!cm__acme_scheme_ok(a, url))
        return cm_fail(err, CM_E_ACME, "the CA's URL for %s is not https: '%s'", what,
                       cm_escape(url, strlen(url), shown, sizeof shown));
    if (foreign != NULL)
        *foreign = false;
    if (is_configured(a, url))
        return CM_OK;
    if (foreign != NULL)
        *foreign = true;
    cm_mutex_lock(&a->lock);
    d = a->directory; /* directories live as long as the client */
    cm_mutex_unlock(&a->lock);
    if (d != NULL && is_named(&d->d, url))
        return CM_OK;
    return cm_fail(err, CM_E_ACME,
                   "the CA's URL for %s is of another origin than its directory: '%s'", what,
                   cm_escape(url, strlen(url), shown, sizeof shown));
}

/* ------------------------------------------------------------------- flights */

/* The condition is real time, the operation's clock may be simulated and its cancel token cannot
 * signal a condition: so look up often enough to return promptly. */
#define FLIGHT_SLICE_NS (10 * CM_NS_PER_MS)

cm_status cm__acme_flight_wait_locked(struct cm_acme *a, struct acme_flight *f,
                                      const struct cm_op *op, struct cm_err *err)
{
    uint64_t before = f->ended;

    while (f->busy && f->ended == before) {
        cm_status rc = cm_op_check(op, err);

        if (rc != CM_OK)
            return rc;
        (void)cm_cond_wait_ns(&a->changed, &a->lock, FLIGHT_SLICE_NS);
        if (f == &a->nonce_flight && a->n_nonces > 0)
            return CM_OK; /* somebody's answer brought one */
    }
    if (f->ended == before || f->err.status == CM_OK || f->leader_left)
        return CM_OK;
    if (err != NULL)
        *err = f->err;
    return f->err.status;
}

void cm__acme_flight_begin_locked(struct acme_flight *f)
{
    f->busy = true;
}

void cm__acme_flight_end_locked(struct cm_acme *a, struct acme_flight *f, const struct cm_op *op,
                                cm_status rc, const struct cm_err *err)
{
    f->busy = false;
    f->ended++;
    f->leader_left = rc != CM_OK && cm_op_check(op, NULL) != CM_OK;
    f->err = *err;
    f->err.status = rc;
    CM_ASSERT(pthread_cond_broadcast(&a->changed) == 0);
}
