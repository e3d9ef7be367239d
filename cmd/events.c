/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <inttypes.h>
#include <string.h>

/* Events of the library as lines of the log, for whoever reads it by program. */

#define FIELDS_MAX 16u

struct fields {
    struct cm_log_field at[FIELDS_MAX];
    char text[FIELDS_MAX][CLI_TIME_SIZE];
    size_t n;
};

static void add(struct fields *f, const char *key, const char *value)
{
    if (value != NULL && value[0] != '\0' && f->n < FIELDS_MAX)
        f->at[f->n++] = (struct cm_log_field){ key, value };
}

static void add_int(struct fields *f, const char *key, int64_t value)
{
    if (f->n < FIELDS_MAX) {
        (void)snprintf(f->text[f->n], sizeof f->text[0], "%" PRId64, value);
        add(f, key, f->text[f->n]);
    }
}

static void add_time(struct fields *f, const char *key, int64_t unix_s)
{
    if (f->n < FIELDS_MAX)
        add(f, key, cli_time_iso(unix_s, f->text[f->n]));
}

static void add_issuers(struct fields *f, const struct cm_event *ev, char *text, size_t size)
{
    size_t at = 0;

    text[0] = '\0';
    for (size_t i = 0; ev->issuers != NULL && ev->issuers[i] != NULL && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%s", i > 0 ? "," : "", ev->issuers[i]);
    add(f, "issuers", text);
}

static void collect(struct fields *f, const struct cm_event *ev, char *issuers, size_t size)
{
    add(f, "identifier", ev->identifier);
    add(f, "issuer", ev->issuer);
    add_issuers(f, ev, issuers, size);
    if (ev->renewal)
        add(f, "renewal", "true");
    if (ev->forced)
        add(f, "forced", "true");
    if (ev->replacement)
        add(f, "replacement", "true");
    if (ev->remaining_s != 0)
        add_int(f, "remaining_s", ev->remaining_s);
    if (ev->attempts > 0)
        add_int(f, "attempts", ev->attempts);
    if (ev->at_s != 0)
        add_time(f, "at", ev->at_s);
    if (ev->revoked_at_s != 0)
        add_time(f, "revoked_at", ev->revoked_at_s);
    add(f, "source", ev->source);
    if (ev->cert != NULL) {
        add(f, "name", cm_cert_name(ev->cert, 0));
        add(f, "serial", cm_cert_serial(ev->cert));
        add_time(f, "not_after", cm_cert_not_after_s(ev->cert));
    }
    if (ev->hello != NULL)
        add(f, "server_name", ev->hello->server_name);
    if (ev->error != NULL) {
        add(f, "status", cm_status_name(ev->error->status));
        add(f, "problem", ev->error->problem);
        add(f, "error", ev->error->msg);
    }
}

static void sentence(const struct cm_event *ev, char *out, size_t size)
{
    const char *name = ev->identifier != NULL ? ev->identifier
                       : ev->cert != NULL     ? cm_cert_name(ev->cert, 0)
                                              : NULL;
    const char *what = "";

    switch (ev->type) {
    case CM_EVENT_TLS_GET_CERTIFICATE:
        what = "a client says hello";
        break;
    case CM_EVENT_CERT_OBTAINING:
        what = ev->renewal ? "about to renew" : "about to obtain";
        break;
    case CM_EVENT_CERT_OBTAINED:
        what = ev->renewal ? "renewed" : "obtained";
        break;
    case CM_EVENT_CERT_FAILED:
        what = ev->renewal ? "the renewal failed" : "it could not be obtained";
        break;
    case CM_EVENT_CERT_OCSP_REVOKED:
        what = "the certificate is revoked";
        break;
    case CM_EVENT_CACHED_MANAGED_CERT:
    case CM_EVENT_CACHED_UNMANAGED_CERT:
        what = "served from now on";
        break;
    case CM_EVENT_CERT_EXPIRING:
        what = ev->remaining_s > 0 ? "the certificate expires soon" : "the certificate has expired";
        break;
    case CM_EVENT_CERT_RENEW_SCHEDULED:
        what = "the next renewal has its time";
        break;
    case CM_EVENT_LOCK_LOST:
    case CM_EVENT_STORAGE_DOWN:
    case CM_EVENT_STORAGE_UP:
    case CM_EVENT_CERT_KEY_AWAY:
    case CM_EVENT_CERT_KEY_BACK:
        break;
    }
    (void)snprintf(out, size, "%s%s%s", name != NULL ? name : "", name != NULL ? ": " : "", what);
}

cm_status cli_event(void *user, const struct cm_event *ev, struct cm_err *err)
{
    const struct cm_log log = cli_log(user);
    enum cm_log_level level = ev->type == CM_EVENT_TLS_GET_CERTIFICATE ? CM_LOG_DEBUG : CM_LOG_INFO;
    struct fields f = { .n = 0 };
    char issuers[512], text[512];

    (void)err;
    if (level < log.min_level)
        return CM_OK;
    /* these the library logs itself, under the same names */
    if (ev->type == CM_EVENT_LOCK_LOST || ev->type == CM_EVENT_STORAGE_DOWN ||
        ev->type == CM_EVENT_STORAGE_UP || ev->type == CM_EVENT_CERT_KEY_AWAY ||
        ev->type == CM_EVENT_CERT_KEY_BACK)
        return CM_OK;
    collect(&f, ev, issuers, sizeof issuers);
    sentence(ev, text, sizeof text);
    log.write(log.user, level, ev->name, text, f.at, f.n);
    return CM_OK;
}
