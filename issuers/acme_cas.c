/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <string.h>

/* What is known of public CAs: a table and no code, since it changes. */

#define HOUR_NS (3600 * CM_NS_PER_S)

/* Of a CA that publishes no limit, or that we do not know: enough for a hundred names at once, and
 * a stop for what runs away. */
#define DEFAULT_EVENTS    300
#define DEFAULT_WINDOW_NS (10 * CM_NS_PER_S)
#define EVENTS_MAX        1000000u
#define WINDOW_MAX_MS     (366 * INT64_C(86400000))

static const struct ca {
    const char *host; /* or the domain it is in */
    bool ip;          /* certifies addresses */
    size_t events;    /* new orders per account and window; 0 = the default above */
    int64_t window_ns;
    bool renewals_exempt; /* with "replaces" they count against nothing */
    bool refuses_must_staple;
    size_t names_max;      /* in one certificate; 0 = not known */
    const char *eab_where; /* it wants an external account binding; who gives it out */
    const char *gone;      /* it has ended: since when */
} cas[] = {
    /* letsencrypt.org/docs/rate-limits, .../staging-environment, .../profiles; no OCSP since 2025,
     * and no certificates that ask for it */
    { "acme-v02.api.letsencrypt.org", true, 300, 3 * HOUR_NS, true, true, 100, NULL, NULL },
    { "acme-staging-v02.api.letsencrypt.org", true, 1500, 3 * HOUR_NS, true, true, 100, NULL,
      NULL },
    /* cloud.google.com/certificate-manager/docs/public-ca */
    { "pki.goog", true, 0, 0, false, false, 100,
      "'gcloud publicca external-account-keys create', once for each account", NULL },
    /* zerossl.com/documentation/acme */
    { "acme.zerossl.com", false, 0, 0, false, false, 0,
      "the page 'Developer' of your account at app.zerossl.com", NULL },
    { "acme.ssl.com", false, 0, 0, false, false, 0,
      "the API credentials of your account at ssl.com", NULL },
    { "acme-api.actalis.com", false, 0, 0, false, false, 0, "your account at actalis.com", NULL },
    { "api.buypass.com", false, 0, 0, false, false, 0, NULL, "2025" },
};

static const struct ca *find(const char *url)
{
    const char *host = strstr(url, "://");
    size_t len;

    if (host == NULL)
        return NULL;
    host += 3;
    len = strcspn(host, ":/?#");
    for (size_t i = 0; i < CM_ARRAY_LEN(cas); i++) {
        size_t n = strlen(cas[i].host);

        if (len >= n && strncasecmp(host + len - n, cas[i].host, n) == 0 &&
            (len == n || host[len - n - 1] == '.'))
            return &cas[i];
    }
    return NULL;
}

static cm_status refused(cm_status rc, struct cm_err *err)
{
    if (err != NULL)
        err->no_retry = true; /* asking again without a change is of no use */
    return rc;
}

cm_status acme_ca_precheck(const char *directory_url, const char *name, struct cm_err *err)
{
    const struct ca *ca = find(directory_url);

    if (ca == NULL)
        return CM_OK;
    if (ca->gone != NULL)
        return refused(cm_fail(err, CM_E_POLICY,
                               "%s: %s has issued no certificates since %s; choose another CA",
                               name, ca->host, ca->gone),
                       err);
    if (cm_name_is_internal(name))
        return cm_fail(err, CM_E_POLICY,
                       "%s: not a public name, %s cannot certify it (use --internal for a local "
                       "certificate)",
                       name, ca->host);
    if (cm_name_is_ip(name) && !ca->ip)
        return cm_fail(err, CM_E_POLICY, "%s: %s does not certify IP addresses", name, ca->host);
    return CM_OK;
}

cm_status acme_ca_count(const char *directory_url, size_t names, struct cm_err *err)
{
    const struct ca *ca = find(directory_url);

    if (ca == NULL || ca->names_max == 0 || names <= ca->names_max)
        return CM_OK;
    return refused(cm_fail(err, CM_E_POLICY,
                           "%zu names for one certificate, and %s takes at most %zu", names,
                           ca->host, ca->names_max),
                   err);
}

cm_status acme_ca_binding(const char *directory_url, bool bound, struct cm_err *err)
{
    const struct ca *ca = find(directory_url);

    if (bound || ca == NULL || ca->eab_where == NULL)
        return CM_OK;
    return refused(cm_fail(err, CM_E_POLICY,
                           "%s wants an external account binding: get its key id and MAC key from "
                           "%s, and set them (--eab-kid, --eab-key-file)",
                           ca->host, ca->eab_where),
                   err);
}

static cm_status check_rate(size_t events, int64_t window_ms, struct cm_err *err)
{
    if ((events == 0) != (window_ms <= 0))
        return cm_fail(err, CM_E_INVAL,
                       "rate_events is %zu and rate_window_ms %lld: give both, or neither, or a "
                       "window of -1 alone for no limit",
                       events, (long long)window_ms);
    if (events > EVENTS_MAX)
        return cm_fail(err, CM_E_INVAL, "rate_events is %zu, at most %u", events, EVENTS_MAX);
    if (window_ms < -1 || window_ms > WINDOW_MAX_MS)
        return cm_fail(err, CM_E_INVAL, "rate_window_ms is %lld: from 1 to a year, or -1",
                       (long long)window_ms);
    return CM_OK;
}

cm_status acme_ca_limits(const char *directory_url, size_t events, int64_t window_ms,
                         struct cm_issuer_limits *ret, struct cm_err *err)
{
    const struct ca *ca = find(directory_url);
    struct cm_issuer_limits l = { .size = (uint32_t)sizeof l };

    cm_status rc = check_rate(events, window_ms, err);
    if (rc != CM_OK)
        return rc;
    if (ca != NULL) {
        l.renewals_exempt = ca->renewals_exempt;
        l.refuses_must_staple = ca->refuses_must_staple;
    }
    if (window_ms > 0) {
        l.events = events;
        l.window_ns = window_ms * CM_NS_PER_MS;
    } else if (window_ms == 0) {
        l.events = ca != NULL && ca->events > 0 ? ca->events : DEFAULT_EVENTS;
        l.window_ns = ca != NULL && ca->events > 0 ? ca->window_ns : DEFAULT_WINDOW_NS;
    }
    *ret = l;
    return CM_OK;
}
